//! Clients that send half a request, too much, nonsense, or nothing: each is ended within its limit, and the others are
//! served meanwhile.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use rondo_tests::{Cluster, Node, RawAnswer, RawClient, Shared, eventually, holds, pace};
use serde_json::Value;

static CLUSTER: Shared = Shared::new();
const HEAD_MS: u64 = 700;
const STALL_MS: u64 = 700;
const IDLE_MS: u64 = 1_500;
/// For what ends within one of these limits, on a busy machine.
const ENDED: Duration = Duration::from_secs(10);

fn cluster() -> Arc<Cluster> {
    let builder = Cluster::builder(1).arguments(&[]).env("RONDO_LIMITS__HEAD_TIMEOUT_MS", HEAD_MS);
    let builder = builder.env("RONDO_LIMITS__BODY_STALL_MS", STALL_MS).env("RONDO_LIMITS__IDLE_MS", IDLE_MS);
    CLUSTER.get(|| builder.env("RONDO_N", 1).start())
}

fn connect(node: &Node) -> RawClient {
    RawClient::connect(node.client_addr())
}

fn problem(answer: &RawAnswer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("no problem: {answer:?}"));
    assert_eq!(problem["status"], status);
    assert!(problem["detail"].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    problem
}

/// Sends it and gets the answer, which has to be a problem, and has to be the connection's last.
#[track_caller]
fn refused(node: &Node, request: &str, status: u16) -> Value {
    let mut client = connect(node);
    // The node may answer and hang up before everything was sent.
    let _ = client.try_send(request);
    let answer = client.answer().unwrap_or_else(|| panic!("no answer to {:?}", &request[..request.len().min(200)]));
    let problem = problem(&answer, status);
    assert!(client.finish().is_closed(), "after a refused head the rest cannot be understood");
    problem
}

/// An honest client on a connection of its own.
#[track_caller]
fn is_served(node: &Node) {
    let put = node.object("PUT", "honest", "k").body("v").send().expect(204);
    assert!(put.took < Duration::from_secs(5), "{put:?}");
    node.object("GET", "honest", "k").send().expect(200);
}

#[test]
fn half_a_head_is_cut_and_others_are_served_meanwhile() {
    let cluster = cluster();
    let node = &cluster[0];
    let began = Instant::now();
    let halves = ["", "G", "GET / HTTP/1.1\r\n", "PUT /v1/kv/b/half HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"];
    let mut clients: Vec<RawClient> = halves
        .iter()
        .cycle()
        .take(200)
        .map(|half| {
            let mut client = connect(node);
            client.send(half);
            client
        })
        .collect();
    is_served(node);
    for client in &mut clients {
        assert!(client.is_closed());
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(HEAD_MS) && took < ENDED, "{took:?}");
    node.object("GET", "b", "half").send().problem(404);
}

#[test]
fn a_head_that_comes_drop_by_drop_is_cut_by_the_same_deadline() {
    let cluster = cluster();
    let mut client = connect(&cluster[0]);
    let began = Instant::now();
    let drops =
        b"GET /v1/cluster HTTP/1.1\r\nHost: x\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let sent = pace(drops.len(), Duration::from_millis(100)).take_while(|&i| client.try_send(&drops[i..=i]).is_ok());
    let sent = sent.count();
    assert!(sent < drops.len(), "every byte was taken, {sent} of them");
    assert!(began.elapsed() < ENDED && client.is_closed());
}

