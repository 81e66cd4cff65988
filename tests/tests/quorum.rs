//! R and W while a node is dead or hangs: what can go on goes on without a stall, what cannot is said honestly.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test helpers")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rondo_tests::{Answer, Cluster, Load, Node, Seen, eventually, holds};

/// The promise: no request waits longer for a node that is gone.
const STALL_MAX: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(20);
const REQUESTS: usize = 400;

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Killed,
    Hung,
}

/// Four nodes, so that every node is no owner of some keys: writes are forwarded, also to the one that is lost.
fn under_load(fault: Fault) -> (Cluster, Seen) {
    let mut cluster = Cluster::start(4);
    cluster.settled(&[0, 1, 2], "healthy");
    let others: Vec<SocketAddr> = cluster.nodes()[..3].iter().map(Node::client_addr).collect();
    let load = Load::start(&others, "load", 6);
    load.wait_for(REQUESTS);
    match fault {
        Fault::Killed => cluster[3].kill(),
        Fault::Hung => cluster[3].pause(),
    }
    load.wait_for(REQUESTS);
    // On until the others have called it down, so that the change of view is in the middle of the load as well.
    cluster.settled(&[0, 1, 2], "degraded");
    load.wait_for(REQUESTS);
    match fault {
        Fault::Killed => cluster[3].restart(),
        Fault::Hung => cluster[3].resume(),
    }
    cluster.settled(&[0, 1, 2, 3], "healthy");
    load.wait_for(REQUESTS);
    (cluster, load.stop())
}

fn nothing_failed(cluster: &Cluster, seen: &Seen) {
    println!("{} requests, the longest took {:?}", seen.requests, seen.longest);
    assert!(seen.requests >= 4 * REQUESTS);
    assert!(seen.failures.is_empty(), "{} of {}: {:#?}", seen.failures.len(), seen.requests, seen.failures.first());
    assert!(seen.longest <= STALL_MAX, "the longest request took {:?}", seen.longest);
    for (index, key) in seen.written.iter().enumerate() {
        let get = cluster[index % 4].object("GET", "load", key).r(2).send().expect(200);
        assert_eq!(&get.text(), key, "one version, the one acknowledged: a forwarded write is coordinated once");
    }
}

#[test]
fn a_killed_node_costs_no_failed_request_and_no_stall() {
    let (cluster, seen) = under_load(Fault::Killed);
    nothing_failed(&cluster, &seen);
}

#[test]
fn a_hung_node_costs_no_failed_request_and_no_stall() {
    let (cluster, seen) = under_load(Fault::Hung);
    nothing_failed(&cluster, &seen);
}

/// All nodes stop and go on together, as on a machine that was suspended: every owner then finds that what it reads is
/// old, and refuses forwarded writes for a moment. Their senders ask again.
#[test]
fn a_stall_of_all_nodes_costs_no_failed_request() {
    const PAUSE: Duration = Duration::from_millis(700);
    let cluster = Cluster::start(4);
    cluster.settled(&[0, 1, 2, 3], "healthy");
    let nodes: Vec<SocketAddr> = cluster.nodes().iter().map(Node::client_addr).collect();
    let load = Load::start(&nodes, "load", 8);
    for _ in 0..3 {
        load.wait_for(REQUESTS);
        cluster.nodes().iter().for_each(Node::pause);
        let paused = Instant::now();
        eventually(SOON, "the pause", || holds(paused.elapsed() >= PAUSE, || "not over".into()));
        cluster.nodes().iter().for_each(Node::resume);
    }
    load.wait_for(REQUESTS);
    let seen = load.stop();
    assert!(seen.failures.is_empty(), "{} of {}: {:#?}", seen.failures.len(), seen.requests, seen.failures.first());
}

/// The contract: a context that names a write which no node has that can be reached is a 503, also where the node that has
/// it hangs, and never a 504.
#[test]
fn a_context_that_only_a_hung_node_has_is_not_reached() {
    let mut cluster = Cluster::start(3);
    cluster.settled(&[0], "healthy");
    cluster[0].object("PUT", "ctx", "k").w(3).body("old").send().expect(204);
    cluster[1].kill();
    cluster[2].kill();
    let context = cluster[0].object("PUT", "ctx", "k").w(1).body("new").send().expect(204).context();
    cluster[0].pause();
    cluster[1].start();
    cluster[2].start();
    let get = |cluster: &Cluster, node: usize| {
        cluster[node].object("GET", "ctx", "k").r(1).context(&context).header("Rondo-Timeout", "6s").try_send()
    };
    eventually(Duration::from_secs(60), "a node that does not wait for the one that hangs", || {
        let answer = get(&cluster, 1)?;
        let problem = answer.clone().problem(503);
        let name = problem["type"].as_str().unwrap_or_default().to_string();
        holds(name.ends_with(":not-ready") || name.ends_with(":context-not-reached"), || problem.to_string())?;
        let at_once = answer.took < Duration::from_secs(4);
        holds(name.ends_with(":context-not-reached") && at_once, || format!("{name} after {:?}", answer.took))
    });
    cluster[0].resume();
    eventually(SOON, "the write that the context names", || {
        let answer = get(&cluster, 2)?;
        holds(answer.status == 200 && answer.text() == "new", || answer.text())
    });
}

/// Acks as they were said, of three.
fn acks(answer: &Answer) -> u8 {
    let said = answer.header("Rondo-Acks").and_then(|acks| acks.strip_suffix("/3"));
    said.and_then(|acks| acks.parse().ok()).unwrap_or_else(|| panic!("no acks of three: {answer:?}"))
}

