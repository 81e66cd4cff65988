//! Pages of a bucket's keys with their outlines.

#![allow(clippy::unwrap_used, reason = "test helpers")]

mod store_support;

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use rondo_ring::{PartitionId, PartitionSet};
use rondo_storage::Key;
use rondo_storage::engine::{Durability, Engine, Keyspace, MemoryEngine, Write};
use rondo_storage::store::{ListPage, ListRange, Store};
use rondo_storage::versions::{ActorId, CausalContext, Dot, Metadata, Object, Sibling};
use smallvec::smallvec;
use store_support::*;

fn engine() -> Arc<MemoryEngine> {
    Arc::new(MemoryEngine::new())
}

fn range(bucket: &str, prefix: &str, after: Option<&str>, partitions: impl IntoIterator<Item = u16>) -> ListRange {
    let mut set = PartitionSet::empty(q(8));
    partitions.into_iter().for_each(|partition| set.insert(PartitionId(partition)));
    ListRange { bucket: bucket.into(), prefix: prefix.into(), after: after.map(str::to_owned), partitions: set }
}

/// All pages; each goes on where the one before ended.
fn walk(store: &Store, range: &ListRange, rows_max: usize, bytes_max: usize) -> Vec<String> {
    let mut range = range.clone();
    let mut keys = Vec::new();
    loop {
        let ListPage { rows, through, untrusted } = store.list(&range, rows_max, bytes_max).unwrap();
        assert!(rows.len() <= rows_max && untrusted.is_empty());
        assert!(through.is_none() || rows.last().is_none_or(|row| Some(&row.key) <= through.as_ref()));
        keys.extend(rows.into_iter().map(|row| row.key));
        match through {
            None => return keys,
            through => range.after = through,
        }
    }
}

#[test]
fn a_walk_gives_every_key_of_the_partitions_once_and_in_order() {
    let store = store_over(&engine(), 1);
    let mut names: Vec<String> = (0..1_500).map(|n| format!("{}{n}", ["a", "a/", "\u{e9}", "z\0"][n % 4])).collect();
    for name in &names {
        write(&store, &key(name), put(name));
    }
    for other in ["frui", "fruit2", "a"] {
        write(&store, &Key::new(other, "x").unwrap(), put("x"));
    }
    names.sort();
    assert_eq!(walk(&store, &range("fruit", "", None, 0..8), 64, 1 << 20), names);
    assert_eq!(walk(&store, &range("fruit", "", None, 0..8), 5_000, 1), names, "a page of one row each");
    for prefix in ["a", "a/1", "\u{e9}", "z\0", "nothing"] {
        let expected: Vec<_> = names.iter().filter(|name| name.starts_with(prefix)).cloned().collect();
        assert_eq!(walk(&store, &range("fruit", prefix, None, 0..8), 33, 1 << 20), expected, "{prefix:?}");
        assert_eq!(walk(&store, &range("fruit", prefix, Some("A"), 0..8), 999, 1 << 20), expected, "{prefix:?}");
        assert!(walk(&store, &range("fruit", prefix, Some("\u{ffff}"), 0..8), 9, 1 << 20).is_empty());
    }
    let mut parts: Vec<_> = [[0, 3, 5], [1, 2, 4]].into_iter().map(|set| range("fruit", "", None, set)).collect();
    parts.push(range("fruit", "", None, [6, 7]));
    let mut all: Vec<_> = parts.iter().flat_map(|part| walk(&store, part, 100, 1 << 20)).collect();
    all.sort();
    assert_eq!(all, names);
    assert_eq!(walk(&store, &range("fruit2", "", None, 0..8), 9, 1 << 20), ["x"]);
    assert!(walk(&store, &range("a/b", "", None, 0..8), 9, 1 << 20).is_empty());
}

/// S3: a damaged object is a row that is unknown, and not a key that is missing.
#[test]
fn damage_is_no_absence() {
    let engine = engine();
    let store = store_over(&engine, 1);
    write(&store, &key("a"), put("12345"));
    write(&store, &key("b"), put("1"));
    let damaged = Write { keyspace: Keyspace::Objects, key: key("b").row().clone(), value: Some(Bytes::from("junk")) };
    engine.submit(engine.generation(), smallvec![damaged], Durability::Fsync, Box::new(|_| ())).unwrap();
    // Another store, which remembers nothing of what was written.
    let store = store_over(&engine, 2);
    let page = store.list(&range("fruit", "", None, 0..8), 10, 1 << 20).unwrap();
    assert_eq!(page.rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let outline = page.rows[0].outline.as_ref().unwrap();
    assert_eq!((outline.siblings.len(), outline.siblings[0].outlined_bytes()), (1, 5));
    assert!(page.rows[1].outline.is_none() && page.through.is_none());
}

fn object() -> impl Strategy<Value = Vec<(u64, u64, Option<u8>, u64)>> {
    proptest::collection::vec((0..3_u64, 0..3_u64, proptest::option::of(0..9_u8), 0..3_u64), 0..6)
}

fn build(writes: &[(u64, u64, Option<u8>, u64)], first: u64) -> Object {
    let mut object = Object::default();
    for (counter, &(actor, seen, value, write_id)) in (first..).zip(writes) {
        let context = if seen == 0 { CausalContext::default() } else { object.context.clone() };
        let value = value.map(|len| Bytes::from(vec![b'v'; len.into()]));
        let content_type = Bytes::from(format!("t/{counter}"));
        let metadata = Metadata { content_type, write_id, modified_us: counter, ..Metadata::default() };
        object.update(&context, Sibling { dot: Dot { actor: ActorId(actor), counter }, value, metadata });
    }
    object
}

proptest! {
    /// What makes it right to merge outlines: it gives the outline of the merge, and the same versions are shown.
    #[test]
    fn the_outline_of_a_merge_is_the_merge_of_the_outlines(one in object(), other in object()) {
        let (one, other) = (build(&one, 1), build(&other, 100));
        let mut merged = one.clone();
        merged.merge(other.clone());
        let mut outlines = one.outline();
        outlines.merge(other.outline());
        prop_assert_eq!(&outlines, &merged.clone().outline());
        let shown = |object: &Object| object.live(1).map(|sibling| sibling.dot).collect::<Vec<_>>();
        prop_assert_eq!(shown(&outlines), shown(&merged));
        prop_assert_eq!(Object::decode(&outlines.encode()).unwrap(), outlines);
    }
}
