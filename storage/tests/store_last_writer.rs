//! Buckets of the last writer, over stores whose clocks disagree.

#![allow(clippy::unwrap_used, reason = "a helper's panic fails its test")]

mod store_support;

use std::sync::Arc;

use proptest::prelude::*;
use rondo_storage::engine::{Durability, MemoryEngine};
use rondo_storage::store::{BlindPut, Change, Store, Ttl};
use rondo_storage::versions::{CausalContext, Conflict, Object};
use store_support::*;

const SECOND_US: u64 = 1_000_000;
const HOUR_US: u64 = 3_600 * SECOND_US;

fn last(change: Change) -> Change {
    Change { conflict: Conflict::Lww, ..change }
}

/// Three stores that start with these clocks.
fn stores(offsets_us: [i64; 3]) -> Vec<(Arc<TestClock>, Store)> {
    let made = offsets_us.iter().zip(1..).map(|(&offset, actor)| {
        let clock = TestClock::at(NOW_US.saturating_add_signed(offset));
        let store = store_at(&Arc::new(MemoryEngine::new()), &clock, actor);
        (clock, store)
    });
    made.collect()
}

fn shown(object: &Object, now_us: u64) -> Vec<String> {
    let text = |value: &bytes::Bytes| String::from_utf8(value.to_vec()).unwrap();
    object.shown(now_us, Conflict::Lww).filter_map(|s| s.value.as_ref().map(text)).collect()
}

#[test]
fn a_write_replaces_all_that_its_coordinator_holds_whatever_its_context() {
    let store = store_over(&Arc::new(MemoryEngine::new()), 1);
    for value in ["1", "2", "3"] {
        write(&store, &key("a"), sibling(value));
    }
    let nothing_seen = || Change { context: Some(CausalContext::default()), siblings_max: 1, ..sibling("4") };
    let four = write(&store, &key("a"), last(nothing_seen()));
    assert_eq!((four.siblings, values(&store, &key("a"))), (1, vec!["4".into()]));
    let five = write(&store, &key("a"), last(Change { blind: BlindPut::Sibling, ..sibling("5") }));
    assert_eq!((five.siblings, five.context.contains(four.dot)), (1, true));
    let old = Change { context: Some(CausalContext::default()), ..delete() };
    assert_eq!(write(&store, &key("a"), last(old)).siblings, 0);
}

/// The same state, shown in the two ways: a bucket may change its mind and loses nothing by it.
#[test]
fn the_property_changes_only_what_is_shown() {
    let store = store_over(&Arc::new(MemoryEngine::new()), 1);
    write(&store, &key("a"), sibling("1"));
    write(&store, &key("a"), sibling("2"));
    let held = object(&store, &key("a"));
    assert_eq!((shown(&held, NOW_US), held.shown(NOW_US, Conflict::Siblings).count()), (vec!["2".into()], 2));
}

/// 30 s apart, in either direction, with the context or without it where the coordinator has the first write.
#[test]
fn a_write_that_follows_another_is_later() {
    for offset in [-30 * SECOND_US as i64, 30 * SECOND_US as i64] {
        for (is_there, with_context) in [(true, false), (true, true), (false, true)] {
            let stores = stores([offset, 0, 0]);
            let first = write(&stores[0].1, &key("a"), last(put("first")));
            if is_there {
                merge(&stores[1].1, &key("a"), &first.object);
            }
            let context = with_context.then(|| first.context.clone());
            let second = write(&stores[1].1, &key("a"), last(Change { context, ..put("second") }));
            assert!(second.dot.counter > first.dot.counter);
            for order in [[&first.object, &second.object], [&second.object, &first.object]] {
                let third = &self::stores([0, 0, offset])[2].1;
                for object in order {
                    merge(third, &key("a"), object);
                }
                assert_eq!(shown(&object(third, &key("a")), NOW_US), ["second"]);
            }
        }
    }
}

