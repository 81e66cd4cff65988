//! What only the inside of the engine can provoke: a log that cannot be written.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

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

/// Writes a batch, and waits for the answer.
pub(super) fn commit(engine: &DiskEngine, batch: Batch, durability: Durability) -> Result<(), EngineError> {
    let (done, result) = mpsc::channel();
    let done = Box::new(move |outcome| done.send(outcome).unwrap());
    engine.submit(engine.generation(), batch, durability, done)?;
    result.recv().unwrap()
}

fn put(engine: &DiskEngine, key: &str, durability: Durability) -> Result<(), EngineError> {
    commit(engine, batch(key, "value"), durability)
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
    assert!(engine.desk.put(Command::Batch(pending)).is_ok());
    engine.desk.ring();
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

fn log_in_few_files(dir: &Path) -> DiskEngine {
    DiskEngine::open(dir, &EngineOptions { log_segment_bytes: 8 << 20, ..EngineOptions::default() }).unwrap()
}

/// Queues a write without an fsync; how it ends, and on which thread.
fn put_for_later(engine: &DiskEngine, key: &str) -> mpsc::Receiver<(Result<(), EngineError>, thread::ThreadId)> {
    let (done, result) = mpsc::channel();
    let done = Box::new(move |outcome| done.send((outcome, thread::current().id())).unwrap());
    engine.submit_for_later(engine.generation(), batch(key, "value"), done).unwrap();
    result
}

/// From when the file in use was written before, nothing is waited for.
fn until_quick(engine: &DiskEngine) {
    loop {
        let queued = put_for_later(engine, "first");
        engine.commit_queued();
        if queued.recv().unwrap() == (Ok(()), thread::current().id()) {
            return;
        }
    }
}

#[test]
fn what_was_queued_for_later_is_one_group_on_the_thread_that_commits_it() {
    let dir = tempfile::tempdir().unwrap();
    let engine = log_in_few_files(dir.path());
    until_quick(&engine);
    let groups = engine.status().groups_total;
    let queued: Vec<_> = (0..20).map(|number| put_for_later(&engine, &format!("later {number}"))).collect();
    assert!(!has(&engine, "later 0"), "nobody was told");
    engine.commit_queued();
    for (number, result) in queued.iter().enumerate() {
        assert_eq!(result.try_recv(), Ok((Ok(()), thread::current().id())));
        assert!(has(&engine, &format!("later {number}")));
    }
    assert_eq!(engine.status().groups_total, groups + 1);
    drop(engine);
    assert!(has(&open(dir.path()), "later 19"));
}

#[test]
fn e2_what_asks_for_an_fsync_in_between_is_left_to_the_writer_with_all_that_follows() {
    let dir = tempfile::tempdir().unwrap();
    let engine = log_in_few_files(dir.path());
    until_quick(&engine);
    // The writer's thread waits for the writer, and for nothing else.
    let before = put_for_later(&engine, "before");
    let (done, synced) = mpsc::channel();
    let done: Done = Box::new(move |outcome| done.send((outcome, thread::current().id())).unwrap());
    let (generation, durability) = (engine.generation(), Durability::Fsync);
    let pending = Pending { batch: batch("synced", "value"), generation, durability, bytes: 0, done };
    assert!(engine.desk.put(Command::Batch(pending)).is_ok());
    let after = put_for_later(&engine, "after");
    engine.commit_queued();
    let here = thread::current().id();
    assert_eq!(before.try_recv(), Ok((Ok(()), here)));
    for result in [synced, after] {
        let (outcome, thread) = result.recv().unwrap();
        assert!(outcome.is_ok() && thread != here);
    }
}

#[test]
fn nobody_who_commits_waits_for_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let engine = log_in_few_files(dir.path());
    until_quick(&engine);
    let hang = dir.path().join("hang-for-a-test");
    std::fs::write(&hang, "").unwrap();
    let (done, synced) = mpsc::channel();
    let done = Box::new(move |outcome| done.send(outcome).unwrap());
    engine.submit(engine.generation(), batch("synced", "value"), Durability::Fsync, done).unwrap();
    while !engine.core.log.is_syncing() {
        thread::yield_now();
    }
    let later = put_for_later(&engine, "later");
    engine.commit_queued();
    assert!(later.try_recv().is_err() && synced.try_recv().is_err());
    std::fs::remove_file(&hang).unwrap();
    synced.recv().unwrap().unwrap();
    assert!(later.recv().unwrap().0.is_ok());
}

