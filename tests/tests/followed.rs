//! What a client's request can be followed by: its name and its trace in the logs of every node it touches, and where
//! its time went in the answer.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::sync::Arc;
use std::time::Duration;

use rondo_tests::{Answer, Cluster, Node, Shared, eventually, holds, request};

static CLUSTER: Shared = Shared::new();
const SOON: Duration = Duration::from_secs(20);

/// One node more than owners, so that writes are forwarded too.
fn cluster() -> Arc<Cluster> {
    CLUSTER.get(|| Cluster::builder(4).env("RONDO_LOG__LEVEL", "rondo_node=debug").start())
}

fn stranger<'a>(cluster: &'a Cluster, key: &str) -> &'a Node {
    let ring = cluster[0].get(&format!("/v1/ring?bucket=f&key={key}")).expect(200).json();
    let owners: Vec<String> =
        ring["owners"].as_array().unwrap().iter().map(|owner| owner["name"].as_str().unwrap().to_string()).collect();
    cluster.nodes().iter().find(|node| !owners.iter().any(|owner| owner == node.name())).unwrap()
}

fn lines(node: &Node, text: &str) -> Vec<String> {
    node.log_text().lines().filter(|line| line.contains(text)).map(str::to_string).collect()
}

#[test]
fn one_search_finds_a_request_on_every_node_it_touched() {
    let cluster = cluster();
    let (trace, name) = ("4bf92f3577b34da6a3ce929d0e0e4736", "order-7-of-this-test");
    let asked = stranger(&cluster, "k");
    let put = asked.object("PUT", "f", "k").w(3).header("X-Request-Id", name);
    let put = put.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01")).body("v").send().expect(204);
    assert_eq!(put.header("X-Request-Id"), Some(name));
    eventually(SOON, "the request in every log", || {
        for node in cluster.nodes() {
            let found = lines(node, name);
            let told = found.iter().any(|line| line.contains(trace));
            holds(told, || format!("{} says nothing of it", node.name()))?;
        }
        Ok(())
    });
    let operations: Vec<String> = cluster.nodes().iter().flat_map(|node| lines(node, name)).collect();
    let count = |operation: &str| operations.iter().filter(|line| line.contains(operation)).count();
    // More where the machine is busy: an owner that is late has the write handed to another.
    let (forwards, writes) = (count("operation=\"forward\""), count("operation=\"write\""));
    assert!(forwards >= 1 && writes >= 2, "{operations:#?}");
    assert_eq!(count("status=204"), 1, "{operations:#?}");
    // Another request's operations are not taken for this one's.
    asked.object("GET", "f", "k").r(3).header("X-Request-Id", "untraced-of-this-test").send().expect(200);
    eventually(SOON, "the answer in the log", || {
        holds(!lines(asked, "untraced-of-this-test").is_empty(), || "not yet".into())
    });
    for node in cluster.nodes().iter().filter(|node| node.name() != asked.name()) {
        assert!(lines(node, "untraced-of-this-test").is_empty(), "without a trace nothing goes to the peers");
    }
}

#[test]
fn a_listing_is_followed_to_every_node_it_asked() {
    let cluster = cluster();
    let (trace, name) = ("4bf92f3577b34da6a3ce929d0e0e4737", "page-8-of-this-test");
    let listing = |accept: &str, name: &str| {
        let get = request("GET", &cluster[0].url("/v1/kv/f?r=all")).header("X-Request-Id", name);
        get.header("Accept", accept).header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01")).send().expect(200)
    };
    for (accept, name) in [("application/json", name), ("application/x-ndjson", "stream-9-of-this-test")] {
        listing(accept, name);
        eventually(SOON, "the listing in every log", || {
            for node in cluster.nodes() {
                let told =
                    lines(node, name).iter().any(|line| line.contains(trace) && line.contains("operation=\"list\""));
                holds(told, || format!("{} says nothing of {name}", node.name()))?;
            }
            Ok(())
        });
    }
}

#[test]
fn a_malformed_trace_is_as_good_as_none() {
    let cluster = cluster();
    for bad in ["00-1-2-3", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "\u{e9}", ""] {
        let get = cluster[0].object("GET", "f", "nothing").header("traceparent", bad).send().expect(404);
        assert_eq!(get.header("X-Request-Id").map(str::len), Some(16), "{bad:?}: {get:?}");
    }
    let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
    let get = cluster[0].object("GET", "f", "nothing").header("traceparent", later).send();
    assert_eq!(get.header("X-Request-Id"), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
}

/// The times of `Server-Timing`, by name, in milliseconds.
fn timing(answer: &Answer) -> Vec<(String, f64)> {
    let text = answer.header("Server-Timing").unwrap_or_else(|| panic!("no Server-Timing: {answer:?}"));
    let one = |metric: &str| {
        let (name, duration) = metric.split_once(";dur=").unwrap();
        (name.to_string(), duration.parse().unwrap())
    };
    text.split(", ").map(one).collect()
}

/// The parts that lie one after the other are no more than the whole, and the whole no more than the client saw.
#[track_caller]
fn has_parts(answer: &Answer, expected: &[&str]) {
    let parts = timing(answer);
    let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, expected, "{answer:?}");
    let total = parts[0].1;
    assert!(total <= answer.took.as_secs_f64() * 1e3, "{answer:?}");
    let in_turn: f64 = parts[1..].iter().filter(|(name, _)| name != "store").map(|(_, took)| took).sum();
    assert!(in_turn <= total + 1e-6, "{answer:?}");
    let of = |name: &str| parts.iter().find(|(found, _)| found == name).map_or(0.0, |(_, took)| *took);
    assert!(of("store") <= of("quorum"), "{answer:?}");
}

#[test]
fn every_answer_about_objects_says_where_its_time_went() {
    let cluster = cluster();
    let asked = stranger(&cluster, "timed");
    let owner = cluster.nodes().iter().find(|node| node.name() != asked.name()).unwrap();
    has_parts(&owner.object("PUT", "f", "timed").body("v").send().expect(204), &["total", "body", "quorum"]);
    has_parts(&owner.object("GET", "f", "timed").send().expect(200), &["total", "store", "quorum"]);
    has_parts(&owner.object("HEAD", "f", "timed").send().expect(200), &["total", "store", "quorum"]);
    has_parts(&asked.object("GET", "f", "timed").send().expect(200), &["total", "quorum"]);
    has_parts(&owner.object("DELETE", "f", "timed").send().expect(204), &["total", "quorum"]);
    has_parts(&owner.object("GET", "f", "timed").send().expect(404), &["total", "store", "quorum"]);
    has_parts(&owner.object("GET", "f", "timed").r(9).send().expect(400), &["total"]);
    let post = request("POST", &owner.url("/v1/kv/f")).body("v").send().expect(201);
    has_parts(&post, &["total", "body", "quorum"]);
    has_parts(&owner.get("/v1/kv/f?r=all").expect(200), &["total", "quorum"]);
    let batch = request("POST", &owner.url("/v1/batch")).body(r#"{"op":"get","bucket":"f","key":"timed"}"#);
    has_parts(&batch.send().expect(200), &["total", "body"]);
    assert_eq!(owner.get("/livez").header("Server-Timing"), None);
}
