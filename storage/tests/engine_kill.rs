//! kill -9 under load: every acknowledged batch is there afterwards, every batch as a whole or not at all (E1).
//!
//! The test starts itself as another process, which writes generations and says which were acknowledged, and kills
//! it after a random number of them; again and again on the same directory. `RONDO_KILL_ROUNDS` sets how often.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "engine_support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use rondo_storage::engine::{Batch, DiskEngine, Durability, Engine, EngineOptions, Keyspace};
use support::{Random, commit, commit_with, from_env, put, tiny};

const DIR: &str = "RONDO_KILL_DIR";
const THREADS: u64 = 4;
const KEYS: u64 = 12;

/// Memtables of 64 KiB: a few hundred batches take the process through flushes, compactions and every use of the
/// log's files.
fn options() -> EngineOptions {
    EngineOptions { memtable_bytes: 64 << 10, log_segment_bytes: 64 << 10, log_bytes_max: 1 << 20, ..tiny() }
}

fn name(thread: u64, key: u64) -> String {
    format!("thread {thread} key {key:02}")
}

/// Every key of a thread, in three keyspaces, with the same generation in its value.
fn generation(thread: u64, generation: u64) -> Batch {
    let value = format!("{generation} {}", "x".repeat(usize::try_from(generation % 400).unwrap()));
    let keyspaces = [Keyspace::Objects, Keyspace::Names, Keyspace::Meta];
    (0..KEYS).map(|key| put(keyspaces[usize::try_from(key % 3).unwrap()], &name(thread, key), &value)).collect()
}

/// The generation that a thread's keys agree on; 0 before the first.
fn agreed(engine: &DiskEngine, thread: u64) -> u64 {
    let keyspaces = [Keyspace::Objects, Keyspace::Names, Keyspace::Meta];
    let read = |key: u64| -> u64 {
        let keyspace = keyspaces[usize::try_from(key % 3).unwrap()];
        let value = engine.get(keyspace, name(thread, key).as_bytes()).unwrap();
        value.map_or(0, |value| std::str::from_utf8(&value).unwrap().split(' ').next().unwrap().parse().unwrap())
    };
    let first = read(0);
    for key in 1..KEYS {
        assert_eq!(read(key), first, "thread {thread} key {key} is of another generation: half a batch");
    }
    first
}

#[test]
#[ignore = "the other process of the kill test"]
fn child_writes_generations() {
    let dir = std::env::var(DIR).expect("started by the kill test");
    let engine = DiskEngine::open(Path::new(&dir), &options()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let engine = &engine;
            scope.spawn(move || {
                for next in agreed(engine, thread) + 1.. {
                    // The last thread writes without a sync: a killed process loses none of that either.
                    let durability = if thread == THREADS - 1 { Durability::Interval } else { Durability::Fsync };
                    commit_with(engine, generation(thread, next), durability).unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "acknowledged {thread} {next}").and_then(|()| out.flush()).unwrap();
                }
            });
        }
    });
}

/// Lets the child write until it has acknowledged `count` batches, kills it, and returns all it said.
fn run_and_kill(dir: &Path, count: u64, acknowledged: &mut [u64]) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writes_generations", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut seen, mut killed) = (0, false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((_, said)) = line.split_once("acknowledged ") else { continue };
        // The last line may be cut off by the kill.
        let Some((thread, next)) = said.split_once(' ') else { continue };
        let (Ok(thread), Ok(next)) = (thread.parse::<usize>(), next.parse::<u64>()) else { continue };
        if !killed || next == acknowledged[thread] + 1 {
            acknowledged[thread] = next;
        }
        seen += 1;
        if seen >= count && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(killed, "the other process ended by itself: {status}");
}

#[test]
fn e1_kill_9_under_load_loses_no_acknowledged_batch_and_halves_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(0x5EED_CAFE);
    let mut acknowledged = vec![0; usize::try_from(THREADS).unwrap()];
    for round in 0..from_env("RONDO_KILL_ROUNDS", 20) {
        run_and_kill(dir.path(), 1 + random.below(1_500), &mut acknowledged);
        let engine = DiskEngine::open(dir.path(), &options()).unwrap();
        for thread in 0..THREADS {
            let found = agreed(&engine, thread);
            let known = &mut acknowledged[usize::try_from(thread).unwrap()];
            assert!(found >= *known, "round {round}, thread {thread}: {known} was acknowledged, {found} is there");
            *known = found;
        }
        // What a later round must still find although nothing touches it again.
        let mark = put(Keyspace::Hints, &format!("round {round}"), "here");
        commit(&engine, Batch::from_vec(vec![mark])).unwrap();
        for earlier in 0..=round {
            let key = format!("round {earlier}");
            assert!(engine.get(Keyspace::Hints, key.as_bytes()).unwrap().is_some(), "{key} is gone in round {round}");
        }
    }
    assert!(acknowledged.iter().all(|&last| last > 0), "a thread never wrote: {acknowledged:?}");
}
