//! The accept loop.

use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::http::connection::told;
use crate::http::metrics::Metrics;
use crate::http::problem::{Kind, Problem};
use crate::http::seats::{Found, Seat, Seats};

/// First and longest pause after the process ran out of file descriptors or memory for a socket.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Accepts connections and hands each, with its seat, to `dispatch`, which must not block. Ends when `closed` becomes
/// true, or when its sender is gone.
///
/// At most `connections` are open at the same time. One more takes the place of an idle one; where there is none it is
/// told so with a 429 and closed, so that it never waits in a queue that nobody looks at. Running out of file descriptors
/// makes it pause, not spin and not end.
pub async fn accept(
    listener: TcpListener,
    connections: u64,
    metrics: &Metrics,
    mut closed: watch::Receiver<bool>,
    mut dispatch: impl FnMut(std::net::TcpStream, Seat),
) {
    let seats = Seats::new(connections);
    let mut pause = PAUSE_MIN;
    loop {
        let accepted = tokio::select! {
            biased;
            () = told(&mut closed) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                pause = PAUSE_MIN;
                match seats.take() {
                    Some((seat, found)) => {
                        if found == Found::MadeRoom {
                            metrics.http().sent_away();
                        }
                        deal(stream, seat, &mut dispatch);
                    }
                    None => refuse(&stream, metrics, connections),
                }
            }
            // The peer's doing, and only this connection's.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept client connections for a moment");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

fn deal(stream: TcpStream, seat: Seat, dispatch: &mut impl FnMut(std::net::TcpStream, Seat)) {
    // Without it small answers wait up to 40 ms for the peer's acknowledgement of the one before. Both calls fail only
    // on a socket that is dead already.
    let ready = stream.set_nodelay(true).and_then(|()| stream.into_std());
    if let Ok(stream) = ready {
        dispatch(stream, seat);
    }
}

/// Best effort: the answer fits the empty send buffer of a new socket.
fn refuse(stream: &TcpStream, metrics: &Metrics, connections: u64) {
    metrics.http().refused();
    let problem = Problem::new(Kind::Busy, format!("{connections} connections are in use, which is the most allowed"));
    let _ = stream.try_write(&problem.raw("-"));
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn the_cap_holds_while_connections_last_and_the_loop_ends_when_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (close, closed) = watch::channel(false);
        let (dealt, mut taken) = mpsc::unbounded_channel();
        let metrics = Arc::new(Metrics::new());
        let counted = metrics.clone();
        let accepting = tokio::spawn(async move {
            accept(listener, 1, &counted, closed, |stream, seat| dealt.send((stream, seat)).map_err(drop).unwrap())
                .await;
        });
        let _first = TcpStream::connect(address).await.unwrap();
        let held = taken.recv().await.unwrap();
        assert!(held.0.nodelay().unwrap());
        held.1.busy();
        let mut second = TcpStream::connect(address).await.unwrap();
        let mut answer = String::new();
        second.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 1"), "{answer}");
        assert!(metrics.render().contains("rondo_http_connections_refused_total 1"));
        drop(held);
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(taken.recv().await.is_some());
        third.shutdown().await.unwrap();
        close.send(true).unwrap();
        accepting.await.unwrap();
    }
}
