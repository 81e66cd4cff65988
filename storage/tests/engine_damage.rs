//! Damaged files: never a wrong value, never a silent loss before the log's tail.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "engine_support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use rondo_storage::engine::{Batch, DiskEngine, Engine, EngineError, EngineOptions, Keyspace};
use support::{Random, commit, copy_dir, from_env, put, tiny};

const ROWS: u64 = 300;
const RECORDS_START: usize = 4_096;

fn key(row: u64) -> String {
    format!("row {row:05}")
}

fn value(row: u64) -> String {
    format!("{row} {}", "v".repeat(usize::try_from(row % 97).unwrap() * 8))
}

/// A directory with one row per batch.
fn written(options: &EngineOptions) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let engine = DiskEngine::open(dir.path(), options).unwrap();
    for row in 0..ROWS {
        commit(&engine, Batch::from_vec(vec![put(Keyspace::Objects, &key(row), &value(row))])).unwrap();
    }
    engine.close().unwrap();
    dir
}

/// Everything stays in the log.
fn log_only() -> EngineOptions {
    EngineOptions { memtable_bytes: 64 << 20, log_bytes_max: 64 << 20, ..tiny() }
}

fn files(dir: &Path, extension: Option<&str>) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().and_then(|it| it.to_str()) == extension && path.is_file()).collect();
    files.sort();
    files
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    files(&dir.join("log"), Some("log"))
}

/// Where the records of a segment are: start and length.
fn records(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut found) = (RECORDS_START, Vec::new());
    while bytes.get(at..at + 4) == Some(b"RREC") {
        let len = 40 + u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        found.push((at, len));
        at += len;
    }
    found
}

/// A damaged copy, and what opening it says.
fn reopened(dir: &Path, options: &EngineOptions, damage: impl FnOnce(&Path)) -> Result<DiskEngine, EngineError> {
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir, copy.path());
    damage(copy.path());
    let opened = DiskEngine::open(copy.path(), options);
    // The files stay open; their names are not needed for what is looked at.
    opened.inspect(|_| drop(copy.keep()))
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn assert_unopenable(opened: Result<DiskEngine, EngineError>, what: &str) {
    match opened {
        Err(EngineError::Unopenable(_)) => {}
        other => panic!("{what}: {other:?}"),
    }
}

/// How many rows are there, from the first on without a gap.
fn rows_in_order(engine: &DiskEngine) -> u64 {
    let rows = engine.scan(Keyspace::Objects, b"", None, usize::MAX).unwrap();
    for (row, (found, held)) in (0..).zip(&rows) {
        assert_eq!((found.as_ref(), held.as_ref()), (key(row).as_bytes(), value(row).as_bytes()));
    }
    rows.len() as u64
}

#[test]
fn flipped_bits_before_the_tail_of_the_log_are_refused() {
    let dir = written(&log_only());
    let segments = segments(dir.path());
    assert!(segments.len() > 2, "one segment proves little: {segments:?}");
    let mut random = Random(24);
    for round in 0..from_env("RONDO_DAMAGE_ROUNDS", 24) {
        let at = usize::try_from(random.below(segments.len() as u64)).unwrap();
        let mut records = records(&fs::read(&segments[at]).unwrap());
        if at + 1 == segments.len() {
            records.pop();
        }
        if records.is_empty() {
            continue;
        }
        let (start, len) = records[usize::try_from(random.below(records.len() as u64)).unwrap()];
        let byte = start + usize::try_from(random.below(len as u64)).unwrap();
        let opened = reopened(dir.path(), &log_only(), |copy| {
            let path = copy.join("log").join(segments[at].file_name().unwrap());
            change(&path, |bytes| bytes[byte] ^= 1 << random.below(8));
        });
        assert_unopenable(opened, &format!("round {round}, byte {byte} of {}", segments[at].display()));
    }
}

