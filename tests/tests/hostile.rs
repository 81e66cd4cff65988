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

/// Every place is taken by a request that is in work, so nobody can make room.
#[test]
fn connections_beyond_the_limit_are_told_so_and_the_others_are_served() {
    let builder = Cluster::builder(1).env("RONDO_N", 1).env("RONDO_LIMITS__CONNECTIONS", 20);
    let cluster = builder.env("RONDO_LIMITS__BODY_STALL_MS", 60_000).start();
    let node = &cluster[0];
    let uploading = |number: usize| {
        let mut client = connect(node);
        let head = format!("PUT /v1/kv/b/{number}?timeout=60s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n");
        // The 100 says that the request is in work.
        let answer = client.send(head + "Expect: 100-continue\r\n\r\n").answer().ok_or("cut off")?;
        holds(answer.status == 100, || answer.head.clone()).map(|()| client)
    };
    let mut held: Vec<RawClient> = Vec::new();
    // The harness's own client holds a few as well, which are idle and leave.
    while held.len() < 20 {
        held.push(eventually(ENDED, "a place", || uploading(held.len())));
    }
    let mut turned_away = connect(node);
    let answer = turned_away.answer().expect("it is told, without having asked");
    assert_eq!(problem(&answer, 429)["retryable"], true);
    assert!(answer.head.to_ascii_lowercase().contains("retry-after:"));
    assert!(turned_away.is_closed());
    for client in &mut held {
        assert_eq!(client.send("done").answer().unwrap().status, 204);
    }
    held.clear();
    eventually(ENDED, "room again", || uploading(0).map(drop));
}

