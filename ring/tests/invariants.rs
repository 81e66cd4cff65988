//! The invariants R1 to R4, R6 and R8 for every N, in founding layouts and after random changes.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{any_members, any_partition_count, equal_members, member_of, n, partitions};
use proptest::prelude::*;
use rondo_ring::{Layout, Member, NodeId};

/// Members per zone.
fn zone_sizes(layout: &Layout) -> BTreeMap<&str, usize> {
    let mut sizes = BTreeMap::new();
    layout.members().iter().for_each(|m| *sizes.entry(m.zone.as_str()).or_default() += 1);
    sizes
}

/// Nodes per zone among these.
fn zone_counts<'a>(layout: &'a Layout, nodes: &[NodeId]) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    nodes.iter().for_each(|&node| *counts.entry(member_of(layout, node).zone.as_str()).or_default() += 1);
    counts
}

/// The bounds of R2: least and most owners of a partition per zone.
fn zone_bounds(layout: &Layout) -> BTreeMap<&str, (usize, usize)> {
    let width = layout.members().len().min(layout.n().get().into());
    let sizes = zone_sizes(layout);
    let level = (0..=width).filter(|&k| sizes.values().map(|&size| size.min(k)).sum::<usize>() <= width).max();
    let level = level.expect("level 0 fits");
    sizes.into_iter().map(|(zone, size)| (zone, (size.min(level), size.min(level + 1)))).collect()
}

fn check_owners(layout: &Layout) {
    let width = layout.members().len().min(layout.n().get().into());
    let bounds = zone_bounds(layout);
    for partition in partitions(layout) {
        let owners = layout.owners(partition);
        let distinct: BTreeSet<_> = owners.iter().collect();
        assert_eq!((owners.len(), distinct.len()), (width, width), "R1 at {partition:?}");
        let counts = zone_counts(layout, owners);
        for (zone, &(least, most)) in &bounds {
            let count = counts.get(zone).copied().unwrap_or(0);
            assert!(
                (least..=most).contains(&count),
                "R2: {count} owners of {partition:?} in {zone}, not {least}–{most}"
            );
        }
        if bounds.len() >= width {
            assert_eq!(counts.len(), width, "R2: {partition:?} has two owners in a zone");
        }
    }
}

/// R3, said without computing shares: no two nodes that could exchange load differ by more than rounding.
fn check_loads(layout: &Layout) {
    let whole = usize::from(layout.partitions().get());
    let width = layout.members().len().min(layout.n().get().into());
    let load = |m: &Member| layout.owned_partitions(m.id);
    assert_eq!(layout.members().iter().map(load).sum::<usize>(), whole * width, "R3: replicas missing");
    let bounds = zone_bounds(layout);
    let mut zone_loads: BTreeMap<&str, usize> = BTreeMap::new();
    layout.members().iter().for_each(|m| *zone_loads.entry(&m.zone).or_default() += load(m));
    // Rounding may carry each member of a zone one away from its bound.
    let bound = |zone: &str| {
        let size = zone_sizes(layout)[zone];
        let ((least, most), load) = (bounds[zone], zone_loads[zone]);
        load < least * whole + size || load + size > most * whole
    };
    for a in layout.members() {
        assert!(load(a) <= whole, "R1: a partition twice on {}", a.id);
        for b in layout.members() {
            if (a.zone != b.zone && (bound(&a.zone) || bound(&b.zone))) || load(a) >= whole || load(b) >= whole {
                continue;
            }
            let ratio = f64::from(a.weight) / f64::from(b.weight);
            let difference = (load(a) as f64 - ratio * load(b) as f64).abs();
            assert!(difference < 1.0 + ratio + 1e-6, "R3: {} and {} of weights {ratio}", load(a), load(b));
        }
    }
}

/// R4: each node comes first in an equal part of its partitions, and the first owners are in as many zones as can be.
fn check_order(layout: &Layout) {
    let width = layout.members().len().min(layout.n().get().into());
    let mut firsts: BTreeMap<NodeId, usize> = BTreeMap::new();
    for partition in partitions(layout) {
        let owners = layout.owners(partition);
        *firsts.entry(owners[0]).or_default() += 1;
        let zones = zone_counts(layout, owners).len();
        for length in 1..=width {
            let seen = zone_counts(layout, &owners[..length]).len();
            assert_eq!(seen, zones.min(length), "R4: the first {length} owners of {partition:?}");
        }
    }
    for m in layout.members() {
        let (owned, first) = (layout.owned_partitions(m.id), firsts.get(&m.id).copied().unwrap_or(0));
        assert!((owned / width..=owned.div_ceil(width)).contains(&first), "R4: first in {first} of {owned}");
    }
}

