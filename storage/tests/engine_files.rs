//! Files of a healthy engine: the first format still opens, a checkpoint is a whole engine, the log does not grow,
//! and a full disk stops writes only, and only for as long as it is full.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "engine_support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rondo_storage::engine::{Batch, DiskEngine, Engine, EngineError, EngineOptions, Keyspace, Write};
use support::{commit, copy_dir, del, put, tiny};

const FIXTURE_ROWS: u32 = 64;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine-v1")
}

fn fixture_value(row: u32) -> String {
    format!("{row} {}", "fixture ".repeat(row as usize))
}

#[test]
#[ignore = "writes the fixture of a new format: RONDO_FIXTURE=<dir>"]
fn write_fixture() {
    let dir = PathBuf::from(std::env::var("RONDO_FIXTURE").expect("RONDO_FIXTURE names the directory"));
    let engine = DiskEngine::open(&dir, &EngineOptions { memtable_bytes: 4 << 10, ..tiny() }).unwrap();
    for row in 0..FIXTURE_ROWS {
        let keyspace = Keyspace::ALL[row as usize % 4];
        let value = put(keyspace, &format!("row {row}"), &fixture_value(row));
        commit(&engine, Batch::from_vec(vec![value, put(Keyspace::Objects, "gone", "x")])).unwrap();
    }
    commit(&engine, Batch::from_vec(vec![del(Keyspace::Objects, "gone")])).unwrap();
    eventually("tables are there", || engine.status().table_bytes > 0);
    engine.close().unwrap();
}

#[test]
fn the_first_format_opens_and_gives_its_values() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&fixture(), dir.path());
    let engine = DiskEngine::open(dir.path(), &tiny()).unwrap();
    assert!(engine.status().table_bytes > 0 && engine.status().memtable_bytes > 0, "tables and log both hold rows");
    for row in 0..FIXTURE_ROWS {
        let found = engine.get(Keyspace::ALL[row as usize % 4], format!("row {row}").as_bytes()).unwrap();
        assert_eq!(found.unwrap(), fixture_value(row));
    }
    assert_eq!(engine.get(Keyspace::Objects, b"gone"), Ok(None));
}

#[test]
fn a_checkpoint_opens_with_what_was_there_and_shares_nothing_that_changes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = DiskEngine::open(&dir.path().join("live"), &tiny()).unwrap();
    let fill = |engine: &DiskEngine, word: &str| {
        for row in 0..200 {
            let write = put(Keyspace::Objects, &format!("{row:03}"), &format!("{word} {}", "x".repeat(200)));
            commit(engine, Batch::from_vec(vec![write])).unwrap();
        }
    };
    let assert_all = |engine: &DiskEngine, word: &str| {
        let rows = engine.scan(Keyspace::Objects, b"", None, 1_000).unwrap();
        assert_eq!(rows.len(), 200);
        assert!(rows.iter().all(|(_, value)| value.starts_with(word.as_bytes())), "a row is not {word}");
    };
    fill(&engine, "before");
    let copy = dir.path().join("copy");
    engine.checkpoint(&copy).unwrap();
    assert!(matches!(engine.checkpoint(&copy), Err(EngineError::Write(_))), "the place is taken");
    // Enough to use every file of the log again, in this process and in the next.
    fill(&engine, "after");
    drop(engine);
    let engine = DiskEngine::open(&dir.path().join("live"), &tiny()).unwrap();
    fill(&engine, "last");
    assert_all(&engine, "last");
    assert_all(&DiskEngine::open(&copy, &tiny()).unwrap(), "before");
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        std::thread::yield_now();
    }
}

