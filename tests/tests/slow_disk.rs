//! One node's disk hangs: nothing is brought to it, and nothing that is only on it can be read. The node's own word goes
//! on, and no client of any node notices more than a moment.
//!
//! The disk hangs by a file that builds with debug assertions look for (`storage/src/engine/disk/hang.rs`).

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rondo_tests::{Answer, Cluster, Node, Request, eventually, holds, pace};

/// Values much larger than what the nodes of this test keep in memory.
const KEYS: usize = 600;
const VALUE_BYTES: usize = 4 << 10;
/// Written last, and read again and again.
const RECENT: usize = 8;
/// What anything may take while the disk hangs. A busy machine takes some of it.
const AT_MOST: Duration = Duration::from_millis(1_000);
/// A node that is silent for so long has been called down, in 99 of 100 cases (docs/gossip.md).
const DOWN_AFTER_MS: u64 = 3_500;
const SOON: Duration = Duration::from_secs(30);

fn cold(number: usize) -> String {
    format!("cold-{number:04}")
}

fn recent(number: usize) -> String {
    format!("recent-{number}")
}

fn value(key: &str) -> Vec<u8> {
    key.bytes().cycle().take(VALUE_BYTES).collect()
}

/// What one request took, which is less than [`AT_MOST`].
#[track_caller]
fn in_time(what: &str, request: Request) -> Answer {
    let began = Instant::now();
    let answer = request.send();
    let took = began.elapsed();
    assert!(took < AT_MOST, "{what}: {} after {took:?}", answer.status);
    answer
}

/// A node whose disk hangs until this is dropped.
struct Hung(PathBuf);

impl Hung {
    fn new(node: &Node) -> Self {
        let file = node.data_dir().join("engine/hang-for-a-test");
        std::fs::write(&file, "").unwrap();
        Self(file)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Three nodes that keep little in memory, with all values on all of them.
fn loaded() -> Cluster {
    let small = [
        ("RONDO_STORAGE__MEMTABLE_BYTES", 128 << 10),
        ("RONDO_STORAGE__TABLE_BYTES", 256 << 10),
        ("RONDO_STORAGE__LOG_SEGMENT_BYTES", 256 << 10),
        ("RONDO_STORAGE__CACHE_BYTES", 1 << 20),
        ("RONDO_DISK__RECENT_BYTES", 128 << 10),
    ];
    let builder = small.into_iter().fold(Cluster::builder(3), |builder, (name, value)| builder.env(name, value));
    let cluster = builder.start();
    let keys = (0..KEYS).map(cold).chain((0..RECENT).map(recent));
    for (number, key) in keys.enumerate() {
        cluster[number % 3].object("PUT", "b", &key).w(3).body(value(&key)).send().expect(204);
    }
    for node in cluster.nodes() {
        eventually(SOON, "memtables that have become tables", || {
            let (memtables, tables) =
                (node.metric("rondo_engine_memtable_bytes"), node.metric("rondo_engine_tables_bytes"));
            holds(tables > 4.0 * memtables, || format!("{memtables} bytes in memory, {tables} in tables"))
        });
    }
    cluster
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "a build without debug assertions cannot be made to hang")]
fn a_hung_disk_is_nobodys_trouble_but_its_own() {
    let cluster = loaded();
    let slow = &cluster[2];
    (0..RECENT).for_each(|number| drop(slow.object("GET", "b", &recent(number)).r(1).send().expect(200)));
    let hung = Hung::new(slow);
    // What is read before it hangs is in memory from then on.
    let mut unread = (0..KEYS).rev().map(cold);
    eventually(SOON, "a disk that hangs", || {
        slow.object("GET", "b", &unread.next().unwrap()).r(1).send().expect(200);
        let refused = slow.metric("rondo_disk_jobs_refused_total");
        holds(refused > 0.0, || "everything has been read".into())
    });

    // Longer than a node may be silent.
    for turn in pace(30, Duration::from_millis(2 * DOWN_AFTER_MS / 30)) {
        for path in ["/livez", "/readyz", "/metrics", "/v1/cluster"] {
            in_time(path, rondo_tests::request("GET", &slow.url(path))).expect(200);
        }
        let key = recent(turn % RECENT);
        let read = in_time("a recent value, R=1", slow.object("GET", "b", &key).r(1)).expect(200);
        assert_eq!(read.body, value(&key));
        for (index, node) in cluster.nodes().iter().enumerate() {
            let key = cold((turn * 3 + index) * 7 % KEYS);
            let read = in_time("a value on disk, R=2", node.object("GET", "b", &key).r(2)).expect(200);
            assert_eq!(read.body, value(&key), "{key}");
            in_time("a missing key, R=2", node.object("GET", "b", &format!("none-{turn}")).r(2)).expect(404);
            let fresh = format!("fresh-{turn}-{index}");
            in_time("a new key, W=2", node.object("PUT", "b", &fresh).w(2).body("new")).expect(204);
            in_time("a value on disk replaced, W=2", node.object("PUT", "b", &key).w(2).body(value(&key))).expect(204);
        }
    }
    for (index, node) in cluster.nodes().iter().enumerate() {
        let members = node.get("/v1/cluster").expect(200).json();
        let down = members["members"].as_array().unwrap().iter().any(|member| member["state"] == "down");
        assert!(!down, "n{} sees {members}", index + 1);
        let listed =
            in_time("a listing", rondo_tests::request("GET", &node.url("/v1/kv/b?limit=5"))).expect(200).json();
        assert_eq!(listed["items"].as_array().unwrap().len(), 5, "{listed}");
    }

    drop(hung);
    eventually(SOON, "a disk that answers", || {
        let answer = rondo_tests::request("GET", &slow.url(&format!("/v1/local/b/{}", cold(1)))).send();
        holds(answer.status == 200 && answer.json()["found"] == true, || answer.text())
    });
    let before = slow.metric("rondo_disk_jobs_refused_total");
    (0..KEYS).step_by(9).for_each(|number| drop(slow.object("GET", "b", &cold(number)).r(1).send().expect(200)));
    assert_eq!(slow.metric("rondo_disk_jobs_refused_total"), before, "it answers for itself again");
}
