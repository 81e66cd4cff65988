//! S1 (atomic per key), S3 (damage is unknown), S4 (no call waits for the writer), and what a client's write means.

#![allow(clippy::unwrap_used, reason = "a helper's panic fails its test")]

mod store_support;

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::Rng;
use rondo_storage::engine::{Batch, Durability, Engine, EngineError, Keyspace, MemoryEngine, Write};
use rondo_storage::store::{Change, Merged, StoreError, Stored, Ttl};
use rondo_storage::versions::CausalContext;
use store_support::*;

fn engine() -> Arc<MemoryEngine> {
    Arc::new(MemoryEngine::new())
}

#[test]
fn a_write_is_read_back_and_replaced() {
    let store = store_over(&engine(), 1);
    assert_eq!(store.read(&key("a")), Stored::Missing);
    let first = write(&store, &key("a"), put("1"));
    assert_eq!(store.read(&key("a")), Stored::Found(first.object.clone()));
    let second = write(&store, &key("a"), put("2"));
    assert_eq!(values(&store, &key("a")), ["2"]);
    assert!(second.dot > first.dot && second.context.contains(first.dot) && second.siblings == 1);
    assert_eq!(object(&store, &key("a")).siblings[0].metadata.modified_us, NOW_US);
}

#[test]
fn an_old_context_makes_a_sibling_and_a_new_one_resolves_it() {
    let store = store_over(&engine(), 1);
    let first = write(&store, &key("a"), put("1"));
    write(&store, &key("a"), after(&first.context, "2"));
    let late = write(&store, &key("a"), after(&first.context, "3"));
    assert_eq!((late.siblings, values(&store, &key("a"))), (2, vec!["2".into(), "3".into()]));
    let again = write(&store, &key("a"), after(&late.context, "4"));
    assert_eq!((again.siblings, values(&store, &key("a"))), (2, vec!["2".into(), "4".into()]), "2 was never seen");
    let all = object(&store, &key("a")).context;
    assert_eq!(write(&store, &key("a"), after(&all, "5")).siblings, 1);
}

#[test]
fn blind_writes_do_what_the_bucket_says() {
    let store = store_over(&engine(), 1);
    let first = write(&store, &key("a"), sibling("1"));
    let second = write(&store, &key("a"), sibling("2"));
    assert_eq!((second.siblings, values(&store, &key("a"))), (2, vec!["1".into(), "2".into()]));
    assert!(!second.context.contains(first.dot), "its client has not seen the other (V6)");
    let over = write(&store, &key("a"), put("3"));
    assert_eq!((over.siblings, values(&store, &key("a"))), (1, vec!["3".into()]));
    assert!(over.context.contains(first.dot));
}

#[test]
fn deletes_are_remembered_also_where_there_was_nothing() {
    let store = store_over(&engine(), 1);
    let gone = write(&store, &key("a"), delete());
    assert_eq!(gone.siblings, 0);
    assert_eq!(object(&store, &key("a")).siblings.len(), 1, "a tombstone");

    let first = write(&store, &key("b"), sibling("1"));
    write(&store, &key("b"), sibling("2"));
    let with = Change { context: Some(first.context), ..delete() };
    assert_eq!(write(&store, &key("b"), with).siblings, 1);
    assert_eq!(values(&store, &key("b")), ["2"]);
    let blind = Change { blind: rondo_storage::store::BlindPut::Sibling, ..delete() };
    assert_eq!(write(&store, &key("b"), blind).siblings, 0);
    for _ in 0..10 {
        let old = Change { context: Some(CausalContext::default()), ..delete() };
        write(&store, &key("b"), old);
    }
    assert_eq!(object(&store, &key("b")).siblings.len(), 1, "tombstones do not pile up");
}

