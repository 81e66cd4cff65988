//! Hinted handoff and the sloppy quorum with real processes: what a node misses while it is away is on its disk soon after
//! it is back, through crashes of either side, within the bound, and without a failed request.
//! `RONDO_OUTAGE_SECONDS` (5) says how long the outage under load lasts.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test helpers")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rondo_tests::{Answer, Cluster, Load, Node, eventually, holds, rondo};
use serde_json::Value;

/// What is promised is 2 s from the target's return as its peers see it; the machine may be busy with other tests.
const DELIVERED: Duration = Duration::from_secs(15);
const SOON: Duration = Duration::from_secs(30);

fn hints(node: &Node) -> Value {
    node.get("/v1/hints").expect(200).json()
}

fn kept(node: &Node) -> u64 {
    hints(node)["total"]["count"].as_u64().unwrap()
}

fn put(node: &Node, key: &str, value: &str, w: u8) -> Answer {
    node.object("PUT", "h", key).w(w).body(value).send().expect(204)
}

/// One version on the disk of that node, this one.
fn has(node: &Node, key: &str, value: &str) -> Result<(), String> {
    let local = node.local("h", key);
    let versions = local["versions"].as_array().unwrap().clone();
    let texts: Vec<&str> = versions.iter().filter_map(|version| version["text"].as_str()).collect();
    holds(local["owner"] == true && texts == [value], || format!("{} has {local}", node.name()))
}

/// Names of the nodes that own the key, and of those that stand in for them.
fn places(node: &Node, key: &str) -> (Vec<usize>, Vec<usize>) {
    let ring = node.get(&format!("/v1/ring?bucket=h&key={key}")).expect(200).json();
    let places = |role: &str| -> Vec<usize> {
        let names = ring[role].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap());
        names.map(|name| name[1..].parse::<usize>().unwrap() - 1).collect()
    };
    (places("owners"), places("fallbacks"))
}

#[test]
fn a_killed_owner_has_exactly_what_it_missed_soon_after_it_is_back() {
    let mut cluster = Cluster::start(3);
    cluster.settled(&[0, 1, 2], "healthy");
    for i in 0..40 {
        put(&cluster[i % 3], &format!("k{i}"), "before", 3);
    }
    assert_eq!(hints(&cluster[0]), serde_json::json!({"total": {"count": 0, "bytes": 0}, "targets": []}));
    cluster[2].kill();
    // At once, before anybody has called it down, and then.
    put(&cluster[0], "k0", "after 0", 2);
    cluster.settled(&[0, 1], "degraded");
    for i in 1..30 {
        let answer = put(&cluster[i % 2], &format!("k{i}"), &format!("after {i}"), 2);
        assert_eq!((answer.header("Rondo-Hinted"), answer.header("Rondo-Quorum")), (Some("1"), Some("strict")));
    }
    let deleted = cluster[0].object("DELETE", "h", "k39").w(2).send().expect(204);
    assert_eq!(deleted.header("Rondo-Hinted"), Some("1"));
    let target = hints(&cluster[0])["targets"][0].clone();
    assert_eq!(target["name"], "n3");
    assert!(target["count"].as_u64() > Some(5) && target["bytes"].as_u64() > Some(500), "{target}");
    assert!(target["oldest_seconds"].as_u64() < Some(60), "{target}");
    let shown = rondo(["hints", "--endpoint", &cluster[0].url("")]).run().expect(0);
    assert!(shown.text().contains("n3"), "{shown:?}");
    assert_eq!(cluster[0].local("h", "k4")["hint_for"], "n3");

    cluster[2].start();
    cluster.settled(&[0, 1], "healthy");
    let back = Instant::now();
    eventually(DELIVERED, "what it missed", || {
        (0..30).try_for_each(|i| has(&cluster[2], &format!("k{i}"), &format!("after {i}")))?;
        let local = cluster[2].local("h", "k39");
        holds(local["versions"][0]["deleted"] == true, || local.to_string())
    });
    println!("delivered {:?} after its peers saw it", back.elapsed());
    eventually(SOON, "no hint left", || {
        let left = kept(&cluster[0]) + kept(&cluster[1]);
        holds(left == 0, || format!("{left} are left"))
    });
    // Exactly that: what it did not miss was not sent.
    let merged = cluster[2].metric("rondo_store_merges_total");
    assert!((31.0..60.0).contains(&merged), "{merged} merges for 31 missed writes");
    assert!(cluster[0].local("h", "k4")["hint_for"].is_null());
}