/// R8: owners, then distinct fallbacks, each in one of the zones least represented so far that has a node left.
fn check_preference_lists(layout: &Layout) {
    for partition in partitions(layout) {
        let list = layout.preference_list(partition);
        let distinct: BTreeSet<_> = list.iter().collect();
        let expected = layout.members().len().min(12);
        assert_eq!((list.len(), distinct.len()), (expected, expected), "R8 at {partition:?}");
        for at in layout.owners(partition).len()..list.len() {
            let counts = zone_counts(layout, &list[..at]);
            let count = |node: &NodeId| counts.get(member_of(layout, *node).zone.as_str()).copied().unwrap_or(0);
            let rest = layout.members().iter().map(|m| &m.id).filter(|id| !list[..at].contains(id));
            assert_eq!(Some(count(&list[at])), rest.map(count).min(), "R8: fallback {at} of {partition:?}");
        }
    }
}

fn check(layout: &Layout) {
    check_owners(layout);
    check_loads(layout);
    check_order(layout);
    check_preference_lists(layout);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn founding_layouts_keep_every_invariant(members in any_members(), partitions in any_partition_count()) {
        for replicas in 1..=7 {
            check(&Layout::found(members.clone(), partitions, n(replicas)).unwrap());
        }
    }

    /// The second set shares ids with the first, in other zones and with other weights: every kind of change at once.
    #[test]
    fn successors_keep_every_invariant(
        first in any_members(),
        second in any_members(),
        third in any_members(),
        partitions in any_partition_count(),
    ) {
        for replicas in 1..=7 {
            let mut layout = Layout::found(first.clone(), partitions, n(replicas)).unwrap();
            for members in [&second, &third] {
                layout = layout.successor(members.clone()).unwrap();
                check(&layout);
            }
            prop_assert_eq!(layout.epoch().0, 3);
        }
    }

    #[test]
    fn r6_the_order_of_the_members_does_not_matter(
        (members, shuffled) in any_members().prop_flat_map(|m| (Just(m.clone()), Just(m).prop_shuffle())),
        (next, shuffled_next) in any_members().prop_flat_map(|m| (Just(m.clone()), Just(m).prop_shuffle())),
    ) {
        let layout = Layout::found(members, common::q(64), n(3)).unwrap();
        let same = Layout::found(shuffled, common::q(64), n(3)).unwrap();
        prop_assert_eq!(&layout, &same);
        prop_assert_eq!(layout.successor(next).unwrap(), same.successor(shuffled_next).unwrap());
    }
}

#[test]
fn r3_load_is_proportional_to_weight_where_no_limit_binds() {
    for replicas in 1..=7_u8 {
        // The heaviest of 24 has a share of at most 7 · 6 / 84 of the partitions.
        let weighted = |(number, m): (usize, Member)| Member { weight: 1 + number as u32 % 6, ..m };
        let members: Vec<Member> = equal_members(24).into_iter().enumerate().map(weighted).collect();
        let layout = Layout::found(members, common::q(1024), n(replicas)).unwrap();
        for m in layout.members() {
            let exact = f64::from(replicas) * 1024.0 * f64::from(m.weight) / 84.0;
            let load = layout.owned_partitions(m.id) as f64;
            assert!((load - exact).abs() < 1.0, "N={replicas}: {load} instead of {exact}");
        }
    }
}

#[test]
fn r3_a_node_too_heavy_owns_every_partition_once() {
    let mut members = equal_members(4);
    members[2].weight = 1000;
    let layout = Layout::found(members.clone(), common::q(256), n(3)).unwrap();
    assert_eq!(layout.owned_partitions(members[2].id), 256);
    for light in [0, 1, 3] {
        assert!((170..=171).contains(&layout.owned_partitions(members[light].id)));
    }
}

#[test]
fn fewer_members_than_replicas_all_own_everything() {
    for count in 1..=6 {
        let layout = Layout::found(equal_members(count), common::q(16), n(7)).unwrap();
        assert!(layout.members().iter().all(|m| layout.owned_partitions(m.id) == 16));
        assert!(partitions(&layout).all(|p| layout.owners(p).len() == count));
    }
}
