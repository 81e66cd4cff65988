//! The membership as one node sees it.

mod common;

use std::sync::Arc;

use common::{equal_members, n, node, partitions, q};
use rondo_ring::{Layout, Liveness, NodeId, PartitionId, Token, View};

fn layout(nodes: usize) -> Arc<Layout> {
    Arc::new(Layout::found(equal_members(nodes), q(64), n(3)).expect("valid members"))
}

/// The first token of a partition.
fn token(partition: PartitionId) -> Token {
    q(64).tokens(partition).0
}

#[test]
fn owners_and_fallbacks_together_are_the_preference_list() {
    let view = View::new(node(0), layout(9), |_| Liveness::Up);
    for (partition, replicas) in partitions(view.layout()).zip((1..=7).cycle()) {
        let list = view.layout().preference_list(partition);
        let (owners, fallbacks) = list.split_at(replicas.into());
        assert_eq!(view.owners(token(partition), n(replicas)), owners);
        assert_eq!(view.fallbacks(token(partition), n(replicas)), fallbacks);
    }
}

#[test]
fn a_bucket_with_more_replicas_than_members_has_all_of_them_and_no_fallback() {
    let view = View::new(node(0), layout(2), |_| Liveness::Up);
    assert_eq!(view.owners(Token(0), n(7)).len(), 2);
    assert!(view.fallbacks(Token(0), n(7)).is_empty());
    assert_eq!(view.owners_by_nearness(Token(0), n(7)).first(), Some(&node(0)));
}

#[test]
fn owners_by_nearness_are_this_node_then_up_suspect_and_down_ones_in_the_order_of_the_table() {
    let layout = layout(7);
    for partition in partitions(&layout) {
        let owners: Vec<NodeId> = layout.preference_list(partition)[..7].to_vec();
        let liveness = |id: NodeId| match owners.iter().position(|owner| *owner == id) {
            Some(0 | 3) => Liveness::Down,
            Some(1 | 4) => Liveness::Suspect,
            _ => Liveness::Up,
        };
        let by_nearness = |this: usize| View::new(owners[this], layout.clone(), liveness);
        let expected = |places: [usize; 7]| places.map(|place| owners[place]);
        let near = by_nearness(5).owners_by_nearness(token(partition), n(7));
        assert_eq!(near[..], expected([5, 2, 6, 1, 4, 0, 3]));
        // This node is up to itself, whatever others say of it.
        let near = by_nearness(3).owners_by_nearness(token(partition), n(7));
        assert_eq!(near[..], expected([3, 2, 5, 6, 1, 4, 0]));
    }
}

#[test]
fn a_node_that_owns_nothing_of_a_partition_is_not_among_its_nearest() {
    let layout = layout(9);
    for partition in partitions(&layout) {
        let stranger = layout.preference_list(partition)[5];
        let view = View::new(stranger, layout.clone(), |_| Liveness::Up);
        assert_eq!(view.owners_by_nearness(token(partition), n(3))[..], *layout.owners(partition));
    }
}

#[test]
fn strangers_are_down_and_this_node_is_up() {
    let view = View::new(node(1), layout(3), |_| Liveness::Suspect);
    assert_eq!(view.liveness(node(0)), Liveness::Suspect);
    assert_eq!(view.liveness(node(1)), Liveness::Up);
    assert_eq!(view.liveness(node(77)), Liveness::Down);
    let outside = View::new(node(77), layout(3), |_| Liveness::Up);
    assert_eq!(outside.liveness(node(77)), Liveness::Down, "no member, although it is the node itself");
}