#[test]
fn too_many_siblings_are_refused_with_the_context_that_resolves_them() {
    let store = store_over(&engine(), 1);
    let bounded = |value: &str| Change { siblings_max: 3, ..sibling(value) };
    for value in ["1", "2", "3"] {
        write(&store, &key("a"), bounded(value));
    }
    let StoreError::TooManySiblings { count, max, context } = refused(&store, &key("a"), bounded("4")) else {
        panic!("a fourth sibling was not refused");
    };
    assert_eq!((count, max, values(&store, &key("a")).len()), (4, 3, 3));
    let resolved = Change { siblings_max: 3, ..after(&context, "5") };
    assert_eq!(write(&store, &key("a"), resolved).siblings, 1);
    // A limit that was lowered does not refuse a write that leaves no more than there were.
    for value in ["6", "7"] {
        write(&store, &key("a"), bounded(value));
    }
    let one = Change { siblings_max: 1, ..after(&object(&store, &key("a")).context, "8") };
    assert_eq!(write(&store, &key("a"), one).siblings, 1);
}

#[test]
fn expired_versions_count_for_nothing_and_do_not_pile_up() {
    let clock = TestClock::at(NOW_US);
    let store = store_at(&engine(), &clock, 1);
    let short = |value: &str| Change { ttl: Ttl::new(1).ok(), siblings_max: 3, ..sibling(value) };
    for n in 0..20 {
        clock.set(NOW_US + n * 1_000_000);
        assert_eq!(write(&store, &key("a"), short(&n.to_string())).siblings, 1, "those before have expired");
    }
    assert!(object(&store, &key("a")).siblings.len() <= 3);
    clock.set(NOW_US + 20_000_000);
    assert_eq!(write(&store, &key("a"), Change { siblings_max: 3, ..sibling("live") }).siblings, 1);
}

#[test]
fn s1_a_write_builds_on_the_one_in_the_queue() {
    let engine = engine();
    let store = store_over(&engine, 1);
    engine.hold();
    let acks = Acks::default();
    let first = store.update(&key("a"), put("1"), acks.done()).unwrap();
    let second = store.update(&key("a"), after(&first.context, "2"), acks.done()).unwrap();
    assert_eq!((second.siblings, engine.waiting()), (1, 2));
    assert_eq!(store.read(&key("a")), Stored::Missing, "nothing is published yet");
    assert_eq!(acks.take(), []);
    engine.release();
    assert_eq!((acks.take(), values(&store, &key("a"))), (vec![Ok(()), Ok(())], vec!["2".into()]));
    assert_eq!(store.status().pending_writes, 0);
}

#[test]
fn a_write_behind_a_failed_one_fails_with_it_and_the_next_starts_from_the_disk() {
    let engine = engine();
    let store = store_over(&engine, 1);
    write(&store, &key("a"), put("0"));
    engine.hold();
    engine.fail_next(EngineError::Write("injected".into()));
    let acks = Acks::default();
    let lost = store.update(&key("a"), put("1"), acks.done()).unwrap();
    store.update(&key("a"), after(&lost.context, "2"), acks.done()).unwrap();
    engine.release();
    assert!(acks.take().iter().all(Result::is_err));
    assert_eq!(values(&store, &key("a")), ["0"]);
    let next = write(&store, &key("a"), put("3"));
    assert_eq!(values(&store, &key("a")), ["3"]);
    assert!(!next.context.contains(lost.dot), "the lost write may be at other replicas: nothing may replace it unseen");
    assert_ne!(next.dot.actor, lost.dot.actor);
    assert_eq!(store.status().write_failures_total, 2);
}

#[test]
fn an_object_that_reached_others_before_its_write_failed_here_survives() {
    let engine = engine();
    let (here, there) = (store_over(&engine, 1), store_over(&self::engine(), 2));
    engine.fail_next(EngineError::Write("injected".into()));
    let acks = Acks::default();
    let lost = here.update(&key("a"), put("acknowledged by the others"), acks.done()).unwrap();
    assert!(acks.take()[0].is_err());
    merge(&there, &key("a"), &lost.object);
    let next = write(&here, &key("a"), put("later"));
    merge(&there, &key("a"), &next.object);
    assert_eq!(values(&there, &key("a")), ["acknowledged by the others", "later"]);
}

