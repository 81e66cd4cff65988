//! `/v1/staleness` and `rondo status --staleness`: a cluster after some load says plausible things of its reads.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::time::Duration;

use rondo_tests::{Cluster, Node, eventually, holds, request, rondo};
use serde_json::{Value, json};

/// More than are needed.
const WRITES: usize = 2_500;

fn staleness(node: &Node) -> Value {
    node.get("/v1/staleness").expect(200).json()
}

/// Writes through one node, then reads of two owners.
fn load(node: &Node) {
    let put = |i: usize| json!({"op": "put", "bucket": "b", "key": format!("k{i}"), "text": "v"}).to_string();
    let get = |i: usize| json!({"op": "get", "bucket": "b", "key": format!("k{i}"), "r": 2}).to_string();
    let batch = |lines: Vec<String>| request("POST", &node.url("/v1/batch")).body(lines.join("\n")).send().expect(200);
    batch((0..WRITES).map(put).collect());
    batch((0..WRITES).map(get).collect());
}

#[test]
fn a_cluster_after_some_load_knows_how_stale_it_is() {
    let cluster = Cluster::start(3);
    let quiet = staleness(&cluster[0]);
    assert_eq!((&quiet["n"], &quiet["estimates"]), (&3.into(), &json!([])), "nothing is made up: {quiet}");
    let lacking: Vec<_> = quiet["too_few"].as_array().unwrap().iter().map(|replica| &replica["name"]).collect();
    assert_eq!(lacking.len(), 3, "{quiet}");
    let shown = rondo(["status", "--staleness", "--endpoint", &cluster[0].url("")]).run().expect(0).text();
    assert!(
        shown.starts_with("not enough samples: 1000 writes through this node") && shown.contains("\nn2: "),
        "{shown}"
    );

    load(&cluster[0]);
    // The acknowledgements of the slowest replica come after the answers, and a report is good for a second.
    let report = eventually(Duration::from_secs(30), "an estimate", || {
        let report = staleness(&cluster[0]);
        holds(report["estimates"] != json!([]), || report.to_string()).map(|()| report)
    });
    assert!(report["samples"].as_u64().unwrap() >= report["samples_needed"].as_u64().unwrap(), "{report}");
    assert_eq!(report["too_few"], json!([]));
    let estimates = report["estimates"].as_array().unwrap();
    let quorums: Vec<_> = estimates.iter().map(|estimate| [&estimate["r"], &estimate["w"]]).collect();
    assert_eq!(json!(quorums), json!([[1, 1], [1, 2], [2, 1], [2, 2]]));
    estimates.iter().for_each(is_plausible);
    let at_once = |quorum: usize| estimates[quorum]["p_consistent"][0]["p"].as_f64().unwrap();
    assert!(at_once(0) <= at_once(1) && at_once(0) <= at_once(2), "more is fresher: {report}");
    assert!(at_once(0) >= 0.3, "one in three reads is of the very node that acknowledged first: {report}");

    // Nothing went through the others: they have no samples of their own.
    assert_eq!(staleness(&cluster[1])["estimates"], json!([]));

    let endpoint = cluster[0].url("");
    let shown = rondo(["status", "--staleness", "--endpoint", &endpoint]).run().expect(0).text();
    let rows: Vec<Vec<_>> = shown.lines().skip(4).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows.iter().map(|row| (row[0], row[1])).collect::<Vec<_>>(),
        [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")]
    );
    assert_eq!(rows[3][2], "100.00", "{shown}");
    let json = rondo(["status", "--staleness", "--output", "json", "--endpoint", &endpoint]).run().expect(0).text();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["n"], 3);
}

#[track_caller]
fn is_plausible(estimate: &Value) {
    let points = estimate["p_consistent"].as_array().unwrap();
    let p: Vec<f64> = points.iter().map(|point| point["p"].as_f64().unwrap()).collect();
    let t: Vec<f64> = points.iter().map(|point| point["t_ms"].as_f64().unwrap()).collect();
    assert!(t[0] == 0.0 && t.is_sorted_by(|a, b| a < b) && p.is_sorted(), "{estimate}");
    assert!(p.iter().all(|p| (0.0..=1.0).contains(p)), "{estimate}");
    let t_999 = estimate["t_999_ms"].as_f64().unwrap();
    let later = t.iter().zip(&p).filter(|(t, _)| **t >= t_999);
    assert!(later.clone().all(|(_, p)| *p >= 0.999), "{estimate}");
    let overlapping = estimate["r"].as_u64().unwrap() + estimate["w"].as_u64().unwrap() > 3;
    if overlapping {
        assert!(t_999 == 0.0 && p.iter().all(|p| *p == 1.0), "R + W > N is certain: {estimate}");
    }
}
