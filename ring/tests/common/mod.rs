//! What the tests of layouts share.
#![allow(dead_code, reason = "each test binary uses its part")]

use proptest::prelude::*;
use rondo_ring::{Layout, Member, NodeId, PartitionCount, PartitionId, ReplicationFactor};

/// Q.
pub(crate) fn q(partitions: u16) -> PartitionCount {
    PartitionCount::new(partitions).expect("a power of two")
}

/// N.
pub(crate) fn n(replicas: u8) -> ReplicationFactor {
    ReplicationFactor::new(replicas).expect("1 to 7")
}

/// A node with an id that looks as random as a real one.
pub(crate) fn node(number: usize) -> NodeId {
    NodeId((number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// A member of weight 1.
pub(crate) fn member(number: usize, zone: &str) -> Member {
    Member { id: node(number), zone: zone.into(), weight: 1 }
}

/// That many members of weight 1 in one zone.
pub(crate) fn equal_members(count: usize) -> Vec<Member> {
    (0..count).map(|number| member(number, "here")).collect()
}

/// All partitions of a layout.
pub(crate) fn partitions(layout: &Layout) -> impl Iterator<Item = PartitionId> + use<> {
    (0..layout.partitions().get()).map(PartitionId)
}

/// What the layout knows of a node.
pub(crate) fn member_of(layout: &Layout, node: NodeId) -> &Member {
    layout.members().iter().find(|m| m.id == node).expect("a member")
}

/// 1 to 20 members in up to 9 zones of very different sizes, some of them with weights.
pub(crate) fn any_members() -> impl Strategy<Value = Vec<Member>> {
    let weight = prop_oneof![3 => Just(1_u32), 2 => 1_u32..=6, 1 => Just(1_000)];
    let weights = prop_oneof![prop::collection::vec(Just(1_u32), 1..=20), prop::collection::vec(weight, 1..=20)];
    let zones = prop_oneof![Just(1_usize), Just(2), Just(3), Just(9)];
    (weights, zones, prop::collection::vec(0_usize..81, 20)).prop_map(|(weights, zones, picks)| {
        // The square of an even pick is uneven: the first zones get most members.
        let zone = |pick: usize| format!("zone-{}", (pick * pick / 81) * zones / 81);
        let member = |(number, weight)| Member { id: node(number), zone: zone(picks[number]), weight };
        weights.into_iter().enumerate().map(member).collect()
    })
}

/// A number of partitions small enough for many cases.
pub(crate) fn any_partition_count() -> impl Strategy<Value = PartitionCount> {
    (0_u32..=8).prop_map(|bits| q(1 << bits))
}
