//! The rows of a keyspace that are in no table yet, in order.
//!
//! A row that is written again takes the place of the one before, which is freed at once: a memtable grows with its keys and
//! not with its writes. Only what a scan reads that is under way is kept beside it ([`Snapshots`]), until the row is written
//! once more.
//!
//! It is cut into parts by the first bits of the keys, each behind a lock of its own that is held for one row or some: keys
//! of objects begin with their token, so they spread evenly, and what has to be searched fits into a cache of the processor.

use std::borrow::Borrow;
use std::cmp::Ordering as Order;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lsm_tree::{InternalValue, ValueType};
use parking_lot::{Mutex, RwLock};
use smallvec::{SmallVec, smallvec};

use super::merged::Source;

/// Parts of a memtable whose keys are spread evenly.
const PARTS_BITS: u32 = 10;
/// Rows that a scan takes out of a part at a time.
const CHUNK_ROWS: usize = 64;

/// What a write has made of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) sequence: u64,
    /// `None`: it was removed.
    pub(super) value: Option<Bytes>,
}

impl Version {
    fn bytes(&self) -> u64 {
        (size_of::<Self>() + self.value.as_ref().map_or(0, Bytes::len)) as u64
    }
}

impl From<InternalValue> for Version {
    fn from(row: InternalValue) -> Self {
        let value = (!row.is_tombstone()).then(|| row.value.into());
        Self { sequence: row.key.seqno, value }
    }
}

/// How the keys of a keyspace are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// Their first bits are as good as random.
    Evenly,
    Anyhow,
}

impl Spread {
    fn parts_bits(self) -> u32 {
        match self {
            Self::Evenly => PARTS_BITS,
            Self::Anyhow => 0,
        }
    }
}

/// See the module. One thread at a time writes.
pub(super) struct Memtable {
    parts: Box<[RwLock<Part>]>,
    bytes: AtomicU64,
    highest_sequence: AtomicU64,
}

type Part = BTreeMap<Name, Row>;

/// The sequence numbers at which scans of each keyspace read at the moment. Locked while a batch is put into memtables and
/// published, so that none begins in the middle of one.
pub(super) type Snapshots = Mutex<[Vec<u64>; 4]>;

impl Memtable {
    pub(super) fn new(spread: Spread) -> Self {
        let parts = (0..1_usize << spread.parts_bits()).map(|_| RwLock::default()).collect();
        Self { parts, bytes: AtomicU64::new(0), highest_sequence: AtomicU64::new(0) }
    }

    /// Takes the place of what is there, of which what `snapshots` still need is kept. The value is kept as it is given,
    /// without a copy.
    pub(super) fn insert(&self, key: Bytes, version: Version, snapshots: &[u64]) {
        let sequence = version.sequence;
        let mut added = version.bytes();
        let useless = {
            let name = Name { head: head_of(&key), key };
            let mut part = self.parts[self.part_of(name.head)].write();
            match part.entry(name) {
                Entry::Occupied(mut there) => there.get_mut().replace(version, snapshots),
                Entry::Vacant(free) => {
                    added += (size_of::<(Name, Row)>() + free.key().key.len()) as u64;
                    free.insert(Row { latest: version, older: Vec::new() });
                    SmallVec::new()
                }
            }
        };
        self.bytes.fetch_add(added, Ordering::Relaxed);
        self.bytes.fetch_sub(useless.iter().map(Version::bytes).sum(), Ordering::Relaxed);
        self.highest_sequence.fetch_max(sequence, Ordering::Relaxed);
    }

    /// The last that was written of a row.
    pub(super) fn get(&self, key: &[u8]) -> Option<Version> {
        let head = head_of(key);
        let part = self.parts[self.part_of(head)].read();
        part.get(&Sought { head, key } as &dyn Named).map(|row| row.latest.clone())
    }

    /// Rows from `from` on and before `to`, in order, as they were at `snapshot`; removed ones too.
    pub(super) fn source<'a>(&'a self, from: &[u8], to: Option<&'a [u8]>, snapshot: u64) -> Source<'a> {
        let last = to.map_or(self.parts.len() - 1, |to| self.part_of(head_of(to)));
        let (part, from) = (self.part_of(head_of(from)), Bound::Included(Bytes::copy_from_slice(from)));
        let walk = Walk { memtable: self, part, last, from, to, snapshot, chunk: Vec::new().into_iter() };
        Box::new(walk.map(Ok))
    }

