//! A small map that every node holds: bucket properties. Last writer wins by version, with tombstones (G5).
//!
//! A change travels as the entry that changed. Two registries that differ otherwise compare hashes of their parts, then
//! the versions in those parts, and send only the entries that one of them lacks.

use std::collections::BTreeMap;

use rondo_ring::NodeId;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::summary::Summary;

/// Parts that are compared on their own.
const BUCKETS: usize = 64;
/// Rows compared at once; the rest in the next comparison (G6).
const DIGESTS_MAX: usize = 1_024;
/// Bytes of entries sent at once, as far as one entry is not larger.
const ENTRIES_BYTES_MAX: usize = 256 << 10;

/// Hybrid time in µs, then the node that set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// Above that of every entry its writer had seen.
    pub time_us: u64,
    /// Breaks ties.
    pub node: NodeId,
}

/// One name and what was last said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Up to 255 bytes.
    pub name: String,
    /// Up to [`Registry::VALUE_BYTES_MAX`]; `None`: reset, and remembered as such.
    pub value: Option<String>,
    /// Which word is the last.
    pub version: Version,
}

impl Entry {
    /// The last word, also where two nodes with the same id and clock said different things.
    fn replaces(&self, held: &Self) -> bool {
        (self.version, &self.value) > (held.version, &held.value)
    }

    fn hash(&self) -> u64 {
        xxh3_64(&postcard::to_stdvec(self).expect("writing to a vector cannot fail"))
    }

    /// About what it takes on the wire.
    pub(crate) fn bytes(&self) -> usize {
        60 + self.name.len() + self.value.as_ref().map_or(0, String::len)
    }
}

/// A row of the registry, for comparing registries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryDigest {
    /// Of the entry.
    pub name: String,
    /// Of the entry.
    pub version: Version,
    /// Of the whole entry: two nodes with the same id and clock may have said different things.
    pub hash: u64,
}

/// The entry was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegistryError {
    /// G6.
    #[error("the registry holds {0} entries, which is the most allowed")]
    Full(usize),
    /// G6.
    #[error("a value of {0} bytes: up to {max} are allowed", max = Registry::VALUE_BYTES_MAX)]
    TooLarge(usize),
}

/// The map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    entries: BTreeMap<String, Entry>,
    summary: Summary,
    /// The latest of all versions, µs.
    latest_us: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), summary: Summary::new(BUCKETS), latest_us: 0 }
    }
}

impl Registry {
    /// Most entries, tombstones included.
    pub const ENTRIES_MAX: usize = 4_096;
    /// Largest value.
    pub const VALUE_BYTES_MAX: usize = 4_096;
    /// A clock more than this ahead of ours is not believed: it would make later words lose for ever.
    pub const DRIFT_US_MAX: u64 = 24 * 3_600 * 1_000_000;

    /// As it was persisted.
    pub fn restore(entries: Vec<Entry>) -> Self {
        let mut registry = Self::default();
        entries.into_iter().for_each(|entry| registry.put(entry));
        registry
    }

    fn put(&mut self, entry: Entry) {
        self.latest_us = self.latest_us.max(entry.version.time_us);
        let key = entry.name.as_bytes();
        self.summary.toggle(key, entry.hash());
        if let Some(held) = self.entries.get(&entry.name) {
            self.summary.toggle(key, held.hash());
        }
        self.entries.insert(entry.name.clone(), entry);
    }

    /// What was last said of a name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Everything, tombstones included, in order of names.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Says something new of a name: the entry to spread.
    pub fn set(
        &mut self,
        name: &str,
        value: Option<String>,
        node: NodeId,
        wall_us: u64,
    ) -> Result<Entry, RegistryError> {
        if !self.entries.contains_key(name) && self.entries.len() >= Self::ENTRIES_MAX {
            return Err(RegistryError::Full(Self::ENTRIES_MAX));
        }
        let bytes = value.as_ref().map_or(0, String::len);
        if bytes > Self::VALUE_BYTES_MAX {
            return Err(RegistryError::TooLarge(bytes));
        }
        let version = Version { time_us: wall_us.max(self.latest_us + 1), node };
        let entry = Entry { name: name.into(), value, version };
        self.put(entry.clone());
        Ok(entry)
    }

