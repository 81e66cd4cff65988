//! Beside a model that keeps every version.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn version(sequence: u64, value: Option<&[u8]>) -> Version {
    Version { sequence, value: value.map(Bytes::copy_from_slice) }
}

/// Number and value of a version.
type Said = (u64, Option<Vec<u8>>);
/// What a scan shows: key, number, value.
type Shown = Vec<(Vec<u8>, u64, Option<Vec<u8>>)>;

fn shown(memtable: &Memtable, from: &[u8], to: Option<&[u8]>, snapshot: u64) -> Shown {
    let rows = memtable.source(from, to, snapshot).map(Result::unwrap);
    rows.map(|row| (row.key.user_key.to_vec(), row.key.seqno, (!row.is_tombstone()).then(|| row.value.to_vec())))
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<u8>, Option<Vec<u8>>),
    /// A scan begins; it ends when so many later ones have begun.
    Scan(usize),
}

/// Short keys of few letters, of which many are beginnings of others, and long ones that differ behind their eighth byte.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    let letters = || prop::sample::select(vec![0_u8, 1, 0x7F, 0x80, 0xFF]);
    prop_oneof![
        prop::collection::vec(letters(), 1..4),
        prop::collection::vec(letters(), 1..3).prop_map(|end| [b"eight...".as_slice(), &end].concat()),
        prop::array::uniform8(any::<u8>()).prop_map(|key| key.to_vec()),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let values = prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..20));
    let step = prop_oneof![
        6 => (keys(), values).prop_map(|(key, value)| Step::Insert(key, value)),
        1 => (1_usize..4).prop_map(Step::Scan),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// Every scan under way sees the rows as they were when it began, whatever is written over them; a look-up sees the last.
    #[test]
    fn a_scan_sees_what_there_was(steps in steps(), from in keys(), to in prop::option::of(keys()), evenly: bool) {
        let memtable = Memtable::new(if evenly { Spread::Evenly } else { Spread::Anyhow });
        let mut model: BTreeMap<Vec<u8>, Vec<Said>> = BTreeMap::new();
        let (mut sequence, mut snapshots) = (1, Vec::new());
        for step in steps {
            match step {
                Step::Insert(key, value) => {
                    sequence += 1;
                    memtable.insert(Bytes::from(key.clone()), version(sequence, value.as_deref()), &snapshots);
                    model.entry(key).or_default().push((sequence, value));
                }
                Step::Scan(running_max) => {
                    snapshots.push(sequence);
                    let ended = snapshots.len().saturating_sub(running_max);
                    snapshots.drain(..ended);
                }
            }
        }
        for (key, versions) in &model {
            let (sequence, value) = versions.last().unwrap();
            prop_assert_eq!(memtable.get(key), Some(version(*sequence, value.as_deref())));
        }
        prop_assert_eq!(memtable.get(b"no such key"), None);
        let to = to.filter(|to| *to > from);
        for &snapshot in snapshots.iter().chain([&sequence]) {
            let in_range = model.iter().filter(|(key, _)| **key >= from && to.as_ref().is_none_or(|to| *key < to));
            let expected: Shown = in_range
                .filter_map(|(key, versions)| {
                    let (sequence, value) = versions.iter().rev().find(|(sequence, _)| *sequence <= snapshot)?;
                    Some((key.clone(), *sequence, value.clone()))
                })
                .collect();
            prop_assert_eq!(shown(&memtable, &from, to.as_deref(), snapshot), expected);
        }
    }
}

#[test]
fn what_no_scan_needs_is_freed_at_once() {
    let memtable = Memtable::new(Spread::Evenly);
    let key = Bytes::from_static(b"key");
    let value = Bytes::from(vec![7; 1_000]);
    let is_held = || !value.is_unique();
    memtable.insert(key.clone(), Version { sequence: 1, value: Some(value.clone()) }, &[]);
    let (bytes, older) = (memtable.bytes(), size_of::<Version>() as u64);
    assert!(bytes > 1_000);
    // One scan needs it, one that began later does not.
    memtable.insert(key.clone(), version(3, Some(b"second")), &[2]);
    assert_eq!(memtable.bytes(), bytes + older + 6);
    memtable.insert(key.clone(), version(5, Some(b"third")), &[2, 4]);
    assert_eq!(memtable.bytes(), bytes + older + 6 + older + 5);
    assert_eq!(shown(&memtable, b"", None, 2), [(b"key".to_vec(), 1, Some(vec![7; 1_000]))]);
    assert_eq!(shown(&memtable, b"", None, 4), [(b"key".to_vec(), 3, Some(b"second".to_vec()))]);
    assert!(is_held());
    // None of them is there any more.
    memtable.insert(key.clone(), version(7, None), &[]);
    assert!(!is_held());
    assert_eq!(memtable.bytes(), bytes - 1_000);
    assert_eq!(shown(&memtable, b"", None, 7), [(b"key".to_vec(), 7, None)]);
}

#[test]
fn a_walk_goes_over_many_rows_of_a_part() {
    for spread in [Spread::Evenly, Spread::Anyhow] {
        let memtable = Memtable::new(spread);
        let key = |number: u64| format!("{number:06}").into_bytes();
        for number in 0..10 * CHUNK_ROWS as u64 {
            memtable.insert(Bytes::from(key(number)), version(number + 1, Some(b"value")), &[]);
        }
        let all = shown(&memtable, b"", None, u64::MAX);
        assert!(all.iter().map(|(key, ..)| key.clone()).eq((0..10 * CHUNK_ROWS as u64).map(key)), "{spread:?}");
        let some = shown(&memtable, &key(100), Some(&key(200)), u64::MAX);
        assert!(some.iter().map(|(key, ..)| key.clone()).eq((100..200).map(key)), "{spread:?}");
    }
}

#[test]
fn what_is_written_during_a_walk_is_not_seen_by_it() {
    for spread in [Spread::Evenly, Spread::Anyhow] {
        let memtable = Memtable::new(spread);
        let key = |number: u64| Bytes::from(format!("{:06}", 2 * number));
        let all = 5 * CHUNK_ROWS as u64;
        (0..all).for_each(|number| memtable.insert(key(number), version(1, Some(b"before")), &[]));
        let mut walk = memtable.source(b"", None, 1).map(Result::unwrap);
        for number in 0..all {
            // Before where it stands and behind, over what is there and beside it.
            for number in [0, number, all - 1] {
                memtable.insert(key(number), version(2, None), &[1]);
                memtable.insert(Bytes::from(format!("{:06}", 2 * number + 1)), version(2, Some(b"new")), &[1]);
            }
            let row = walk.next().unwrap();
            assert_eq!((&*row.key.user_key, &*row.value), (&*key(number), b"before".as_slice()));
        }
        assert!(walk.next().is_none());
    }
}
