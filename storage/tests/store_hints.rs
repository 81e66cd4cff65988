//! H1 to H5: hints are as durable as what they stand for, one per target and key, bounded, removed only as delivered,
//! and never overlooked. A model of them over crashes, with both engines.

#![allow(clippy::unwrap_used, reason = "a helper's panic fails its test")]

mod store_support;

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use proptest::prelude::RngExt;
use rondo_ring::{NodeId, PartitionId};
use rondo_storage::Key;
use rondo_storage::engine::memory::CrashLoss;
use rondo_storage::engine::{Durability, EngineError, EngineOptions, Keyspace, MemoryEngine};
use rondo_storage::store::{
    Condition, DataDirectory, Hint, HintPage, StartVerdict, Store, StoreError, StoreOptions, Stored, Updated,
};
use rondo_storage::versions::Object;
use store_support::*;

const A: NodeId = NodeId(0xa);
const B: NodeId = NodeId(0xb);

/// What another owner has written, as it travels.
fn written(actor: u64, value: &str) -> Bytes {
    write(&store_over(&Arc::new(MemoryEngine::new()), actor), &key("k"), put(value)).object
}

fn keep(store: &Store, target: NodeId, key: &Key, object: &Bytes) -> Result<(), StoreError> {
    let acks = Acks::default();
    store.keep_hint(target, key, object, Durability::Fsync, || Some(acks.done()))?;
    assert_eq!(acks.take(), [Ok(())]);
    Ok(())
}

fn forget(store: &Store, target: NodeId, hint: &Hint) -> bool {
    let acks = Acks::default();
    let was = store.forget_hint(target, &hint.key, hint.digest, acks.done()).unwrap();
    assert_eq!(acks.take(), [Ok(())]);
    was
}

fn page(store: &Store, target: NodeId) -> HintPage {
    store.hint_page(target, None, 1_000, 1 << 20).unwrap()
}

fn counts(store: &Store) -> Vec<(NodeId, u64)> {
    store.hint_counts().into_iter().map(|(node, kept)| (node, kept.count)).collect()
}

fn texts(hint: &Hint) -> Vec<String> {
    values_of(&Object::decode(&hint.object).unwrap())
}

fn beside(store: &Store, key: &Key, value: &str, targets: &[NodeId]) -> Updated {
    let acks = Acks::default();
    let updated = store.update_beside(key, &put(value), targets, || Some(acks.done())).unwrap();
    assert_eq!(acks.take(), [Ok(())]);
    updated
}

#[test]
fn hints_of_a_target_are_paged_in_order_and_apart_from_objects() {
    let store = store_over(&Arc::new(MemoryEngine::new()), 1);
    let names: Vec<Key> = (0..10).map(|i| key(&format!("k{i}"))).collect();
    for key in &names {
        keep(&store, A, key, &written(2, "v")).unwrap();
    }
    keep(&store, B, &names[0], &written(3, "other")).unwrap();
    assert_eq!(counts(&store), [(A, 10), (B, 1)]);
    let (mut after, mut seen) = (None::<Bytes>, Vec::new());
    loop {
        let page = store.hint_page(A, after.as_deref(), 3, 1 << 20).unwrap();
        seen.extend(page.hints.iter().map(|hint| hint.key.row().clone()));
        if page.complete {
            break;
        }
        after = page.last;
    }
    let mut rows: Vec<Bytes> = names.iter().map(|key| key.row().clone()).collect();
    rows.sort();
    assert_eq!(seen, rows);
    assert_eq!(store.read(&names[0]), Stored::Missing, "what is kept for others is not this node's");
    let read = store.read_hinted(&names[0]);
    assert_eq!(
        (read.targets.clone(), values_of(&Store::decode(&read.stored).unwrap())),
        (vec![A, B], vec!["other".to_owned(), "v".to_owned()],)
    );
    assert_eq!(store.read_hinted(&key("never")).stored, Stored::Missing);
}

