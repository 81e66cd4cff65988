//! Real input: `rondo load` into three nodes, one killed half-way and started again, every record read back byte for
//! byte. A sample of the data set; all of it with `RONDO_LOAD_ALL=1` (`make load-all`).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test helpers")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use rondo_tests::{Cluster, Node, Record, eventually, holds, records, rondo, workspace};

const PROGRESS: Duration = Duration::from_secs(120);
const REPAIRED: Duration = Duration::from_secs(20);

#[test]
fn a_sample_survives_the_loss_of_a_node() {
    load_while_a_node_dies(&workspace().join("node/fixtures/packages.jsonl"), 500, 1);
}

#[test]
fn the_whole_data_set_survives_the_loss_of_a_node() {
    if std::env::var_os("RONDO_LOAD_ALL").is_none() {
        println!("SKIPPED: set RONDO_LOAD_ALL=1 to load the whole data set");
        return;
    }
    let named = std::env::var_os("RONDO_DATA").map(PathBuf::from);
    let beside = workspace().join("../shared/data/debian-packages.jsonl.gz");
    let Some(path) = named.or_else(|| beside.exists().then_some(beside)) else {
        println!("SKIPPED: there is no data set; name a file of {{\"key\":…,\"value\":…}} lines in RONDO_DATA");
        return;
    };
    load_while_a_node_dies(&path, 20_000, 32);
}

fn load_while_a_node_dies(path: &Path, expected: usize, concurrency: usize) {
    let all = records(path);
    assert_eq!(all.len(), expected, "{}", path.display());
    let mut cluster = Cluster::start(3);
    let (endpoints, file, workers) = (cluster.endpoints(), path.to_path_buf(), concurrency.to_string());
    let loading = std::thread::spawn(move || {
        let file = file.to_str().unwrap();
        let to = ["--bucket", "packages", "--w", "2", "--concurrency", &workers, "--endpoint", &endpoints];
        rondo(["load", file, "--output", "json"].into_iter().chain(to)).run()
    });
    eventually(PROGRESS, "half of the records", || {
        let written: f64 = cluster.nodes().iter().map(|node| node.metric("rondo_store_updates_total")).sum();
        holds(written >= expected as f64 / 2.0, || format!("{written} of {expected}"))
    });
    assert!(!loading.is_finished(), "the node would be killed too late to prove anything");
    cluster[2].kill();
    cluster[2].start();
    let output = loading.join().unwrap().expect(0);
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["records"], expected, "{summary}");
    println!("{summary}");
    cluster[2].wait_ready();

    for node in cluster.nodes() {
        for record in &all {
            is_equal(node, record, 2);
        }
    }
    // A read of all owners repairs those that were away; then each one's own disk is enough.
    for record in &all {
        is_equal(&cluster[0], record, 3);
    }
    for node in cluster.nodes() {
        for record in &all {
            eventually(REPAIRED, "read repair", || {
                let held = node.local("packages", &record.key);
                holds(held["versions"].as_array().is_some_and(|v| v.len() == 1), || format!("{held}"))
            });
            is_equal(node, record, 1);
        }
    }
}

fn is_equal(node: &Node, record: &Record, r: u8) {
    let get = node.object("GET", "packages", &record.key).r(r).send().expect(200);
    assert!(get.body == record.value, "{} at R={r} from {}: {}", record.key, node.name(), get.text());
    assert_eq!(get.header("Content-Type"), Some("application/json"));
}