#[test]
fn a_full_disk_refuses_writes_until_the_next_look() {
    let engine = engine();
    let store = store_over(&engine, 1);
    write(&store, &key("a"), put("1"));
    engine.fail_next(EngineError::DiskFull);
    let acks = Acks::default();
    let second = store.update(&key("a"), put("2"), acks.done()).unwrap();
    assert_eq!(acks.take(), [Err(EngineError::DiskFull)]);
    assert_eq!(refused(&store, &key("a"), put("3")), StoreError::LowDisk);
    let merged = store.merge(&key("a"), &second.object, Durability::Fsync, acks.done());
    assert_eq!((merged, acks.take()), (Err(StoreError::LowDisk), vec![]));
    assert!(store.status().low_disk && values(&store, &key("a")) == ["1"]);
    store.tick();
    write(&store, &key("a"), put("4"));
}

#[test]
fn replicas_that_merged_the_same_are_equal() {
    let (a, b, c) = (store_over(&engine(), 1), store_over(&engine(), 2), store_over(&engine(), 3));
    let from_a = write(&a, &key("k"), put("a"));
    let from_b = write(&b, &key("k"), put("b"));
    assert_eq!(merge(&c, &key("k"), &from_a.object), Merged::Queued);
    assert_eq!(merge(&c, &key("k"), &from_b.object), Merged::Queued);
    assert_eq!(merge(&a, &key("k"), &from_b.object), Merged::Queued);
    assert_eq!(values(&c, &key("k")), ["a", "b"]);
    assert_eq!(a.read(&key("k")), c.read(&key("k")), "the same bytes (V5)");
    assert_eq!(merge(&c, &key("k"), &from_a.object), Merged::Unchanged);
    let resolved = write(&c, &key("k"), after(&object(&c, &key("k")).context, "c"));
    for store in [&a, &b] {
        assert_eq!(merge(store, &key("k"), &resolved.object), Merged::Queued);
        assert_eq!(store.read(&key("k")), Stored::Found(resolved.object.clone()), "taken as it came");
    }
    assert_eq!(merge(&a, &key("k"), &from_b.object), Merged::Unchanged, "an old write brings nothing back");
}

#[test]
fn a_merge_of_what_is_in_the_queue_is_acknowledged_with_it() {
    for fails in [false, true] {
        let engine = engine();
        let store = store_over(&engine, 1);
        write(&store, &key("other"), put("0"));
        engine.hold();
        let (own, merged) = (Acks::default(), Acks::default());
        let queued = store.update(&key("a"), put("1"), own.done()).unwrap();
        assert_eq!(store.merge(&key("a"), &queued.object, Durability::Fsync, merged.done()), Ok(Merged::Queued));
        assert_eq!((engine.waiting(), merged.take()), (1, vec![]));
        if fails {
            engine.fail_next(EngineError::DiskFull);
        }
        engine.release();
        assert_eq!(own.take(), merged.take());
        assert_eq!(values(&store, &key("a")).is_empty(), fails);
    }
}

#[test]
fn a_durable_merge_does_not_wait_for_a_write_that_is_not() {
    let engine = engine();
    let store = store_over(&engine, 1);
    write(&store, &key("other"), put("0"));
    engine.hold();
    let (lazy, merged) = (Acks::default(), Acks::default());
    let change = Change { durability: Durability::Interval, ..put("1") };
    let queued = store.update(&key("a"), change, lazy.done()).unwrap();
    assert_eq!(store.merge(&key("a"), &queued.object, Durability::Fsync, merged.done()), Ok(Merged::Queued));
    engine.step();
    assert_eq!((lazy.take(), merged.take()), (vec![Ok(())], vec![]));
    engine.step();
    assert_eq!(merged.take(), [Ok(())]);
    let crashed = Arc::new(engine.crash(rondo_storage::engine::memory::CrashLoss::Power));
    assert_eq!(values(&store_over(&crashed, 2), &key("a")), ["1"]);
}

#[test]
fn an_ack_of_what_is_here_waits_until_it_is_on_disk() {
    let engine = engine();
    let store = store_over(&engine, 1);
    write(&store, &key("other"), put("0"));
    let lazy = Change { durability: Durability::Interval, ..put("1") };
    let written = write(&store, &key("a"), lazy);
    assert_eq!(merge(&store, &key("a"), &written.object), Merged::Queued, "written again, with an fsync");
    let crashed = Arc::new(engine.crash(rondo_storage::engine::memory::CrashLoss::Power));
    assert_eq!(values(&store_over(&crashed, 2), &key("a")), ["1"]);

    let store = store_over(&crashed, 3);
    write(&store, &key("other"), put("2"));
    assert_eq!(merge(&store, &key("a"), &written.object), Merged::Unchanged);
    let lazily = store.merge(&key("a"), &written.object, Durability::Interval, Acks::default().done());
    assert_eq!(lazily, Ok(Merged::Unchanged));
}