/// H2, H4.
#[test]
fn a_newer_hint_is_merged_and_only_what_was_delivered_is_removed() {
    let store = store_over(&Arc::new(MemoryEngine::new()), 1);
    let k = key("k");
    keep(&store, A, &k, &written(2, "left")).unwrap();
    let first = page(&store, A).hints.remove(0);
    keep(&store, A, &k, &written(3, "right")).unwrap();
    assert_eq!(counts(&store), [(A, 1)]);
    let both = page(&store, A).hints.remove(0);
    assert_eq!(texts(&both), ["left", "right"]);
    assert!(!forget(&store, A, &first), "it is another version by now");
    assert_eq!(page(&store, A).hints, std::slice::from_ref(&both));
    keep(&store, A, &k, &written(3, "right")).unwrap();
    assert_eq!(page(&store, A).hints, std::slice::from_ref(&both), "what comes again changes nothing");
    assert!(forget(&store, A, &both) && !forget(&store, A, &both));
    assert_eq!((counts(&store), page(&store, A).hints), (vec![], vec![]));
}

/// H1: the write and its hints are one batch.
#[test]
fn a_write_beside_which_an_owner_is_down_is_hinted_in_the_same_batch() {
    let engine = Arc::new(MemoryEngine::new());
    let store = store_over(&engine, 1);
    assert_eq!(beside(&store, &key("k"), "1", &[A, B]).hinted, 2);
    let second = beside(&store, &key("k"), "2", &[A]);
    assert_eq!(page(&store, A).hints[0].object, second.object);
    assert_eq!(texts(&page(&store, B).hints[0]), ["1"]);
    engine.hold();
    engine.fail_next(EngineError::Write("no".into()));
    let acks = Acks::default();
    let lost = store.update_beside(&key("k"), &put("3"), &[A], || Some(acks.done())).unwrap();
    store.update_beside(&key("k"), &put("4"), &[A, B], || Some(acks.done())).unwrap();
    engine.release();
    assert!(acks.take().iter().all(Result::is_err) && lost.hinted == 1);
    assert_eq!(page(&store, A).hints[0].object, second.object, "neither the write nor its hint is there");
    let bytes = |store: &Store| store.hint_counts().iter().map(|(_, kept)| kept.bytes).sum::<u64>();
    let reopened = store_over(&engine, 2);
    assert_eq!((counts(&store), bytes(&store)), (counts(&reopened), bytes(&reopened)));
}

/// H3.
#[test]
fn beyond_the_bound_none_is_kept_and_the_write_goes_on() {
    let machine = Machine::new();
    let options = StoreOptions { reserve_bytes: Some(0), hint_bytes: Some(1_500), ..Default::default() };
    let store = Store::open_with(machine.directory().unwrap(), &options, machine.clock.clone(), |path| {
        std::fs::create_dir_all(path).unwrap();
        Ok(machine.engine.lock().clone() as _)
    })
    .unwrap();
    store.begin(StartVerdict::Unconfirmed, machine.partitions).unwrap();
    let large = "x".repeat(900);
    assert_eq!(beside(&store, &key("k"), &large, &[A, B]).hinted, 1, "there is room for one of them only");
    assert_eq!(keep(&store, B, &key("k2"), &written(2, &large)).unwrap_err(), StoreError::HintsFull);
    assert_eq!(beside(&store, &key("k"), &large, &[A]).hinted, 1, "one that takes no more room than before");
    keep(&store, B, &key("small"), &written(2, "v")).unwrap();
    let status = store.status();
    assert_eq!((status.hints, status.hints_refused_total), (2, 2));
    assert!(status.hints_bytes <= 1_500);
    let hint = page(&store, A).hints.remove(0);
    forget(&store, A, &hint);
    keep(&store, B, &key("k2"), &written(2, &large)).unwrap();
}