#[test]
fn a_zeroed_page_before_the_tail_of_the_log_is_refused() {
    let dir = written(&log_only());
    for (at, segment) in segments(dir.path()).iter().enumerate().rev().skip(1) {
        let opened = reopened(dir.path(), &log_only(), |copy| {
            let path = copy.join("log").join(segment.file_name().unwrap());
            change(&path, |bytes| bytes[RECORDS_START..2 * RECORDS_START].fill(0));
        });
        assert_unopenable(opened, &format!("segment {at}"));
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let dir = written(&log_only());
    let segments = segments(dir.path());
    for segment in &segments[1..segments.len() - 1] {
        let opened = reopened(dir.path(), &log_only(), |copy| {
            fs::remove_file(copy.join("log").join(segment.file_name().unwrap())).unwrap();
        });
        assert_unopenable(opened, &segment.display().to_string());
    }
    assert_unopenable(
        reopened(written(&tiny()).path(), &tiny(), |copy| fs::remove_dir_all(copy.join("log")).unwrap()),
        "the whole log",
    );
}

#[test]
fn a_cut_tail_is_dropped_and_what_was_before_it_stays() {
    // Small memtables: the last segment is a recycled one, full of records of its earlier life behind the tail.
    for options in [log_only(), tiny()] {
        let dir = written(&options);
        let last = segments(dir.path()).pop().unwrap();
        let records = records(&fs::read(&last).unwrap());
        let full = rows_in_order(&reopened(dir.path(), &options, |_| ()).unwrap());
        assert_eq!(full, ROWS);
        // What has become a table before its file of the log was full is not lost with that.
        let elsewhere = reopened(dir.path(), &options, |copy| {
            change(&copy.join("log").join(last.file_name().unwrap()), |bytes| bytes.truncate(RECORDS_START));
        });
        let elsewhere = rows_in_order(&elsewhere.unwrap());
        assert!(elsewhere + 2 < ROWS, "{elsewhere} rows are not in the last file alone");
        for (lost, (start, len)) in records.iter().rev().enumerate() {
            for cut in [*start, start + 1, start + len / 2, start + len - 1] {
                let opened = reopened(dir.path(), &options, |copy| {
                    let path = copy.join("log").join(last.file_name().unwrap());
                    change(&path, |bytes| bytes.truncate(cut));
                });
                let left = (ROWS - 1 - lost as u64).max(elsewhere);
                assert_eq!(rows_in_order(&opened.unwrap()), left, "cut at {cut}");
            }
        }
    }
}

#[test]
fn writes_go_on_after_a_cut_tail_and_both_sides_are_kept() {
    let dir = written(&log_only());
    let last = segments(dir.path()).pop().unwrap();
    let (start, len) = records(&fs::read(&last).unwrap()).pop().unwrap();
    // Damage that looks like a torn write: the end of the last record did not reach the disk.
    change(&last, |bytes| bytes[start + len / 2..start + len].fill(0));
    for round in 0..3 {
        let engine = DiskEngine::open(dir.path(), &log_only()).unwrap();
        assert_eq!(engine.get(Keyspace::Objects, key(ROWS - 1).as_bytes()), Ok(None));
        let mark = |round: u64| format!("after {round}");
        commit(&engine, Batch::from_vec(vec![put(Keyspace::Meta, &mark(round), "here")])).unwrap();
        for earlier in 0..=round {
            assert!(engine.get(Keyspace::Meta, mark(earlier).as_bytes()).unwrap().is_some(), "{earlier} in {round}");
        }
        assert_eq!(rows_in_order(&engine), ROWS - 1);
    }
}

/// Every value is right, or the row says that it is damaged; returns how many say so.
fn count_damaged(engine: &DiskEngine) -> usize {
    let read = |row: u64| match engine.get(Keyspace::Objects, key(row).as_bytes()) {
        Ok(Some(found)) => {
            assert_eq!(found, value(row), "a wrong value");
            false
        }
        Err(EngineError::Damaged(_)) => true,
        other => panic!("row {row}: {other:?}"),
    };
    (0..ROWS).filter(|&row| read(row)).count()
}

#[test]
fn damaged_tables_never_give_a_wrong_value() {
    let dir = written(&tiny());
    let tables: Vec<_> = files(&dir.path().join("objects/tables"), None);
    assert!(!tables.is_empty(), "nothing was flushed");
    let (mut random, mut noticed) = (Random(7), 0);
    let rounds = from_env("RONDO_DAMAGE_ROUNDS", 60);
    for round in 0..rounds {
        let table = &tables[usize::try_from(random.below(tables.len() as u64)).unwrap()];
        let opened = reopened(dir.path(), &tiny(), |copy| {
            change(&copy.join("objects/tables").join(table.file_name().unwrap()), |bytes| {
                let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
                if round % 4 == 0 {
                    let end = bytes.len().min(at + RECORDS_START);
                    bytes[at..end].fill(0);
                } else {
                    bytes[at] ^= 1 << random.below(8);
                }
            });
        });
        match opened {
            Ok(engine) => noticed += u64::from(count_damaged(&engine) > 0),
            Err(EngineError::Unopenable(_)) => noticed += 1,
            Err(other) => panic!("round {round}: {other:?}"),
        }
    }
    assert!(noticed * 2 > rounds, "only {noticed} of {rounds} damages were noticed: is anything read from tables?");
}

#[test]
fn damaged_lists_of_tables_are_refused() {
    let dir = written(&tiny());
    let tree = dir.path().join("objects");
    let current = tree.join("current");
    let id = u64::from_le_bytes(fs::read(&current).unwrap()[..8].try_into().unwrap());
    for path in [current, tree.join(format!("v{id}"))] {
        let len = fs::metadata(&path).unwrap().len();
        for at in (0..len).step_by(usize::try_from(len / 24 + 1).unwrap()) {
            let opened = reopened(dir.path(), &tiny(), |copy| {
                let path = copy.join("objects").join(path.file_name().unwrap());
                change(&path, |bytes| bytes[usize::try_from(at).unwrap()] ^= 0x10);
            });
            assert_unopenable(opened, &format!("byte {at} of {}", path.display()));
        }
    }
    let opened = reopened(dir.path(), &tiny(), |copy| fs::remove_file(copy.join("objects/current")).unwrap());
    assert_unopenable(opened, "without the current list");
}

#[test]
fn a_missing_table_is_refused() {
    let dir = written(&tiny());
    let table = files(&dir.path().join("objects/tables"), None).pop().unwrap();
    let opened = reopened(dir.path(), &tiny(), |copy| {
        fs::remove_file(copy.join("objects/tables").join(table.file_name().unwrap())).unwrap();
    });
    assert_unopenable(opened, "without a table");
}

#[test]
fn a_newer_or_missing_format_is_refused_and_nothing_is_changed() {
    let dir = written(&tiny());
    let newer = reopened(dir.path(), &tiny(), |copy| fs::write(copy.join("FORMAT"), "rondo-engine 2\n").unwrap());
    let text = newer.unwrap_err().to_string();
    assert!(text.contains("format 2, this program reads up to 1: use a newer program"), "{text}");
    assert_unopenable(reopened(dir.path(), &tiny(), |copy| fs::remove_file(copy.join("FORMAT")).unwrap()), "none");
    assert_unopenable(reopened(dir.path(), &tiny(), |copy| fs::write(copy.join("FORMAT"), "x").unwrap()), "other");

    fs::remove_file(dir.path().join("FORMAT")).unwrap();
    let before = segments(dir.path()).len();
    DiskEngine::open(dir.path(), &tiny()).unwrap_err();
    assert_eq!(segments(dir.path()).len(), before, "an engine that does not open must change nothing");
}