#[test]
fn s3_a_damaged_row_is_unknown_and_a_merge_repairs_it() {
    let (here, there) = (engine(), store_over(&engine(), 2));
    let store = store_over(&here, 1);
    let first = write(&store, &key("a"), put("1"));
    merge(&there, &key("a"), &first.object);
    let second = write(&there, &key("a"), put("2"));

    let mut damages: Vec<Box<dyn Fn()>> = vec![Box::new(|| here.damage(Keyspace::Objects, key("a").row()))];
    for bit in [0, 8 * first.object.len() / 2, 8 * first.object.len() - 1] {
        let (here, envelope) = (here.clone(), first.object.clone());
        damages.push(Box::new(move || {
            let mut flipped = envelope.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let row = Write { keyspace: Keyspace::Objects, key: key("a").row().clone(), value: Some(flipped.into()) };
            here.submit(here.generation(), Batch::from_iter([row]), Durability::Fsync, Box::new(|_| ())).unwrap();
        }));
    }
    for (n, damage) in (1..).zip(damages) {
        damage();
        assert_eq!(store.read(&key("a")), Stored::Unknown(None));
        assert_eq!(refused(&store, &key("a"), put("3")), StoreError::Damaged);
        assert_eq!(merge(&store, &key("a"), &second.object), Merged::Queued);
        // What came may lack a write that was acknowledged here: no vote until the partition has been refilled.
        assert_eq!(store.read(&key("a")), Stored::Unknown(Some(second.object.clone())));
        let partition = q(8).partition_of(key("a").token());
        assert_eq!(store.untrusted(), [partition]);
        store.trust(partition).unwrap();
        assert_eq!(store.read(&key("a")), Stored::Found(second.object.clone()));
        assert_eq!(store.status().repaired_total, n);
    }
    assert!(store.status().damaged_total >= 12);
}

/// The damaged row held a write that only one other replica has. The next write here must not cover it unseen.
#[test]
fn a_repaired_row_forgets_nothing_that_others_hold() {
    let here = engine();
    let (store, second, third) = (store_over(&here, 1), store_over(&engine(), 2), store_over(&engine(), 3));
    let first = write(&store, &key("a"), put("1"));
    merge(&second, &key("a"), &first.object);
    let unseen = write(&store, &key("a"), put("2"));
    merge(&third, &key("a"), &unseen.object);
    here.damage(Keyspace::Objects, key("a").row());
    merge(&store, &key("a"), &first.object);
    let next = write(&store, &key("a"), put("3"));
    merge(&third, &key("a"), &next.object);
    assert_eq!(values(&third, &key("a")), ["2", "3"]);
}

#[test]
fn bytes_that_are_no_object_are_refused() {
    let store = store_over(&engine(), 1);
    let mut bytes = write(&store, &key("a"), put("1")).object.to_vec();
    bytes[3] ^= 1;
    let acks = Acks::default();
    let merged = store.merge(&key("a"), &Bytes::from(bytes), Durability::Fsync, acks.done());
    assert!(matches!(merged, Err(StoreError::Envelope(_))), "{merged:?}");
    assert!(acks.take().is_empty() && values(&store, &key("a")) == ["1"]);
}

#[test]
fn pages_hold_every_key_once() {
    let store = store_over(&engine(), 1);
    let names: Vec<String> = (0..700).map(|n| format!("k{n:03}")).collect();
    for name in &names {
        write(&store, &key(name), put(name));
        write(&store, &key(name), put("again"));
    }
    write(&store, &rondo_storage::Key::new("fruit2", "x").unwrap(), put("x"));
    let mut rows = 0;
    for partition in 0..8 {
        let partition = rondo_ring::PartitionId(partition);
        let mut after: Option<Bytes> = None;
        loop {
            let page = store.scan_partition(partition, after.as_deref(), 16, 1 << 20).unwrap();
            assert!(page.rows.len() <= 16 && page.rows.is_sorted());
            for (row, _) in &page.rows {
                let key = rondo_storage::Key::from_row(row.clone()).unwrap();
                assert_eq!(q(8).partition_of(key.token()), partition);
            }
            rows += page.rows.len();
            if page.complete {
                break;
            }
            after = page.last;
        }
    }
    assert_eq!(rows, 701);
    let small = store.scan_partition(rondo_ring::PartitionId(0), None, 100, 1).unwrap();
    assert!(small.rows.len() == 1 && !small.complete, "a page ends at its bytes");
}

