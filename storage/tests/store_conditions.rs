//! A write's condition: judged in one step with the write, against what a reader would be shown.

#![allow(clippy::unwrap_used, reason = "a helper's panic fails its test")]

mod store_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rondo_storage::Key;
use rondo_storage::engine::{Batch, Durability, Engine, Keyspace, MemoryEngine, Write};
use rondo_storage::store::{Change, Condition, StartVerdict, Store, StoreError, Stored, Ttl, Updated};
use rondo_storage::versions::{CausalContext, Conflict, ETag, Metadata};
use store_support::*;

fn engine() -> Arc<MemoryEngine> {
    Arc::new(MemoryEngine::new())
}

fn only_if(condition: Condition, change: Change) -> Change {
    Change { condition: Some(condition), ..change }
}

fn any_of(etags: &[&ETag]) -> Condition {
    Condition::AnyOf(etags.iter().map(|&etag| etag.clone()).collect())
}

fn named(write_id: u64, change: Change) -> Change {
    let metadata = Metadata { write_id, ..change.metadata.clone() };
    Change { metadata, ..change }
}

fn etag(updated: &Updated) -> ETag {
    ETag::of([updated.dot]).unwrap()
}

/// What is there instead; nothing may have been written.
fn failed(store: &Store, key: &Key, change: Change) -> (Option<ETag>, CausalContext) {
    let before = store.read(key);
    let StoreError::ConditionFailed { etag, context } = refused(store, key, change) else {
        panic!("the condition was no reason");
    };
    assert_eq!(store.read(key), before);
    (etag, context)
}

#[test]
fn absent_creates_once_and_again_after_a_delete() {
    let store = store_over(&engine(), 1);
    let create = |value: &str| only_if(Condition::Absent, put(value));
    let first = write(&store, &key("a"), create("1"));
    assert_eq!(failed(&store, &key("a"), create("2")), (Some(etag(&first)), first.context.clone()));
    assert_eq!(values(&store, &key("a")), ["1"]);
    write(&store, &key("a"), delete());
    assert_eq!(write(&store, &key("a"), create("3")).siblings, 1);
    assert_eq!(store.status().conditions_failed_total, 1);
}

#[test]
fn an_expired_key_is_created_and_leaves_no_sibling() {
    let clock = TestClock::at(NOW_US);
    let store = store_at(&engine(), &clock, 1);
    let short = Change { ttl: Ttl::new(2).ok(), ..put("1") };
    write(&store, &key("a"), short);
    clock.set(NOW_US + 1_999_999);
    failed(&store, &key("a"), only_if(Condition::Absent, put("2")));
    clock.set(NOW_US + 2_000_000);
    assert_eq!(failed(&store, &key("a"), only_if(Condition::Present, put("2"))).0, None);
    let nothing_seen = Change { context: Some(CausalContext::default()), ..sibling("2") };
    assert_eq!(write(&store, &key("a"), only_if(Condition::Absent, nothing_seen)).siblings, 1);
    assert_eq!(values(&store, &key("a")), ["2"], "the clock of another node may say that it has not expired");
}

#[test]
fn present_and_etags_are_compared_with_what_is_there() {
    let store = store_over(&engine(), 1);
    let nothing = failed(&store, &key("a"), only_if(Condition::Present, put("1")));
    assert_eq!(nothing, (None, CausalContext::default()));
    assert_eq!(store.read(&key("a")), Stored::Missing);

    let first = write(&store, &key("a"), put("1"));
    let second = write(&store, &key("a"), only_if(Condition::Present, put("2")));
    assert_eq!(failed(&store, &key("a"), only_if(any_of(&[&etag(&first)]), put("3"))).0, Some(etag(&second)));
    failed(&store, &key("a"), only_if(any_of(&[]), put("3")));
    let third = write(&store, &key("a"), only_if(any_of(&[&etag(&first), &etag(&second)]), put("3")));
    assert_eq!(values(&store, &key("a")), ["3"]);

    failed(&store, &key("a"), only_if(any_of(&[&etag(&second)]), delete()));
    assert_eq!(write(&store, &key("a"), only_if(any_of(&[&etag(&third)]), delete())).siblings, 0);
    let (current, context) = failed(&store, &key("a"), only_if(Condition::Present, delete()));
    assert_eq!(current, None);
    assert!(context.contains(third.dot), "what is remembered of the delete");
}

#[test]
fn the_etag_of_a_set_is_needed_to_replace_a_set() {
    let store = store_over(&engine(), 1);
    let one = write(&store, &key("a"), sibling("1"));
    let two = write(&store, &key("a"), sibling("2"));
    failed(&store, &key("a"), only_if(any_of(&[&etag(&one), &etag(&two)]), put("3")));
    let both = ETag::of([two.dot, one.dot]).unwrap();
    let resolved = write(&store, &key("a"), only_if(any_of(&[&both]), sibling("3")));
    assert_eq!((resolved.siblings, values(&store, &key("a"))), (1, vec!["3".into()]), "the ETag says what it replaces");
}

