//! Over tables on a real file system, whose pages the test lets the kernel forget.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use bytes::Bytes;
use lsm_tree::{SequenceNumberCounter, ValueType};

use super::*;
use crate::engine::disk::DiskEngine;
use crate::engine::disk::keyspace::{KeyspaceTree, Shared};
use crate::engine::{Batch, Durability, Engine, EngineOptions, Keyspace, Write};

/// Memtables that are full after some rows, and a block cache that holds as good as nothing of the tables.
fn open(dir: &Path) -> DiskEngine {
    let options = EngineOptions {
        cache_bytes: 1 << 20,
        memtable_bytes: 32 << 10,
        table_bytes: 64 << 10,
        log_segment_bytes: 256 << 10,
        log_bytes_max: 1 << 20,
        ..EngineOptions::default()
    };
    DiskEngine::open(dir, &options).unwrap()
}

fn write(engine: &DiskEngine, key: &[u8], value: Option<&[u8]>) {
    let (key, value) = (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
    let batch = Batch::from_vec(vec![Write { keyspace: Keyspace::Objects, key, value }]);
    let (done, result) = mpsc::channel();
    let done = Box::new(move |outcome| done.send(outcome).unwrap());
    engine.submit(engine.generation(), batch, Durability::Interval, done).unwrap();
    result.recv().unwrap().unwrap();
}

fn at_once(engine: &DiskEngine, key: &[u8]) -> Option<Option<Bytes>> {
    engine.get_from_memory(Keyspace::Objects, key).map(Result::unwrap)
}

fn tables(dir: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(super::super::format::keyspace_dir(dir, Keyspace::Objects).join("tables")).unwrap();
    found.map(|entry| entry.unwrap().path()).collect()
}

/// Lets the kernel forget the pages of the tables. Whether it has: not every file system can, or says so.
fn forget_pages(dir: &Path) -> bool {
    use rustix::fs::{Advice, fadvise};
    tables(dir).iter().all(|path| {
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        !Pages::of(&file).unwrap().are_in_memory(0, 1)
    })
}

fn can_read_at_once(dir: &Path) -> bool {
    let path = dir.join("probe");
    fs::write(&path, "12345678").unwrap();
    read_at_once(&File::open(path).unwrap(), &mut [0; 8], 0) == Ok(())
}

/// Steps of a generator of numbers that look random (Knuth's MMIX).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Rows that are written, replaced and removed again and again while their memtables become tables and those are merged.
#[test]
fn what_is_said_at_once_is_what_the_disk_says() {
    let dir = tempfile::tempdir().unwrap();
    let can = can_read_at_once(dir.path());
    let engine = open(dir.path());
    let (mut model, mut state, mut said) = (BTreeMap::new(), 7, 0);
    for step in 0..20_000_u64 {
        // Keys of which one is the beginning of another, and values of very different lengths.
        let key = format!("key/{}", next(&mut state) % 3_000).into_bytes();
        let value = (!next(&mut state).is_multiple_of(5)).then(|| vec![step as u8; (next(&mut state) % 300) as usize]);
        write(&engine, &key, value.as_deref());
        model.insert(key, value);
        let key = format!("key/{}", next(&mut state) % 4_000).into_bytes();
        let expected = model.get(&key).cloned().flatten();
        if let Some(found) = at_once(&engine, &key) {
            said += 1;
            assert_eq!(found.as_deref(), expected.as_deref(), "{}, step {step}", String::from_utf8_lossy(&key));
        }
        assert_eq!(engine.get(Keyspace::Objects, &key).unwrap().as_deref(), expected.as_deref());
    }
    let status = engine.status();
    assert!(status.flushes_total > 20 && status.compactions_total > 3, "{status:?}");
    assert!(!can || said > 19_000, "{said} of 20,000 reads were answered at once");
    // And after it has been opened again.
    drop(engine);
    let engine = open(dir.path());
    for (key, expected) in &model {
        let found = at_once(&engine, key);
        assert!(!can || found.is_some(), "{}", String::from_utf8_lossy(key));
        assert!(found.is_none_or(|found| found.as_deref() == expected.as_deref()));
    }
}

/// A tree without an engine, so that nobody else reads its tables.
#[test]
fn what_is_on_the_disk_alone_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions::default();
    let blocks = Arc::new(Blocks::new(options.cache_bytes, options.open_tables));
    let shared = Shared { sequence: SequenceNumberCounter::new(1), blocks };
    let keyspace = KeyspaceTree::open(dir.path(), Keyspace::Objects, &shared, &options).unwrap();
    let keys: Vec<_> = (0..4_000_u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()).collect();
    for key in &keys {
        let row = InternalValue::from_components(*key, [key[0]; 700], shared.sequence.next(), ValueType::Value);
        keyspace.tree.active_memtable().insert(row);
    }
    assert!(keyspace.rotate());
    keyspace.flush(0).unwrap();
    if !can_read_at_once(dir.path()) || !forget_pages(dir.path()) {
        eprintln!("nothing was looked at: this file system keeps its pages, or cannot read without waiting");
        return;
    }
    let unknown = || keys.iter().filter(|&key| keyspace.in_memory().get(key).is_err()).count();
    assert_eq!(unknown(), keys.len());
    assert_eq!(unknown(), keys.len(), "to ask for them does not bring them");
    let value = |row: Option<InternalValue>| row.map(|row| row.value);
    let said = |key: &[u8]| keyspace.in_memory().get(key).map(value);
    assert_eq!(said(&[0xFF; 8]), Ok(None), "the filters are in memory");
    // Once somebody has waited for them, they are in the page cache.
    for key in &keys {
        let row = keyspace.tree.get_internal_entry(key, SeqNo::MAX).unwrap();
        assert_eq!(said(key), Ok(value(row)));
    }
    assert_eq!(unknown(), 0);
}

/// A block that is not what it was is left to those who complain of it.
#[test]
fn a_damaged_table_is_not_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let keys: Vec<_> = (0..200_u64).map(|number| format!("key/{number:03}").into_bytes()).collect();
    keys.iter().for_each(|key| write(&engine, key, Some(&[7; 700])));
    drop(engine);
    for path in tables(dir.path()) {
        use std::os::unix::fs::FileExt;
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&[0xAA; 64], 2_000).unwrap();
    }
    let engine = open(dir.path());
    let damaged = keys.iter().filter(|key| engine.get(Keyspace::Objects, key).is_err()).count();
    let unknown = keys.iter().filter(|key| at_once(&engine, key).is_none()).count();
    assert!(damaged > 0 && unknown >= damaged, "{damaged} damaged rows, {unknown} not said at once");
    for key in keys.iter().filter(|key| at_once(&engine, key).is_some()) {
        assert_eq!(at_once(&engine, key).flatten().unwrap()[..], [7; 700]);
    }
}
