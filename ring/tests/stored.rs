//! Layouts as files and messages, and what is refused as a layout.

mod common;

use common::{any_members, equal_members, member, n, node, q};
use proptest::prelude::*;
use rondo_ring::{Layout, LayoutError, Member};
use serde_json::{Value, json};

fn stored(layout: &Layout) -> Value {
    serde_json::to_value(layout).expect("layouts serialise")
}

/// The message with which a damaged copy of a small layout is refused.
fn refusal(damage: impl Fn(&mut Value)) -> String {
    let mut value = stored(&Layout::found(equal_members(4), q(8), n(3)).expect("valid members"));
    damage(&mut value);
    serde_json::from_value::<Layout>(value).expect_err("damaged").to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_layout_reads_back_equal_and_has_the_same_successor(first in any_members(), second in any_members()) {
        let layout = Layout::found(first, q(32), n(3)).unwrap().successor(second.clone()).unwrap();
        let text = serde_json::to_string(&layout).unwrap();
        let read: Layout = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &layout);
        prop_assert_eq!(read.successor(second.clone()).unwrap(), layout.successor(second).unwrap());
    }

    /// Whatever numbers a file holds: a layout that keeps R1, or an error.
    #[test]
    fn any_table_is_a_valid_layout_or_refused(owners in prop::collection::vec(0_u16..5, 8..=12)) {
        let mut value = stored(&Layout::found(equal_members(4), q(4), n(3)).unwrap());
        value["owners"] = json!(owners);
        let valid = owners.len() == 12
            && owners.iter().all(|&owner| owner < 4)
            && owners.chunks(3).all(|row| row[0] != row[1] && row[1] != row[2] && row[0] != row[2]);
        prop_assert_eq!(serde_json::from_value::<Layout>(value).is_ok(), valid);
    }
}

#[test]
fn the_form_is_compact_and_stable() {
    let layout = Layout::found(vec![member(0, "a")], q(2), n(3)).unwrap();
    let id = "9e3779b97f4a7c15f39cc0605cedc835";
    let members = json!([{"id": id, "zone": "a", "weight": 1}]);
    assert_eq!(stored(&layout), json!({"epoch": 1, "partitions": 2, "n": 3, "members": members, "owners": [0, 0]}));
    let large = Layout::found(equal_members(100), q(16_384), n(3)).unwrap();
    assert!(serde_json::to_string(&large).unwrap().len() < 160_000, "less than 10 bytes a partition");
}

#[test]
fn damaged_layouts_are_refused_with_the_reason() {
    assert_eq!(refusal(|v| v["owners"][1] = json!(4)), "partition 0 names member 4 of 4");
    let repeated = refusal(|v| v["owners"][5] = v["owners"][3].clone());
    assert!(repeated.starts_with("partition 1 names node ") && repeated.ends_with(" twice"), "{repeated}");
    let short = refusal(|v| drop(v["owners"].as_array_mut().map(Vec::pop)));
    assert_eq!(short, "the table has 23 owners instead of 24");
    assert_eq!(refusal(|v| v["epoch"] = json!(0)), "epoch 0: 1 to 2^64 − 1 are allowed");
    assert_eq!(refusal(|v| v["partitions"] = json!(24)), "24 partitions: a power of two from 1 to 16,384 is allowed");
    assert_eq!(refusal(|v| v["n"] = json!(8)), "8 replicas: 1 to 7 are allowed");
    assert_eq!(refusal(|v| v["members"] = json!([])), "0 members: 1 to 1,000 are allowed");
    let twice = refusal(|v| v["members"][1] = v["members"][0].clone());
    assert!(twice.ends_with("is named twice among the members"), "{twice}");
    let order = refusal(|v| v["members"].as_array_mut().unwrap().reverse());
    assert!(order.starts_with("the members are not in order of their ids at node "), "{order}");
    let weight = refusal(|v| v["members"][2]["weight"] = json!(0));
    assert!(weight.starts_with("weight 0 of node "), "{weight}");
    assert!(refusal(|v| v["members"][2]["id"] = json!("12")).contains("a node id is 32 hex digits"));
}

#[test]
fn members_out_of_bounds_are_refused() {
    let found = |members: Vec<Member>| Layout::found(members, q(8), n(3)).map(|_| ());
    let with = |weight: u32, zone: String| found(vec![member(0, "a"), Member { id: node(1), zone, weight }]);
    assert_eq!(found(Vec::new()), Err(LayoutError::MemberCount(0)));
    assert_eq!(found(equal_members(1_001)), Err(LayoutError::MemberCount(1_001)));
    assert_eq!(found(equal_members(1_000)), Ok(()));
    assert_eq!(found(vec![member(3, "a"), member(3, "b")]), Err(LayoutError::DuplicateMember(node(3))));
    assert_eq!(with(0, "b".into()), Err(LayoutError::Weight { node: node(1), weight: 0 }));
    assert_eq!(with(1_001, "b".into()), Err(LayoutError::Weight { node: node(1), weight: 1_001 }));
    assert_eq!(with(1_000, "b".repeat(255)), Ok(()));
    assert_eq!(with(1, String::new()), Err(LayoutError::Zone { node: node(1), bytes: 0 }));
    assert_eq!(with(1, "b".repeat(256)), Err(LayoutError::Zone { node: node(1), bytes: 256 }));
}

#[test]
fn a_successor_is_checked_like_a_founding_and_epochs_end() {
    let layout = Layout::found(equal_members(3), q(8), n(3)).unwrap();
    assert_eq!(layout.successor(Vec::new()), Err(LayoutError::MemberCount(0)));
    assert_eq!(layout.successor(equal_members(4)).unwrap().epoch().0, 2);
    let mut last = stored(&layout);
    last["epoch"] = json!(u64::MAX);
    let last: Layout = serde_json::from_value(last).unwrap();
    assert_eq!(last.successor(equal_members(4)), Err(LayoutError::Epoch(u64::MAX)));
}

/// A table written by hand may break the zone rules; the next change repairs it.
#[test]
fn r2_a_successor_repairs_a_stored_table() {
    let members = vec![member(0, "a"), member(1, "a"), member(2, "b"), member(3, "c")];
    let mut value = stored(&Layout::found(members.clone(), q(4), n(2)).unwrap());
    value["owners"] = json!([0, 1, 0, 1, 0, 1, 0, 1]);
    let read: Layout = serde_json::from_value(value).unwrap();
    let next = read.successor(members.clone()).unwrap();
    let zone = |id| &members.iter().find(|m| m.id == id).unwrap().zone;
    for partition in common::partitions(&next) {
        let owners = next.owners(partition);
        assert_ne!(zone(owners[0]), zone(owners[1]), "R2 at {partition:?}");
    }
}

#[test]
fn lookups_beyond_the_table_are_empty() {
    let layout = Layout::found(equal_members(3), q(8), n(3)).unwrap();
    assert_eq!(layout.preference_list(rondo_ring::PartitionId(8)), []);
    assert_eq!(layout.owned_partitions(node(9)), 0);
}