/// Two of three owners are gone: strict says so, sloppy takes the write, and it is on its owners once they are back.
#[test]
fn a_sloppy_write_outlives_the_loss_of_two_of_three_owners_and_of_the_third() {
    let mut cluster = Cluster::builder(5).zones(&["a", "a", "b", "b", "c"]).start();
    cluster.settled(&[0, 1, 2, 3, 4], "healthy");
    let (owners, fallbacks) = places(&cluster[0], "k");
    assert_eq!((owners.len(), fallbacks.len()), (3, 2));
    put(&cluster[owners[0]], "k", "old", 3);
    cluster[owners[1]].kill();
    cluster[owners[2]].kill();
    for known in ["not known", "known"] {
        if known == "known" {
            cluster.settled(&[owners[0], fallbacks[0], fallbacks[1]], "unavailable");
        }
        for (at, entry) in [owners[0], fallbacks[0], fallbacks[1]].into_iter().enumerate() {
            let value = format!("{known}, {at}");
            let answer =
                cluster[entry].object("PUT", "h", "k").w(2).header("Rondo-Quorum", "sloppy").body(value.as_bytes());
            let answer = answer.send().expect(204);
            assert_eq!(answer.header("Rondo-Quorum"), Some("sloppy"), "{known} {at}: {answer:?}");
            assert!(answer.header("Rondo-Hinted").is_some(), "{answer:?}");
            let read = cluster[entry].get("/v1/kv/h/k?r=2&quorum=sloppy").expect(200);
            assert_eq!((read.text(), read.header("Rondo-Quorum")), (value, Some("sloppy")), "{known} {at}");
        }
    }
    cluster[fallbacks[0]].object("PUT", "h", "k").w(2).body("never").send().problem(503);
    let keeps = |cluster: &Cluster| {
        fallbacks.iter().filter(|&&node| cluster[node].local("h", "k")["hint_for"].is_string()).count()
    };
    assert!(keeps(&cluster) >= 1);

    cluster[owners[0]].kill();
    cluster.settled(&[fallbacks[0], fallbacks[1]], "unavailable");
    let put = cluster[fallbacks[1]].object("PUT", "h", "k").w(2).header("Rondo-Quorum", "sloppy");
    let put = put.body("without any owner").send().expect(204);
    assert_eq!((put.header("Rondo-Quorum"), put.header("Rondo-Acks")), (Some("sloppy"), Some("2/3")));
    let get = cluster[fallbacks[0]].get("/v1/kv/h/k?r=2&quorum=sloppy").expect(200);
    assert_eq!(get.text(), "without any owner");
    cluster[fallbacks[0]].get("/v1/kv/h/k?r=1").problem(503);
    let unknown = cluster[fallbacks[0]].get("/v1/kv/h/k?r=1&quorum=sloppy&timeout=2s").status;
    assert_eq!(unknown, 200);

    cluster.start_missing();
    eventually(SOON, "the value on its owners", || {
        owners.iter().try_for_each(|&owner| {
            let local = cluster[owner].local("h", "k");
            let live =
                local["versions"].as_array().unwrap().iter().any(|version| version["text"] == "without any owner");
            holds(live, || format!("{} has {local}", cluster[owner].name()))
        })
    });
    eventually(SOON, "no hint left", || {
        let left: u64 = cluster.nodes().iter().map(kept).sum();
        holds(left == 0, || format!("{left} are left"))
    });
    // The stand-in kept the write before it for two of the owners, so it has replaced that one.
    let get = cluster[0].object("GET", "h", "k").r(3).send().expect(200);
    assert_eq!((get.text().as_str(), get.header("Rondo-Quorum")), ("without any owner", Some("strict")));
}