    /// Whether an entry says something new.
    pub fn lacks(&self, entry: &Entry) -> bool {
        self.entries.get(&entry.name).is_none_or(|held| entry.replaces(held))
    }

    /// Takes another node's entries; the names of those that changed something here.
    pub fn merge(&mut self, entries: Vec<Entry>, wall_us: u64) -> Vec<String> {
        let mut changed = Vec::new();
        for entry in entries.into_iter().take(Self::ENTRIES_MAX) {
            let believable = entry.version.time_us <= wall_us.saturating_add(Self::DRIFT_US_MAX)
                && entry.name.len() <= 255
                && entry.value.as_ref().is_none_or(|value| value.len() <= Self::VALUE_BYTES_MAX);
            let fits = self.entries.contains_key(&entry.name) || self.entries.len() < Self::ENTRIES_MAX;
            if believable && fits && self.lacks(&entry) {
                changed.push(entry.name.clone());
                self.put(entry);
            }
        }
        changed
    }

    /// Equal registries have equal digests.
    pub fn digest(&self) -> u64 {
        self.summary.total()
    }

    /// Hashes of the parts.
    pub fn hashes(&self) -> Vec<u64> {
        self.summary.hashes()
    }

    /// The rows of parts that differ from another registry's, as many parts as fit.
    pub fn digests(&self, theirs: &[u64]) -> (Vec<u8>, Vec<EntryDigest>) {
        let (mut buckets, mut digests) = (Vec::new(), Vec::new());
        for bucket in self.summary.differing(theirs) {
            let rows = self.rows(&[bucket]);
            if !buckets.is_empty() && digests.len() + rows.len() > DIGESTS_MAX {
                break;
            }
            buckets.push(bucket);
            digests.extend(rows);
        }
        (buckets, digests)
    }

    fn rows(&self, buckets: &[u8]) -> Vec<EntryDigest> {
        let of = |entry: &&Entry| buckets.contains(&self.summary.bucket_of(entry.name.as_bytes()));
        let row = |entry: &Entry| EntryDigest { name: entry.name.clone(), version: entry.version, hash: entry.hash() };
        self.entries.values().filter(of).map(row).collect()
    }

    /// Compares some parts with another registry's rows: the entries to send, as many as fit, and the names to ask for.
    pub fn compare(&self, buckets: &[u8], theirs: &[EntryDigest]) -> (Vec<Entry>, Vec<String>) {
        let theirs: BTreeMap<_, _> = theirs.iter().map(|row| (row.name.as_str(), (row.version, row.hash))).collect();
        let mut ours = BTreeMap::new();
        for row in self.rows(buckets) {
            ours.insert(row.name, (row.version, row.hash));
        }
        // Of the same version and different: each sends its own, and the same one wins on both.
        let differs = |one: (Version, u64), other: &(Version, u64)| one != *other && one.0 >= other.0;
        let newer =
            ours.iter().filter(|(name, row)| theirs.get(name.as_str()).is_none_or(|other| differs(**row, other)));
        let send = newer.map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let lacks = |(name, row): &(&&str, &(Version, u64))| ours.get(**name).is_none_or(|held| differs(**row, held));
        let ask = theirs.iter().filter(lacks).map(|(name, _)| (*name).to_string()).collect();
        (self.some(&send), ask)
    }

    /// The entries of these names, as many as fit into a message.
    pub fn some(&self, names: &[String]) -> Vec<Entry> {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.bytes();
            bytes <= ENTRIES_BYTES_MAX
        };
        names.iter().filter_map(|name| self.entries.get(name)).take_while(fits).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn nodes() -> [Registry; 3] {
        Default::default()
    }

    #[test]
    fn the_last_word_wins_whatever_the_order() {
        let [mut a, mut b, mut c] = nodes();
        let one = a.set("fruit", Some("1".into()), NodeId(1), NOW).unwrap();
        let two = b.set("fruit", Some("2".into()), NodeId(2), NOW).unwrap();
        let gone = b.set("herbs", None, NodeId(2), NOW).unwrap();
        for (registry, order) in
            [(&mut a, [&two, &gone, &one]), (&mut b, [&one, &two, &gone]), (&mut c, [&gone, &two, &one])]
        {
            for entry in order {
                registry.merge(vec![entry.clone()], NOW);
            }
        }
        assert_eq!((a.digest(), &a), (b.digest(), &c));
        assert_eq!(a.entries["fruit"].value.as_deref(), Some("2"));
    }

