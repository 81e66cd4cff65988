//! One record of the commit log: a group of batches under one checksum. The byte table is in `docs/formats.md`.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::engine::{Batch, Keyspace, Write};

/// Starts every record, so that a search for a later record after damage is cheap.
pub(super) const MAGIC: [u8; 4] = *b"RREC";
/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 40;
/// From here on the checksum covers everything.
const COVERED_FROM: usize = 16;
/// Sequence number and number of writes.
const BATCH_HEADER_BYTES: usize = 12;
/// Keyspace, kind, key length, value length.
const WRITE_HEADER_BYTES: usize = 8;

const KIND_REMOVE: u8 = 0;
const KIND_SET: u8 = 1;

/// Which life of a log file, and where in it: a record is valid nowhere else, so what a recycled file still holds of
/// its earlier life can never be taken for a record of this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

impl Place {
    fn seed(self) -> u64 {
        // Odd multiplier: distinct segments give distinct seeds at every offset.
        self.segment.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ self.offset
    }
}

/// Starts a record in `buffer`; batches follow with [`push_batch`].
pub(super) fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(HEADER_BYTES, 0);
}

/// Adds one batch under its sequence number. This is the one copy a value gets on its way to the disk.
pub(super) fn push_batch(buffer: &mut Vec<u8>, sequence: u64, batch: &Batch) {
    let count = u32::try_from(batch.len()).expect("invariant: a batch fits into the queue's bytes");
    buffer.extend_from_slice(&sequence.to_le_bytes());
    buffer.extend_from_slice(&count.to_le_bytes());
    for write in batch {
        let key_len = u16::try_from(write.key.len()).expect("invariant: submit checked the key's length");
        let value = write.value.as_deref();
        let value_len = u32::try_from(value.map_or(0, <[u8]>::len)).expect("invariant: submit checked the value");
        buffer.extend_from_slice(&[write.keyspace as u8, if value.is_some() { KIND_SET } else { KIND_REMOVE }]);
        buffer.extend_from_slice(&key_len.to_le_bytes());
        buffer.extend_from_slice(&value_len.to_le_bytes());
        buffer.extend_from_slice(&write.key);
        buffer.extend_from_slice(value.unwrap_or_default());
    }
}

/// Fills in the header once the record's place is known. `durable_to` is how much of the segment was on disk before.
pub(super) fn seal(buffer: &mut [u8], place: Place, durable_to: u64, last_sequence: u64, batches: u32) {
    let payload = u32::try_from(buffer.len() - HEADER_BYTES).expect("invariant: a group is far below 4 GiB");
    buffer[..4].copy_from_slice(&MAGIC);
    buffer[4..8].copy_from_slice(&payload.to_le_bytes());
    buffer[16..24].copy_from_slice(&durable_to.to_le_bytes());
    buffer[24..32].copy_from_slice(&last_sequence.to_le_bytes());
    buffer[32..36].copy_from_slice(&batches.to_le_bytes());
    buffer[36..40].fill(0);
    let checksum = xxh3_64_with_seed(&buffer[COVERED_FROM..], place.seed());
    buffer[8..16].copy_from_slice(&checksum.to_le_bytes());
}

/// A record whose checksum held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// Everything before this offset was on disk when the record was written.
    pub(super) durable_to: u64,
    /// The highest sequence number in it.
    pub(super) last_sequence: u64,
    payload: &'a [u8],
    batches: u32,
}

impl<'a> Record<'a> {
    /// The record at the start of `bytes`, if it is whole and belongs to `place`.
    pub(super) fn read(bytes: &'a [u8], place: Place) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?;
        if header[..4] != MAGIC {
            return None;
        }
        let end = HEADER_BYTES + usize::try_from(u32_at(header, 4)).ok()?;
        let covered = bytes.get(COVERED_FROM..end)?;
        if xxh3_64_with_seed(covered, place.seed()) != u64_at(header, 8) {
            return None;
        }
        let payload = &bytes[HEADER_BYTES..end];
        Some(Self {
            durable_to: u64_at(header, 16),
            last_sequence: u64_at(header, 24),
            payload,
            batches: u32_at(header, 32),
        })
    }