    /// Of keys and values, and what it takes to keep them.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Of the last batch; 0 if there was none.
    pub(super) fn highest_sequence(&self) -> u64 {
        self.highest_sequence.load(Ordering::Relaxed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.highest_sequence() == 0
    }

    fn part_of(&self, head: u64) -> usize {
        let bits = self.parts.len().trailing_zeros();
        usize::try_from(head.checked_shr(u64::BITS - bits).unwrap_or(0)).expect("invariant: a part's number is small")
    }
}

/// A key, and its beginning beside it, by which nearly all keys of objects differ.
#[derive(PartialEq, Eq)]
struct Name {
    head: u64,
    key: Bytes,
}

/// The first eight bytes of a key, of which the first counts most.
fn head_of(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = key.len().min(8);
    head[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(head)
}

/// A key that is asked for.
struct Sought<'a> {
    head: u64,
    key: &'a [u8],
}

/// What both are ordered by, which is the order of the keys' bytes.
trait Named {
    fn name(&self) -> (u64, &[u8]);
}

impl Named for Name {
    fn name(&self) -> (u64, &[u8]) {
        (self.head, &self.key)
    }
}

impl Named for Sought<'_> {
    fn name(&self) -> (u64, &[u8]) {
        (self.head, self.key)
    }
}

impl Ord for dyn Named + '_ {
    fn cmp(&self, other: &Self) -> Order {
        self.name().cmp(&other.name())
    }
}

impl PartialOrd for dyn Named + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Named + '_ {}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Order {
        self.name().cmp(&other.name())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl<'a> Borrow<dyn Named + 'a> for Name {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

struct Row {
    latest: Version,
    /// What scans still need, newest first.
    older: Vec<Version>,
}

impl Row {
    /// Returns what is of no use any more.
    fn replace(&mut self, latest: Version, snapshots: &[u64]) -> SmallVec<[Version; 1]> {
        let before = std::mem::replace(&mut self.latest, latest);
        if snapshots.is_empty() && self.older.is_empty() {
            return smallvec![before];
        }
        let mut until = self.latest.sequence;
        let is_needed = |version: &Version| {
            let shown = version.sequence..std::mem::replace(&mut until, version.sequence);
            snapshots.iter().any(|snapshot| shown.contains(snapshot))
        };
        let older = std::mem::take(&mut self.older);
        let (needed, useless): (Vec<_>, Vec<_>) = std::iter::once(before).chain(older).partition(is_needed);
        self.older = needed;
        useless.into()
    }

    fn at(&self, snapshot: u64) -> Option<&Version> {
        std::iter::once(&self.latest).chain(&self.older).find(|version| version.sequence <= snapshot)
    }
}

/// Goes through a memtable in order, some rows at a time.
struct Walk<'a> {
    memtable: &'a Memtable,
    part: usize,
    last: usize,
    from: Bound<Bytes>,
    to: Option<&'a [u8]>,
    snapshot: u64,
    chunk: std::vec::IntoIter<InternalValue>,
}

impl Walk<'_> {
    /// Whether there may be more.
    fn take_chunk(&mut self) -> bool {
        let Some(part) = self.memtable.parts.get(self.part).filter(|_| self.part <= self.last) else { return false };
        let sought = |key| Sought { head: head_of(key), key };
        let (from, to) = (self.from.as_ref().map(|key| sought(key)), self.to.map(sought));
        let from = from.as_ref().map(|from| from as &dyn Named);
        let to = to.as_ref().map_or(Bound::Unbounded, |to| Bound::Excluded(to as &dyn Named));
        let (mut chunk, mut seen, mut last) = (Vec::new(), 0, None);
        let part = part.read();
        for (name, row) in part.range::<dyn Named, _>((from, to)).take(CHUNK_ROWS) {
            seen += 1;
            chunk.extend(row.at(self.snapshot).map(|version| internal(&name.key, version)));
            last = Some(&name.key);
        }
        if seen < CHUNK_ROWS {
            self.part += 1;
        }
        if let Some(last) = last {
            self.from = Bound::Excluded(last.clone());
        }
        self.chunk = chunk.into_iter();
        true
    }
}

impl Iterator for Walk<'_> {
    type Item = InternalValue;

    fn next(&mut self) -> Option<InternalValue> {
        loop {
            if let Some(row) = self.chunk.next() {
                return Some(row);
            }
            if !self.take_chunk() {
                return None;
            }
        }
    }
}

fn internal(key: &Bytes, version: &Version) -> InternalValue {
    match &version.value {
        Some(value) => InternalValue::from_components(key.clone(), value.clone(), version.sequence, ValueType::Value),
        None => InternalValue::new_tombstone(key.clone(), version.sequence),
    }
}

#[cfg(test)]
mod tests;
