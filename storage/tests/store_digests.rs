//! The Merkle trees: kept by O(1) changes, they equal those of a rebuild, whatever happened.

#![allow(clippy::unwrap_used, reason = "a helper's panic fails its test")]

mod store_support;

use std::sync::Arc;

use proptest::prelude::Rng;
use rondo_ring::PartitionId;
use rondo_storage::engine::memory::CrashLoss;
use rondo_storage::engine::{Engine, EngineError, Keyspace, MemoryEngine};
use rondo_storage::store::{Rebuild, StartVerdict, Store};
use rondo_storage::versions::ActorId;
use store_support::*;

fn rebuild(store: &Store) {
    for _ in 0..1_000 {
        if store.rebuild_digests() == Rebuild::Finished {
            return;
        }
    }
    panic!("the trees are never finished");
}

type Digests = Vec<(Option<u64>, Option<Vec<u64>>)>;

fn digests(store: &Store) -> Digests {
    (0..8).map(|p| (store.digest(PartitionId(p)), store.leaves(PartitionId(p)))).collect()
}

/// The trees of another store over the same rows.
fn rebuilt(engine: &Arc<MemoryEngine>) -> Digests {
    let copy = Arc::new(MemoryEngine::new());
    for (row, object) in engine.scan(Keyspace::Objects, &[], None, usize::MAX).unwrap() {
        let row = rondo_storage::engine::Write { keyspace: Keyspace::Objects, key: row, value: Some(object) };
        let batch = rondo_storage::engine::Batch::from_iter([row]);
        copy.submit(0, batch, Default::default(), Box::new(|result| result.unwrap())).unwrap();
    }
    let store = Store::over(copy, TestClock::at(NOW_US), ActorId(77), q(8));
    rebuild(&store);
    digests(&store)
}

#[test]
fn an_empty_store_has_its_trees_at_once() {
    let store = store_over(&Arc::default(), 1);
    assert_eq!(store.status().digests_ready, 8);
    assert_eq!(store.digest(PartitionId(3)), Some(0));
    let key = key("a");
    let partition = q(8).partition_of(key.token());
    write(&store, &key, put("1"));
    let (root, leaves) = (store.digest(partition).unwrap(), store.leaves(partition).unwrap());
    assert_ne!(root, 0);
    let marked: Vec<usize> = (0..leaves.len()).filter(|&leaf| leaves[leaf] != 0).collect();
    assert_eq!((marked.len(), leaves.iter().fold(0, |all, leaf| all ^ leaf)), (1, root));
    let (first, last) = store.leaf_tokens(partition, marked[0]).unwrap();
    assert!((first..=last).contains(&key.token()));
    assert_eq!(store.scan_tokens((first, last), None, 9, 9_999).unwrap().rows.len(), 1);
    assert_eq!(store.leaf_tokens(partition, leaves.len()), None);
}

#[test]
fn leaves_tile_the_partition() {
    let store = store_over(&Arc::default(), 1);
    let (first, last) = q(8).tokens(PartitionId(5));
    let leaves = store.leaves(PartitionId(5)).unwrap().len();
    let tokens: Vec<_> = (0..leaves).map(|leaf| store.leaf_tokens(PartitionId(5), leaf).unwrap()).collect();
    assert_eq!((tokens[0].0, tokens[leaves - 1].1), (first, last));
    assert!(tokens.windows(2).all(|pair| pair[0].1.0 + 1 == pair[1].0.0));
}

#[test]
fn replicas_with_the_same_objects_have_the_same_trees() {
    let (a, b) = (store_over(&Arc::default(), 1), store_over(&Arc::default(), 2));
    let names: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    for name in &names {
        let object = write(&a, &key(name), put(name)).object;
        merge(&b, &key(name), &object);
    }
    assert_eq!(digests(&a), digests(&b));
    let newer = write(&b, &key("7"), put("newer")).object;
    let partition = q(8).partition_of(key("7").token());
    let differing: Vec<_> = (0..8).filter(|&p| a.digest(PartitionId(p)) != b.digest(PartitionId(p))).collect();
    assert_eq!(differing, [partition.0]);
    let (left, right) = (a.leaves(partition).unwrap(), b.leaves(partition).unwrap());
    assert_eq!((0..left.len()).filter(|&leaf| left[leaf] != right[leaf]).count(), 1);
    merge(&a, &key("7"), &newer);
    assert_eq!(digests(&a), digests(&b));
}

