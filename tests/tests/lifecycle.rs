//! Starting again and stopping: other addresses, an orderly end.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Stdio};
use std::time::Duration;

use rondo_tests::{Cluster, RawClient, binary, eventually, request};
use rustix::process::{Pid, Signal, kill_process};

const SOON: Duration = Duration::from_secs(20);

/// The seeds of n2 and n3 name n1 only: they hear of each other's new address through it.
#[test]
fn nodes_that_have_all_moved_find_each_other_through_one_seed() {
    let mut cluster = Cluster::start(3);
    cluster.settled(&[0], "healthy");
    cluster[0].object("PUT", "fruit", "apple").body("red").w(3).send().expect(204);
    let before: Vec<_> = cluster.nodes().iter().map(|node| node.peer_addr()).collect();
    for node in cluster.nodes_mut() {
        node.kill();
    }
    for node in &mut cluster.nodes_mut()[1..] {
        node.forget_addresses();
    }
    cluster.start_missing();
    assert!((1..3).all(|moved| cluster[moved].peer_addr() != before[moved]));
    cluster.settled(&[0, 1, 2], "healthy");
    for node in cluster.nodes() {
        let get = node.object("GET", "fruit", "apple").r(3).send().expect(200);
        assert_eq!(get.text(), "red");
    }
}

/// An upload that had begun is finished although the node was told to stop; whoever connects meanwhile gets an answer.
#[test]
fn a_drain_finishes_what_has_begun_and_ends_in_order() {
    let mut cluster = Cluster::start(3);
    cluster.settled(&[1], "healthy");
    let node = &mut cluster[1];
    let address = node.client_addr();
    let mut upload = RawClient::connect(address);
    let head =
        "PUT /v1/kv/fruit/pear HTTP/1.1\r\nHost: x\r\nRondo-W: 3\r\nRondo-Timeout: 20s\r\nContent-Length: 5\r\n\r\n";
    upload.send(head).send("gr");
    let mut idle = RawClient::connect(address);
    idle.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(idle.answer().unwrap().status, 200);

    node.begin_terminate();
    let ready = node.url("/readyz");
    let mut draining = false;
    eventually(SOON, "a closed listener", || match request("GET", &ready).try_send() {
        Ok(answer) => {
            // The first question may be faster than the signal; from then on it is unready.
            assert!(answer.status == 503 || answer.status == 200 && !draining, "{answer:?}");
            draining |= answer.status == 503;
            Err("it still answers".into())
        }
        Err(_) => Ok(()),
    });
    assert!(draining, "it closed its listener without a word");
    assert!(idle.answer().is_none(), "idle connections are closed");
    upload.send("een");
    assert_eq!(upload.answer().unwrap().status, 204);
    assert!(node.wait_end().success());

    node.start();
    node.wait_ready();
    assert!(node.log_tail().contains("verdict=Confirmed"), "{}", node.log_tail());
    assert_eq!(cluster[0].object("GET", "fruit", "pear").r(3).send().expect(200).text(), "green");
}

/// A node listens for signals before it does anything that takes time: by default a signal ends it without a drain, and
/// as process 1 of a container it would not be told at all. Its addresses are published before the store is opened.
#[test]
fn a_node_that_is_told_to_stop_while_it_starts_ends_in_order() {
    for _ in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Command::new(binary());
        server.env_clear().args([
            "server",
            "--client-addr",
            "127.0.0.1:0",
            "--peer-addr",
            "127.0.0.1:0",
            "--name",
            "n1",
        ]);
        server.arg("--data-dir").arg(directory.path()).stdin(Stdio::null()).stderr(Stdio::null());
        let mut node = server.spawn().unwrap();
        while !directory.path().join("addresses.json").exists() {
            assert_eq!(node.try_wait().unwrap(), None);
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&node), Signal::TERM).unwrap();
        let ended = eventually(SOON, "its end", || node.try_wait().unwrap().ok_or_else(|| "it runs".into()));
        assert!(ended.success(), "{ended}");
    }
}
