//! The error table of docs/api.md: every status, with what is wrong and what is allowed, and nothing written.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::io::Cursor;
use std::sync::Arc;

use rondo_tests::{Answer, Cluster, Shared, request};

static CLUSTER: Shared = Shared::new();
const VALUE_BYTES: usize = 64 << 10;

fn cluster() -> Arc<Cluster> {
    CLUSTER.get(|| Cluster::builder(3).env("RONDO_LIMITS__VALUE_BYTES", VALUE_BYTES).start())
}

/// A problem whose type ends so.
#[track_caller]
fn is(answer: Answer, status: u16, name: &str) -> serde_json::Value {
    let problem = answer.problem(status);
    assert_eq!(problem["type"], format!("urn:rondo:problem:{name}"), "{problem}");
    problem
}

#[test]
fn a_bad_header_or_parameter_is_named_with_its_value_and_what_is_allowed() {
    let cluster = cluster();
    let node = &cluster[0];
    for (name, parameter, bad) in [
        (
            "Rondo-R",
            "r",
            &["0", "4", "-1", "+1", "1.0", "two", "each-quorum", "Quorum", "1,2", "99999999999999999999"][..],
        ),
        ("Rondo-W", "w", &["0", "4", "-1", "none", "ALL", "0x1"][..]),
        ("Rondo-Timeout", "timeout", &["0", "0ms", "5", "1 s", "-1s", "61s", "60001ms", "1d", "s", "1e3ms"][..]),
        ("Rondo-Quorum", "quorum", &["loose", "STRICT"][..]),
    ] {
        for value in bad {
            for method in ["PUT", "GET", "DELETE"] {
                let by_header = node.object(method, "bad", "k").header(name, value).send();
                let problem = is(by_header, 400, "bad-parameter");
                assert_eq!((&problem["parameter"], &problem["value"]), (&name.into(), &(*value).into()), "{problem}");
                assert!(problem["allowed"].as_str().is_some_and(|allowed| !allowed.is_empty()), "{problem}");
            }
            let encoded = rondo_tests::encode(value);
            let by_parameter = node.get(&format!("/v1/kv/bad/k?{parameter}={encoded}"));
            let problem = is(by_parameter, 400, "bad-parameter");
            assert_eq!((&problem["parameter"], &problem["value"]), (&parameter.into(), &(*value).into()), "{problem}");
        }
        let empty = is(node.get(&format!("/v1/kv/bad/k?{parameter}=")), 400, "bad-parameter");
        assert_eq!(empty["parameter"], parameter);
    }
    is(node.object("GET", "bad", "k").send(), 404, "no-such-key");
}

#[test]
fn no_wish_is_ignored() {
    let cluster = cluster();
    let node = &cluster[0];
    let named = |answer: Answer, parameter: &str| {
        let problem = answer.problem(400);
        assert_eq!(problem["parameter"], parameter, "{problem}");
        problem
    };
    for path in
        ["/v1/kv/b/k?colour=red", "/v1/cluster?colour=red", "/livez?colour=red", "/v1/ring?bucket=b&key=k&colour=1"]
    {
        named(node.get(path), "colour");
    }
    named(node.get("/v1/kv/b/k?r=1&r=1"), "r");
    named(node.object("GET", "b", "k").header("Rondo-Are", "1").send(), "Rondo-Are");
    named(node.object("GET", "b", "k").r(1).header("Rondo-R", 1).send(), "Rondo-R");
    let disagree = request("GET", &node.url("/v1/kv/b/k?r=2")).r(1).send();
    let problem = named(disagree, "r");
    assert_eq!((&problem["value"], &problem["allowed"]), (&"2".into(), &"1".into()));
    named(node.get("/v1/kv/b/k?ttl=1h"), "ttl");
    named(node.object("GET", "b", "k").header("If-Match", "\"x\"").send(), "If-Match");
    named(node.get("/v1/kv/b/k?sibling=x"), "sibling");
    // Of later releases: said so.
    for path in ["/v1/watch/b", "/v1/transfers", "/v1/admin/leave"] {
        is(node.get(path), 501, "not-in-this-release");
    }
    is(node.object("GET", "b", "k").send(), 404, "no-such-key");
}

