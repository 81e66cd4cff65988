//! A member that lost its whole data directory comes back under its name, in its own place, and is refilled (G10); a name
//! that is in use is not given away; of two processes with one node id the older ends (G11).

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rondo_tests::{Cluster, Load, Node, copy_directory, eventually, holds, request};
use serde_json::Value;

const KEYS: usize = 200;
/// Down after some 4 s, members that have just begun grant nothing for 15 s, a refill of little; the machine may be busy.
const BACK: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(30);

type Written = BTreeMap<String, String>;

fn put(node: &Node, key: &str, value: &str, written: &mut Written) {
    node.object("PUT", "d", key).w(2).body(value).send().expect(204);
    written.insert(key.into(), value.into());
}

fn load(cluster: &Cluster, nodes: &[usize], version: &str, written: &mut Written) {
    for number in 0..KEYS {
        let node = &cluster[nodes[number % nodes.len()]];
        put(node, &format!("{version}-{number}"), &format!("{version} {number}"), written);
    }
}

/// Id by name, as this node knows the members.
fn ids(node: &Node) -> BTreeMap<String, String> {
    let cluster = node.get("/v1/cluster").expect(200).json();
    let text = |member: &Value, field: &str| member[field].as_str().unwrap().to_string();
    cluster["members"].as_array().unwrap().iter().map(|m| (text(m, "name"), text(m, "id"))).collect()
}

fn reasons(node: &Node) -> Result<String, String> {
    let answer = request("GET", &node.url("/readyz?verbose")).try_send()?;
    holds(answer.status == 503, || format!("{} is {}", node.name(), answer.status)).map(|()| answer.text())
}

fn ready(node: &mut Node) {
    eventually(BACK, "a member that is back", || {
        assert!(node.is_running(), "it has ended\n{}", node.log_tail());
        let answer = request("GET", &node.url("/readyz?verbose")).try_send()?;
        holds(answer.status == 200, || answer.text())
    });
}

/// Every key on its disk, and read from it alone.
fn whole(node: &Node, written: &Written) {
    eventually(SOON, "a member that has everything", || {
        for (key, value) in written {
            let local = node.local("d", key);
            let versions = local["versions"].as_array().unwrap();
            holds(versions.iter().any(|version| version["text"] == **value), || format!("{key}: {local}"))?;
        }
        Ok(())
    });
    for (key, value) in written {
        assert_eq!(node.object("GET", "d", key).r(1).send().expect(200).text(), *value);
    }
}

fn lose_directory(node: &mut Node) {
    node.kill();
    fs::remove_dir_all(node.data_dir()).unwrap();
}

#[test]
fn a_member_that_lost_its_directory_is_itself_again_and_refilled() {
    let mut cluster = Cluster::start(3);
    cluster.settled(&[0, 1, 2], "healthy");
    let (before, mut written) = (ids(&cluster[0]), Written::new());
    load(&cluster, &[0, 1, 2], "first", &mut written);

    let others = [cluster[0].client_addr(), cluster[2].client_addr()];
    lose_directory(&mut cluster[1]);
    let clients = Load::start(&others, "under-way", 2);
    load(&cluster, &[0, 2], "away", &mut written);
    cluster[1].start();
    ready(&mut cluster[1]);
    let seen = clients.stop();
    assert_eq!(seen.failures, Vec::<String>::new(), "a quorum of two was there all the time");

    cluster.settled(&[0, 1, 2], "healthy");
    for node in cluster.nodes() {
        assert_eq!(ids(node), before, "as {} sees it", node.name());
    }
    whole(&cluster[1], &written);
    // It counts: with it and one other everything is there, and everything can be written.
    cluster[0].kill();
    for (key, value) in &written {
        assert_eq!(cluster[1].object("GET", "d", key).r(2).send().expect(200).text(), *value);
    }
    load(&cluster, &[1, 2], "last", &mut written);
    cluster[0].start();
    cluster[0].wait_ready();
    cluster[1].restart();
    cluster.settled(&[0, 1, 2], "healthy");
    assert_eq!(ids(&cluster[1]), before);
    whole(&cluster[1], &written);
}