#[test]
fn a_body_that_stops_coming_is_cut_and_nothing_is_written() {
    let cluster = cluster();
    let node = &cluster[0];
    let mut counted = connect(node);
    counted.send("PUT /v1/kv/b/stalled HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf");
    let mut chunked = connect(node);
    chunked.send("PUT /v1/kv/b/stalled HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    is_served(node);
    for client in [&mut counted, &mut chunked] {
        let shown = problem(&client.answer().unwrap(), 408);
        assert_eq!(shown["outcome"], "not-applied");
        assert!(client.is_closed());
    }
    // One that ends in the middle.
    let mut gone = connect(node);
    gone.send("PUT /v1/kv/b/stalled HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf").finish();
    assert!(gone.is_closed());
    node.object("GET", "b", "stalled").send().problem(404);
}

#[test]
fn a_slow_body_is_bound_by_the_requests_deadline() {
    let cluster = cluster();
    let mut client = connect(&cluster[0]);
    client.send("PUT /v1/kv/b/slow?timeout=1s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    let began = Instant::now();
    let sent = pace(1_000, Duration::from_millis(50)).take_while(|_| client.try_send("x").is_ok()).count();
    assert!(sent < 200 && began.elapsed() < ENDED, "{sent} bytes were taken in {:?}", began.elapsed());
    cluster[0].object("GET", "b", "slow").send().problem(404);
}

#[test]
fn a_slow_body_within_its_limits_is_taken() {
    let cluster = cluster();
    let mut client = connect(&cluster[0]);
    client.send("PUT /v1/kv/b/steady HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n");
    for _ in pace(30, Duration::from_millis(30)) {
        client.send("x");
    }
    assert_eq!(client.answer().unwrap().status, 204, "longer than a stall, but never stalled");
    assert_eq!(cluster[0].object("GET", "b", "steady").send().expect(200).body, [b'x'; 30]);
}

#[test]
fn heads_that_are_too_much_are_refused_with_a_reason() {
    let cluster = cluster();
    let node = &cluster[0];
    let fields = |count: usize| (0..count).map(|i| format!("X-{i}: y\r\n")).collect::<String>();
    let line = "GET /v1/kv/b/k HTTP/1.1\r\nHost: x\r\n";
    refused(node, &format!("{line}{}\r\n", fields(100)), 431);
    refused(node, &format!("{line}X: {}\r\n\r\n", "y".repeat(17 << 10)), 431);
    refused(node, &format!("{line}{}", "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(100_000)), 431);
    refused(node, &format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(17 << 10)), 414);
    refused(node, &"y".repeat(1 << 20), 414);
    let mut client = connect(node);
    let allowed = client.send(format!("{line}{}\r\n", fields(99))).answer().unwrap();
    assert_eq!(allowed.status, 404, "100 fields are allowed");
    is_served(node);
}

#[test]
fn requests_that_two_servers_could_understand_differently_are_refused() {
    let cluster = cluster();
    let node = &cluster[0];
    let put = "PUT /v1/kv/b/smuggled HTTP/1.1\r\n";
    for (head, body) in [
        ("Host: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"),
        ("Host: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n", "abc"),
        ("Host: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n", "abcd"),
        ("Host: x\r\nContent-Length: +3\r\n", "abc"),
        ("Host: x\r\nContent-Length: 3, 3\r\n", "abc"),
        ("Host: x\r\nContent-Length: -1\r\n", ""),
        ("Host: x\r\nTransfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        ("Host: x\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n", "abc"),
        ("Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ] {
        refused(node, &format!("{put}{head}\r\n{body}"), 400);
    }
    for hosts in ["", "Host: x\r\nHost: x\r\n", "Host: x\r\nHost: y\r\n"] {
        let mut client = connect(node);
        client.send(format!("{put}{hosts}Content-Length: 3\r\n\r\nabc"));
        assert_eq!(problem(&client.answer().unwrap(), 400)["parameter"], "Host", "{hosts:?}");
    }
    node.object("GET", "b", "smuggled").send().problem(404);
    is_served(node);
}

#[test]
fn nonsense_gets_an_end_and_bad_encodings_a_reason() {
    let cluster = cluster();
    let node = &cluster[0];
    for nonsense in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"hello\r\n\r\n", b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n"]
    {
        let mut client = connect(node);
        // It may be refused at the first byte.
        let _ = client.try_send(nonsense);
        let answer = client.finish().answer();
        assert!(answer.is_none_or(|answer| answer.status == 400), "{nonsense:?}");
    }
    for path in ["/v1/kv/b/%zz", "/v1/kv/b/%", "/v1/kv/b/%ff", "/v1/kv/%2/k", "/v1/kv//k", "/v1/kv/../k"] {
        let mut client = connect(node);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        problem(&client.answer().unwrap(), 400);
        // The head was whole: the connection goes on.
        assert_eq!(client.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").answer().unwrap().status, 200, "{path}");
    }
}

#[test]
fn an_idle_connection_is_closed_and_a_used_one_is_not() {
    let cluster = cluster();
    let mut idle = connect(&cluster[0]);
    assert_eq!(idle.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").answer().unwrap().status, 200);
    let began = Instant::now();
    let mut used = connect(&cluster[0]);
    for _ in pace(10, Duration::from_millis(IDLE_MS / 5)) {
        assert_eq!(used.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").answer().unwrap().status, 200);
    }
    assert!(began.elapsed() > Duration::from_millis(IDLE_MS));
    assert!(idle.is_closed());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let cluster = cluster();
    let mut client = connect(&cluster[0]);
    let put = |value: &str| format!("PUT /v1/kv/b/pipe HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{value}");
    let get = "GET /v1/kv/b/pipe HTTP/1.1\r\nHost: x\r\n\r\n";
    client.send([put("1"), get.into(), put("2"), get.into()].concat());
    let answers: Vec<_> = (0..4).map(|_| client.answer().unwrap()).map(|a| (a.status, a.body)).collect();
    assert_eq!(answers, [(204, vec![]), (200, b"1".to_vec()), (204, vec![]), (200, b"2".to_vec())]);
}

#[test]
fn connections_beyond_the_limit_are_told_so_and_the_others_are_served() {
    let cluster = Cluster::builder(1).env("RONDO_N", 1).env("RONDO_LIMITS__CONNECTIONS", 20).start();
    let node = &cluster[0];
    let open = |wanted: u16| {
        let mut client = connect(node);
        client.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = client.answer().ok_or("cut off")?;
        holds(answer.status == wanted, || answer.head.clone()).map(|()| client)
    };
    let mut held = Vec::new();
    // The harness's own client holds a few as well.
    while held.len() < 20 {
        match open(200) {
            Ok(client) => held.push(client),
            Err(_) => break,
        }
    }
    assert!(held.len() >= 10, "{}", held.len());
    let mut turned_away = connect(node);
    let answer = turned_away.answer().expect("it is told, without having asked");
    assert_eq!(problem(&answer, 429)["retryable"], true);
    assert!(answer.head.to_ascii_lowercase().contains("retry-after:"));
    assert_eq!(held[0].send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").answer().unwrap().status, 200);
    held.clear();
    eventually(ENDED, "room again", || open(200).map(drop));
}
