//! P3, P4: who may talk to whom.

use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::ReplicaError;
use rondo_coordinator::wire::OBJECT_BYTES_MAX;
use rondo_node::peers::{Cause, Control, PeerError, Peers};
use rondo_ring::NodeId;

use crate::support::*;

const LIMIT: Duration = Duration::from_secs(5);

async fn refused(one: &Node, two: &mut Node, expects: NodeId) -> Cause {
    one.knows(expects, two.listen().await);
    let answer = Control::new(&one.network).call_node(expects, Bytes::new(), LIMIT).await;
    match answer {
        Err(PeerError::Refused(refused)) => {
            assert_eq!(one.network.refused(refused.cause), 1, "counted by who connects");
            assert_eq!(two.network.refused(refused.cause), 1, "counted by who accepts");
            assert_eq!(one.network.evidence(expects).last_success, None);
            assert!(one.evidence(expects).suspect());
            refused.cause
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    for secret in [b"other".as_slice(), b""] {
        let (one, mut two) = (Node::new(1, secret, Some(CLUSTER), options()), Node::member(2));
        assert_eq!(refused(&one, &mut two, NodeId(2)).await, Cause::Secret);
    }
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let (one, mut two) = (Node::new(1, b"secret", Some(CLUSTER + 1), options()), Node::member(2));
    assert_eq!(refused(&one, &mut two, NodeId(2)).await, Cause::OtherCluster);
}

#[tokio::test]
async fn another_node_than_expected_is_refused() {
    let (one, mut two) = (Node::member(1), Node::member(2));
    assert_eq!(refused(&one, &mut two, NodeId(3)).await, Cause::WrongNode);
}

#[tokio::test]
async fn a_node_in_no_cluster_may_only_use_control_messages() {
    let (one, mut two) = (Node::new(1, b"secret", None, options()), Node::member(2));
    let address = two.listen().await;
    one.knows(two.id(), address);
    let control = Control::new(&one.network);
    let (node, answer) = control.call_address(&address.to_string(), "hello".into(), LIMIT).await.unwrap();
    assert_eq!(node, two.id());
    assert_eq!(answer, [1_u128.to_le_bytes().as_slice(), b"hello"].concat());
    let peers = Peers::new(&one.network);
    let result = one.ask(&peers, two.id(), read(0), FAR).await.unwrap();
    assert_eq!(result.unwrap_err(), ReplicaError::NotSent);
    assert_eq!(two.network.refused(Cause::NotMember), 1);

    one.network.identity().set_cluster(CLUSTER);
    let mut joined = false;
    while !joined {
        joined = one.ask(&peers, two.id(), read(0), FAR).await.unwrap().is_ok();
    }
}

#[tokio::test]
async fn a_kept_control_connection_is_refused_once_the_clusters_differ() {
    let (one, mut two) = (Node::member(1), Node::new(2, b"secret", None, options()));
    let address = two.listen().await.to_string();
    let control = Control::new(&one.network);
    control.call_address(&address, Bytes::new(), LIMIT).await.unwrap();
    control.call_address(&address, Bytes::new(), LIMIT).await.unwrap();
    assert_eq!(two.server.connections(), 1, "the connection is kept");
    two.network.identity().set_cluster(CLUSTER + 1);
    let answer = control.call_address(&address, Bytes::new(), LIMIT).await;
    let Err(PeerError::Refused(refused)) = answer else { panic!("{answer:?}") };
    assert_eq!(refused.cause, Cause::OtherCluster);
}

#[tokio::test]
async fn control_messages_are_bounded_in_size_and_time() {
    let one = Node::member(1);
    let control = Control::new(&one.network);
    let hung = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = hung.local_addr().unwrap().to_string();
    let large = control.call_address(&address, Bytes::from(vec![0; OBJECT_BYTES_MAX + (2 << 20)]), LIMIT).await;
    assert!(matches!(large, Err(PeerError::TooLarge(_))), "{large:?}");
    let silent = control.call_address(&address, Bytes::new(), Duration::from_millis(20)).await;
    assert!(matches!(silent, Err(PeerError::HandshakeTimedOut)), "{silent:?}");
    let unknown = control.call_node(NodeId(9), Bytes::new(), LIMIT).await;
    assert!(matches!(unknown, Err(PeerError::NoAddress(NodeId(9)))), "{unknown:?}");
}

#[tokio::test]
async fn a_node_may_call_itself_and_sees_that_it_did() {
    let mut one = Node::member(1);
    let address = one.listen().await.to_string();
    let (node, _) = Control::new(&one.network).call_address(&address, Bytes::new(), LIMIT).await.unwrap();
    assert_eq!(node, one.id());
}

#[tokio::test]
async fn a_refusal_is_counted_at_each_attempt() {
    let (one, mut two) = (Node::new(1, b"wrong", Some(CLUSTER), options()), Node::member(2));
    let address = two.listen().await.to_string();
    let control = Control::new(&one.network);
    for attempt in 1..=3 {
        control.call_address(&address, Bytes::new(), LIMIT).await.unwrap_err();
        assert_eq!(two.network.refused(Cause::Secret), attempt);
    }
}