/// One dot for a write that a stand-in coordinates, and it builds on what it keeps.
#[test]
fn a_stand_in_coordinates_over_what_it_keeps() {
    let store = store_over(&Arc::new(MemoryEngine::new()), 7);
    let k = key("k");
    keep(&store, A, &k, &written(2, "owner's")).unwrap();
    let acks = Acks::default();
    let updated = store.update_hinted(&k, &put("new"), &[A, B], || Some(acks.done())).unwrap();
    assert_eq!((acks.take(), updated.hinted), (vec![Ok(())], 2));
    for target in [A, B] {
        let hint = page(&store, target).hints.remove(0);
        assert_eq!((texts(&hint), &hint.object), (vec!["new".to_owned()], &updated.object));
    }
    assert_eq!(store.read(&k), Stored::Missing);
    let again = store.update_hinted(&k, &put("newer"), &[B], || Some(Acks::default().done())).unwrap();
    assert!(again.dot > updated.dot && again.dot.actor == updated.dot.actor);
    let conditional = rondo_storage::store::Change { condition: Some(Condition::Absent), ..put("x") };
    let refused = store.update_hinted(&k, &conditional, &[A], || Some(Acks::default().done())).unwrap_err();
    assert_eq!(refused, StoreError::Distrusted);
}

/// The doomstone (Riak): a value is deleted while its hint is under way; the tombstone is delivered first, is reaped
/// nowhere, and the late hint brings nothing back. And a new value after that is not beaten by the old tombstone.
#[test]
fn a_late_hint_brings_no_deleted_value_back_and_an_old_tombstone_beats_no_new_value() {
    let (holder, other) =
        (store_over(&Arc::new(MemoryEngine::new()), 1), store_over(&Arc::new(MemoryEngine::new()), 2));
    let target = store_over(&Arc::new(MemoryEngine::new()), 3);
    let k = key("k");
    let old = beside(&holder, &k, "1", &[A]);
    merge(&other, &k, &old.object);
    let gone = other.update_beside(&k, &delete(), &[A], || Some(Acks::default().done())).unwrap();
    merge(&holder, &k, &gone.object);
    let tombstone = page(&other, A).hints.remove(0);
    merge(&target, &k, &tombstone.object);
    let late = page(&holder, A).hints.remove(0);
    merge(&target, &k, &late.object);
    assert_eq!(values(&target, &k), Vec::<String>::new(), "the late hint is older than the delete");
    let new = write(&target, &k, put("2"));
    merge(&target, &k, &tombstone.object);
    merge(&target, &k, &late.object);
    assert_eq!(values(&target, &k), ["2"], "neither hint covers what came after");
    merge(&holder, &k, &new.object);
    assert_eq!(values(&holder, &k), ["2"]);
}

/// H5.
#[test]
fn the_oldest_hint_is_never_overlooked() {
    let engine = Arc::new(MemoryEngine::new());
    let clock = TestClock::at(NOW_US);
    let store = store_at(&engine, &clock, 1);
    let k = key("k");
    let partition = q(8).partition_of(k.token());
    let elsewhere = PartitionId((partition.0 + 1) % 8);
    assert_eq!(store.oldest_hint(None), None);
    keep(&store, A, &k, &written(2, "left")).unwrap();
    clock.set(NOW_US + 60_000_000);
    keep(&store, A, &k, &written(3, "right")).unwrap();
    assert_eq!((store.oldest_hint(None), store.oldest_hint(Some(partition))), (Some(NOW_US), Some(NOW_US)));
    assert_eq!(store.oldest_hint(Some(elsewhere)), None);
    assert_eq!(page(&store, A).hints[0].since_us, NOW_US, "a merged one is as old as the older");
    let hint = page(&store, A).hints.remove(0);
    engine.hold();
    store.forget_hint(A, &k, hint.digest, Acks::default().done()).unwrap();
    assert_eq!(store.oldest_hint(None), Some(NOW_US), "its removal is not on disk");
    let found = Store::over(Arc::new(engine.crash(CrashLoss::Power)), clock, rondo_storage::versions::ActorId(9), q(8));
    assert_eq!((found.oldest_hint(None), page(&found, A).hints.len()), (Some(NOW_US), 1));
}

