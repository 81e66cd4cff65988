//! P1, P5: coalescing, order, bounds.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::{ReplicaError, ReplicaReply, ReplicaRequest, Want};
use rondo_node::peers::Lane;
use rondo_ring::Epoch;
use tokio::sync::mpsc;

use crate::support::*;

#[tokio::test]
async fn what_arrives_while_a_batch_is_in_flight_goes_in_the_next() {
    let (one, two, peers) = pair().await;
    two.script.hold();
    let (results, mut answers) = mpsc::unbounded_channel();
    one.ask_numbered(&peers, two.id(), 0, &results);
    eventually(|| two.script.held() == 1).await;
    for number in 1..=200 {
        one.ask_numbered(&peers, two.id(), number, &results);
    }
    two.script.release();
    for _ in 0..=200 {
        let (number, result) = answers.recv().await.unwrap();
        assert!(is_answer_to(number, &result), "{number}: {result:?}");
    }
    let counters = one.network.health().get(two.id()).unwrap().counters(Lane::Read);
    assert_eq!((counters.batches, counters.ops, counters.connects), (2, 201, 1));
}

#[tokio::test]
async fn replies_are_matched_by_order_though_the_replica_answers_in_another() {
    let (one, two, peers) = pair().await;
    two.script.hold();
    let (results, mut answers) = mpsc::unbounded_channel();
    for number in 0..100 {
        one.ask_numbered(&peers, two.id(), number, &results);
    }
    eventually(|| two.script.held() == 100).await;
    // Newest first.
    two.script.release();
    for expected in 0..100 {
        let (number, result) = answers.recv().await.unwrap();
        assert_eq!(number, expected);
        assert!(is_answer_to(number, &result));
    }
}

#[tokio::test]
async fn batches_are_bounded_in_operations_and_bytes() {
    let (one, two, peers) = pair_with(|options| {
        options.read.batch_ops_max = 10;
        options.write.batch_bytes_max = 10_000;
    })
    .await;
    let (results, mut answers) = mpsc::unbounded_channel();
    (0..95).for_each(|number| one.ask_numbered(&peers, two.id(), number, &results));
    for _ in 0..95 {
        let (number, result) = answers.recv().await.unwrap();
        assert!(is_answer_to(number, &result));
    }
    // Four of these fit; the large one travels alone.
    let sizes = [2_000, 2_000, 2_000, 2_000, 2_000, 50_000, 2_000];
    let merges = sizes.map(|size| one.ask(&peers, two.id(), merge(0, Bytes::from(vec![7; size])), FAR));
    for merged in merges {
        assert!(matches!(merged.await.unwrap(), Ok(ReplicaReply::Merged)));
    }
    let stats = one.network.health().get(two.id()).unwrap();
    assert_eq!(stats.counters(Lane::Read).batches, 10);
    assert_eq!(stats.counters(Lane::Write).batches, 4);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_what_it_holds_is_answered() {
    let (one, two, peers) = pair_with(|options| {
        options.read.queue_ops_max = 16;
        options.write.queue_bytes_max = 1_000;
    })
    .await;
    two.script.hold();
    let first = one.ask(&peers, two.id(), read(0), FAR);
    eventually(|| two.script.held() == 1).await;
    let queued: Vec<_> = (1..=16).map(|number| one.ask(&peers, two.id(), read(number), FAR)).collect();
    let beyond = one.ask(&peers, two.id(), read(17), FAR);
    assert_eq!(beyond.await.unwrap().unwrap_err(), ReplicaError::NotSent);

    let write = one.ask(&peers, two.id(), merge(0, Bytes::from_static(&[1; 100])), FAR);
    eventually(|| two.script.held() == 2).await;
    let large = one.ask(&peers, two.id(), merge(1, Bytes::from_static(&[1; 2_000])), FAR);
    let beyond = one.ask(&peers, two.id(), merge(2, Bytes::from_static(&[1; 10])), FAR);
    assert_eq!(beyond.await.unwrap().unwrap_err(), ReplicaError::NotSent);

    two.script.release();
    assert!(is_answer_to(0, &first.await.unwrap()));
    for (index, result) in queued.into_iter().enumerate() {
        assert!(is_answer_to(index + 1, &result.await.unwrap()));
    }
    assert!(matches!(write.await.unwrap(), Ok(ReplicaReply::Merged)));
    assert!(matches!(large.await.unwrap(), Ok(ReplicaReply::Merged)));
    assert_eq!(two.script.asked.load(Ordering::SeqCst), 19);
}

#[tokio::test]
async fn lanes_do_not_wait_for_each_other_and_forwards_travel_side_by_side() {
    let (one, two, peers) = pair().await;
    two.script.hold();
    let write = one.ask(&peers, two.id(), merge(0, Bytes::from_static(b"v")), FAR);
    eventually(|| two.script.held() == 1).await;
    let mut waiting = Vec::new();
    for held in 2..=4 {
        let (reply, result) = tokio::sync::oneshot::channel();
        let reply = Box::new(move |answer: OpResult| reply.send(answer).unwrap());
        peers.send_on(Lane::Forward, two.id(), &read(held), None, FAR, reply);
        waiting.push(result);
        eventually(|| two.script.held() == held).await;
    }
    two.script.holding.store(false, Ordering::SeqCst);
    assert!(is_answer_to(9, &one.ask(&peers, two.id(), read(9), FAR).await.unwrap()));
    two.script.release();
    assert!(matches!(write.await.unwrap(), Ok(ReplicaReply::Merged)));
    for result in waiting {
        result.await.unwrap().unwrap();
    }
    assert_eq!(one.network.health().get(two.id()).unwrap().counters(Lane::Forward).connects, 3);
}

#[tokio::test]
async fn epoch_remaining_time_and_content_come_across() {
    let (one, two, peers) = pair().await;
    one.network.identity().set_epoch(Epoch(12));
    two.script.hold();
    let object = Bytes::from((0..300_000).map(|i| i as u8).collect::<Vec<u8>>());
    let merged = one.ask(&peers, two.id(), merge(3, object.clone()), Duration::from_secs(20));
    eventually(|| two.script.held() == 1).await;
    {
        let held = two.script.held.lock().unwrap();
        let ReplicaRequest::Merge { key: its, object: came, .. } = &held[0].0 else { panic!("{:?}", held[0].0) };
        assert_eq!((its, came), (&key(3), &object));
    }
    assert_eq!(*two.script.epochs.lock().unwrap(), [Epoch(12)]);
    let remaining = two.script.remaining.lock().unwrap()[0];
    assert!(remaining <= Duration::from_secs(20) && remaining > Duration::from_secs(10), "{remaining:?}");
    two.script.release();
    assert!(matches!(merged.await.unwrap(), Ok(ReplicaReply::Merged)));
    let read = ReplicaRequest::Read { key: key(1), want: Want::Object };
    assert!(is_answer_to(1, &one.ask(&peers, two.id(), read, FAR).await.unwrap()));
}
