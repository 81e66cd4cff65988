//! Envelopes that were written or read lately: one look-up by hash instead of a search through memtables and tables, and
//! without the checksum, which was verified when they came.
//!
//! It never holds what the engine would not give: a write enters when it is published, and what a reader found enters
//! only if no write of its stripe was queued or done since before it looked (see `Stripes::if_quiet`).

use std::hash::{BuildHasher, Hasher};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rondo_ring::Token;

/// What an entry costs beside its bytes: two handles, two reference counts, its place in the table, and what an allocator
/// rounds up. Measured with values of 100 bytes.
const ENTRY_BYTES: u64 = 256;
/// What an entry is expected to weigh, for the size of the table.
const EXPECTED_BYTES: u64 = 512;

pub(super) struct Recent {
    /// `None`: no memory was given to it.
    rows: Option<Cache<Bytes, Bytes, Weight, TokenHash>>,
}

impl Recent {
    pub(super) fn new(bytes_max: u64) -> Self {
        let items = usize::try_from(bytes_max / EXPECTED_BYTES).unwrap_or(usize::MAX);
        let cache = || Cache::with(items, bytes_max, Weight, TokenHash, quick_cache::sync::DefaultLifecycle::default());
        Self { rows: (bytes_max > 0).then(cache) }
    }

    /// A published envelope whose checksum held.
    pub(super) fn get(&self, row: &[u8]) -> Option<Bytes> {
        self.rows.as_ref()?.get(row)
    }

    /// `row` and `envelope` must not be slices of larger buffers: they would keep those in memory.
    pub(super) fn put(&self, row: Bytes, envelope: Bytes) {
        if let Some(rows) = &self.rows {
            rows.insert(row, envelope);
        }
    }

    /// Whether there is any use in [`put`](Self::put).
    pub(super) fn is_kept(&self) -> bool {
        self.rows.is_some()
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Bytes, Bytes> for Weight {
    fn weight(&self, row: &Bytes, envelope: &Bytes) -> u64 {
        ENTRY_BYTES + (row.len() + envelope.len()) as u64
    }
}

/// A row begins with its token, which is a hash already.
#[derive(Clone)]
struct TokenHash;

impl BuildHasher for TokenHash {
    type Hasher = FirstBytes;

    fn build_hasher(&self) -> FirstBytes {
        FirstBytes(0)
    }
}

struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(token) = bytes.first_chunk() {
            self.0 = u64::from_be_bytes(*token).rotate_left(size_of::<Token>() as u32 * 4);
        }
    }

    /// The length of a slice, which comes before its bytes.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u64) -> Bytes {
        let token = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
        [&token[..], b"fruit\0", n.to_string().as_bytes()].concat().into()
    }

    #[test]
    fn the_last_envelope_of_a_row_is_found() {
        let recent = Recent::new(1 << 20);
        for round in 0..3_u8 {
            for n in 0..100 {
                recent.put(row(n), Bytes::copy_from_slice(&[round; 20]));
            }
        }
        assert!((0..100).all(|n| recent.get(&row(n)).is_some_and(|found| found[..] == [2; 20])));
        assert_eq!(recent.get(&row(100)), None);
    }

    #[test]
    fn it_stays_within_its_memory() {
        let recent = Recent::new(1 << 20);
        let envelope = Bytes::from(vec![0; 1 << 10]);
        (0..10_000).for_each(|n| recent.put(row(n), envelope.clone()));
        let held = (0..10_000).filter(|&n| recent.get(&row(n)).is_some()).count();
        assert!((400..1_024).contains(&held), "{held}");
    }

    #[test]
    fn without_memory_it_holds_nothing() {
        let recent = Recent::new(0);
        recent.put(row(1), Bytes::new());
        assert_eq!((recent.get(&row(1)), recent.is_kept()), (None, false));
    }
}