/// The bucket says it for requests that do not.
#[test]
fn a_bucket_may_be_sloppy() {
    let mut cluster = Cluster::start(5);
    cluster.settled(&[0, 1, 2, 3, 4], "healthy");
    let set = rondo_tests::request("PUT", &cluster[0].url("/v1/buckets/h")).header("Content-Type", "application/json");
    let properties = set.body(r#"{"quorum":"sloppy"}"#).send().expect(200).json();
    assert_eq!(properties["quorum"], "sloppy");
    let (owners, fallbacks) = places(&cluster[0], "k");
    let all_there = cluster[owners[0]].object("PUT", "h", "k").w(3).body("v").send().expect(204);
    assert_eq!((all_there.header("Rondo-Quorum"), all_there.header("Rondo-Hinted")), (Some("strict"), None));
    let at = fallbacks[0];
    eventually(SOON, "the properties on every node", || {
        let there = cluster[at].get("/v1/buckets/h").expect(200).json();
        holds(there["quorum"] == "sloppy", || there.to_string())
    });
    cluster[owners[1]].kill();
    cluster[owners[2]].kill();
    let sloppy = cluster[at].object("PUT", "h", "k").w(2).body("w").send().expect(204);
    assert_eq!(sloppy.header("Rondo-Quorum"), Some("sloppy"));
    cluster[at].object("PUT", "h", "k").w(2).header("Rondo-Quorum", "strict").body("x").send().expect_any(&[503, 504]);
}

/// The holder is killed while it delivers: what is left is delivered after its start, and nothing is lost.
#[test]
fn a_holder_that_crashes_in_the_middle_goes_on_later() {
    const KEYS: usize = 600;
    let mut cluster = Cluster::start(3);
    cluster.settled(&[0, 1, 2], "healthy");
    cluster[2].kill();
    cluster.settled(&[0, 1], "degraded");
    let value = "x".repeat(8 << 10);
    for i in 0..KEYS {
        put(&cluster[0], &format!("k{i}"), &value, 2);
    }
    assert_eq!(kept(&cluster[0]), KEYS as u64);
    cluster[2].start();
    eventually(SOON, "a delivery that has begun", || {
        let delivered = cluster[0].metric("rondo_hints_delivered_total");
        holds(delivered >= 1.0, || format!("{delivered} delivered"))
    });
    cluster[0].kill();
    // The target too: it may have acknowledged what its sender did not hear.
    cluster[2].kill();
    cluster[2].start();
    cluster[0].start();
    cluster.start_missing();
    println!("{} of {KEYS} were left when the holder came back", kept(&cluster[0]));
    eventually(SOON, "all of them", || (0..KEYS).try_for_each(|i| has(&cluster[2], &format!("k{i}"), &value)));
    eventually(SOON, "no hint left", || holds(kept(&cluster[0]) == 0, || format!("{} are left", kept(&cluster[0]))));
}

/// At full write load a node is away for longer than the bound has room for: no request fails, the bound holds, and what
/// was kept is delivered while the load goes on.
#[test]
fn an_outage_under_load_fails_no_request_and_keeps_to_the_bound() {
    const BOUND: u64 = 100_000;
    let seconds = std::env::var("RONDO_OUTAGE_SECONDS").map_or(5, |text| text.parse().unwrap());
    let mut cluster = Cluster::builder(3).env("RONDO_DISK__HINT_BYTES", BOUND).start();
    cluster.settled(&[0, 1, 2], "healthy");
    let others: Vec<SocketAddr> = cluster.nodes()[..2].iter().map(Node::client_addr).collect();
    let load = Load::start(&others, "h", 6);
    load.wait_for(200);
    cluster[2].kill();
    let (outage, mut most) = (Instant::now(), 0);
    eventually(Duration::from_secs(seconds + 120), "the end of the outage", || {
        for node in &cluster.nodes()[..2] {
            let bytes = hints(node)["total"]["bytes"].as_u64().unwrap();
            assert!(bytes <= BOUND, "{bytes} bytes of hints");
            most = most.max(bytes);
        }
        let refused = cluster[0].metric("rondo_hints_refused_total") + cluster[1].metric("rondo_hints_refused_total");
        let long_enough = outage.elapsed() >= Duration::from_secs(seconds);
        holds(long_enough && refused > 0.0, || format!("{most} bytes, {refused} refused"))
    });
    cluster[2].start();
    eventually(SOON, "the hints delivered under load", || {
        let delivered: f64 = cluster.nodes()[..2].iter().map(|node| node.metric("rondo_hints_delivered_total")).sum();
        holds(delivered > 50.0, || format!("{delivered} delivered"))
    });
    load.wait_for(200);
    let seen = load.stop();
    println!("{} requests, the longest took {:?}; at most {most} bytes of hints", seen.requests, seen.longest);
    assert!(seen.failures.is_empty(), "{} of {}: {:#?}", seen.failures.len(), seen.requests, seen.failures.first());
    eventually(SOON, "no hint left", || {
        let left = kept(&cluster[0]) + kept(&cluster[1]);
        holds(left == 0, || format!("{left} are left"))
    });
}
