//! `rondo get | put | del | ls` against a cluster: what a person at a terminal expects of them.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::sync::Arc;

use rondo_tests::{Cluster, Output, Shared, rondo};
use serde_json::Value;

static CLUSTER: Shared = Shared::new();

fn cluster() -> Arc<Cluster> {
    CLUSTER.get(|| Cluster::start(3))
}

/// Runs a command against the first node.
fn at(cluster: &Cluster, arguments: &[&str]) -> Output {
    let endpoint = cluster[0].url("");
    rondo(arguments.iter().copied().chain(["--endpoint", &endpoint])).run()
}

/// The value of a `name: value` line.
#[track_caller]
fn told<'a>(text: &'a str, name: &str) -> &'a str {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn a_condition_that_fails_writes_nothing_and_says_what_is_there() {
    let cluster = cluster();
    let run = |arguments: &[&str]| at(&cluster, arguments);
    let put = run(&["put", "--if-none-match", "cond", "one"]).expect(0).text();
    let etag = told(&put, "etag").to_owned();
    let refused = run(&["put", "cond", "two", "--if-none-match"]).expect(1);
    assert_eq!(told(&refused.stderr, "etag"), etag);
    assert!(refused.stdout.is_empty() && !told(&refused.stderr, "context").is_empty());
    refused.says(&["412"]);

    run(&["put", "cond", "two", "--if-match", "a-1"]).expect(1).says(&["412"]);
    run(&["del", "cond", "--if-match", "a-1"]).expect(1).says(&["412"]);
    assert_eq!(run(&["get", "cond"]).expect(0).stdout, b"one");
    let put = run(&["put", "cond", "two", "--if-match", &format!("a-1,{etag}")]).expect(0).text();
    run(&["put", "cond", "three", "--if-match", "*"]).expect(0);
    run(&["del", "cond", "--if-match", told(&put, "etag")]).expect(1).says(&["412"]);
    run(&["del", "cond", "--if-match", "*"]).expect(0);
    run(&["del", "cond", "--if-match", "*"]).expect(1).says(&["412", "nothing is there"]);
}

#[test]
fn a_value_with_a_lifetime_says_when_it_ends() {
    let cluster = cluster();
    let run = |arguments: &[&str]| at(&cluster, arguments);
    run(&["put", "ttl", "soon gone", "--ttl", "1h"]).expect(0);
    let shown: Value = serde_json::from_slice(&run(&["get", "ttl", "--output", "json"]).expect(0).stdout).unwrap();
    assert!(shown["expires"].as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{shown}");
    run(&["put", "ttl", "x", "--ttl", "soon"]).expect(1).says(&["Rondo-Ttl", "soon"]);
}

#[test]
fn one_of_several_versions_can_be_read_and_all_be_resolved() {
    let cluster = cluster();
    let run = |arguments: &[&str]| at(&cluster, arguments);
    let first = run(&["put", "sib", "one"]).expect(0).text();
    let stale = told(&first, "context");
    let two = run(&["put", "sib", "two", "--context", stale]).expect(0).text();
    let three = run(&["put", "sib", "three", "--context", stale]).expect(0).text();
    assert_eq!(told(&three, "siblings"), "2");
    let conflict = run(&["get", "sib", "--r", "all"]).expect(1);
    let context = conflict.stderr.trim().rsplit(' ').next().unwrap().to_owned();
    conflict.says(&[told(&two, "etag"), told(&three, "etag"), "--context"]);
    let one = run(&["get", "sib", "--sibling", told(&two, "etag")]).expect(0);
    assert_eq!(one.stdout, b"two");
    run(&["get", "sib", "--sibling", "a-1"]).expect(1).says(&["404"]);
    run(&["put", "sib", "both", "--context", &context]).expect(0);
    assert_eq!(run(&["get", "sib", "--r", "all"]).expect(0).stdout, b"both");
}

#[test]
fn what_a_request_may_decide_is_checked_by_the_node() {
    let cluster = cluster();
    let run = |arguments: &[&str]| at(&cluster, arguments);
    run(&["put", "choice", "v", "--quorum", "strict", "--timeout", "2s"]).expect(0);
    assert_eq!(run(&["get", "choice", "--quorum", "strict", "--timeout", "2s"]).expect(0).stdout, b"v");
    assert!(run(&["ls", "default", "--quorum", "strict"]).expect(0).text().contains("choice"));
    for command in [&["put", "choice", "v"][..], &["get", "choice"], &["del", "choice"], &["ls", "default"]] {
        run(&[command, &["--quorum", "some"]].concat()).expect(1).says(&["Rondo-Quorum", "strict"]);
        run(&[command, &["--timeout", "0s"]].concat()).expect(1).says(&["Rondo-Timeout"]);
    }
}