    /// Length in the file.
    pub(super) fn bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// Hands every write to `apply`, in order, with its batch's sequence number. Keys and values are copied: what is
    /// kept of a log file must not hold the rest of it in memory.
    ///
    /// # Errors
    /// What is wrong with a payload whose checksum held: it was written by something else than this program.
    pub(super) fn replay(&self, mut apply: impl FnMut(u64, Write) -> Result<(), String>) -> Result<(), String> {
        let mut rest = self.payload;
        for _ in 0..self.batches {
            let header = take(&mut rest, BATCH_HEADER_BYTES)?;
            let sequence = u64_at(header, 0);
            for _ in 0..u32_at(header, 8) {
                apply(sequence, take_write(&mut rest)?)?;
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes follow the last batch", rest.len())) }
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], String> {
    let (head, tail) = rest.split_at_checked(len).ok_or_else(|| "a batch ends early".to_owned())?;
    *rest = tail;
    Ok(head)
}

fn take_write(rest: &mut &[u8]) -> Result<Write, String> {
    let header = take(rest, WRITE_HEADER_BYTES)?;
    let keyspace = *Keyspace::ALL
        .get(usize::from(header[0]))
        .ok_or_else(|| format!("keyspace {} is not known to this version", header[0]))?;
    let key_len = usize::from(u16::from_le_bytes([header[2], header[3]]));
    let value_len = u32_at(header, 4) as usize;
    let key = Bytes::copy_from_slice(take(rest, key_len)?);
    let value = Bytes::copy_from_slice(take(rest, value_len)?);
    match header[1] {
        KIND_SET => Ok(Write { keyspace, key, value: Some(value) }),
        KIND_REMOVE => Ok(Write { keyspace, key, value: None }),
        kind => Err(format!("kind {kind} of a write is not known to this version")),
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("invariant: four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("invariant: eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(place: Place) -> Vec<u8> {
        let set =
            Write { keyspace: Keyspace::Objects, key: Bytes::from_static(b"k"), value: Some(Bytes::from_static(b"v")) };
        let remove = Write { keyspace: Keyspace::Names, key: Bytes::from_static(b"gone"), value: None };
        let mut buffer = Vec::new();
        begin(&mut buffer);
        push_batch(&mut buffer, 7, &Batch::from_vec(vec![set, remove]));
        push_batch(&mut buffer, 9, &Batch::new());
        seal(&mut buffer, place, 4096, 9, 2);
        buffer
    }

    #[test]
    fn a_record_reads_back_at_its_place_and_nowhere_else() {
        let place = Place { segment: 3, offset: 4096 };
        let buffer = sample(place);
        let record = Record::read(&buffer, place).unwrap();
        let mut seen = Vec::new();
        record
            .replay(|sequence, write| {
                seen.push((sequence, write.keyspace, write.key.clone(), write.value.clone()));
                Ok(())
            })
            .unwrap();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0], (7, Keyspace::Objects, Bytes::from_static(b"k"), Some(Bytes::from_static(b"v"))));
        assert_eq!(seen[1], (7, Keyspace::Names, Bytes::from_static(b"gone"), None));
        assert_eq!(record.last_sequence, 9);
        assert_eq!((record.durable_to, record.bytes()), (4096, buffer.len()));
        assert!(Record::read(&buffer, Place { segment: 4, offset: 4096 }).is_none());
        assert!(Record::read(&buffer, Place { segment: 3, offset: 4097 }).is_none());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let place = Place { segment: 1, offset: 8192 };
        let buffer = sample(place);
        for bit in 0..buffer.len() * 8 {
            let mut damaged = buffer.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::read(&damaged, place).is_none(), "bit {bit}");
        }
        for len in 0..buffer.len() {
            assert!(Record::read(&buffer[..len], place).is_none(), "cut at {len}");
        }
    }
}
