//! Invariant R5: a change of members moves few replicas.

mod common;

use std::collections::BTreeMap;

use common::{any_members, any_partition_count, equal_members, member, n, node, partitions, q};
use proptest::prelude::*;
use rondo_ring::{Layout, Member, NodeId};

/// Members of weight 1, all in one zone or each in its own.
fn equal(count: usize, own_zones: bool) -> Vec<Member> {
    (0..count).map(|i| member(i, &if own_zones { format!("zone-{i}") } else { "here".into() })).collect()
}

/// The replicas that must be sent somewhere whatever the assignment: what each node gains.
fn gains(before: &Layout, after: &Layout) -> usize {
    after.members().iter().map(|m| after.owned_partitions(m.id).saturating_sub(before.owned_partitions(m.id))).sum()
}

fn copies(before: &Layout, after: &Layout) -> usize {
    before.moves(after).filter(|m| m.joins.is_some()).count()
}

#[test]
fn a_join_of_equals_moves_the_share_of_the_new_member_and_nothing_else() {
    for (replicas, own_zones) in (1..=7).flat_map(|replicas| [(replicas, false), (replicas, true)]) {
        let mut layout = Layout::found(equal(1, own_zones), q(128), n(replicas)).unwrap();
        for count in 2..=25 {
            let next = layout.successor(equal(count, own_zones)).unwrap();
            let joiner = node(count - 1);
            assert!(layout.moves(&next).all(|m| m.joins == Some(joiner)), "N={replicas}, member {count}");
            assert_eq!(layout.moves(&next).count(), next.owned_partitions(joiner));
            layout = next;
        }
    }
}

#[test]
fn a_leave_of_equals_moves_the_share_of_the_leaver_and_nothing_else() {
    for (replicas, own_zones) in (1..=7).flat_map(|replicas| [(replicas, false), (replicas, true)]) {
        let mut layout = Layout::found(equal(25, own_zones), q(128), n(replicas)).unwrap();
        for count in (1..25).rev() {
            let next = layout.successor(equal(count, own_zones)).unwrap();
            let leaver = node(count);
            assert!(layout.moves(&next).all(|m| m.leaves == Some(leaver)), "N={replicas}, {count} stay");
            assert_eq!(layout.moves(&next).count(), layout.owned_partitions(leaver));
            layout = next;
        }
    }
}

#[test]
fn replacing_a_node_by_an_equal_one_moves_its_share_only() {
    let layout = Layout::found(equal_members(9), q(256), n(3)).unwrap();
    let mut members = equal_members(10);
    members.remove(4);
    let next = layout.successor(members).unwrap();
    assert!(layout.moves(&next).all(|m| m.leaves == Some(node(4))));
    assert_eq!(layout.moves(&next).count(), layout.owned_partitions(node(4)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_moves_when_nothing_changes(members in any_members(), partitions in any_partition_count()) {
        for replicas in 1..=7 {
            let layout = Layout::found(members.clone(), partitions, n(replicas)).unwrap();
            let next = layout.successor(members.clone()).unwrap();
            prop_assert_eq!(layout.moves(&next).count(), 0);
            prop_assert!(same_lists(&layout, &next), "the order of the owners changed");
        }
    }

    /// Ragged zones and weights can force chains: a node that must lose gives to one that may take, which gives on.
    /// Even so the copies stay near the gains, which no assignment could go below.
    #[test]
    fn one_change_never_moves_much_more_than_the_gains(
        members in any_members().prop_filter("one must stay", |m| m.len() > 1),
        partitions in any_partition_count(),
    ) {
        let fewer = members[..members.len() - 1].to_vec();
        for replicas in 1..=7 {
            let all = Layout::found(members.clone(), partitions, n(replicas)).unwrap();
            let left = all.successor(fewer.clone()).unwrap();
            let few = Layout::found(fewer.clone(), partitions, n(replicas)).unwrap();
            let joined = few.successor(members.clone()).unwrap();
            for (what, before, after) in [("leave", &all, &left), ("join", &few, &joined)] {
                let (copies, gains) = (copies(before, after), gains(before, after));
                let allowed = gains + gains / 2 + members.len();
                prop_assert!(copies <= allowed, "N={}, {}: {} copies for {} gained", replicas, what, copies, gains);
            }
        }
    }

    /// Applied to the owners of one layout, the moves give those of the next, for buckets of any N.
    #[test]
    fn moves_lead_from_one_layout_to_the_next(first in any_members(), second in any_members()) {
        let before = Layout::found(first, q(32), n(3)).unwrap();
        let after = before.successor(second).unwrap();
        for bucket in 1..=7 {
            let owners = |layout: &Layout| -> BTreeMap<_, Vec<NodeId>> {
                let first = |p| layout.preference_list(p).iter().copied().take(bucket.into()).collect();
                partitions(layout).map(|p| (p, first(p))).collect()
            };
            let (mut moved, mut expected) = (owners(&before), owners(&after));
            for change in before.moves_of_bucket(&after, n(bucket)) {
                let nodes = moved.get_mut(&change.partition).unwrap();
                nodes.retain(|node| Some(*node) != change.leaves);
                nodes.extend(change.joins);
            }
            moved.values_mut().chain(expected.values_mut()).for_each(|nodes| nodes.sort());
            prop_assert_eq!(moved, expected);
        }
    }
}

fn same_lists(a: &Layout, b: &Layout) -> bool {
    partitions(a).all(|p| a.preference_list(p) == b.preference_list(p))
}
