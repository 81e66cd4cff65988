//! How many hints there are, for whom and how old: kept in memory, counted anew when the store is opened.
//!
//! What is queued counts as kept until it fails, and what is being removed until that is durable: a hint that may be
//! there is never overlooked, neither by the bound nor by whoever asks for the oldest.

use std::collections::BTreeMap;

use rondo_ring::{NodeId, PartitionCount, PartitionId, Token};

/// Ages are told apart to about a second.
const AGE_SHIFT: u32 = 20;
/// Slices of the ring: as many as there can be partitions.
const SLICE_SHIFT: u32 = 64 - PartitionCount::MAX.trailing_zeros();

/// One hint, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) target: NodeId,
    pub(super) token: Token,
    pub(super) bytes: u64,
    pub(super) since_us: u64,
}

/// What is kept for one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintCount {
    /// How many hints.
    pub count: u64,
    /// Their rows, keys included.
    pub bytes: u64,
    /// When the oldest was kept, µs since 1970, to about a second and never later; 0 where there is none.
    pub oldest_us: u64,
}

#[derive(Debug, Default)]
struct Target {
    count: i64,
    bytes: i64,
    /// Hints by the second in which they were kept. Writes that failed may be taken out before they are put in.
    by_age: BTreeMap<u64, i64>,
}

/// Hints of one slice of the ring. The oldest is known exactly only until the first is removed: it is never too young.
#[derive(Debug, Default)]
struct Slice {
    count: i64,
    oldest_us: u64,
}

/// Sums over all of them.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    targets: BTreeMap<NodeId, Target>,
    slices: BTreeMap<u16, Slice>,
    bytes: i64,
}

impl Ledger {
    pub(super) fn add(&mut self, entry: Entry) {
        self.change(entry, 1);
        let slice = self.slices.entry(slice_of(entry.token)).or_default();
        slice.oldest_us = if slice.count <= 0 { entry.since_us } else { slice.oldest_us.min(entry.since_us) };
        slice.count += 1;
    }

    pub(super) fn remove(&mut self, entry: Entry) {
        self.change(entry, -1);
        let slice = slice_of(entry.token);
        let Some(left) = self.slices.get_mut(&slice) else { return };
        left.count -= 1;
        if left.count <= 0 {
            self.slices.remove(&slice);
        }
    }

    fn change(&mut self, entry: Entry, sign: i64) {
        let bytes = sign * entry.bytes as i64;
        self.bytes += bytes;
        let target = self.targets.entry(entry.target).or_default();
        target.count += sign;
        target.bytes += bytes;
        let second = entry.since_us >> AGE_SHIFT;
        let kept = target.by_age.entry(second).or_default();
        *kept += sign;
        if *kept == 0 {
            target.by_age.remove(&second);
        }
        if target.count == 0 && target.by_age.is_empty() {
            self.targets.remove(&entry.target);
        }
    }

    /// Of all of them together.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.max(0) as u64
    }

    pub(super) fn has(&self, target: NodeId) -> bool {
        self.targets.contains_key(&target)
    }

    pub(super) fn targets(&self) -> Vec<(NodeId, HintCount)> {
        let count = |target: &Target| HintCount {
            count: target.count.max(0) as u64,
            bytes: target.bytes.max(0) as u64,
            oldest_us: target.by_age.keys().next().map_or(0, |second| second << AGE_SHIFT),
        };
        self.targets.iter().map(|(&node, target)| (node, count(target))).collect()
    }

    /// When the oldest hint of the partition, or of any, was kept.
    pub(super) fn oldest(&self, partitions: PartitionCount, partition: Option<PartitionId>) -> Option<u64> {
        let (first, last) = match partition {
            Some(partition) => partitions.tokens(partition),
            None => (Token(0), Token(u64::MAX)),
        };
        let slices = self.slices.range(slice_of(first)..=slice_of(last));
        slices.map(|(_, slice)| slice.oldest_us).min()
    }
}

fn slice_of(token: Token) -> u16 {
    (token.0 >> SLICE_SHIFT) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1 << AGE_SHIFT;

    fn entry(target: u128, token: u64, bytes: u64, seconds: u64) -> Entry {
        Entry { target: NodeId(target), token: Token(token), bytes, since_us: seconds * SECOND + 5 }
    }

    #[test]
    fn what_is_added_and_removed_is_counted() {
        let mut ledger = Ledger::default();
        ledger.add(entry(1, 0, 100, 3));
        ledger.add(entry(1, u64::MAX, 50, 7));
        ledger.add(entry(2, 0, 7, 5));
        let count = |count, bytes, seconds| HintCount { count, bytes, oldest_us: seconds * SECOND };
        assert_eq!(ledger.targets(), [(NodeId(1), count(2, 150, 3)), (NodeId(2), count(1, 7, 5))]);
        ledger.remove(entry(1, 0, 100, 3));
        assert_eq!((ledger.targets()[0].1, ledger.bytes()), (count(1, 50, 7), 57));
        ledger.remove(entry(1, u64::MAX, 50, 7));
        ledger.remove(entry(2, 0, 7, 5));
        assert!(ledger.targets.is_empty() && ledger.slices.is_empty() && ledger.bytes() == 0);
    }

    /// Of writes that were built on each other and failed, the first is taken back first.
    #[test]
    fn failures_come_in_any_order() {
        let (first, second) = (entry(1, 0, 100, 3), entry(1, 0, 80, 4));
        let mut ledger = Ledger::default();
        ledger.add(first);
        ledger.remove(first);
        ledger.add(second);
        ledger.remove(first);
        ledger.remove(second);
        ledger.add(first);
        assert!(ledger.targets.is_empty() && ledger.bytes() == 0, "{ledger:?}");
    }

    #[test]
    fn the_oldest_of_a_partition_is_never_too_young() {
        let partitions = PartitionCount::new(4).unwrap();
        let mut ledger = Ledger::default();
        assert_eq!(ledger.oldest(partitions, None), None);
        ledger.add(entry(1, 0, 1, 9));
        ledger.add(entry(1, 1 << 62, 1, 4));
        ledger.add(entry(2, 1, 1, 6));
        let oldest = |ledger: &Ledger, partition| ledger.oldest(partitions, partition).map(|us| us / SECOND);
        assert_eq!(oldest(&ledger, None), Some(4));
        assert_eq!(oldest(&ledger, Some(PartitionId(0))), Some(6));
        assert_eq!(oldest(&ledger, Some(PartitionId(1))), Some(4));
        assert_eq!(oldest(&ledger, Some(PartitionId(3))), None);
        ledger.remove(entry(1, 1 << 62, 1, 4));
        assert_eq!(oldest(&ledger, Some(PartitionId(1))), None);
        ledger.remove(entry(2, 1, 1, 6));
        assert_eq!(oldest(&ledger, Some(PartitionId(0))), Some(6), "older than it is, and never younger");
    }
}
