//! `rondo bench` against real nodes: what it counts is what the nodes counted, and what it cannot do it says.

#![allow(clippy::unwrap_used, reason = "a test")]

use rondo_tests::{Cluster, Output, rondo};
use serde_json::Value;

fn bench(endpoints: &str, line: &str) -> Output {
    let common = ["bench", "--output", "json", "--warmup", "0s", "--connections", "8", "--endpoint", endpoints];
    rondo(common.into_iter().chain(line.split_whitespace())).run()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the nodes say that they answered. A status that never occurred is not on the page.
fn answered(cluster: &Cluster, operation: &str, status: u16) -> f64 {
    let name = format!("rondo_http_requests_total{{operation=\"{operation}\",status=\"{status}\"}} ");
    let pages = cluster.nodes().iter().map(|node| node.get("/metrics").expect(200).text());
    pages.flat_map(|page| page.lines().find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok())).sum()
}

#[test]
fn a_run_counts_what_the_nodes_count() {
    let cluster = Cluster::start(3);
    let line =
        "--requests 300 --keys 50 --key-size 8 --value-size uniform:10-2000 --preload --mix get=2,put=1 --w 3 --r 1";
    let report = report(&bench(&cluster.endpoints(), line).expect(0));
    let status = |operation: &str, status: &str| report["statuses"][operation][status].as_u64().unwrap_or_default();
    assert_eq!(report["requests"], 300, "{report}");
    assert_eq!(status("put", "204") + status("get", "200") + status("get", "409"), 300, "{report}");
    // 50 more put the keys there first.
    assert_eq!(answered(&cluster, "put", 204), 50.0 + status("put", "204") as f64);
    assert_eq!(answered(&cluster, "get", 200), status("get", "200") as f64);
    assert_eq!(answered(&cluster, "get", 404), 0.0, "every key was put there");

    let latency = |operation: &str, of: &str| report["latency_us"][operation][of].as_f64().unwrap();
    assert_eq!(latency("put", "count") + latency("get", "count"), 300.0);
    assert!(0.0 < latency("all", "p50") && latency("all", "p50") <= latency("all", "p99"));
    assert!(latency("all", "p99") <= latency("all", "max") && report["requests_per_second"].as_f64().unwrap() > 0.0);

    let nodes = report["cpu"]["nodes"].as_array().unwrap();
    assert!(nodes.len() == 3 && nodes.iter().all(|node| node["seconds"].as_f64().unwrap() > 0.0), "{report}");
    let sum: f64 = nodes.iter().map(|node| node["us_per_request"].as_f64().unwrap()).sum();
    assert!((report["cpu"]["nodes_us_per_request"].as_f64().unwrap() - sum).abs() < 0.1);
    assert!(report["cpu"]["generator_us_per_request"].as_f64().unwrap() > 0.0);

    // The other nodes are found through one, and cost processor time as well.
    let one = bench(&cluster[0].url(""), "--duration 100ms --mix put --keys 5").expect(0);
    let found: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(found["cpu"]["nodes"].as_array().unwrap().len(), 3, "{found}");
    assert_eq!(found["seconds"], 0.1);
}

#[test]
fn a_run_without_the_right_answers_fails() {
    let cluster = Cluster::start(1);
    let one = cluster.endpoints();
    // N is 3 on one node: only W=1 can be had.
    let refused = bench(&one, "--requests 20 --mix put --w 2").expect(1);
    assert_eq!(report(&refused)["unexpected"], 20);
    assert_eq!(report(&refused)["statuses"]["put"]["503"], 20);
    refused.says(&["20 requests had no answer or not the expected one; the first: put was answered with 503"]);
    bench(&one, "--requests 20 --w 2 --preload").expect(1).says(&["--preload stored 0 of 10000 keys", "503"]);

    // A key that was never written is no failure, unless all were to be there.
    let missing = report(&bench(&one, "--requests 20 --mix get --r 1").expect(0));
    assert_eq!((&missing["statuses"]["get"]["404"], &missing["unexpected"]), (&20.into(), &0.into()));
    let text = rondo(["bench", "--endpoint", &one, "--requests", "20", "--mix", "get", "--r", "1", "--warmup", "0s"]);
    let text = text.run().expect(0).text();
    assert!(text.contains("get: 20 × 404") && text.contains("rondo bench"), "{text}");
}

#[test]
fn an_open_loop_begins_what_is_due_and_says_what_it_could_not() {
    let cluster = Cluster::start(1);
    let one = cluster.endpoints();
    let kept = report(&bench(&one, "--rate 200 --duration 500ms --mix put --w 1 --keys 5 --timeout 60s").expect(0));
    assert_eq!(kept["statuses"]["put"]["204"], 100, "{kept}");
    assert_eq!((&kept["start_lag_us"]["count"], &kept["not_begun"]), (&100.into(), &0.into()));
    assert_eq!(kept["setup"]["rate_per_second"], 200);
    // A fifth of a second's requests at this rate would take these connections many seconds.
    let beyond = bench(&one, "--rate 1000000 --duration 200ms --mix get --r 1 --timeout 1s").expect(1);
    let beyond = report(&beyond);
    let begun = beyond["latency_us"]["all"]["count"].as_u64().unwrap();
    assert_eq!(begun + beyond["not_begun"].as_u64().unwrap(), 200_000, "{beyond}");
}

#[test]
fn a_run_that_makes_no_sense_is_not_begun() {
    for line in [
        "--mix del",
        "--keys 0",
        "--rate 0",
        "--requests 5 --duration 1s",
        "--value-size 1GiB",
        "--keys 1000 --key-size 2",
    ] {
        bench("http://127.0.0.1:1", line).expect(2);
    }
    bench("http://127.0.0.1:1", "").expect(3).says(&["127.0.0.1:1: cannot connect"]);
}
