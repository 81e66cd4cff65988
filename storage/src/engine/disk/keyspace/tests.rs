//! A scan that stands still while everything around it goes on.

use bytes::Bytes;

use super::*;

fn insert(keyspace: &KeyspaceTree, sequence: u64, key: &str, snapshots: &[u64]) {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Some(Bytes::from(sequence.to_string())));
    keyspace.insert(&keyspace.active(), sequence, Write { keyspace: Keyspace::Objects, key, value }, snapshots);
}

fn flush(keyspace: &KeyspaceTree) {
    assert!(keyspace.rotate());
    keyspace.flush(&keyspace.waiting(), 0).unwrap();
}

/// Compaction removes what was written before its watermark, also where a scan of an earlier number would see just that.
#[test]
fn a_scan_sees_what_there_was_when_it_began_whatever_is_merged_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let shared = Shared { sequence: SequenceNumberCounter::new(1_000), blocks: Arc::new(Blocks::new(1 << 20, 16)) };
    let keyspace = KeyspaceTree::open(dir.path(), Keyspace::Objects, &shared, &EngineOptions::default()).unwrap();
    for (sequence, key) in [(1, "a"), (2, "b"), (3, "c")] {
        insert(&keyspace, sequence, key, &[]);
    }
    flush(&keyspace);
    insert(&keyspace, 4, "b", &[]);
    let picture = InMemory::clone(&keyspace.in_memory());
    for sequence in [10, 20, 30, 40] {
        for key in ["a", "b", "c", "d"] {
            insert(&keyspace, sequence, key, &[5]);
        }
        flush(&keyspace);
    }
    assert!(keyspace.compact(5).unwrap());
    let rows = picture.scan(b"", None, 5).map(Result::unwrap);
    let rows: Vec<_> = rows.map(|row| (row.key.user_key.to_vec(), row.value.to_vec())).collect();
    let expected = [("a", "1"), ("b", "4"), ("c", "3")];
    assert_eq!(rows, expected.map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())));
}