#[test]
fn e4_a_record_that_fails_where_nobody_waits_is_erased_before_anybody_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let engine = log_in_few_files(dir.path());
    until_quick(&engine);
    let generation = engine.generation();
    engine.core.log.faults.full.store(true, Ordering::SeqCst);
    let (failed, stale) = (put_for_later(&engine, "failed"), put_for_later(&engine, "failed too"));
    engine.commit_queued();
    for result in [failed, stale] {
        let (outcome, thread) = result.recv().unwrap();
        assert_eq!(outcome, Err(EngineError::DiskFull));
        assert_ne!(thread, std::thread::current().id());
    }
    assert!(engine.generation() > generation);
    engine.core.log.faults.full.store(false, Ordering::SeqCst);
    put(&engine, "after", Durability::Fsync).unwrap();
    drop(engine);
    let engine = open(dir.path());
    assert!(has(&engine, "after") && !has(&engine, "failed") && !has(&engine, "failed too"));
}

#[test]
fn what_was_queued_for_later_and_forgotten_is_written_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let engine = log_in_few_files(dir.path());
    put_for_later(&engine, "later").recv().unwrap().0.unwrap();
    assert!(has(&engine, "later"));
    // Also where the engine is closed meanwhile.
    let last = put_for_later(&engine, "last");
    engine.close().unwrap();
    last.recv().unwrap().0.unwrap();
}

fn until(engine: &DiskEngine, what: &str, mut holds: impl FnMut(&EngineStatus) -> bool) {
    let (_open, nothing) = mpsc::channel::<()>();
    for _ in 0..600 {
        if holds(&engine.status()) {
            return;
        }
        assert_eq!(nothing.recv_timeout(Duration::from_millis(100)), Err(mpsc::RecvTimeoutError::Timeout));
    }
    panic!("{what} did not come: {:?}", engine.status());
}

#[test]
fn an_engine_at_rest_gives_the_memory_of_its_memtables_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = log_in_few_files(dir.path());
    let value = "v".repeat(64 << 10);
    for number in 0..40 {
        commit(&engine, batch(&format!("key {number}"), &value), Durability::Interval).unwrap();
    }
    assert!(engine.status().memtable_bytes > 2 << 20);
    until(&engine, "empty memtables", |status| status.memtable_bytes < 1 << 20);
    assert!(has(&engine, "key 0") && has(&engine, "key 39"));
}

/// Rows of a file that a sync has failed on are safe in tables only, whatever becomes of the tick that was to say so.
#[test]
fn what_a_failed_sync_left_in_doubt_becomes_tables_with_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let engine = log_in_few_files(dir.path());
    put(&engine, "in doubt", Durability::Interval).unwrap();
    engine.core.log_suspect.store(true, Ordering::SeqCst);
    put(&engine, "after", Durability::Fsync).unwrap();
    until(&engine, "a table", |status| status.flushes_total > 0);
}

/// The kernel tells of a failed sync once, whoever it was that asked; what it could not write it takes for written.
#[test]
fn a_sync_that_failed_for_another_counts_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let engine = log_in_few_files(dir.path());
    until_quick(&engine);
    put(&engine, "in doubt", Durability::Interval).unwrap();
    engine.core.log.faults.syncs.store(true, Ordering::SeqCst);
    engine.core.log.sync().unwrap_err();
    engine.core.log.faults.syncs.store(false, Ordering::SeqCst);
    assert!(engine.core.log.sync().is_err() && engine.core.log.is_behind());
    assert!(matches!(put(&engine, "behind it", Durability::Fsync), Err(EngineError::Write(_))));
    // In another file all is well.
    put(&engine, "after", Durability::Fsync).unwrap();
    assert!(has(&engine, "in doubt") && has(&engine, "after") && !has(&engine, "behind it"));
}

/// The log is synced for a table and that fails: its rows, and all that is beside them in the log, become tables.
#[test]
fn where_the_log_cannot_be_synced_everything_becomes_tables() {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions {
        memtable_bytes: 4 << 10,
        log_segment_bytes: 8 << 20,
        sync_interval_ms: 60_000,
        ..EngineOptions::default()
    };
    let engine = DiskEngine::open(dir.path(), &options).unwrap();
    until_quick(&engine);
    engine.core.log.faults.syncs.store(true, Ordering::SeqCst);
    let before = engine.generation();
    let value = |keyspace| Bytes::from(vec![7; if keyspace == Keyspace::Objects { 5_000 } else { 5 }]);
    let batch = Keyspace::ALL.map(|keyspace| Write { keyspace, key: "key".into(), value: Some(value(keyspace)) });
    commit(&engine, Batch::from_iter(batch), Durability::Interval).unwrap();
    // The memtable of the objects is full, and no other.
    let _ = put(&engine, "next", Durability::Interval);
    until(&engine, "a table for each keyspace", |_| {
        engine.core.keyspaces.iter().all(|keyspace| keyspace.in_memory().table_bytes() > 0)
    });
    assert!(engine.generation() > before);
}

