//! What only the inside of the engine can provoke: a log that cannot be written.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use bytes::Bytes;

use super::*;

fn small() -> EngineOptions {
    EngineOptions { log_segment_bytes: 64 << 10, log_bytes_max: 256 << 10, ..EngineOptions::default() }
}

fn open(dir: &Path) -> DiskEngine {
    DiskEngine::open(dir, &small()).unwrap()
}

fn batch(key: &str, value: &str) -> Batch {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    Batch::from_vec(vec![Write { keyspace: Keyspace::Objects, key, value: Some(value) }])
}

fn put(engine: &DiskEngine, key: &str, durability: Durability) -> Result<(), EngineError> {
    let (done, result) = mpsc::channel();
    let done = Box::new(move |outcome| done.send(outcome).unwrap());
    engine.submit(engine.generation(), batch(key, "value"), durability, done)?;
    result.recv().unwrap()
}

fn has(engine: &DiskEngine, key: &str) -> bool {
    engine.get(Keyspace::Objects, key.as_bytes()).unwrap().is_some()
}

#[test]
fn e4_a_record_that_reached_the_disk_but_failed_never_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    put(&engine, "before", Durability::Fsync).unwrap();
    engine.core.log.faults.full.store(true, Ordering::SeqCst);
    assert_eq!(put(&engine, "failed", Durability::Fsync), Err(EngineError::DiskFull));
    assert_eq!(engine.generation(), 1);
    assert!(engine.status().failing && has(&engine, "before") && !has(&engine, "failed"));
    drop(engine);

    let engine = open(dir.path());
    assert!(has(&engine, "before") && !has(&engine, "failed"));
}

#[test]
fn the_same_process_writes_again_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.core.log.faults.full.store(true, Ordering::SeqCst);
    for round in 0..5 {
        assert_eq!(put(&engine, &format!("failed {round}"), Durability::Fsync), Err(EngineError::DiskFull));
    }
    engine.core.log.faults.full.store(false, Ordering::SeqCst);
    put(&engine, "after", Durability::Fsync).unwrap();
    assert!(!engine.status().failing);
    drop(engine);

    let engine = open(dir.path());
    assert!(has(&engine, "after"));
    assert!((0..5).all(|round| !has(&engine, &format!("failed {round}"))));
}

#[test]
fn e4_a_failed_sync_fails_the_write_and_leaves_the_segment() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let left = || engine.core.log.closed.lock().back().map(|segment| segment.id);
    // The first file is left anyway, as soon as one is there that was written before use.
    while left().is_none() {
        put(&engine, "before", Durability::Fsync).unwrap();
    }
    let left_before = left();
    engine.core.log.faults.syncs.store(true, Ordering::SeqCst);
    assert!(matches!(put(&engine, "failed", Durability::Fsync), Err(EngineError::Write(_))));
    engine.core.log.faults.syncs.store(false, Ordering::SeqCst);
    put(&engine, "after", Durability::Fsync).unwrap();
    assert!(left() > left_before);
    drop(engine);

    let engine = open(dir.path());
    assert!(has(&engine, "before") && has(&engine, "after") && !has(&engine, "failed"));
}

#[test]
fn e6_a_batch_queued_under_an_older_generation_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let generation = engine.generation();
    engine.core.log.faults.full.store(true, Ordering::SeqCst);
    assert_eq!(put(&engine, "failed", Durability::Fsync), Err(EngineError::DiskFull));
    engine.core.log.faults.full.store(false, Ordering::SeqCst);
    let done = Box::new(|_| panic!("a batch that was not accepted was answered"));
    assert_eq!(engine.submit(generation, batch("stale", "value"), Durability::Fsync, done), Err(super::super::stale()));

    // The same behind the check of `submit`: the writer looks again.
    let (done, result) = mpsc::channel();
    let done: Done = Box::new(move |outcome| done.send(outcome).unwrap());
    let batch = batch("stale", "value");
    let pending = Pending { batch, generation, durability: Durability::Fsync, bytes: 0, done };
    engine.queue.send(Command::Batch(pending)).unwrap();
    assert_eq!(result.recv().unwrap(), Err(EngineError::DiskFull));
    assert!(!has(&engine, "stale"));
}

#[test]
fn interval_writes_are_answered_before_and_synced_within_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions { sync_interval_ms: 60_000, ..small() };
    let engine = DiskEngine::open(dir.path(), &options).unwrap();
    // A file that is left is left with a sync.
    let others = || engine.status().fsyncs_total - engine.core.log.closed.lock().len() as u64;
    let before = others();
    for round in 0..20 {
        put(&engine, &format!("key {round}"), Durability::Interval).unwrap();
    }
    assert_eq!(others(), before);
    assert!(engine.core.log.is_behind());
    engine.close().unwrap();
    assert!(!engine.core.log.is_behind(), "close did not bring the log to disk");
}