/// W and R in all combinations, `away` of three nodes being away: every request to each of those that are left.
fn combinations(cluster: &Cluster, left: &[usize], label: &str) {
    let there = left.len() as u8;
    for w in 1..=3_u8 {
        for r in 1..=3_u8 {
            for &writer in left {
                let (key, value) = (format!("{label}-w{w}-r{r}-{writer}"), format!("{w}{r}{writer}"));
                let put = cluster[writer].object("PUT", "q", &key).w(w).header("Rondo-Timeout", "2s");
                let put = put.body(value.as_bytes()).send();
                if w > there {
                    not_enough(put, w, there, true);
                    continue;
                }
                let put = put.expect(204);
                assert!((w..=there).contains(&acks(&put)), "{label} W={w}: {put:?}");
                for &reader in left {
                    let get = cluster[reader].object("GET", "q", &key).r(r).header("Rondo-Timeout", "2s").send();
                    if r > there {
                        not_enough(get, r, there, false);
                    } else if w + r > 3 {
                        let get = get.expect(200);
                        assert_eq!(get.text(), value, "{label} W={w} R={r}");
                        assert!((r..=there).contains(&acks(&get)), "{label} R={r}: {get:?}");
                    } else {
                        assert!(get.status == 200 && get.text() == value || get.status == 404, "{label} {get:?}");
                    }
                }
            }
        }
    }
}

/// 503, or 504 while it is not known yet that nobody will answer; with how far it came and what became of it.
fn not_enough(answer: Answer, required: u8, there: u8, write: bool) {
    let (status, took) = (answer.status, answer.took);
    assert!(status == 503 || status == 504, "{answer:?}");
    assert!(answer.header("Retry-After").is_some() && took < Duration::from_secs(3), "{answer:?}");
    let problem = answer.problem(status);
    assert_eq!((&problem["required"], &problem["n"]), (&required.into(), &3.into()), "{problem}");
    assert!(problem["acked"].as_u64().unwrap() <= u64::from(there), "{problem}");
    assert_eq!(problem["retryable"], true);
    let outcome = problem["outcome"].as_str();
    assert_eq!(outcome.is_some(), write, "{problem}");
    assert!(outcome.is_none_or(|outcome| ["unknown", "not-applied"].contains(&outcome)), "{problem}");
}

#[test]
fn every_combination_with_nodes_killed() {
    let mut cluster = without_hints();
    cluster.settled(&[0, 1, 2], "healthy");
    combinations(&cluster, &[0, 1, 2], "all");

    cluster[2].kill();
    combinations(&cluster, &[0, 1], "killed at once");
    cluster.settled(&[0, 1], "degraded");
    combinations(&cluster, &[0, 1], "called down");

    cluster[1].kill();
    combinations(&cluster, &[0], "two killed");
    cluster.settled(&[0], "unavailable");
    combinations(&cluster, &[0], "two called down");
    known_in_advance(&cluster[0]);

    cluster.start_missing();
    cluster.settled(&[0, 1, 2], "healthy");
    healed(&cluster, &["killed at once-w1-r1-0", "called down-w2-r2-1", "two called down-w1-r1-0"]);
    combinations(&cluster, &[0, 1, 2], "back");
}

/// What cannot come to be is said at once, and nothing is written.
fn known_in_advance(node: &Node) {
    let put = node.object("PUT", "q", "in-advance").w(2).body("v").send();
    assert!(put.took < STALL_MAX, "503 quickly, not after the deadline: {put:?}");
    let problem = put.problem(503);
    assert_eq!((&problem["outcome"], &problem["acked"]), (&"not-applied".into(), &0.into()), "{problem}");
    assert_eq!(node.local("q", "in-advance")["found"], false, "not-applied means that nothing is there");
    let get = node.object("GET", "q", "in-advance").r(2).send();
    assert!(get.took < STALL_MAX, "{get:?}");
    get.problem(503);
}

/// What a node misses is left to the repair by reads.
fn without_hints() -> Cluster {
    Cluster::builder(3).env("RONDO_DISK__HINT_BYTES", 0).start()
}

/// A read of all owners gives each what it lacks, on its disk.
fn healed(cluster: &Cluster, keys: &[&str]) {
    for key in keys {
        let lacks = cluster.nodes().iter().filter(|node| node.local("q", key)["found"] == false).count();
        assert!(lacks > 0, "{key} was written while a node was away: this would prove nothing");
        let get = cluster[0].object("GET", "q", key).r(3).send().expect(200);
        for node in cluster.nodes() {
            eventually(SOON, "read repair", || {
                let local = node.local("q", key);
                holds(local["etag"] == get.etag().as_str(), || format!("{} has {local}", node.name()))
            });
        }
    }
}

#[test]
fn every_combination_with_a_node_that_hangs() {
    let cluster = without_hints();
    cluster.settled(&[0, 1, 2], "healthy");
    cluster[1].pause();
    combinations(&cluster, &[0, 2], "hung at once");
    cluster.settled(&[0, 2], "degraded");
    combinations(&cluster, &[0, 2], "hung and called down");
    cluster[1].resume();
    cluster.settled(&[0, 1, 2], "healthy");
    healed(&cluster, &["hung and called down-w2-r2-0"]);
    combinations(&cluster, &[0, 1, 2], "resumed");
}