#[test]
fn killed_on_its_way_back_it_comes_back_all_the_same() {
    let mut cluster = Cluster::start(3);
    cluster.settled(&[0, 1, 2], "healthy");
    let (before, mut written) = (ids(&cluster[0]), Written::new());
    load(&cluster, &[0, 1, 2], "first", &mut written);
    lose_directory(&mut cluster[1]);
    let claims = "waiting for the place of";
    for moment in [claims, claims, "starting again as the member", "reads here count only after", "refilling from"] {
        let said = |node: &Node| node.log_text().matches(moment).count();
        let so_far = said(&cluster[1]);
        cluster[1].start();
        eventually(BACK, "the moment of a kill", || {
            let log = cluster[1].log_tail();
            holds(said(&cluster[1]) > so_far, || format!("{moment:?} is not in\n{log}"))
        });
        cluster[1].kill();
    }
    cluster[1].start();
    ready(&mut cluster[1]);
    cluster.settled(&[0, 1, 2], "healthy");
    assert_eq!(ids(&cluster[1]), before);
    whole(&cluster[1], &written);
}

#[test]
fn a_directory_lost_while_the_whole_cluster_was_stopped() {
    let mut cluster = Cluster::start(3);
    cluster.settled(&[0, 1, 2], "healthy");
    let (before, mut written) = (ids(&cluster[0]), Written::new());
    load(&cluster, &[0, 1, 2], "first", &mut written);
    for node in cluster.nodes_mut() {
        node.terminate();
    }
    fs::remove_dir_all(cluster[1].data_dir()).unwrap();
    for node in cluster.nodes_mut() {
        node.start();
    }
    for node in cluster.nodes_mut() {
        ready(node);
    }
    cluster.settled(&[0, 1, 2], "healthy");
    assert_eq!(ids(&cluster[1]), before);
    whole(&cluster[1], &written);
}

#[test]
fn a_name_in_use_is_refused_and_of_two_processes_with_one_id_the_older_ends() {
    let mut cluster = Cluster::start(3);
    cluster.settled(&[0, 1, 2], "healthy");
    let (before, mut written) = (ids(&cluster[0]), Written::new());
    load(&cluster, &[0, 1, 2], "first", &mut written);

    // Another process called n1, elsewhere, that is told of the cluster by n2.
    let (n1, n2) = (cluster[0].peer_addr().to_string(), cluster[1].peer_addr().to_string());
    let mut others = Cluster::builder(1).expect(3).arguments(&["--seeds", &n2]).bind();
    let twin = &mut others[0];
    let refusal = format!("the name n1 belongs to a member that is alive at {n1}");
    eventually(SOON, "a refusal that says why", || {
        let reasons = reasons(twin)?;
        holds(reasons.contains(&refusal), || reasons)
    });
    cluster.settled(&[0, 1, 2], "healthy");

    // n1 is gone for good, as the others see it: the place is given to the one that asks for it.
    cluster[0].kill();
    ready(twin);
    assert_eq!(ids(twin), before);
    whole(twin, &written);
    put(twin, "through the twin", "kept", &mut written);

    // But it comes back, and with its start the newest: the one that took its place must end.
    cluster[0].start();
    let ended = twin.wait_end();
    assert_eq!(ended.code(), Some(1), "{}", twin.log_tail());
    assert!(twin.log_text().contains("another process is this node"), "{}", twin.log_tail());
    ready(&mut cluster[0]);
    cluster.settled(&[0, 1, 2], "healthy");
    whole(&cluster[0], &written);

    // A copy of its directory, started beside it.
    cluster[0].kill();
    fs::remove_dir_all(twin.data_dir()).unwrap();
    copy_directory(cluster[0].data_dir(), twin.data_dir());
    cluster[0].start();
    ready(&mut cluster[0]);
    twin.start();
    let ended = cluster[0].wait_end();
    assert_eq!(ended.code(), Some(1), "{}", cluster[0].log_tail());
    ready(twin);
    whole(twin, &written);
}