#[test]
fn a_clock_an_hour_ahead_is_followed_by_a_minute_at_most() {
    let stores = stores([HOUR_US as i64, 0, 0]);
    let mut latest = write(&stores[0].1, &key("a"), last(put("mad")));
    assert!(latest.dot.counter >= NOW_US + HOUR_US);
    for turn in 0..20 {
        let store = &stores[1 + turn % 2].1;
        merge(store, &key("a"), &latest.object);
        latest = write(store, &key("a"), last(put(&turn.to_string())));
        assert!(latest.dot.counter <= NOW_US + 60 * SECOND_US + 20, "{:?}", latest.dot);
    }
    // It knew of the mad one, so it stands, earlier counter or not.
    merge(&stores[0].1, &key("a"), &latest.object);
    assert_eq!(shown(&object(&stores[0].1, &key("a")), NOW_US), ["19"]);
}

#[derive(Clone, Debug)]
enum Step {
    Write { at: usize, deletes: bool, ttl_s: u64, blind: bool },
    Merge { from: usize, to: usize },
    Pass { at: usize, us: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_usize, any::<bool>(), 0..4_u64, any::<bool>()).prop_map(|(at, deletes, ttl_s, blind)| Step::Write {
            at,
            deletes,
            ttl_s,
            blind
        }),
        (0..3_usize, 0..3_usize).prop_map(|(from, to)| Step::Merge { from, to }),
        (0..3_usize, 1..2 * SECOND_US).prop_map(|(at, us)| Step::Pass { at, us }),
    ]
}

fn merged<'a>(objects: impl Iterator<Item = &'a Object>) -> Object {
    objects.fold(Object::default(), |mut all, object| {
        all.merge(object.clone());
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// V7: whatever was written, forgotten, merged and stepped, with clocks minutes apart, all replicas that have seen
    /// it all show the same, and what they show is the write with the highest counter that no other has replaced.
    #[test]
    fn all_replicas_show_the_same_winner(
        steps in proptest::collection::vec(step(), 1..40),
        offset_s in -120..120_i64,
        asked_us in 0..6 * SECOND_US,
    ) {
        let stores = stores([0, offset_s * SECOND_US as i64, 0]);
        let mut clocks = [0_u64, 1, 2].map(|i| NOW_US.saturating_add_signed(if i == 1 { offset_s * SECOND_US as i64 } else { 0 }));
        for (serial, step) in steps.iter().enumerate() {
            match *step {
                Step::Write { at, deletes, ttl_s, blind } => {
                    let context = (!blind).then(CausalContext::default);
                    let change = if deletes { delete() } else { put(&serial.to_string()) };
                    write(&stores[at].1, &key("a"), last(Change { context, ttl: Ttl::new(ttl_s).ok(), ..change }));
                }
                Step::Merge { from, to } => {
                    if let rondo_storage::store::Stored::Found(object) = stores[from].1.read(&key("a")) {
                        let done = Box::new(|_| {});
                        stores[to].1.merge(&key("a"), &object, Durability::Fsync, done).unwrap();
                    }
                }
                Step::Pass { at, us } => {
                    clocks[at] += us;
                    stores[at].0.set(clocks[at]);
                }
            }
        }
        let objects: Vec<Object> = stores.iter().map(|(_, store)| object(store, &key("a"))).collect();
        let (forwards, backwards) = (merged(objects.iter()), merged(objects.iter().rev()));
        let now_us = NOW_US + asked_us;
        prop_assert_eq!(shown(&forwards, now_us), shown(&backwards, now_us));
        let winner = forwards.siblings.iter().max_by_key(|s| (s.dot.counter, s.dot.actor));
        let expected = winner.filter(|s| s.is_live(now_us)).and_then(|s| s.value.clone());
        prop_assert_eq!(
            forwards.shown(now_us, Conflict::Lww).map(|s| s.value.clone()).collect::<Vec<_>>(),
            expected.into_iter().map(Some).collect::<Vec<_>>()
        );
    }
}