#[test]
fn too_large_is_refused_however_it_comes() {
    let cluster = cluster();
    let node = &cluster[1];
    node.object("PUT", "size", "fits").body(vec![1; VALUE_BYTES]).send().expect(204);
    is(node.object("PUT", "size", "k").body(vec![1; VALUE_BYTES + 1]).send(), 413, "too-large");
    let chunked = node.object("PUT", "size", "k").chunked(Cursor::new(vec![1; VALUE_BYTES + 1])).send();
    is(chunked, 413, "too-large");
    let post = request("POST", &node.url("/v1/kv/size")).body(vec![1; 2 * VALUE_BYTES]).send();
    is(post, 413, "too-large");
    is(node.object("GET", "size", "k").send(), 404, "no-such-key");
    let fits = cluster[2].object("GET", "size", "fits").send().expect(200);
    assert_eq!(fits.body.len(), VALUE_BYTES);
}

#[test]
fn names_are_checked() {
    let cluster = cluster();
    let node = &cluster[2];
    let longest = "k".repeat(1_024);
    node.object("PUT", "names", &longest).body("v").send().expect(204);
    assert_eq!(cluster[0].object("GET", "names", &longest).send().expect(200).body, b"v");
    is(node.object("PUT", "names", &"k".repeat(1_025)).body("v").send(), 414, "key-too-long");
    is(node.object("PUT", "names", &"é".repeat(513)).body("v").send(), 414, "key-too-long");
    is(request("PUT", &node.url("/v1/kv/names/")).body("v").send(), 400, "bad-request");
    let bucket = "b".repeat(255);
    node.object("PUT", &bucket, "k").body("v").send().expect(204);
    for bad in ["b".repeat(256).as_str(), "a%20b", "a%2Fb", "%C3%A9", "a:b"] {
        let problem = request("PUT", &node.url(&format!("/v1/kv/{bad}/k"))).body("v").send().problem(400);
        assert_eq!(problem["parameter"], "bucket", "{problem}");
    }
    for bad in ["%zz", "%4", "%", "%ff", "%c3"] {
        request("GET", &node.url(&format!("/v1/kv/names/{bad}"))).send().problem(400);
        request("GET", &node.url(&format!("/v1/ring?bucket=b&key={bad}"))).send().problem(400);
    }
    node.get("/v1/ring?bucket=b").problem(400);
}

#[test]
fn too_much_metadata_is_431() {
    let cluster = cluster();
    let with = |count: usize, bytes: usize| {
        let put = cluster[0].object("PUT", "metadata", "k").body("v");
        (0..count).fold(put, |put, i| put.header(&format!("Rondo-Meta-{i}"), "x".repeat(bytes))).send()
    };
    with(32, 100).expect(204);
    is(with(33, 1), 431, "too-much-metadata");
    is(with(2, 2_048), 431, "too-much-metadata");
    is(with(1, 17 << 10), 431, "head-too-large");
    let fields = (0..120).fold(cluster[0].object("GET", "metadata", "k"), |get, i| get.header(&format!("X-{i}"), "x"));
    is(fields.send(), 431, "head-too-large");
    let long_line = request("GET", &cluster[0].url(&format!("/v1/kv/b/{}", "x".repeat(20 << 10)))).send();
    is(long_line, 414, "key-too-long");
}

#[test]
fn wrong_routes_and_methods_say_what_is_right() {
    let cluster = cluster();
    let node = &cluster[0];
    for path in ["/v2/kv/b/k", "/nowhere", "/v1", "/v1/kvs/b/k"] {
        is(node.get(path), 404, "no-such-route");
    }
    for (method, path, allowed) in [
        ("PATCH", "/v1/kv/b/k", "GET, HEAD, PUT, DELETE"),
        ("POST", "/v1/kv/b/k", "GET, HEAD, PUT, DELETE"),
        ("DELETE", "/v1/kv/b", "GET, HEAD, POST"),
        ("POST", "/v1/buckets/b", "GET, HEAD, PUT, DELETE"),
        ("POST", "/v1/cluster", "GET, HEAD"),
    ] {
        let answer = request(method, &node.url(path)).body("x").send();
        assert_eq!(answer.header("Allow"), Some(allowed), "{method} {path}");
        is(answer, 405, "method-not-allowed");
    }
}
