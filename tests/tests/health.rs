//! What the cluster says of itself while nodes are lost one after another, and that the nodes left stay ready.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use rondo_tests::{Cluster, Node, eventually, holds, rondo};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

fn shown(node: &Node) -> Value {
    node.get("/v1/cluster").expect(200).json()
}

/// The partitions, and the states in order of names.
fn in_short(cluster: &Value) -> (Value, Vec<String>) {
    let state = |member: &Value| member["state"].as_str().unwrap().to_string();
    (cluster["partitions"].clone(), cluster["members"].as_array().unwrap().iter().map(state).collect())
}

/// `rondo status` at the node: its exit code and first two lines.
#[track_caller]
fn status_says(node: &Node, code: i32, parts: [&str; 2]) {
    let said = rondo(["status", "--endpoint", &node.url("")]).run().expect(code).text();
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].contains(parts[0]) && lines[1].contains(parts[1]), "{said}");
}

#[test]
fn health_follows_the_nodes_that_are_lost_and_readiness_does_not() {
    let mut cluster = Cluster::start(3);
    cluster.settled(&[0, 1, 2], "healthy");
    let whole = json!({"total": 256, "all_owners": 256, "quorum": 0, "below_quorum": 0});
    assert_eq!(in_short(&shown(&cluster[0])), (whole.clone(), vec!["up".to_string(); 3]));
    status_says(&cluster[0], 0, ["healthy", "256 with all owners"]);

    cluster[2].kill();
    cluster.settled(&[0, 1], "degraded");
    let (partitions, states) = in_short(&shown(&cluster[0]));
    assert_eq!(partitions, json!({"total": 256, "all_owners": 0, "quorum": 256, "below_quorum": 0}));
    assert_eq!(states, ["up", "up", "down"]);
    status_says(&cluster[0], 4, ["degraded", "256 with a quorum"]);

    cluster[1].kill();
    cluster.settled(&[0], "unavailable");
    let (partitions, states) = in_short(&shown(&cluster[0]));
    assert_eq!(partitions, json!({"total": 256, "all_owners": 0, "quorum": 0, "below_quorum": 256}));
    assert_eq!(states, ["up", "down", "down"]);
    status_says(&cluster[0], 4, ["unavailable", "256 below their quorum"]);
    cluster[0].get("/readyz").expect(200);
    let verbose = cluster[0].get("/readyz?verbose").expect(200).json();
    assert_eq!((&verbose["ready"], &verbose["members"]), (&true.into(), &3.into()), "{verbose}");

    cluster.start_missing();
    cluster.settled(&[0, 1, 2], "healthy");
    assert_eq!(in_short(&shown(&cluster[2])).0, whole);
}

/// Two witnesses call a node that hangs down; it is back as soon as it goes on, without a restart.
#[test]
fn a_node_that_hung_answers_for_itself() {
    let cluster = Cluster::start(4);
    cluster.settled(&[0, 1, 2, 3], "healthy");
    cluster[3].pause();
    cluster.settled(&[0, 1, 2], "degraded");
    for by in 0..3 {
        let (_, states) = in_short(&shown(&cluster[by]));
        assert_eq!(states[3], "down", "seen by n{}", by + 1);
    }
    cluster[3].resume();
    cluster.settled(&[0, 1, 2, 3], "healthy");
}

/// One node stops for three seconds: nobody else is called down for it, by anyone.
#[test]
fn a_node_that_stopped_for_a_moment_accuses_nobody() {
    const PAUSE: Duration = Duration::from_secs(3);
    let cluster = Cluster::start(3);
    cluster.settled(&[0, 1, 2], "healthy");
    cluster[1].pause();
    let stopped = std::time::Instant::now();
    eventually(SOON, "the pause", || holds(stopped.elapsed() >= PAUSE, || "not over".into()));
    cluster[1].resume();
    let resumed = std::time::Instant::now();
    eventually(SOON, "two quiet seconds", || {
        for by in [0, 1, 2] {
            let (_, states) = in_short(&shown(&cluster[by]));
            assert!(states[0] != "down" && states[2] != "down", "n{} sees {states:?}", by + 1);
        }
        holds(resumed.elapsed() >= Duration::from_secs(2), || "not over".into())
    });
    cluster.settled(&[0, 1, 2], "healthy");
}