#[test]
fn requests_beyond_the_limit_are_turned_away_before_any_work() {
    let mebibyte = 1 << 20;
    let builder = Cluster::builder(1).env("RONDO_N", 1).env("RONDO_LIMITS__REQUESTS_IN_FLIGHT", 3);
    let builder = builder.env("RONDO_LIMITS__VALUE_BYTES", mebibyte);
    let cluster = builder.env("RONDO_LIMITS__BODY_BYTES_IN_FLIGHT", 2 * mebibyte).start();
    let node = &cluster[0];
    let begin = |name: &str, length: usize| {
        let mut client = connect(node);
        client.send(format!(
            "PUT /v1/kv/b/{name}?timeout=60s HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        ));
        let answer = client.answer().unwrap();
        (client, answer)
    };
    // As many bytes of uploads as are allowed, announced.
    let (mut first, large) = begin("first", mebibyte);
    let (mut second, other) = begin("second", mebibyte);
    assert_eq!((large.status, other.status), (100, 100));
    let (_, too_much) = begin("third", 1);
    problem(&too_much, 429);
    // As many requests.
    let (mut third, small) = begin("third", 0);
    assert_eq!(small.status, 204, "no body, no bytes");
    third.send("PUT /v1/kv/b/stalled HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    eventually(ENDED, "three in work", || {
        let answer = node.object("GET", "b", "third").try_send()?;
        assert!(answer.status == 200 || (answer.status == 429 && answer.header("Retry-After").is_some()), "{answer:?}");
        holds(answer.status == 429, || answer.text())
    });
    node.get("/livez").expect(200);
    node.get("/readyz").expect(200);
    assert_eq!(third.send("0\r\n\r\n").answer().unwrap().status, 204);
    for client in [&mut first, &mut second] {
        assert_eq!(client.send(vec![b'x'; mebibyte]).answer().unwrap().status, 204);
    }
    eventually(ENDED, "room again", || holds(begin("fourth", 1).1.status == 100, || "still full".into()));
}

#[test]
fn what_is_not_http_gets_a_problem_and_an_end() {
    let cluster = cluster();
    let node = &cluster[0];
    let host = "Host: x\r\n";
    for head in [
        "GET /v1/kv/b/k\r\n\r\n".to_string(),
        "\x16\x03\x01 not TLS here\r\n\r\n".into(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
        format!("GET /v1/kv/b/k HTTP/2\r\n{host}\r\n"),
        format!("GET /v1/kv/b/k HTTP/1.1 \r\n{host}\r\n"),
        format!("GET /v1/kv/b/a b HTTP/1.1\r\n{host}\r\n"),
        format!("GET /v1/kv/b/a\0b HTTP/1.1\r\n{host}\r\n"),
        format!("GET /v1/kv/b/a\tb\x01 HTTP/1.1\r\n{host}\r\n"),
        format!("GE(T /v1/kv/b/k HTTP/1.1\r\n{host}\r\n"),
        format!("GET /v1/kv/b/k#rest HTTP/1.1\r\n{host}\r\n"),
        format!("GET /v1/kv/b/<k> HTTP/1.1\r\n{host}\r\n"),
        format!("GET /v1/kv/b?prefix=\"k\" HTTP/1.1\r\n{host}\r\n"),
        format!("GET http://[::1/v1/kv/b/k HTTP/1.1\r\n{host}\r\n"),
        format!("GET /v1/kv/b/k HTTP/1.1\r\n{host}Name : v\r\n\r\n"),
        format!("GET /v1/kv/b/k HTTP/1.1\r\n{host}Na me: v\r\n\r\n"),
        format!("GET /v1/kv/b/k HTTP/1.1\r\n{host}: v\r\n\r\n"),
        format!("GET /v1/kv/b/k HTTP/1.1\r\n{host}no colon\r\n\r\n"),
        format!("GET /v1/kv/b/k HTTP/1.1\r\n{host} folded: v\r\n\r\n"),
        format!("GET /v1/kv/b/k HTTP/1.1\r\n{host}A: b\r\n\tc\r\n\r\n"),
        format!("GET /v1/kv/b/k HTTP/1.1\r\n{host}A: b\0\r\n\r\n"),
        format!("GET /v1/kv/b/k HTTP/1.1\r\n{host}A: b\rContent-Length: 5\r\n\r\n"),
    ] {
        let shown = refused(node, &head, 400);
        assert!(shown["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{head:?}: {shown}");
    }
    is_served(node);
}

/// Each hides a second request behind a first that two servers could end at different places.
#[test]
fn smuggled_requests_are_never_served() {
    let cluster = cluster();
    let node = &cluster[0];
    let hidden = "PUT /v1/kv/b/hidden HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx";
    let put = "PUT /v1/kv/b/outer HTTP/1.1\r\nHost: x\r\n";
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Content-Length: 5\r\nContent-Length: 0\r\n",
        "Content-Length: 5, 0\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 \x01\r\n",
        " Content-Length: 5\r\n",
    ] {
        refused(node, &format!("{put}{fields}\r\n0\r\n\r\n{hidden}"), 400);
    }
    // Framing that goes wrong inside the body.
    for body in ["zz\r\n", "-1\r\n", "0x1\r\nx\r\n", "fffffffffffffffff\r\n", "1\r\nxyz\r\n0\r\n\r\n", " 1\r\nx\r\n"] {
        let mut client = connect(node);
        let _ = client.try_send(format!("{put}Transfer-Encoding: chunked\r\n\r\n{body}{hidden}"));
        problem(&client.answer().unwrap_or_else(|| panic!("no answer to {body:?}")), 400);
        assert!(client.finish().is_closed(), "{body:?}");
    }
    for key in ["hidden", "outer"] {
        node.object("GET", "b", key).send().problem(404);
    }
    is_served(node);
}

#[test]
fn chunk_extensions_and_trailers_are_bounded() {
    let cluster = cluster();
    let node = &cluster[0];
    let put = "PUT /v1/kv/b/chunks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = "e".repeat(40 << 10);
    let many = format!("1;{}\r\nx\r\n", "e".repeat(1 << 10)).repeat(100);
    let trailers = |count: usize| (0..count).map(|i| format!("T-{i}: v\r\n")).collect::<String>();
    for body in [
        format!("1;{long}\r\nx\r\n0\r\n\r\n"),
        format!("{many}0\r\n\r\n"),
        format!("1\r\nx\r\n0\r\nT: {long}\r\n\r\n"),
        format!("1\r\nx\r\n0\r\n{}\r\n", trailers(5_000)),
    ] {
        let mut client = connect(node);
        let _ = client.try_send(format!("{put}{body}"));
        problem(&client.answer().unwrap_or_else(|| panic!("no answer to {}", &body[..20])), 400);
        assert!(client.finish().is_closed());
    }
    node.object("GET", "b", "chunks").send().problem(404);
    let mut client = connect(node);
    client.send(format!("{put}1;name=value\r\nx\r\n2\r\nyz\r\n0\r\n{}\r\n", trailers(3)));
    assert_eq!(client.answer().unwrap().status, 204, "few of them are allowed, and passed over");
    assert_eq!(node.object("GET", "b", "chunks").send().expect(200).body, b"xyz");
}

#[test]
fn every_form_of_target_method_and_version_gets_its_answer() {
    let cluster = cluster();
    let node = &cluster[0];
    node.object("PUT", "b", "form").body("v").send().expect(204);
    let status = |request: &str| {
        let mut client = connect(node);
        client.send(format!("{request}\r\nHost: x\r\n\r\n")).answer().unwrap_or_else(|| panic!("{request}")).status
    };
    assert_eq!(status("GET http://elsewhere:1/v1/kv/b/form HTTP/1.1"), 200, "the absolute form is a path too");
    assert_eq!(status("GET * HTTP/1.1"), 404);
    assert_eq!(status("OPTIONS * HTTP/1.1"), 404);
    assert!((400..=405).contains(&status("CONNECT elsewhere:1 HTTP/1.1")));
    for method in ["BREW", "PATCH", "TRACE", "OPTIONS", "put", "PUTT"] {
        assert_eq!(status(&format!("{method} /v1/kv/b/form HTTP/1.1")), 405, "{method}");
        assert_eq!(status(&format!("{method} /livez HTTP/1.1")), 405, "{method}");
    }
    let many = "x=y&".repeat(3_000);
    assert_eq!(status(&format!("GET /v1/kv/b/form?{many} HTTP/1.1")), 400, "no such parameter");
    assert_eq!(status(&format!("GET /v1/kv/b/form?{many}{many} HTTP/1.1")), 414);

    let mut old = connect(node);
    let answer = old.send("GET /v1/kv/b/form HTTP/1.0\r\nHost: x\r\n\r\n").answer().unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"v"[..]));
    assert!(old.is_closed(), "HTTP/1.0 keeps no connection");
    let mut old = connect(node);
    problem(&old.send("GET /v1/kv/b/form HTTP/1.0\r\n\r\n").answer().unwrap(), 400);
    is_served(node);
}

