//! An answer that is made while it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body_util::Either;
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::http::surface::Body;

/// Media type of lines of JSON.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// Where the pieces go. Sending waits until the client has taken what was sent before; it fails once the client is
/// gone.
pub(crate) type Pieces = mpsc::Sender<Bytes>;

struct Stream(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// 200 with lines of JSON: whatever is sent, until the sender is dropped.
pub(crate) fn lines() -> (Pieces, Response<Body>) {
    let (pieces, received) = mpsc::channel(1);
    let mut response = Response::new(Either::Right(axum::body::Body::new(Stream(received))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    (pieces, response)
}