#[test]
fn a_keyspace_with_few_writes_does_not_keep_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let options = tiny();
    let engine = DiskEngine::open(dir.path(), &options).unwrap();
    commit(&engine, Batch::from_vec(vec![put(Keyspace::Hints, "rare", "value")])).unwrap();
    for row in 0..2_000 {
        let write = put(Keyspace::Objects, &format!("{}", row % 50), &"x".repeat(1_000));
        commit(&engine, Batch::from_vec(vec![write])).unwrap();
    }
    eventually("the log is short again", || engine.status().log_bytes <= options.log_bytes_max + (64 << 10));
    let files = fs::read_dir(dir.path().join("log")).unwrap().count();
    assert!(files < 30, "{files} files in the log");
    drop(engine);
    let engine = DiskEngine::open(dir.path(), &options).unwrap();
    assert_eq!(engine.get(Keyspace::Hints, b"rare").unwrap().unwrap(), "value");
}

#[test]
fn opening_again_and_again_does_not_pile_up_log_files() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..30 {
        let engine = DiskEngine::open(dir.path(), &tiny()).unwrap();
        commit(&engine, Batch::from_vec(vec![put(Keyspace::Meta, &round.to_string(), "value")])).unwrap();
        eventually("few files", || fs::read_dir(dir.path().join("log")).unwrap().count() <= 10);
    }
    let engine = DiskEngine::open(dir.path(), &tiny()).unwrap();
    assert_eq!(engine.scan(Keyspace::Meta, b"", None, 100).unwrap().len(), 30);
}

/// A small file system that is gone with this value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).status();
        status.is_ok_and(|status| status.success()).then(|| Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
fn e4_a_full_disk_stops_writes_only_and_only_while_it_is_full() {
    let Some(disk) = SmallDisk::mount("24m") else {
        eprintln!("SKIPPED: a small file system cannot be mounted here (needs root)");
        return;
    };
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![1; 12 << 20]).unwrap();
    let dir = disk.0.path().join("engine");
    let options = EngineOptions {
        memtable_bytes: 512 << 10,
        table_bytes: 512 << 10,
        log_segment_bytes: 512 << 10,
        log_bytes_max: 2 << 20,
        ..tiny()
    };
    let engine = DiskEngine::open(&dir, &options).unwrap();
    // Values that do not compress.
    let value = |row: u32| -> Bytes {
        let mut random = support::Random(u64::from(row) + 1);
        (0..4_096).map(|_| random.below(256) as u8).collect()
    };
    let write = |row: u32| {
        let key = Bytes::from(row.to_be_bytes().to_vec());
        commit(&engine, Batch::from_vec(vec![Write { keyspace: Keyspace::Objects, key, value: Some(value(row)) }]))
    };
    // Near the end space comes and goes, with tables being merged: full is where many writes in a row fail.
    let (mut outcomes, mut failed_in_a_row) = (Vec::new(), 0);
    while failed_in_a_row < 200 {
        let outcome = write(u32::try_from(outcomes.len()).unwrap());
        assert!(matches!(outcome, Ok(()) | Err(EngineError::DiskFull)), "{outcome:?}");
        failed_in_a_row = if outcome.is_ok() { 0 } else { failed_in_a_row + 1 };
        outcomes.push(outcome.is_ok());
        assert!(outcomes.len() < 20_000, "the disk is never full");
    }
    let status = engine.status();
    assert!(status.failing && engine.generation() >= 200, "{status:?}");
    let assert_rows = |engine: &DiskEngine, outcomes: &[bool]| {
        for (row, &written) in (0_u32..).zip(outcomes) {
            let found = engine.get(Keyspace::Objects, &row.to_be_bytes()).unwrap();
            assert_eq!(found, written.then(|| value(row)), "row {row}");
        }
    };
    assert_rows(&engine, &outcomes);

    fs::remove_file(&ballast).unwrap();
    eventually("writes work again", || {
        outcomes.push(write(u32::try_from(outcomes.len()).unwrap()).is_ok());
        outcomes.ends_with(&[true; 100])
    });
    assert_rows(&engine, &outcomes);
    drop(engine);
    assert_rows(&DiskEngine::open(&dir, &options).unwrap(), &outcomes);
}