/// Rows that are replaced and removed, and become tables that are merged, while a scan has not read them yet.
#[test]
fn a_scan_under_way_keeps_what_it_will_read() {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions { memtable_bytes: 256 << 10, table_bytes: 64 << 10, ..small() };
    let engine = DiskEngine::open(dir.path(), &options).unwrap();
    let write = |turn: usize, value: Option<Bytes>| {
        let (new, write) =
            (Some(Bytes::from_static(b"after")), |key, value| Write { keyspace: Keyspace::Objects, key, value });
        let writes = (0..200_u8).flat_map(|number| {
            let again = write(Bytes::from(vec![number, number, turn as u8 % 3]), value.clone());
            [again, write(Bytes::from(vec![number, 0xFF, turn as u8]), new.clone())]
        });
        commit(&engine, writes.collect(), Durability::Interval).unwrap();
    };
    (0..3).for_each(|turn| write(turn, Some(Bytes::from_static(b"before"))));
    assert_eq!(engine.status().flushes_total, 0, "all is replaced in one memtable");
    let (snapshot, picture) = core::Snapshot::take(&engine.core, Keyspace::Objects);
    let mut turn = 3;
    until(&engine, "merged tables", |status| {
        write(turn, (turn % 2 == 0).then(|| Bytes::from_static(b"after")));
        turn += 1;
        status.compactions_total > 1 && turn > 20
    });
    let rows: Vec<_> = picture.scan(&[], None, snapshot.number).map(Result::unwrap).collect();
    let (new, old): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.key.user_key[1] == 0xFF);
    assert_eq!((new.len(), old.len()), (600, 600));
    assert!(old.iter().all(|row| *row.value == *b"before"));
    drop(snapshot);
    assert!(engine.core.snapshots.lock().iter().all(Vec::is_empty));
    assert!(
        engine.scan(Keyspace::Objects, &[], None, usize::MAX).unwrap().iter().all(|(_, value)| **value == *b"after")
    );
}

/// Copies a directory as a loss of power at this moment would leave it: of the log there is what was synced.
fn after_a_loss_of_power(engine: &DiskEngine, dir: &Path) -> tempfile::TempDir {
    use std::os::unix::fs::FileExt;
    let copied = || {
        let (copy, paths) = (tempfile::tempdir().unwrap(), walk(dir));
        for path in &paths {
            let target = copy.path().join(path.strip_prefix(dir).unwrap());
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(path, &target).ok()?;
        }
        (paths == walk(dir)).then_some(copy)
    };
    // Tables may be merged meanwhile, and files get other names.
    let copy = (0..100).find_map(|_| copied()).unwrap();
    let durable = engine.core.log.durable();
    let log = format::log_dir(copy.path());
    let path = segment::path(&log, *segment::list(&log).unwrap().0.last().unwrap());
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let lost = file.metadata().unwrap().len() - durable;
    file.write_all_at(&vec![0; usize::try_from(lost).unwrap()], durable).unwrap();
    copy
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Rows in a table are on disk. Those of the same batch that are in the log alone must be, too.
#[test]
fn e1_a_table_is_not_on_disk_before_what_else_its_batches_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions { memtable_bytes: 64 << 10, sync_interval_ms: 60_000, ..EngineOptions::default() };
    let engine = DiskEngine::open(dir.path(), &options).unwrap();
    let mut written = 0;
    while engine.status().flushes_total == 0 {
        let key = Bytes::from(format!("key {written:06}"));
        let object = Write { keyspace: Keyspace::Objects, key: key.clone(), value: Some(Bytes::from(vec![7; 1_000])) };
        let name = Write { keyspace: Keyspace::Names, key, value: Some(Bytes::new()) };
        commit(&engine, Batch::from_vec(vec![object, name]), Durability::Interval).unwrap();
        written += 1;
    }
    let copy = after_a_loss_of_power(&engine, dir.path());
    let engine = open(copy.path());
    let keys = |keyspace| {
        let rows = engine.scan(keyspace, b"", None, usize::MAX).unwrap();
        rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    let (objects, names) = (keys(Keyspace::Objects), keys(Keyspace::Names));
    assert!(objects.len() > 10, "{} of {written} objects are left", objects.len());
    assert_eq!(objects, names);
}