#[test]
fn a_damaged_hint_is_passed_over_and_counted() {
    let engine = Arc::new(MemoryEngine::new());
    let store = store_over(&engine, 1);
    keep(&store, A, &key("k"), &written(2, "v")).unwrap();
    let row = [&A.0.to_be_bytes()[..], key("k").row()].concat();
    engine.damage(Keyspace::Hints, &row);
    assert!(matches!(store.read_hinted(&key("k")).stored, Stored::Unknown(None)));
    keep(&store, A, &key("k"), &written(3, "again")).unwrap();
    assert_eq!(texts(&page(&store, A).hints[0]), ["again"], "what cannot be read is replaced");
}

/// Any order of keeping, delivering, failing and crashing: what is there is what was acknowledged and not removed.
#[test]
fn a_model_of_hints_over_crashes() {
    let mut rng = rng();
    for _ in 0..40 {
        let mut engine = Arc::new(MemoryEngine::new());
        let mut store = store_over(&engine, 1);
        let mut model: BTreeMap<(NodeId, Key), Object> = BTreeMap::new();
        for step in 0..120_u64 {
            let target = if rng.random_bool(0.5) { A } else { B };
            let key = key(&format!("k{}", rng.random_range(0..6)));
            match rng.random_range(0..10) {
                0..=5 => {
                    let object = written(100 + step, &step.to_string());
                    keep(&store, target, &key, &object).unwrap();
                    model.entry((target, key)).or_default().merge(Object::decode(&object).unwrap());
                }
                6 | 7 => {
                    let hints = page(&store, target).hints;
                    let hint = hints.iter().find(|hint| hint.key == key);
                    assert_eq!(hint.is_some(), model.contains_key(&(target, key.clone())));
                    if let Some(hint) = hint {
                        assert!(forget(&store, target, hint));
                        model.remove(&(target, key));
                    }
                }
                8 => {
                    engine.fail_next(EngineError::Write("no".into()));
                    let acks = Acks::default();
                    store
                        .keep_hint(target, &key, &written(1_000 + step, "lost"), Durability::Fsync, || {
                            Some(acks.done())
                        })
                        .unwrap();
                    assert!(acks.take()[0].is_err());
                }
                _ => {
                    engine = Arc::new(engine.crash(CrashLoss::Power));
                    store = store_over(&engine, 2 + step);
                }
            }
            let held: BTreeMap<(NodeId, Key), Object> = [A, B]
                .into_iter()
                .flat_map(|target| page(&store, target).hints.into_iter().map(move |hint| (target, hint)))
                .map(|(target, hint)| ((target, hint.key), Object::decode(&hint.object).unwrap()))
                .collect();
            assert_eq!(held, model);
            assert_eq!(store.hint_counts(), store_over(&engine, 9_999).hint_counts(), "step {step}");
        }
    }
}

/// The same over the engine on disk: closed, and not closed.
#[test]
fn hints_are_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let engine = EngineOptions { log_segment_bytes: 64 << 10, memtable_bytes: 64 << 10, ..Default::default() };
    let open = || {
        let directory = Arc::new(DataDirectory::open(&path).unwrap());
        let options = StoreOptions { reserve_bytes: Some(0), ..Default::default() };
        let store = Store::open(directory, &options, &engine, TestClock::at(NOW_US)).unwrap();
        store.begin(StartVerdict::Confirmed, q(8)).unwrap();
        store
    };
    let wait = |act: &dyn Fn(rondo_storage::store::StoreDone)| {
        let (done, acknowledged) = mpsc::channel();
        act(Box::new(move |result| done.send(result).unwrap()));
        acknowledged.recv().unwrap().unwrap();
    };
    let store = open();
    let object = written(2, &"v".repeat(500));
    for i in 0..300 {
        wait(&|done| store.keep_hint(A, &key(&format!("k{i}")), &object, Durability::Fsync, || Some(done)).unwrap());
    }
    let first = page(&store, A).hints.remove(0);
    wait(&|done| assert!(store.forget_hint(A, &first.key, first.digest, done).unwrap()));
    let before = store.hint_counts();
    store.close().unwrap();
    drop(store);
    let store = open();
    assert_eq!((store.hint_counts(), page(&store, A).hints.len()), (before, 299));
    store.close().unwrap();
}
