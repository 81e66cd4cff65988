//! A scan that stands still while everything around it goes on.

use bytes::Bytes;

use super::*;

/// A tree without an engine, so that nobody else reads its tables, and as good as no block cache.
pub(in crate::engine::disk) fn keyspace(dir: &Path) -> KeyspaceTree {
    let options = EngineOptions::default();
    let blocks = Arc::new(Blocks::new(1, options.open_tables));
    // What it numbers its lists of tables with is above the numbers of rows.
    let shared = Shared { sequence: SequenceNumberCounter::new(10_000), blocks };
    KeyspaceTree::open(dir, Keyspace::Objects, &shared, &options).unwrap()
}

pub(in crate::engine::disk) fn insert(
    keyspace: &KeyspaceTree,
    sequence: u64,
    key: &[u8],
    value: &[u8],
    snapshots: &[u64],
) {
    let (key, value) = (Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value)));
    keyspace.insert(&keyspace.active(), sequence, Write { keyspace: Keyspace::Objects, key, value }, snapshots);
}

pub(in crate::engine::disk) fn flush(keyspace: &KeyspaceTree) {
    assert!(keyspace.rotate());
    keyspace.flush(&keyspace.waiting(), 0).unwrap();
}

/// Compaction removes what was written before its watermark, also where a scan of an earlier number would see just that.
#[test]
fn a_scan_sees_what_there_was_when_it_began_whatever_is_merged_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let keyspace = keyspace(dir.path());
    for (sequence, key) in [(1, b"a"), (2, b"b"), (3, b"c")] {
        insert(&keyspace, sequence, key, b"before", &[]);
    }
    flush(&keyspace);
    insert(&keyspace, 4, b"b", b"again", &[]);
    let picture = InMemory::clone(&keyspace.in_memory());
    for sequence in [10, 20, 30, 40] {
        for key in [b"a", b"b", b"c", b"d"] {
            insert(&keyspace, sequence, key, b"after", &[5]);
        }
        flush(&keyspace);
    }
    assert!(keyspace.compact(5).unwrap());
    let rows = picture.scan(b"", None, 5).map(Result::unwrap);
    let rows: Vec<_> = rows.map(|row| (row.key.user_key.to_vec(), row.value.to_vec())).collect();
    let expected = [("a", "before"), ("b", "again"), ("c", "before")];
    assert_eq!(rows, expected.map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())));
}
