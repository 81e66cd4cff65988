//! E1 and E3 while memtables rotate, tables are written and merged: no scan sees half a batch, no reader goes back in
//! time, no write waits for more than five seconds. `RONDO_GENERATIONS_SECONDS` makes each combination longer.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "engine_support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rondo_storage::engine::{Batch, DiskEngine, Durability, Engine, EngineOptions, Keyspace, Write};
use support::{commit_with, from_env, tiny};

/// More than a scan takes out of a memtable at a time, and in several of its parts.
const KEYS: u8 = 200;
const STALL_MAX: Duration = Duration::from_secs(5);

#[test]
fn memtables_of_256_kib_and_tables_of_128_kib() {
    run(256 << 10, 128 << 10);
}

#[test]
fn memtables_of_256_kib_and_tables_of_64_mib() {
    run(256 << 10, 64 << 20);
}

#[test]
fn memtables_of_16_mib_and_tables_of_128_kib() {
    run(16 << 20, 128 << 10);
}

#[test]
fn memtables_of_16_mib_and_tables_of_64_mib() {
    run(16 << 20, 64 << 20);
}

fn run(memtable_bytes: u64, table_bytes: u64) {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions {
        memtable_bytes,
        table_bytes,
        log_segment_bytes: 4 << 20,
        log_bytes_max: 64 << 20,
        cache_bytes: 16 << 20,
        ..tiny()
    };
    let engine = DiskEngine::open(dir.path(), &options).unwrap();
    let stop = AtomicBool::new(false);
    let (scans, reads) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_generations(&engine, &stop));
        let filler = scope.spawn(|| fill(&engine, &stop));
        scope.spawn(|| scan_generations(&engine, &stop, &scans));
        scope.spawn(|| read_generations(&engine, &stop, &reads));
        std::thread::park_timeout(Duration::from_secs(from_env("RONDO_GENERATIONS_SECONDS", 2)));
        stop.store(true, Ordering::SeqCst);
        let slowest = writer.join().unwrap().max(filler.join().unwrap());
        assert!(slowest < STALL_MAX, "a write took {slowest:?}");
    });
    let status = engine.status();
    assert!(scans.into_inner() > 10 && reads.into_inner() > 100, "too few reads to mean anything: {status:?}");
    if memtable_bytes < 1 << 20 {
        assert!(status.flushes_total > 3 && status.compactions_total > 0, "nothing happened: {status:?}");
    }
}

fn row(keyspace: Keyspace, key: u8, generation: u64) -> Write {
    let value = Some(Bytes::copy_from_slice(&generation.to_be_bytes()));
    Write { keyspace, key: Bytes::from(vec![b'g', key]), value }
}

/// Sets every key of every keyspace to the same number, again and again; the time of the slowest write.
fn write_generations(engine: &DiskEngine, stop: &AtomicBool) -> Duration {
    let mut slowest = Duration::ZERO;
    for generation in 1.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let keys = |keyspace| (0..KEYS).map(move |key| row(keyspace, key, generation));
        let batch: Batch = Keyspace::ALL.into_iter().flat_map(keys).collect();
        let started = Instant::now();
        commit_with(engine, batch, Durability::Fsync).unwrap();
        slowest = slowest.max(started.elapsed());
    }
    slowest
}

/// Keeps the tables busy, with removals among the rows.
fn fill(engine: &DiskEngine, stop: &AtomicBool) -> Duration {
    let (value, mut slowest) = (Bytes::from(vec![b'f'; 1_024]), Duration::ZERO);
    for round in 0_u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let batch = (0..64_u64).map(|at| Write {
            keyspace: Keyspace::ALL[usize::try_from(at % 2).unwrap()],
            key: Bytes::from(format!("f{:05}", (round * 7_919 + at * 104_729) % 20_000)),
            value: (at % 8 != 0).then(|| value.clone()),
        });
        let started = Instant::now();
        commit_with(engine, batch.collect(), Durability::Interval).unwrap();
        slowest = slowest.max(started.elapsed());
    }
    slowest
}

fn number(value: &Bytes) -> u64 {
    u64::from_be_bytes(value.as_ref().try_into().unwrap())
}

fn scan_generations(engine: &DiskEngine, stop: &AtomicBool, scans: &AtomicU64) {
    let mut before = 0;
    for turn in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let keyspace = Keyspace::ALL[turn % 4];
        let rows = engine.scan(keyspace, b"g", Some(b"h"), 1_000).unwrap();
        let Some((_, first)) = rows.first() else { continue };
        assert_eq!(rows.len(), usize::from(KEYS), "a scan of {keyspace:?} misses rows");
        let generations: Vec<u64> = rows.iter().map(|(_, value)| number(value)).collect();
        assert!(generations.iter().all(|&it| it == number(first)), "torn: {keyspace:?} {generations:?}");
        assert!(number(first) >= before, "{keyspace:?} went back from {before} to {}", number(first));
        before = number(first);
        scans.fetch_add(1, Ordering::SeqCst);
    }
}

fn read_generations(engine: &DiskEngine, stop: &AtomicBool, reads: &AtomicU64) {
    let mut before = 0;
    for turn in 0_usize.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (keyspace, key) = (Keyspace::ALL[turn % 4], u8::try_from(turn / 4 % usize::from(KEYS)).unwrap());
        let found = engine.get(keyspace, &[b'g', key]).unwrap().map_or(0, |value| number(&value));
        assert!(found >= before, "{keyspace:?} {key} went back from {before} to {found}");
        before = found;
        // A scan after a point read is not older than it.
        if turn % 64 == 0 && before > 0 {
            let rows = engine.scan(keyspace, &[b'g', key], None, 1).unwrap();
            before = number(&rows[0].1);
            assert!(before >= found, "a scan went back from {found} to {before}");
        }
        reads.fetch_add(1, Ordering::SeqCst);
    }
}
