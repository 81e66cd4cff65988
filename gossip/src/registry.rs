//! A small map that every node holds: bucket properties. Last writer wins by version, with tombstones (G5).

use std::collections::BTreeMap;

use rondo_ring::NodeId;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    entries: BTreeMap<String, Entry>,
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
        Self { entries: entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect() }
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
        let highest = self.entries.values().map(|entry| entry.version.time_us).max().unwrap_or(0);
        let version = Version { time_us: wall_us.max(highest + 1), node };
        let entry = Entry { name: name.into(), value, version };
        self.entries.insert(name.into(), entry.clone());
        Ok(entry)
    }

    /// Takes another node's entries; whether anything changed here.
    pub fn merge(&mut self, entries: Vec<Entry>, wall_us: u64) -> bool {
        let mut changed = false;
        for entry in entries.into_iter().take(Self::ENTRIES_MAX) {
            let believable = entry.version.time_us <= wall_us.saturating_add(Self::DRIFT_US_MAX)
                && entry.name.len() <= 255
                && entry.value.as_ref().is_none_or(|value| value.len() <= Self::VALUE_BYTES_MAX);
            let fits = self.entries.contains_key(&entry.name) || self.entries.len() < Self::ENTRIES_MAX;
            let newer = self.entries.get(&entry.name).is_none_or(|held| entry.replaces(held));
            if believable && fits && newer {
                self.entries.insert(entry.name.clone(), entry);
                changed = true;
            }
        }
        changed
    }

    /// What this registry has that is newer than `entries`.
    pub fn newer_than(&self, entries: &[Entry]) -> Vec<Entry> {
        let theirs: BTreeMap<_, _> = entries.iter().map(|entry| (&entry.name, entry)).collect();
        let newer = |held: &&Entry| theirs.get(&held.name).is_none_or(|theirs| held.replaces(theirs));
        self.entries.values().filter(newer).cloned().collect()
    }

    /// Equal registries have equal digests.
    pub fn digest(&self) -> u64 {
        let one = |entry: &Entry| xxh3_64(&postcard::to_stdvec(entry).expect("writing to a vector cannot fail"));
        self.entries.values().fold(0, |all, entry| xxh3_64(&[all.to_le_bytes(), one(entry).to_le_bytes()].concat()))
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
        assert!(a.merge(vec![second], NOW));
        assert_eq!(a.entries["fruit"].value.as_deref(), Some("2"));
    }

    #[test]
    fn an_exchange_sends_only_what_the_other_lacks() {
        let [mut a, mut b, _] = nodes();
        let shared = a.set("x", Some("1".into()), NodeId(1), NOW).unwrap();
        b.merge(vec![shared], NOW);
        a.set("y", Some("2".into()), NodeId(1), NOW).unwrap();
        let theirs: Vec<_> = b.entries().cloned().collect();
        assert_eq!(a.newer_than(&theirs).iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["y"]);
        assert!(a.newer_than(&a.entries().cloned().collect::<Vec<_>>()).is_empty());
    }

    #[test]
    fn a_clock_far_ahead_is_not_believed_and_the_size_is_bounded() {
        let mut a = Registry::default();
        let version = Version { time_us: NOW + Registry::DRIFT_US_MAX + 1, node: NodeId(1) };
        assert!(!a.merge(vec![Entry { name: "x".into(), value: None, version }], NOW));
        for i in 0..Registry::ENTRIES_MAX {
            a.set(&format!("b{i}"), None, NodeId(1), NOW).unwrap();
        }
        assert_eq!(a.set("one-more", None, NodeId(1), NOW), Err(RegistryError::Full(Registry::ENTRIES_MAX)));
        assert!(a.set("b0", Some("again".into()), NodeId(1), NOW).is_ok());
        let large = "x".repeat(Registry::VALUE_BYTES_MAX + 1);
        assert_eq!(a.set("b0", Some(large), NodeId(1), NOW), Err(RegistryError::TooLarge(4_097)));
    }
}
