//! Over tables on a real file system, whose pages the test lets the kernel forget.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lsm_tree::config::{CompressionPolicy, PartitioningPolicy};
use lsm_tree::{AnyTree, Config, SequenceNumberCounter, ValueType};

use super::*;
use crate::engine::disk::DiskEngine;
use crate::engine::disk::keyspace::tests::{flush, insert, keyspace};
use crate::engine::disk::tests::commit;
use crate::engine::{Batch, Durability, Engine, EngineOptions, Keyspace, Write};

/// Memtables that are full after some rows.
fn open(dir: &Path) -> DiskEngine {
    let options = EngineOptions {
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
    commit(engine, batch, Durability::Interval).unwrap();
}

fn at_once(engine: &DiskEngine, key: &[u8]) -> Option<Option<Bytes>> {
    engine.get_from_memory(Keyspace::Objects, key).map(Result::unwrap)
}

fn tables(dir: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(super::super::format::keyspace_dir(dir, Keyspace::Objects).join("tables")).unwrap();
    found.map(|entry| entry.unwrap().path()).collect()
}

/// Lets the kernel forget the pages of a file. Whether it has: not every file system can.
pub(super) fn forget(path: &Path) -> bool {
    use rustix::fs::{Advice, fadvise};
    let file = fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    let (page, len) = (rustix::param::page_size(), file.metadata().unwrap().len());
    // To open it has read its beginning, and the kernel may still be reading on.
    let cached = CachedFile::open(path).unwrap();
    let is_gone = |offset| cached.read(&mut [0], offset) == Err(NeedsDisk);
    (0..1_000).any(|_| {
        std::thread::yield_now();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        (0..len).step_by(page).all(is_gone)
    })
}

fn can_read_at_once(dir: &Path) -> bool {
    let path = dir.join("probe");
    fs::write(&path, "12345678").unwrap();
    CachedFile::open(&path).inspect_err(|error| eprintln!("little was looked at: {error}")).is_ok()
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

#[test]
fn what_is_on_the_disk_alone_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let keyspace = keyspace(dir.path());
    let keys: Vec<_> = (0..4_000_u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()).collect();
    for (sequence, key) in (1..).zip(&keys) {
        insert(&keyspace, sequence, key, &[key[0]; 700], &[]);
    }
    flush(&keyspace);
    if !can_read_at_once(dir.path()) || !tables(dir.path()).iter().all(|path| forget(path)) {
        return;
    }
    let unknown = || keys.iter().filter(|&key| keyspace.in_memory().get(key).is_err()).count();
    assert_eq!(unknown(), keys.len());
    assert_eq!(unknown(), keys.len(), "to ask for them does not bring them");
    let said = |key: &[u8]| keyspace.in_memory().get(key).map(|row| row.map(|row| row.value.unwrap().to_vec()));
    assert_eq!(said(&[0xFF; 8]), Ok(None), "the filters are in memory");
    // Once somebody has waited for them, they are in the page cache.
    tables(dir.path()).iter().for_each(|path| drop(fs::read(path).unwrap()));
    assert!(keys.iter().all(|key| said(key) == Ok(Some(vec![key[0]; 700]))));
}

fn config(dir: &Path) -> Config {
    Config::new(dir, SequenceNumberCounter::new(1_000), SequenceNumberCounter::default())
}

/// One table with as many versions of each key as fill several blocks.
fn table(dir: &Path, config: Config, value: impl Fn(u64, u64) -> Vec<u8>) -> (Tree, Arc<Blocks>) {
    let blocks = Arc::new(Blocks::new(1 << 20, 16));
    let config =
        config.use_cache(Arc::clone(&blocks.cache)).use_descriptor_table(Some(Arc::clone(&blocks.descriptors)));
    let Ok(AnyTree::Standard(tree)) = config.open() else { panic!("no tree in {}", dir.display()) };
    for (number, version) in (0..20).flat_map(|number| (0..30).map(move |version| (number, version))) {
        let sequence = number * 30 + version;
        let row = InternalValue::from_components(key(number), value(number, version), sequence, ValueType::Value);
        tree.active_memtable().insert(row);
    }
    tree.flush_active_memtable(0).unwrap();
    (tree, blocks)
}

fn key(number: u64) -> Vec<u8> {
    format!("key/{number:03}").into_bytes()
}

fn only_table(tree: &Tree, blocks: &Arc<Blocks>) -> Searchable {
    let version = tree.current_version();
    let tables: Vec<_> = version.iter_tables().cloned().collect();
    assert_eq!(tables.len(), 1);
    Searchable::new(tree, tables[0].clone(), blocks)
}

#[test]
fn the_newest_of_many_versions_is_found_however_the_table_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let can = can_read_at_once(dir.path());
    let random = |number: u64, version: u64| -> Vec<u8> {
        let mut state = number << 32 | version;
        (0..700).map(|_| next(&mut state) as u8).collect()
    };
    for (index, in_parts) in [true, false].into_iter().enumerate() {
        for (which, compression) in [CompressionType::None, CompressionType::Lz4].into_iter().enumerate() {
            let dir = dir.path().join(format!("{index}-{which}"));
            let config = config(&dir)
                .index_block_partitioning_policy(PartitioningPolicy::all(in_parts))
                .data_block_compression_policy(CompressionPolicy::all(compression));
            let (tree, blocks) = table(&dir, config, random);
            let table = only_table(&tree, &blocks);
            assert_eq!(table.table.regions.index.is_some(), in_parts);
            assert!(table.table.metadata.data_block_count > 60);
            for number in 0..20 {
                let found = table.get(&key(number), KeyHash::of(&key(number)));
                let expected = tree.get_internal_entry(&key(number), SeqNo::MAX).unwrap().unwrap();
                assert_eq!(expected.value[..], random(number, 29)[..]);
                match found {
                    Ok(found) => assert_eq!(found.unwrap().value, expected.value),
                    Err(NeedsDisk) => assert!(!can, "key {number}, index in parts: {in_parts}, {compression:?}"),
                }
            }
            let nobody = b"key/0055";
            assert!(table.get(nobody, KeyHash::of(nobody)).is_ok_and(|row| row.is_none()) || !can);
        }
    }
}

