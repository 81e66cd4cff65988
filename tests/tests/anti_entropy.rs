//! Replicas become equal without traffic, at a cost proportional to the difference. `make anti-entropy` takes a million
//! keys of a KiB and prints what it measured.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test helpers")]

use std::time::{Duration, Instant};

use rondo_tests::{Cluster, Node, eventually, holds, pace, request, rondo};
use serde_json::{Value, json};

/// Far beyond what it takes: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
const BUCKET: &str = "heal";
/// Lines of one batch.
const BATCH: usize = 1_000;

fn repair(node: &Node) -> Value {
    node.get("/v1/repair").expect(200).json()
}

fn number(node: &Node, field: &str) -> u64 {
    repair(node)[field].as_u64().unwrap()
}

/// What two disks hold of a key, but for the tokens, which are made anew each time.
fn held(node: &Node, key: &str) -> Value {
    let local = node.local(BUCKET, key);
    json!([local["found"], local["damaged"], local["versions"]])
}

#[track_caller]
fn equal_in_the_end(cluster: &Cluster, keys: &[String]) {
    for key in keys {
        eventually(PATIENCE, "equal disks", || {
            let held: Vec<Value> = cluster.nodes().iter().map(|node| held(node, key)).collect();
            let equal = held.iter().all(|other| *other == held[0]) && held[0][0] == true && held[0][1] == false;
            holds(equal, || format!("{key}: {held:?}"))
        });
    }
}

#[track_caller]
fn in_sync(cluster: &Cluster) {
    for node in cluster.nodes() {
        eventually(PATIENCE, "nodes that agree", || {
            let repair = repair(node);
            let peers = repair["peers"].as_array().unwrap();
            let agreed = peers.len() == 2 && peers.iter().all(|peer| peer["in_sync"] == true);
            holds(agreed && repair["last_complete"].is_string(), || format!("{}: {repair}", node.name()))
        });
    }
}

fn put(cluster: &Cluster, at: usize, key: &str, value: &str, w: usize) {
    cluster[at].object("PUT", BUCKET, key).w(w).body(value).send().expect(204);
}