#[test]
fn a_last_writers_bucket_compares_what_it_shows() {
    let store = store_over(&engine(), 1);
    let one = write(&store, &key("a"), sibling("1"));
    let two = write(&store, &key("a"), sibling("2"));
    let lww = |change: Change| Change { conflict: Conflict::Lww, ..change };
    let (current, _) = failed(&store, &key("a"), only_if(any_of(&[&etag(&one)]), lww(put("3"))));
    assert_eq!(current, Some(etag(&two)));
    write(&store, &key("a"), only_if(any_of(&[&etag(&two)]), lww(put("3"))));
    assert_eq!(values(&store, &key("a")), ["3"]);
}

#[test]
fn a_repeated_request_recognises_its_own_value() {
    let store = store_over(&engine(), 1);
    let create = |value: &str| only_if(Condition::Absent, put(value));
    let first = write(&store, &key("a"), named(7, create("1")));
    let again = write(&store, &key("a"), named(7, create("1")));
    assert_eq!((again.dot, again.siblings, again.modified_us), (first.dot, 1, first.modified_us));
    assert_eq!((&again.object, &again.context), (&first.object, &first.context), "nothing new was written");
    failed(&store, &key("a"), named(8, create("1")));
    failed(&store, &key("a"), named(7, create("2")));
    failed(&store, &key("a"), create("1"));

    let second = write(&store, &key("a"), named(9, only_if(any_of(&[&etag(&first)]), put("2"))));
    let beside = write(&store, &key("a"), Change { context: Some(CausalContext::default()), ..put("3") });
    let again = write(&store, &key("a"), named(9, only_if(any_of(&[&etag(&first)]), put("2"))));
    assert_eq!((again.dot, again.siblings), (second.dot, 2));
    assert!(!again.context.contains(beside.dot) && again.context.contains(first.dot), "V6");

    let all = object(&store, &key("a")).context;
    let gone = only_if(any_of(&[&ETag::of([second.dot, beside.dot]).unwrap()]), delete());
    let gone = named(11, Change { context: Some(all), ..gone });
    let first = write(&store, &key("a"), gone.clone());
    assert_eq!(write(&store, &key("a"), gone).dot, first.dot, "a delete too");
}

/// The acknowledgement of a repeated request is as good as that of the first.
#[test]
fn a_repeated_request_is_acknowledged_with_what_it_finds_on_disk() {
    let engine = engine();
    let store = store_over(&engine, 1);
    engine.hold();
    let acks = Acks::default();
    let create = || named(7, only_if(Condition::Absent, put("1")));
    store.update(&key("a"), Change { durability: Durability::Interval, ..create() }, acks.done()).unwrap();
    store.update(&key("a"), create(), acks.done()).unwrap();
    assert_eq!((acks.take(), engine.waiting()), (vec![], 2), "an fsync of its own");
    engine.release();
    assert_eq!((acks.take(), values(&store, &key("a"))), (vec![Ok(()), Ok(())], vec!["1".into()]));
}

#[test]
fn who_may_lack_writes_judges_nothing() {
    let machine = Machine::new();
    let store = machine.start(StartVerdict::Stale { highest_seen: 9 });
    let create = || only_if(Condition::Absent, put("1"));
    assert_eq!(refused(&store, &key("a"), create()), StoreError::Distrusted);
    assert_eq!(write(&store, &key("b"), put("1")).siblings, 1, "a write without a condition needs no judgement");
    store.untrusted().into_iter().for_each(|partition| store.trust(partition).unwrap());
    assert_eq!(write(&store, &key("a"), create()).siblings, 1);
}

#[test]
fn a_damaged_copy_judges_nothing() {
    let engine = engine();
    let store = store_over(&engine, 1);
    let (row, bad) = (Bytes::copy_from_slice(key("a").row()), Bytes::from_static(b"?"));
    let batch = Batch::from_iter([Write { keyspace: Keyspace::Objects, key: row, value: Some(bad) }]);
    engine.submit(engine.generation(), batch, Durability::Fsync, Box::new(|_| {})).unwrap();
    assert_eq!(refused(&store, &key("a"), only_if(Condition::Absent, put("1"))), StoreError::Damaged);
}

/// Many at once, one wins: the condition and the write are one step.
#[test]
fn s1_of_concurrent_creations_one_succeeds() {
    let store = store_over(&engine(), 1);
    let (won, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, won, lost) = (&store, &won, &lost);
            scope.spawn(move || {
                for n in 0..50 {
                    let create = only_if(Condition::Absent, put(&thread.to_string()));
                    match store.update(&key(&n.to_string()), create, Box::new(|_| {})) {
                        Ok(_) => won.fetch_add(1, Ordering::Relaxed),
                        Err(StoreError::ConditionFailed { .. }) => lost.fetch_add(1, Ordering::Relaxed),
                        Err(other) => panic!("{other}"),
                    };
                }
            });
        }
    });
    assert_eq!((won.into_inner(), lost.into_inner()), (50, 150));
}