/// It would take a worker as long as many others, though little of it is on the disk.
#[test]
fn a_block_that_is_large_once_decompressed_is_left_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path()).data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4));
    let (tree, blocks) = table(dir.path(), config, |_, _| vec![0; 2 * BLOCK_BYTES_MAX]);
    let table = only_table(&tree, &blocks);
    let of_a_block = table.table.metadata.file_size / table.table.metadata.data_block_count;
    assert!(of_a_block < BLOCK_BYTES_MAX as u64 / 8, "{of_a_block} bytes");
    assert_eq!(table.get(&key(7), KeyHash::of(&key(7))).err(), Some(NeedsDisk));
}

#[test]
fn no_more_tables_are_opened_than_may_be() {
    let dir = tempfile::tempdir().unwrap();
    if !can_read_at_once(dir.path()) {
        return;
    }
    let (tree, blocks) = table(dir.path(), config(dir.path()), |_, _| vec![7]);
    let mut open: Vec<_> = (0..16).map(|_| only_table(&tree, &blocks)).collect();
    assert!(open.iter().all(Searchable::has_finder));
    assert!(!only_table(&tree, &blocks).has_finder());
    open.pop();
    assert!(only_table(&tree, &blocks).has_finder());
}

/// What a reader still looks at is freed by who replaces it, after the reader.
#[test]
fn a_reader_frees_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let keyspace = keyspace(dir.path());
    insert(&keyspace, 1, b"key", b"value", &[]);
    assert!(keyspace.rotate());
    let reader = keyspace.in_memory();
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| keyspace.flush(&keyspace.waiting(), 0));
        // It is shown to others at once, and waits for this one.
        while keyspace.in_memory().table_bytes() == 0 {
            std::thread::yield_now();
        }
        for _ in 0..10_000 {
            assert!(!flush.is_finished());
            std::thread::yield_now();
        }
        assert!(reader.get(b"key").is_ok_and(|row| row.is_some()));
        drop(reader);
        flush.join().unwrap().unwrap();
    });
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
