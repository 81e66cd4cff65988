//! P3: whatever is sent to the port, nothing is carried out, nothing grows, nothing panics.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::{Strategy, any, prop};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rondo_node::peers::{Cause, PROTOCOL_VERSION};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

/// Sends bytes, and reads whatever comes until the server closes.
async fn converse(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(route: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {route} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn nothing_is_carried_out_without_a_proof() {
    let mut two = Node::member(2);
    let address = two.listen().await;
    for route in ["/peer/v1/ops", "/peer/v1/control", "/peer/v1/proof"] {
        let answer = converse(address, &post(route, &[1; 64])).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{route}: {answer}");
    }
    assert_eq!(two.script.asked.load(Ordering::SeqCst), 0);
    assert!(converse(address, &post("/peer/v1/hello", b"RNDP")).await.starts_with("HTTP/1.1 403 "));
    assert!(converse(address, &post("/v1/kv/a/b", b"")).await.starts_with("HTTP/1.1 404 "));
    assert!(converse(address, b"GET /peer/v1/ops HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 405 "));
}

#[tokio::test]
async fn a_newer_protocol_is_refused_as_such() {
    let mut two = Node::member(2);
    let address = two.listen().await;
    let hello = [b"RNDP".as_slice(), &[PROTOCOL_VERSION + 1], &[9; 100]].concat();
    let answer = converse(address, &post("/peer/v1/hello", &hello)).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(two.network.refused(Cause::Version), 1);
    assert_eq!(two.network.refused(Cause::Malformed), 0);
}

#[tokio::test]
async fn oversized_frames_are_refused_before_they_are_read() {
    let mut two = Node::member(2);
    let address = two.listen().await;
    // Announced, never sent: the answer does not wait for it.
    let announced = b"POST /peer/v1/hello HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n";
    assert!(converse(address, announced).await.starts_with("HTTP/1.1 413 "));
    let chunked = b"POST /peer/v1/hello HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n400\r\n";
    assert!(converse(address, &[chunked.as_slice(), &[0; 0x400]].concat()).await.starts_with("HTTP/1.1 413 "));
    let head = format!("POST /peer/v1/hello HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(4_000));
    assert!(converse(address, head.as_bytes()).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn half_open_handshakes_are_closed() {
    let mut two = node_with(2, |options| options.server.handshake_timeout = Duration::from_millis(500));
    let address = two.listen().await;
    let hello = post("/peer/v1/hello", &[0; 100]);
    for sent in [&b""[..], b"POST /peer/v1/he", &hello[..hello.len() - 1]] {
        converse(address, sent).await;
    }
    eventually(|| two.server.connections() == 0).await;
}

#[tokio::test]
async fn random_bytes_are_harmless() {
    let mut two = node_with(2, |options| options.server.handshake_timeout = Duration::from_millis(500));
    let address = two.listen().await;
    let raw = prop::collection::vec(any::<u8>(), 0..200);
    let route = prop::sample::select(vec!["hello", "proof", "ops", "control"]);
    let strategy = (raw, route, any::<bool>());
    let mut runner = TestRunner::deterministic();
    let inputs: Vec<Vec<u8>> = (0..64)
        .map(|_| {
            let (raw, route, framed) = strategy.new_tree(&mut runner).unwrap().current();
            if framed { post(&format!("/peer/v1/{route}"), &raw) } else { raw }
        })
        .collect();
    all(inputs.into_iter().map(|input| async move { converse(address, &input).await })).await;
    assert_eq!(two.script.asked.load(Ordering::SeqCst), 0);
    eventually(|| two.server.connections() == 0).await;
    // It still serves.
    let one = Node::member(1);
    one.knows(two.id(), address);
    let peers = rondo_node::peers::Peers::new(&one.network);
    assert!(is_answer_to(0, &one.ask(&peers, two.id(), read(0), FAR).await.unwrap()));
}

async fn all<F: Future<Output = String> + Send + 'static>(futures: impl Iterator<Item = F>) {
    let mut set = tokio::task::JoinSet::new();
    futures.for_each(|future| {
        set.spawn(future);
    });
    while let Some(ended) = set.join_next().await {
        ended.unwrap();
    }
}