/// Writes before, between and while pages are read and counted; some in the queue, some failing.
#[test]
fn writes_during_a_rebuild_are_counted_exactly_once() {
    let mut rng = rng();
    let mut waited = 0;
    for round in 0..30 {
        let engine = Arc::new(MemoryEngine::new());
        let first = store_over(&engine, 1_000 + round);
        for n in 0..rng.next_u32() % 4_000 {
            write(&first, &key(&n.to_string()), put("old"));
        }
        let store = store_over(&engine, round);
        engine.hold();
        let mut finished = false;
        for _ in 0..2_000 {
            match rng.next_u32() % 6 {
                0 | 1 => {
                    let name = (rng.next_u32() % 5_000).to_string();
                    store.update(&key(&name), put(&name), Acks::default().done()).unwrap();
                }
                2 if rng.next_u32().is_multiple_of(20) => engine.fail_next(EngineError::Write("injected".into())),
                2 | 3 => drop(engine.step()),
                _ => match store.rebuild_digests() {
                    Rebuild::Finished => finished = true,
                    Rebuild::Waiting => waited += 1,
                    Rebuild::Advanced => {}
                },
            }
        }
        engine.release();
        rebuild(&store);
        assert_eq!(digests(&store), rebuilt(&engine), "round {round}, finished in between: {finished}");
    }
    assert!(waited > 100, "vacuous: no page ever waited for a write");
}

#[test]
fn writes_of_many_threads_during_a_rebuild_are_counted_exactly_once() {
    let engine = Arc::new(MemoryEngine::new());
    let first = store_over(&engine, 1);
    (0..6_000).for_each(|n| drop(write(&first, &key(&n.to_string()), put("old"))));
    for round in 0..5 {
        let store = store_over(&engine, 2 + round);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..2_000 {
                        let name = (n * 7 % 6_500).to_string();
                        let change = if thread == 0 { delete() } else { put(&name) };
                        store.update(&key(&name), change, Box::new(|result| result.unwrap())).unwrap();
                    }
                });
            }
            scope.spawn(|| while store.rebuild_digests() != Rebuild::Finished {});
        });
        rebuild(&store);
        assert_eq!(digests(&store), rebuilt(&engine), "round {round}");
    }
}

#[test]
fn trees_survive_a_clean_end_and_are_rebuilt_after_a_crash() {
    let machine = Machine::new();
    let mut clean_before = true;
    for round in 0..6 {
        let store = machine.start(StartVerdict::Confirmed);
        assert_eq!(store.status().digests_ready == 8, clean_before, "round {round}");
        rebuild(&store);
        for n in 0..50 {
            write(&store, &key(&(round * 31 + n).to_string()), put("x"));
        }
        assert_eq!(digests(&store), rebuilt(&machine.engine.lock().clone()), "round {round}");
        clean_before = round % 2 == 0;
        if clean_before { machine.stop(store) } else { machine.crash(store, CrashLoss::Process) }
    }
}

#[test]
fn damage_takes_the_digest_away_until_it_is_repaired() {
    let engine = Arc::new(MemoryEngine::new());
    let (store, peer) = (store_over(&engine, 1), store_over(&Arc::default(), 2));
    let partition = q(8).partition_of(key("a").token());
    let object = write(&store, &key("a"), put("1")).object;
    merge(&peer, &key("a"), &object);

    engine.damage(Keyspace::Objects, key("a").row());
    let fresh = store_over(&engine, 3);
    rebuild(&fresh);
    assert_eq!((fresh.digest(partition), fresh.status().digests_ready), (None, 7));
    for store in [&store, &fresh] {
        engine.damage(Keyspace::Objects, key("a").row());
        merge(store, &key("a"), &object);
        assert_eq!(store.digest(partition), None, "what the damaged row had added is not known");
        rebuild(store);
        assert_eq!(store.digest(partition), peer.digest(partition));
    }
}