fn keys(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

#[test]
fn a_node_that_missed_writes_gets_them_without_traffic() {
    let mut cluster = Cluster::start(3);
    cluster.settled(&[0, 1, 2], "healthy");
    let (changed, deleted, new) = (keys("changed", 60), keys("deleted", 30), keys("new", 30));
    changed.iter().chain(&deleted).for_each(|key| put(&cluster, 0, key, "old", 3));
    in_sync(&cluster);
    assert_eq!(cluster.nodes().iter().map(|node| number(node, "keys_repaired")).sum::<u64>(), 0);

    cluster[2].kill();
    for (index, key) in changed.iter().chain(&new).enumerate() {
        put(&cluster, index % 2, key, "written while one was away", 2);
    }
    deleted.iter().for_each(|key| drop(cluster[1].object("DELETE", BUCKET, key).w(2).send().expect(204)));
    cluster[2].start();
    cluster[2].wait_ready();

    let all: Vec<String> = [changed, deleted.clone(), new].concat();
    equal_in_the_end(&cluster, &all);
    in_sync(&cluster);
    for key in &deleted {
        let local = cluster[2].local(BUCKET, key);
        assert_eq!(local["versions"][0]["deleted"], true, "{local}");
        cluster[2].object("GET", BUCKET, key).r(1).send().expect(404);
    }
    let repaired = number(&cluster[2], "keys_repaired");
    assert!(repaired <= 120, "{repaired} keys repaired where 120 were missed");
    assert_eq!(cluster[2].metric("rondo_repair_keys_total"), repaired as f64);
}

#[test]
fn an_emptied_disk_becomes_equal_to_the_others() {
    let mut cluster = Cluster::start(3);
    let all = keys("k", 200);
    all.iter().for_each(|key| put(&cluster, 0, key, key, 3));
    cluster[2].kill();
    std::fs::remove_dir_all(cluster[2].data_dir().join("engine")).unwrap();
    cluster[2].start();
    cluster[2].wait_ready();
    equal_in_the_end(&cluster, &all);
    in_sync(&cluster);
}

#[test]
fn what_only_one_owner_has_spreads_and_an_operator_can_watch_it() {
    // Comparisons so rare that only the operator's word begins one.
    let mut cluster = Cluster::builder(3).env("RONDO_ANTI_ENTROPY__INTERVAL_MS", 3_600_000).start();
    cluster.settled(&[0, 1, 2], "healthy");
    in_sync(&cluster);
    put(&cluster, 0, "k", "old", 3);
    cluster[1].kill();
    cluster[2].kill();
    // Not acknowledged by a quorum, and durable on this one.
    cluster[0].object("PUT", BUCKET, "k").w(1).body("of one").send().expect(204);
    cluster.start_missing();
    cluster.settled(&[0, 1, 2], "healthy");

    let refused = request("POST", &cluster[1].url("/v1/admin/repair")).body("{\"all\":true}").send().expect(400);
    assert!(refused.text().contains("allowed: {}"), "{}", refused.text());
    let begun = request("POST", &cluster[1].url("/v1/admin/repair")).body("{}").send().expect(202).json();
    assert_eq!(begun, json!({"peers": ["n1", "n3"]}));
    let endpoint = cluster[2].url("");
    let said = rondo(["repair", "--now", "--endpoint", endpoint.as_str()]).run().expect(0);
    assert!(said.text().contains("keys repaired here") && said.text().contains("n1"), "{}", said.text());
    let json = rondo(["repair", "--output", "json", "--endpoint", endpoint.as_str()]).run().expect(0);
    assert!(serde_json::from_str::<Value>(&json.text()).unwrap()["peers"][1]["name"] == "n2");
    equal_in_the_end(&cluster, &["k".into()]);
    assert_eq!(cluster[1].object("GET", BUCKET, "k").r(1).send().expect(200).text(), "of one");
}

/// Bytes of anti-entropy's messages between all nodes, each counted once: by their senders.
fn sent(cluster: &Cluster) -> u64 {
    cluster.nodes().iter().map(|node| number(node, "bytes_sent")).sum()
}

/// Keys repaired at these nodes, since the start of each.
fn repaired(cluster: &Cluster, nodes: &[usize]) -> u64 {
    nodes.iter().map(|&at| number(&cluster[at], "keys_repaired")).sum()
}

/// Every owner has to take each: one that is behind with its flushes may refuse some, which are asked again.
fn fill(cluster: &Cluster, count: usize, value: &str) {
    for from in (0..count).step_by(BATCH) {
        let mut missing: Vec<usize> = (from..count.min(from + BATCH)).collect();
        eventually(PATIENCE, "a batch that all owners have", || {
            missing = put_all(&cluster[from / BATCH % 3], &missing, value);
            holds(missing.is_empty(), || format!("{} of them were not taken", missing.len()))
        });
    }
}

/// Those that were refused for now.
fn put_all(node: &Node, numbers: &[usize], value: &str) -> Vec<usize> {
    let line = |number| json!({"op": "put", "bucket": BUCKET, "key": format!("k-{number}"), "text": value, "w": 3});
    let body: String = numbers.iter().map(|number| format!("{}\n", line(number))).collect();
    let batch = request("POST", &node.url("/v1/batch")).header("Content-Type", "application/x-ndjson");
    let answers = batch.body(body).send().expect(200).text();
    let statuses = answers.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let refused = |answer: &Value| match answer["status"].as_u64() {
        Some(204) => false,
        Some(429 | 503) => true,
        _ => panic!("{answer}"),
    };
    numbers.iter().zip(statuses).filter(|(_, answer)| refused(answer)).map(|(number, _)| *number).collect()
}

/// In a healthy cluster nothing is repaired and hardly anything is said; a hundred keys that differ among many are found
/// and repaired within seconds, for little more than their own bytes.
#[test]
fn the_cost_is_that_of_the_difference() {
    let count = std::env::var("RONDO_ANTI_ENTROPY_KEYS").map_or(3_000, |text| text.parse().unwrap());
    // What a node misses is not kept for it, so that only the comparison can find it.
    let mut cluster = Cluster::builder(3).env("RONDO_DISK__HINT_BYTES", 0).start();
    cluster.settled(&[0, 1, 2], "healthy");
    fill(&cluster, count, &"v".repeat(1_000));
    in_sync(&cluster);

    let (window, before, already) = (Duration::from_secs(4), sent(&cluster), repaired(&cluster, &[0, 1, 2]));
    assert_eq!(pace(1, window).count(), 1);
    let rate = (sent(&cluster) - before) as f64 / window.as_secs_f64() / 3.0;
    let idle = repaired(&cluster, &[0, 1, 2]) - already;
    println!("{count} keys: idle, {rate:.0} bytes a second and pair, {idle} keys repaired");
    assert!(rate < 5.0 * 1_024.0 && idle == 0);

    assert_eq!(cluster[2].terminate().code(), Some(0));
    let differing: Vec<String> = (0..100).map(|number| format!("k-{}", number * (count / 100))).collect();
    let value = "w".repeat(1_024);
    differing.iter().for_each(|key| put(&cluster, 0, key, &value, 2));
    let (before, already) = (sent_by(&cluster, &[0, 1]), repaired(&cluster, &[0, 1]));
    let began = Instant::now();
    cluster[2].start();
    cluster[2].wait_ready();
    let ready = began.elapsed();
    equal_in_the_end(&cluster, &differing);
    let took = began.elapsed();
    // The third counts from its start.
    let repaired = repaired(&cluster, &[0, 1, 2]) - already;
    assert!(repaired >= 100, "only {repaired} of 100 keys were repaired by the comparison");
    let bytes = sent_by(&cluster, &[0, 1]) - before + number(&cluster[2], "bytes_sent");
    println!("100 keys of {count}: equal {took:?} after the start, which took {ready:?}; {bytes} bytes of messages");
    let data: usize = differing.iter().map(|key| key.len() + value.len()).sum();
    assert!(bytes < data as u64 * 12 / 10 + (2 << 20), "{bytes} bytes for {data}");
    assert!(took < ready + PATIENCE / 2);

    wiped(&mut cluster, count);
}

fn sent_by(cluster: &Cluster, nodes: &[usize]) -> u64 {
    nodes.iter().map(|&at| number(&cluster[at], "bytes_sent")).sum()
}

fn wiped(cluster: &mut Cluster, count: usize) {
    cluster[2].kill();
    std::fs::remove_dir_all(cluster[2].data_dir().join("engine")).unwrap();
    let began = Instant::now();
    cluster[2].start();
    cluster[2].wait_ready();
    let patience = PATIENCE * (1 + count as u32 / 20_000);
    eventually(patience, "a refilled disk", || {
        let untrusted = cluster[2].metric("rondo_store_untrusted_partitions");
        holds(untrusted == 0.0, || format!("{untrusted} partitions left"))
    });
    let took = began.elapsed();
    let sample: Vec<String> = (0..count).step_by(count / 300).map(|number| format!("k-{number}")).collect();
    equal_in_the_end(cluster, &sample);
    in_sync(cluster);
    println!("an emptied disk: refilled {took:?} after the start; all agree");
}
