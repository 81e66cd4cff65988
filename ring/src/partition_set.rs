//! Some of the Q partitions.

use crate::ids::{PartitionCount, PartitionId, Token};

/// A set of partitions: one bit for each of the Q. Tells a token's membership in a few ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSet {
    of: PartitionCount,
    words: Vec<u64>,
}

impl PartitionSet {
    /// None of them.
    pub fn empty(of: PartitionCount) -> Self {
        Self { of, words: vec![0; usize::from(of.get()).div_ceil(64)] }
    }

    /// Q.
    pub fn of(&self) -> PartitionCount {
        self.of
    }

    /// Adds one. A partition beyond Q is none, and adds nothing.
    pub fn insert(&mut self, partition: PartitionId) {
        if partition.0 < self.of.get() {
            self.words[usize::from(partition.0) / 64] |= bit(partition);
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, partition: PartitionId) {
        if partition.0 < self.of.get() {
            self.words[usize::from(partition.0) / 64] &= !bit(partition);
        }
    }

    /// Whether it is in.
    pub fn contains(&self, partition: PartitionId) -> bool {
        self.words.get(usize::from(partition.0) / 64).is_some_and(|word| word & bit(partition) != 0)
    }

    /// Whether the token's partition is in.
    pub fn covers(&self, token: Token) -> bool {
        self.contains(self.of.partition_of(token))
    }

    /// How many are in.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether none is in.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Those that are in, in order.
    pub fn iter(&self) -> impl Iterator<Item = PartitionId> + '_ {
        (0..self.of.get()).map(PartitionId).filter(|partition| self.contains(*partition))
    }

    /// The bits, from partition 0 on, 64 to a number.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The set of these bits; `None` where they are too many or too few for Q, or name partitions beyond it.
    pub fn from_words(of: PartitionCount, words: Vec<u64>) -> Option<Self> {
        let beyond = u64::MAX.checked_shl(of.get().into()).unwrap_or(0);
        let fits = words.len() == usize::from(of.get()).div_ceil(64) && words.first()? & beyond == 0;
        fits.then_some(Self { of, words })
    }
}

fn bit(partition: PartitionId) -> u64 {
    1 << (partition.0 % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(q: u16, members: &[u16]) -> PartitionSet {
        let mut set = PartitionSet::empty(PartitionCount::new(q).unwrap());
        members.iter().for_each(|&partition| set.insert(PartitionId(partition)));
        set
    }

    #[test]
    fn what_was_put_in_is_in_and_nothing_else() {
        for q in [1, 2, 32, 64, 128, 16_384] {
            let last = q - 1;
            let mut some = set(q, &[0, last, q]);
            assert_eq!(some.len(), if q == 1 { 1 } else { 2 }, "{q}");
            assert!(some.contains(PartitionId(last)) && !some.contains(PartitionId(q)));
            assert!(some.covers(Token(0)) && some.covers(Token(u64::MAX)));
            assert_eq!(PartitionSet::from_words(some.of(), some.words().to_vec()).as_ref(), Some(&some));
            some.remove(PartitionId(0));
            some.remove(PartitionId(last));
            assert!(some.is_empty() && !some.covers(Token(0)));
        }
        assert_eq!(set(8, &[5, 1]).iter().collect::<Vec<_>>(), [PartitionId(1), PartitionId(5)]);
    }

    #[test]
    fn bits_that_are_no_set_are_refused() {
        let q = |q| PartitionCount::new(q).unwrap();
        assert_eq!(PartitionSet::from_words(q(8), vec![1 << 8]), None);
        assert_eq!(PartitionSet::from_words(q(8), vec![]), None);
        assert_eq!(PartitionSet::from_words(q(128), vec![1]), None);
        assert!(PartitionSet::from_words(q(64), vec![u64::MAX]).is_some());
    }
}
