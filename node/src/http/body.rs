//! Taking in a request's body: bounded, by its deadline, with one copy at most.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use crate::http::admission::{Admission, BytesHeld};
use crate::http::problem::{Kind, Problem};

/// What a body may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// Largest body.
    pub(crate) bytes_max: usize,
    /// When the request's time is up.
    pub(crate) deadline: Instant,
    /// Longest pause between two pieces.
    pub(crate) stall: Duration,
}

/// A request's body, from a socket or out of a batch.
pub(crate) trait Upload: Body<Data = Bytes, Error: std::fmt::Display> + Unpin {}

impl<B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin> Upload for B {}

/// A refused upload is read on for as long as this at most, so that its sender gets to see the answer.
const DRAIN: Duration = Duration::from_secs(2);
const DRAIN_BYTES_MAX: usize = 64 << 20;

/// The whole body. One piece of a known length is passed on as it is; several are put together in one buffer.
pub(crate) async fn collect<B: Upload>(
    body: &mut B,
    limits: BodyLimits,
    held: &mut BytesHeld,
) -> Result<Bytes, Problem> {
    let declared = body.size_hint().exact();
    if declared.is_some_and(|bytes| bytes > limits.bytes_max as u64) {
        return Err(too_large(limits.bytes_max));
    }
    let declared = declared.unwrap_or(0) as usize;
    held.grow_to(declared)?;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(piece) = next(body, limits).await? {
        let bytes = first.len().max(all.len()) + piece.len();
        if bytes > limits.bytes_max {
            return Err(too_large(limits.bytes_max));
        }
        held.grow_to(bytes)?;
        match (first.is_empty(), all.is_empty()) {
            (true, true) => first = piece,
            (false, true) => {
                all.reserve(declared.max(bytes));
                all.extend_from_slice(&first);
                all.extend_from_slice(&piece);
            }
            _ => all.extend_from_slice(&piece),
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// The next piece that is not empty; trailers are passed over.
async fn next<B: Upload>(body: &mut B, limits: BodyLimits) -> Result<Option<Bytes>, Problem> {
    while !body.is_end_stream() {
        let until = limits.deadline.min(Instant::now() + limits.stall);
        let Ok(frame) = tokio::time::timeout_at(until, body.frame()).await else {
            return Err(late(until == limits.deadline));
        };
        match frame.transpose().map_err(|error| cut(&error))?.map(hyper::body::Frame::into_data) {
            None => return Ok(None),
            Some(Ok(piece)) if !piece.is_empty() => return Ok(Some(piece)),
            Some(_) => {}
        }
    }
    Ok(None)
}

fn late(deadline_passed: bool) -> Problem {
    let problem = match deadline_passed {
        true => Problem::new(Kind::TimedOut, "the deadline passed before the body had come; nothing was written"),
        false => Problem::new(Kind::BodyStalled, "the body stopped coming; nothing was written"),
    };
    problem.outcome(rondo_coordinator::Outcome::NotApplied).closing()
}

fn cut(error: &impl std::fmt::Display) -> Problem {
    Problem::new(Kind::BadRequest, format!("the body ended or broke too early: {error}; nothing was written")).closing()
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Kind::ValueTooLarge, format!("the body has more than {bytes_max} bytes, which is the most allowed"))
}

/// Reads on what the client of a refused upload is sending already: if the connection were closed on it, many clients
/// would see a broken pipe and never the answer. One that waits for `100 Continue` has sent nothing.
pub(crate) fn drain(mut body: Incoming, waits_for_continue: bool) {
    if waits_for_continue || body.is_end_stream() {
        return;
    }
    tokio::spawn(tokio::time::timeout(DRAIN, async move {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DRAIN_BYTES_MAX {
                return;
            }
        }
    }));
}

/// [`collect`] for the small bodies of other routes, which read on nothing that they have refused.
pub(crate) async fn collect_small<B: Upload>(body: &mut B, limits: BodyLimits) -> Result<Bytes, Problem> {
    let small = collect(body, limits, &mut Admission::unlimited()).await;
    small.map_err(|problem| if problem.kind() == Kind::ValueTooLarge { problem.closing() } else { problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::{Frame, SizeHint};

    /// Pieces, then the end or silence.
    struct Pieces {
        pieces: Vec<&'static [u8]>,
        declared: Option<u64>,
        hangs: bool,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.pieces.is_empty() {
                return if self.hangs { Poll::Pending } else { Poll::Ready(None) };
            }
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(self.pieces.remove(0))))))
        }

        fn size_hint(&self) -> SizeHint {
            self.declared.map_or_else(SizeHint::default, SizeHint::with_exact)
        }
    }

    async fn collected(pieces: Vec<&'static [u8]>, declared: Option<u64>, hangs: bool) -> Result<Bytes, Kind> {
        let deadline = Instant::now() + Duration::from_millis(if hangs { 20 } else { 60_000 });
        let limits = BodyLimits { bytes_max: 10, deadline, stall: Duration::from_secs(30) };
        let mut body = Pieces { pieces, declared, hangs };
        collect_small(&mut body, limits).await.map_err(|problem| problem.kind())
    }

    #[tokio::test]
    async fn one_piece_is_passed_on_without_a_copy() {
        static PIECE: &[u8] = b"0123456789";
        let whole = collected(vec![PIECE], Some(10), false).await.unwrap();
        assert_eq!(whole.as_ptr(), PIECE.as_ptr());
        assert_eq!(collected(vec![], Some(0), false).await.unwrap(), Bytes::new());
    }

    #[tokio::test]
    async fn several_pieces_come_out_in_order() {
        let whole = collected(vec![b"01", b"", b"234", b"5"], None, false).await.unwrap();
        assert_eq!(&whole[..], b"012345");
    }

    #[tokio::test]
    async fn the_limit_holds_for_declared_and_for_chunked_bodies() {
        assert_eq!(collected(vec![b"01234567890"], None, false).await, Err(Kind::ValueTooLarge));
        assert_eq!(collected(vec![b"0123456789", b"0"], None, true).await, Err(Kind::ValueTooLarge));
        assert_eq!(collected(vec![], Some(11), true).await, Err(Kind::ValueTooLarge), "before anything is read");
    }

    #[tokio::test]
    async fn the_deadline_includes_the_body() {
        assert_eq!(collected(vec![b"0"], Some(2), true).await, Err(Kind::TimedOut));
    }

    #[tokio::test]
    async fn a_stalled_body_is_cut() {
        let far = Instant::now() + Duration::from_secs(60);
        let limits = BodyLimits { bytes_max: 10, deadline: far, stall: Duration::from_millis(20) };
        let mut body = Pieces { pieces: vec![b"0"], declared: Some(2), hangs: true };
        assert_eq!(collect_small(&mut body, limits).await.unwrap_err().kind(), Kind::BodyStalled);
    }
}
