//! Bodies, bounded.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::error::PeerError;

/// Reads a body of at most `max` bytes. One that arrives in one read is returned as it is; a longer one is put
/// together in a single buffer of the announced length.
pub(super) async fn read(mut body: Incoming, max: usize) -> Result<Bytes, PeerError> {
    if body.size_hint().lower() > max as u64 {
        return Err(PeerError::TooLarge(max));
    }
    let Some(first) = next(&mut body).await? else { return Ok(Bytes::new()) };
    if first.len() > max {
        return Err(PeerError::TooLarge(max));
    }
    if body.is_end_stream() {
        return Ok(first);
    }
    let announced = first.len() + body.size_hint().lower() as usize;
    let mut whole = BytesMut::with_capacity(announced.min(max));
    whole.extend_from_slice(&first);
    while let Some(part) = next(&mut body).await? {
        if whole.len() + part.len() > max {
            return Err(PeerError::TooLarge(max));
        }
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>, PeerError> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