#[test]
fn an_expectation_is_met_or_refused() {
    let cluster = cluster();
    let node = &cluster[0];
    let head = |length: usize, expect: &str| {
        format!("PUT /v1/kv/b/expected HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: {expect}\r\n\r\n")
    };
    let mut client = connect(node);
    assert_eq!(client.send(head(2, "100-continue")).answer().unwrap().status, 100);
    assert_eq!(client.send("ok").answer().unwrap().status, 204);
    let mut client = connect(node);
    problem(&client.send(head(5 << 20, "100-continue")).answer().unwrap(), 413);
    let mut client = connect(node);
    let refused = problem(&client.send(head(2, "200-ok")).answer().unwrap(), 417);
    assert_eq!((&refused["parameter"], &refused["allowed"]), (&"Expect".into(), &"100-continue".into()));
    assert!(client.is_closed());
    assert_eq!(node.object("GET", "b", "expected").send().expect(200).body, b"ok");
}

#[test]
fn bytes_after_a_body_are_another_request() {
    let cluster = cluster();
    let node = &cluster[0];
    let mut client = connect(node);
    client.send("PUT /v1/kv/b/exact HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcdefghij\r\n\r\n");
    assert_eq!(client.answer().unwrap().status, 204);
    problem(&client.answer().unwrap(), 400);
    assert!(client.is_closed());
    assert_eq!(node.object("GET", "b", "exact").send().expect(200).body, b"abc");
}

/// One that has proved nothing can hold a few connections for a few seconds, and nothing else.
#[test]
fn strangers_on_the_peer_port_are_ended_and_others_are_served() {
    let cluster = cluster();
    let node = &cluster[0];
    let peer = |bytes: &[u8]| {
        let mut client = RawClient::connect(node.peer_addr());
        let _ = client.try_send(bytes);
        client
    };
    let before = node.resident_bytes();
    // Stalled handshakes, many more than are allowed at a time.
    let mut stalled: Vec<RawClient> = (0..400).map(|_| peer(b"POST /peer/v1/hello HTTP/1.1\r\nhost: x\r\n")).collect();
    is_served(node);
    for client in &mut stalled {
        assert!(client.is_closed());
    }
    let client = peer(b"GET /v1/kv/b/k HTTP/1.1\r\nHost: x\r\n\r\n").answer().unwrap();
    assert_eq!((client.status, &client.body[..]), (405, &b""[..]), "it is no client port");
    let announced = b"POST /peer/v1/hello HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n";
    assert_eq!(peer(announced).answer().unwrap().status, 413);
    let unproved = b"POST /peer/v1/ops HTTP/1.1\r\nhost: x\r\ncontent-length: 60000000\r\n\r\n";
    for _ in 0..20 {
        let mut flood = peer(unproved);
        assert_eq!(flood.answer().unwrap().status, 403);
        assert!(flood.is_closed());
    }
    assert!(peer(&[0xff; 100_000]).finish().is_closed());
    assert!(peer(b"\r\n").finish().is_closed());
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for strangers");
    is_served(node);
}