    #[test]
    fn a_later_word_wins_although_its_clock_is_behind() {
        let [mut a, mut b, _] = nodes();
        let first = a.set("fruit", Some("1".into()), NodeId(9), NOW).unwrap();
        b.merge(vec![first], 5);
        let second = b.set("fruit", Some("2".into()), NodeId(1), 5).unwrap();
        assert_eq!(a.merge(vec![second.clone()], NOW), ["fruit"]);
        assert!(a.merge(vec![second], NOW).is_empty(), "known");
        assert_eq!(a.entries["fruit"].value.as_deref(), Some("2"));
    }

    /// One comparison, started by `a`: rows compared, entries sent in both directions.
    fn compared(a: &mut Registry, b: &mut Registry) -> (usize, usize) {
        let (buckets, digests) = b.digests(&a.hashes());
        let (send, ask) = a.compare(&buckets, &digests);
        let answer = b.some(&ask);
        let sent = send.len() + answer.len();
        b.merge(send, NOW);
        a.merge(answer, NOW);
        (digests.len(), sent)
    }

    #[test]
    fn a_comparison_sends_only_what_the_other_lacks() {
        let [mut a, mut b, _] = nodes();
        for i in 0..Registry::ENTRIES_MAX - 2 {
            let shared = a.set(&format!("b{i}"), Some("{}".into()), NodeId(1), NOW).unwrap();
            b.merge(vec![shared], NOW);
        }
        a.set("y", Some("2".into()), NodeId(1), NOW).unwrap();
        a.set("b7", None, NodeId(1), NOW).unwrap();
        b.set("z", Some("3".into()), NodeId(2), NOW).unwrap();
        let (rows, sent) = compared(&mut a, &mut b);
        assert!(rows < 4 * Registry::ENTRIES_MAX / BUCKETS, "{rows}");
        assert_eq!((sent, a.digest()), (3, b.digest()));
        assert_eq!(compared(&mut a, &mut b), (0, 0));
    }

    #[test]
    fn a_node_that_knows_nothing_gets_everything_in_pieces() {
        let [mut a, mut b, _] = nodes();
        let value = "x".repeat(Registry::VALUE_BYTES_MAX);
        for i in 0..Registry::ENTRIES_MAX {
            a.set(&format!("b{i}"), Some(value.clone()), NodeId(1), NOW).unwrap();
        }
        for round in 0.. {
            let (_, sent) = if round % 2 == 0 { compared(&mut a, &mut b) } else { compared(&mut b, &mut a) };
            assert!(sent * Registry::VALUE_BYTES_MAX <= ENTRIES_BYTES_MAX);
            if a.digest() == b.digest() {
                break;
            }
            assert!(round < 200);
        }
        assert_eq!(a, b);
    }

    #[test]
    fn two_words_of_one_version_end_as_one() {
        let [mut a, mut b, _] = nodes();
        a.set("x", Some("1".into()), NodeId(1), NOW).unwrap();
        b.set("x", Some("2".into()), NodeId(1), NOW).unwrap();
        compared(&mut a, &mut b);
        assert_eq!((a.digest(), a.get("x").unwrap().value.as_deref()), (b.digest(), Some("2")));
    }

    #[test]
    fn a_clock_far_ahead_is_not_believed_and_the_size_is_bounded() {
        let mut a = Registry::default();
        let version = Version { time_us: NOW + Registry::DRIFT_US_MAX + 1, node: NodeId(1) };
        assert!(a.merge(vec![Entry { name: "x".into(), value: None, version }], NOW).is_empty());
        for i in 0..Registry::ENTRIES_MAX {
            a.set(&format!("b{i}"), None, NodeId(1), NOW).unwrap();
        }
        assert_eq!(a.set("one-more", None, NodeId(1), NOW), Err(RegistryError::Full(Registry::ENTRIES_MAX)));
        assert!(a.set("b0", Some("again".into()), NodeId(1), NOW).is_ok());
        let large = "x".repeat(Registry::VALUE_BYTES_MAX + 1);
        assert_eq!(a.set("b0", Some(large), NodeId(1), NOW), Err(RegistryError::TooLarge(4_097)));
    }
}
