//! P1, P2, P5: hung, dead and moved peers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rondo_coordinator::ReplicaError;
use rondo_node::peers::{Control, Peers};
use rondo_ring::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::*;

/// A reply that is certain, or a reason not to have asked.
async fn until_it_answers(one: &Node, peers: &Peers, to: NodeId) {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        match one.ask(peers, to, read(1), Duration::from_secs(1)).await.unwrap() {
            Ok(reply) => return assert!(is_answer_to(1, &Ok(reply))),
            Err(error) => assert_eq!(error, ReplicaError::NotSent),
        }
        assert!(Instant::now() < give_up);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_batch_that_hangs_times_out_each_operation_at_its_own_deadline() {
    let batch_timeout = Duration::from_millis(800);
    let (one, two, peers) = pair_with(|options| options.read.batch_timeout = batch_timeout).await;
    two.script.hold();
    let began = Instant::now();
    let long = one.ask(&peers, two.id(), read(0), FAR);
    let short = one.ask(&peers, two.id(), read(1), Duration::from_millis(60));
    assert_eq!(short.await.unwrap().unwrap_err(), ReplicaError::TimedOut);
    assert!(began.elapsed() >= Duration::from_millis(60));
    assert!(began.elapsed() < batch_timeout, "{:?}", began.elapsed());
    // Behind a batch in flight: never sent.
    let queued = one.ask(&peers, two.id(), read(2), Duration::from_millis(30));
    assert_eq!(queued.await.unwrap().unwrap_err(), ReplicaError::NotSent);
    // The batch itself is given up after `batch_timeout`.
    assert_eq!(long.await.unwrap().unwrap_err(), ReplicaError::Lost);
    assert!(one.evidence(two.id()).suspect());
    assert_eq!(two.script.held(), 2);
    two.script.release();
    until_it_answers(&one, &peers, two.id()).await;
    assert!(!one.evidence(two.id()).suspect());
}

#[tokio::test]
async fn unanswered_for_too_long_makes_suspect_while_it_still_waits() {
    let (one, two, peers) = pair_with(|options| options.read.suspect_after = Duration::from_millis(20)).await;
    two.script.hold();
    let waits = one.ask(&peers, two.id(), read(0), FAR);
    eventually(|| one.evidence(two.id()).overdue).await;
    assert!(one.evidence(two.id()).oldest_unanswered.unwrap() >= Duration::from_millis(20));
    two.script.release();
    assert!(is_answer_to(0, &waits.await.unwrap()));
    assert!(!one.evidence(two.id()).suspect());
    assert_eq!(one.evidence(two.id()).oldest_unanswered, None);
}

/// What SIGSTOP looks like from outside: the system completes connections and nobody answers.
#[tokio::test]
async fn a_stopped_process_costs_one_wait_and_then_nothing() {
    let connect_timeout = Duration::from_millis(800);
    let one = node_with(1, |options| options.connect_timeout = connect_timeout);
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = NodeId(2);
    one.knows(node, hung.local_addr().unwrap());
    let peers = Peers::new(&one.network);
    let first = one.ask(&peers, node, read(0), Duration::from_millis(80));
    assert_eq!(first.await.unwrap().unwrap_err(), ReplicaError::NotSent);
    eventually(|| one.evidence(node).suspect()).await;
    // From now on no operation waits longer than the patience for a repeated attempt.
    let mut slowest = Duration::ZERO;
    for number in 0..200 {
        let began = Instant::now();
        let result = one.ask(&peers, node, read(number), FAR).await.unwrap();
        assert_eq!(result.unwrap_err(), ReplicaError::NotSent);
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < connect_timeout, "{slowest:?}");
}

#[tokio::test]
async fn a_node_that_comes_back_at_another_address_is_itself_again() {
    let (one, mut two, peers) = pair().await;
    assert!(is_answer_to(0, &one.ask(&peers, two.id(), read(0), FAR).await.unwrap()));
    two.stop().await;
    let refused = one.ask(&peers, two.id(), read(0), FAR).await.unwrap();
    assert_eq!(refused.unwrap_err(), ReplicaError::NotSent);
    assert!(one.evidence(two.id()).suspect());

    let port = two.listen().await.port();
    // A name: looked up at every connect. It has more than one address where there is IPv6, and only one of them
    // takes connections.
    one.knows(two.id(), format!("localhost:{port}"));
    until_it_answers(&one, &peers, two.id()).await;
    assert!(!one.evidence(two.id()).suspect());
}

/// A quorum must not miss a node that is back while another goes away: the next operation is sent, whatever the pause
/// after the last failure.
#[tokio::test]
async fn a_node_that_has_answered_anything_is_asked_again_at_once() {
    let (one, mut two, peers) = pair_with(|options| (options.backoff_min, options.backoff_max) = (FAR, FAR)).await;
    assert!(is_answer_to(0, &one.ask(&peers, two.id(), read(0), FAR).await.unwrap()));
    two.stop().await;
    for _ in 0..2 {
        let refused = one.ask(&peers, two.id(), read(0), FAR).await.unwrap();
        assert_eq!(refused.unwrap_err(), ReplicaError::NotSent);
    }
    one.knows(two.id(), two.listen().await);
    let heartbeat = Control::new(&one.network).call_node(two.id(), bytes::Bytes::new(), FAR).await;
    heartbeat.unwrap();
    assert!(is_answer_to(1, &one.ask(&peers, two.id(), read(1), FAR).await.unwrap()));
}

/// So it is with one that was started again and says so, before it was asked anything.
#[tokio::test]
async fn a_node_that_connects_is_asked_again_at_once() {
    let (mut one, mut two, peers) = pair_with(|options| (options.backoff_min, options.backoff_max) = (FAR, FAR)).await;
    two.stop().await;
    for _ in 0..2 {
        let refused = one.ask(&peers, two.id(), read(0), FAR).await.unwrap();
        assert_eq!(refused.unwrap_err(), ReplicaError::NotSent);
    }
    one.knows(two.id(), two.listen().await);
    two.knows(one.id(), one.listen().await);
    Control::new(&two.network).call_node(one.id(), bytes::Bytes::new(), FAR).await.unwrap();
    assert!(one.evidence(two.id()).suspect(), "it has not answered yet");
    assert!(is_answer_to(1, &one.ask(&peers, two.id(), read(1), FAR).await.unwrap()));
}

/// Nor does an attempt count that was under way before: a partition has swallowed what it sent, and the system repeats
/// that more and more rarely.
#[tokio::test]
async fn a_node_that_is_heard_of_is_asked_though_an_old_attempt_to_connect_hangs() {
    let connect_timeout = Duration::from_millis(800);
    let (one, two, peers) = pair_with(|options| options.connect_timeout = connect_timeout).await;
    let patience = one.network.options().reconnect_patience;
    let there = one.network.addresses().get(two.id()).unwrap();
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    one.knows(two.id(), hung.local_addr().unwrap());
    // The first attempt is waited for. Of those after it none is, and nothing is sent before one is due.
    let mut took = Vec::new();
    while took.len() < 2 {
        let began = Instant::now();
        let refused = one.ask(&peers, two.id(), read(0), FAR).await.unwrap();
        assert_eq!(refused.unwrap_err(), ReplicaError::NotSent);
        took.extend(Some(began.elapsed()).filter(|took| *took >= patience));
    }
    assert!(took[0] >= connect_timeout && took[1] < connect_timeout, "{took:?}");
    one.knows(two.id(), there);
    Control::new(&one.network).call_node(two.id(), bytes::Bytes::new(), FAR).await.unwrap();
    for number in 2..20 {
        assert!(is_answer_to(number, &one.ask(&peers, two.id(), read(number), FAR).await.unwrap()));
    }
}

/// Of several connections each finds only for itself that the peer is gone: an operation must not wait for one that
/// pauses while the others are believed to work.
#[tokio::test]
async fn an_operation_waits_for_no_connection_of_a_dead_peer() {
    let (one, mut two, peers) = pair_with(|options| {
        options.read.connections = 3;
        (options.backoff_min, options.backoff_max) = (FAR, FAR);
    })
    .await;
    two.script.hold();
    let mut sent = Vec::new();
    for number in 0..3 {
        sent.push(one.ask(&peers, two.id(), read(number), FAR));
        eventually(|| two.script.held() == number + 1).await;
    }
    two.script.release();
    for result in sent {
        result.await.unwrap().unwrap();
    }
    two.stop().await;
    let began = Instant::now();
    let refused = one.ask(&peers, two.id(), read(3), FAR).await.unwrap();
    assert_eq!(refused.unwrap_err(), ReplicaError::NotSent);
    assert!(began.elapsed() < FAR / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_unknown_address_or_name_is_not_sent() {
    let one = Node::member(1);
    let peers = Peers::new(&one.network);
    let nowhere = one.ask(&peers, NodeId(8), read(0), FAR).await.unwrap();
    assert_eq!(nowhere.unwrap_err(), ReplicaError::NotSent);
    one.knows(NodeId(9), "no port here");
    let unresolved = one.ask(&peers, NodeId(9), read(0), FAR).await.unwrap();
    assert_eq!(unresolved.unwrap_err(), ReplicaError::NotSent);
}

#[tokio::test]
async fn a_connection_that_breaks_loses_what_was_sent() {
    let (one, two, peers) = pair().await;
    // Between the two stands one who can cut the wire.
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = one.network.addresses().get(two.id()).unwrap();
    one.knows(two.id(), proxy.local_addr().unwrap());
    let relay = tokio::spawn(async move {
        let (mut near, _) = proxy.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(&*target).await.unwrap();
        // It ends only by being cut.
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    two.script.hold();
    let sent = one.ask(&peers, two.id(), read(0), FAR);
    eventually(|| two.script.held() == 1).await;
    let queued = one.ask(&peers, two.id(), read(1), FAR);
    relay.abort();
    assert_eq!(sent.await.unwrap().unwrap_err(), ReplicaError::Lost);
    assert_eq!(queued.await.unwrap().unwrap_err(), ReplicaError::NotSent);
}

#[tokio::test]
async fn dropping_the_lanes_answers_everything() {
    let (one, two, peers) = pair().await;
    two.script.hold();
    let sent = one.ask(&peers, two.id(), read(0), FAR);
    eventually(|| two.script.held() == 1).await;
    let queued = one.ask(&peers, two.id(), read(1), FAR);
    drop(peers);
    assert_eq!(sent.await.unwrap().unwrap_err(), ReplicaError::Lost);
    queued.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn draining_finishes_the_request_at_hand() {
    let (one, mut two, peers) = pair().await;
    two.script.hold();
    let sent = one.ask(&peers, two.id(), read(0), FAR);
    eventually(|| two.script.held() == 1).await;
    let script = std::sync::Arc::clone(&two.script);
    let (_, result) = tokio::join!(two.stop(), async {
        script.release();
        sent.await.unwrap()
    });
    assert!(is_answer_to(0, &result));
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_replaced_when_needed() {
    let one = Node::member(1);
    let mut two = node_with(2, |options| options.server.idle_timeout = Duration::from_millis(20));
    one.knows(two.id(), two.listen().await);
    let peers = Peers::new(&one.network);
    for number in 0..3 {
        assert!(is_answer_to(number, &one.ask(&peers, two.id(), read(number), FAR).await.unwrap()));
        eventually(|| two.server.connections() == 0).await;
    }
}

#[tokio::test]
async fn connections_beyond_the_cap_are_closed_at_once() {
    let mut two = node_with(2, |options| options.server.connections_max = 2);
    let address = two.listen().await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    eventually(|| two.server.turned_away() == 1).await;
    assert_eq!(two.server.connections(), 2);
    let mut last = open.pop().unwrap();
    assert_eq!(last.read(&mut [0; 1]).await.unwrap(), 0);
}

/// Passes bytes on, and holds back what goes to the far end while it is told to.
async fn proxy_to(address: SocketAddr) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = listener.local_addr().unwrap();
    let (hold, held) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            let (mut from, mut to) = listener.accept().await.unwrap().0.into_split();
            let (mut answers, mut requests) = TcpStream::connect(address).await.unwrap().into_split();
            let mut held = held.clone();
            tokio::spawn(async move { tokio::io::copy(&mut answers, &mut to).await });
            tokio::spawn(async move {
                let mut bytes = [0; 4_096];
                while let Ok(count @ 1..) = from.read(&mut bytes).await {
                    held.wait_for(|held| !held).await.unwrap();
                    requests.write_all(&bytes[..count]).await.unwrap();
                }
            });
        }
    });
    (near, hold)
}

#[tokio::test]
async fn what_the_network_held_up_is_as_old_as_that() {
    let delay = Duration::from_millis(1_500);
    let (one, two, peers) = pair().await;
    let direct = one.network.addresses().get(two.id()).unwrap();
    let (near, hold) = proxy_to(direct.parse().unwrap()).await;
    one.knows(two.id(), near);
    for number in 0..4 {
        hold.send(number == 2).unwrap();
        let asked = one.ask(&peers, two.id(), read(number), FAR);
        pass(delay).await;
        hold.send(false).unwrap();
        assert!(is_answer_to(number, &asked.await.unwrap()));
    }
    let travelled = two.script.travelled.lock().unwrap().clone();
    assert!(travelled[2] >= delay, "{travelled:?}");
    // Neither the time between two requests counts, nor what an earlier one took.
    assert!([0, 1, 3].iter().all(|&quick| travelled[quick] < delay / 2), "{travelled:?}");
}
