//! A table in a few hashes: two nodes that compare them know which part of their tables differs.
//!
//! Each row's hash is xored into that of its bucket, so that a change costs the same whatever the size of the table.

use xxhash_rust::xxh3::xxh3_64;

/// Hashes of the buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary(Vec<u64>);

impl Summary {
    /// Of an empty table. At most 256 buckets.
    pub(crate) fn new(buckets: usize) -> Self {
        Self(vec![0; buckets])
    }

    /// The bucket of a row, by its key.
    pub(crate) fn bucket_of(&self, key: &[u8]) -> u8 {
        (xxh3_64(key) % self.0.len() as u64) as u8
    }

    /// Adds a row, or takes it away again.
    pub(crate) fn toggle(&mut self, key: &[u8], row: u64) {
        let bucket = self.bucket_of(key);
        self.0[usize::from(bucket)] ^= row;
    }

    /// One hash of all.
    pub(crate) fn total(&self) -> u64 {
        let bytes: Vec<u8> = self.0.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        xxh3_64(&bytes)
    }

    pub(crate) fn hashes(&self) -> Vec<u64> {
        self.0.clone()
    }

    /// The buckets in which another table differs; all of them where it is cut another way.
    pub(crate) fn differing(&self, theirs: &[u64]) -> Vec<u8> {
        let differs = |bucket: &usize| theirs.len() != self.0.len() || theirs[*bucket] != self.0[*bucket];
        (0..self.0.len()).filter(differs).map(|bucket| bucket as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_row_shows_in_its_bucket_only_and_is_forgotten_when_undone() {
        let mut one = Summary::new(32);
        (0..100_u8).for_each(|row| one.toggle(&[row], u64::from(row) * 77));
        let mut two = one.clone();
        two.toggle(&[5], 5 * 77);
        two.toggle(&[5], 6 * 77);
        assert_eq!(one.differing(&two.hashes()), [one.bucket_of(&[5])]);
        assert_ne!(one.total(), two.total());
        two.toggle(&[5], 6 * 77);
        two.toggle(&[5], 5 * 77);
        assert_eq!((one.total(), one.differing(&two.hashes()).len()), (two.total(), 0));
        assert_eq!(one.differing(&[1, 2]).len(), 32);
    }
}
