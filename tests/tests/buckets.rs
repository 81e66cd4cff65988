//! Bucket properties: set on any node, in force on all within a second, kept over restarts.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::time::{Duration, Instant};

use rondo_tests::{Cluster, Node, eventually, holds, request};
use serde_json::{Value, json};

/// The contract's bound.
const EVERYWHERE: Duration = Duration::from_secs(1);

fn set(node: &Node, bucket: &str, properties: &Value) -> rondo_tests::Answer {
    let put = request("PUT", &node.url(&format!("/v1/buckets/{bucket}")));
    put.header("Content-Type", "application/json").body(properties.to_string()).send()
}

fn properties(node: &Node, bucket: &str) -> Value {
    node.get(&format!("/v1/buckets/{bucket}")).expect(200).json()
}

#[test]
fn properties_set_on_any_node_are_in_force_on_all_within_a_second_and_survive_restarts() {
    let mut cluster = Cluster::start(3);
    let defaults = json!({"n":3,"r":"quorum","w":"quorum","quorum":"strict","mode":"eventual","conflict":"siblings",
        "blind_put":"overwrite","durability":"fsync","ttl":null,"max_siblings":100});
    assert_eq!(properties(&cluster[2], "never-set"), defaults);
    assert_eq!(cluster[0].get("/v1/buckets").expect(200).json(), json!({"buckets": []}));

    let wanted = [json!({"r": 1, "w": 3}), json!({"n": 2, "max_siblings": 5}), json!({"blind_put": "sibling"})];
    let mut expected = Vec::new();
    for (index, change) in wanted.iter().enumerate() {
        let name = format!("bucket-{index}");
        let began = Instant::now();
        let answered = set(&cluster[index], &name, change).expect(200).json();
        for (field, value) in change.as_object().unwrap() {
            assert_eq!(&answered[field], value, "{name}");
        }
        for node in cluster.nodes() {
            eventually(EVERYWHERE.saturating_sub(began.elapsed()), "a bucket on every node", || {
                let seen = properties(node, &name);
                holds(seen == answered, || format!("{} has {seen}", node.name()))
            });
        }
        expected.push(json!({"name": name, "properties": answered}));
    }
    in_force(&cluster);

    cluster.nodes().iter().for_each(Node::begin_kill);
    for node in cluster.nodes_mut() {
        node.kill();
    }
    cluster.start_missing();
    for node in cluster.nodes() {
        assert_eq!(node.get("/v1/buckets").expect(200).json(), json!({"buckets": expected}), "{}", node.name());
    }
    in_force(&cluster);

    let reset = request("DELETE", &cluster[2].url("/v1/buckets/bucket-2")).send().expect(200).json();
    assert_eq!(reset, defaults);
    for node in cluster.nodes() {
        eventually(EVERYWHERE, "a reset bucket", || {
            holds(properties(node, "bucket-2") == defaults, || node.name().to_string())
        });
    }
}

/// Not only shown: used.
fn in_force(cluster: &Cluster) {
    let owners = cluster[0].get("/v1/ring?bucket=bucket-1&key=k").expect(200).json();
    assert_eq!((owners["n"].as_u64(), owners["owners"].as_array().unwrap().len()), (Some(2), 2), "{owners}");
    for (index, node) in cluster.nodes().iter().enumerate() {
        let key = format!("w-of-the-bucket-{index}");
        let put = node.object("PUT", "bucket-0", &key).body("v").send().expect(204);
        assert_eq!(put.header("Rondo-Acks"), Some("3/3"));
        let get = node.object("GET", "bucket-0", &key).send().expect(200);
        assert_eq!(get.header("Rondo-Acks"), Some("1/3"), "r of the bucket");
        node.object("GET", "bucket-1", "k").r(3).send().expect(400);
    }
}

#[test]
fn every_bad_field_is_named_and_none_is_applied() {
    let cluster = Cluster::start(1);
    let node = &cluster[0];
    let before = properties(node, "b");
    let bad = json!({"n": 9, "w": "most", "colour": 1, "ttl": "1w", "durability": "maybe", "max_siblings": 0, "r": 1,
        "conflict": "last", "quorum": "loose", "mode": "linearizable"});
    let problem = set(node, "b", &bad).problem(400);
    let named: Vec<&str> = problem["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    for field in ["n", "w", "colour", "ttl", "durability", "max_siblings", "conflict", "quorum", "mode"] {
        assert!(named.contains(&field), "{field} is not named: {problem}");
        assert!(problem["parameter"].as_str().unwrap().contains(field), "{problem}");
    }
    assert!(!named.contains(&"r"), "r is as it should be: {problem}");
    assert_eq!(properties(node, "b"), before, "a good field beside bad ones is not applied either");

    for body in ["", "[]", "{", "7", "\"n\""] {
        let put = request("PUT", &node.url("/v1/buckets/b")).body(body);
        put.send().problem(400);
    }
    let xml = request("PUT", &node.url("/v1/buckets/b")).header("Content-Type", "text/xml").body("{}");
    xml.send().problem(415);
    // What is left of it is not read: a client that sent its next request on the same connection would not be answered.
    let large = request("PUT", &node.url("/v1/buckets/b")).body(vec![b' '; 70_000]).send().expect(413);
    assert_eq!(large.header("Connection"), Some("close"));
    set(node, "a%20b", &json!({})).problem(400);
    set(node, "..%2Fx", &json!({})).problem(400);
    request("POST", &node.url("/v1/buckets/b")).body("{}").send().problem(405);
    node.get("/v1/buckets/b?n=3").problem(400);
    assert_eq!(properties(node, "b"), before);
    assert_eq!(node.get("/v1/buckets").expect(200).json(), json!({"buckets": []}));
}