/// Many threads, one key, blind siblings: each is there, each dot once.
#[test]
fn s1_no_write_of_many_threads_is_lost() {
    let store = store_over(&engine(), 1);
    let threads = 8;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let store = &store;
            scope.spawn(move || {
                for n in 0..25 {
                    let change = Change { siblings_max: 1_000, ..sibling(&format!("{thread}-{n}")) };
                    store.update(&key("a"), change, Box::new(|result| result.unwrap())).unwrap();
                }
            });
        }
    });
    let object = object(&store, &key("a"));
    let mut dots: Vec<_> = object.dots().collect();
    dots.dedup();
    assert_eq!((dots.len(), values(&store, &key("a")).len()), (threads * 25, threads * 25));
}

/// Each thread reads, then replaces what it read: what remains are the writes nobody had read before replacing.
#[test]
fn s1_threads_with_contexts_leave_exactly_the_unseen_siblings() {
    let store = store_over(&engine(), 1);
    let replaced: Vec<CausalContext> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || {
                    let mut seen = Vec::new();
                    for n in 0..40 {
                        let context = object(store, &key("a")).context;
                        let change = Change { siblings_max: 1_000, ..after(&context, &format!("{thread}-{n}")) };
                        store.update(&key("a"), change, Box::new(|result| result.unwrap())).unwrap();
                        seen.push(context);
                    }
                    seen
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let object = object(&store, &key("a"));
    assert!(!object.siblings.is_empty());
    for sibling in &object.siblings {
        assert!(!replaced.iter().any(|context| context.contains(sibling.dot)), "a replaced version came back");
    }
    assert_eq!(object.context.highest(store.actor()), object.dots().map(|dot| dot.counter).max().unwrap());
}

/// Random writes, held queues and failures against a model that knows which writes were acknowledged: none of those is
/// gone unless a write that covered it was acknowledged or may yet be.
#[test]
fn acknowledged_writes_survive_random_failures() {
    let mut rng = rng();
    let (mut survived, mut failed) = (0, 0);
    for round in 0..60 {
        let engine = engine();
        let store = store_over(&engine, round + 1);
        engine.hold();
        let mut writes = Vec::new();
        for n in 0..40 {
            match rng.next_u32() % 8 {
                0 => engine.fail_next(EngineError::Write("injected".into())),
                1..4 => drop(engine.step()),
                kind => {
                    let context = object(&store, &key("a")).context;
                    let change = match kind {
                        4 | 5 => sibling(&n.to_string()),
                        _ => after(&context, &n.to_string()),
                    };
                    let acks = Acks::default();
                    let seen = change.context.clone().unwrap_or_default();
                    if let Ok(updated) = store.update(&key("a"), change, acks.done()) {
                        writes.push((updated.dot, seen, acks));
                    }
                }
            }
        }
        engine.release();
        let held = object(&store, &key("a"));
        let acked: Vec<_> =
            writes.iter().filter_map(|(dot, seen, acks)| acks.take()[0].is_ok().then_some((*dot, seen))).collect();
        for (dot, _) in &acked {
            let replaced = acked.iter().any(|(_, seen)| seen.contains(*dot));
            assert_eq!(held.dots().any(|held| held == *dot), !replaced, "round {round}, {dot:?}");
        }
        assert!(held.siblings.iter().all(|s| acked.iter().any(|(dot, _)| *dot == s.dot)), "a failed write is there");
        assert_eq!(store.status().pending_writes, 0);
        survived += acked.len();
        failed += writes.len() - acked.len();
    }
    assert!(survived > 100 && failed > 100, "vacuous: {survived} acknowledged, {failed} failed");
}
