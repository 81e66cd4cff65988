//! One client connection, from the first byte to the last answer.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::http::guard::{Busy, Guard};
use crate::http::seats::Seat;
use crate::http::surface::Http;

/// Above the largest head that is allowed, so that heads are refused by the guard; large values come in pieces of it.
const BUFFER_BYTES_MAX: usize = 128 << 10;

/// Serves one connection until it ends. Once `drain` is true the request in work is answered with `Connection: close`
/// and no other is taken; a connection that opens after it has one request answered. An idle one ends when its seat is
/// wanted.
pub async fn serve_connection(stream: TcpStream, seat: Seat, http: Arc<Http>, mut drain: watch::Receiver<bool>) {
    let surface = http.surface();
    let _connected = surface.metrics().http().connected();
    let busy = Busy::default();
    let refusing = http.clone();
    let guard = Guard::new(stream, surface.limits().clone(), busy.clone(), seat.clone(), move |why| {
        let surface = refusing.surface();
        surface.metrics().http().head_refused();
        why.problem(surface.limits()).raw(&surface.ids().request_id())
    });
    let service = service_fn(|request| {
        let working = busy.begin();
        let http = http.clone();
        async move {
            let response = http.answer(request).await;
            drop(working);
            Ok::<_, Infallible>(response)
        }
    });
    // The guard keeps the time and the count of header fields: hyper's own answers would have no body.
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(BUFFER_BYTES_MAX);
    // hyper would close a connection without a word that is told to end before it has read anything.
    let late = *drain.borrow();
    builder.keep_alive(!late);
    let connection = builder.serve_connection(TokioIo::new(guard), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = told(&mut drain), if !late => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = seat.wanted() => return,
    };
    if let Err(error) = ended {
        // A peer that hangs up, stalls or sends nonsense is nothing that an operator has to know.
        tracing::debug!(%error, "client connection ended");
    }
}

/// Until it is true, or nobody is left to say so.
pub(crate) async fn told(signal: &mut watch::Receiver<bool>) {
    // The lock that a result carries must not live across an await of the caller.
    drop(signal.wait_for(|told| *told).await);
}
