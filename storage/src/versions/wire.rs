//! The spelling of numbers and contexts: one spelling per value, so that equal states are equal bytes (V5). What a
//! reader accepts is exactly what a writer makes.

use bytes::Bytes;

use super::context::Range;
use super::{ActorId, CausalContext, EnvelopeError};

type Result<T> = std::result::Result<T, EnvelopeError>;

/// Where bytes go. Two of them: one that counts and one that keeps, so that a buffer is sized by the very code that
/// fills it.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, byte: u8) {
        self.put(&[byte]);
    }

    fn put_u64(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    /// LEB128: seven bits a byte, the least significant first, the top bit set on all but the last.
    fn put_varint(&mut self, mut number: u64) {
        let mut bytes = [0; 10];
        let mut len = 0;
        while number >= 0x80 {
            bytes[len] = number as u8 | 0x80;
            number >>= 7;
            len += 1;
        }
        bytes[len] = number as u8;
        self.put(&bytes[..=len]);
    }

    /// Length, then the bytes.
    fn put_sized(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.put(bytes);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// How many bytes came.
#[derive(Default)]
pub(super) struct Length(pub(super) usize);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// Takes bytes apart from the front.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(EnvelopeError::Content("ends too early"))?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        let bytes = self.take(8)?.try_into().expect("take gives as many bytes as it was asked for");
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn varint(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(EnvelopeError::Content("a number above 64 bits"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                // A last byte of zero would be a second spelling of a shorter number.
                let longer_than_needed = byte == 0 && shift > 0;
                return if longer_than_needed {
                    Err(EnvelopeError::Content("an over-long number"))
                } else {
                    Ok(number)
                };
            }
        }
        Err(EnvelopeError::Content("a number above 64 bits"))
    }

    /// A count of things of at least `bytes_min` bytes each: one that cannot fit in what is left is refused before
    /// anything is allocated for it.
    pub(super) fn count(&mut self, bytes_min: usize) -> Result<usize> {
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() / bytes_min => Ok(count),
            _ => Err(EnvelopeError::Content("a count larger than its content")),
        }
    }

    pub(super) fn sized(&mut self) -> Result<&'a [u8]> {
        let len = self.count(1)?;
        self.take(len)
    }

    /// As [`sized`](Self::sized), as a slice that shares the memory of `whole`, which this reader reads.
    pub(super) fn sized_shared(&mut self, whole: &Bytes) -> Result<Bytes> {
        Ok(whole.slice_ref(self.sized()?))
    }

    pub(super) fn end(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(EnvelopeError::Content("bytes after the end")) }
    }
}

/// Number of actors; for each: its id, how many ranges, and for each range the distance from the end of the one before
/// and its length.
pub(super) fn put_context(sink: &mut impl Sink, context: &CausalContext) {
    sink.put_varint(context.actor_count() as u64);
    for ranges in context.ranges().chunk_by(|a, b| a.actor == b.actor) {
        sink.put_u64(ranges[0].actor.0);
        sink.put_varint(ranges.len() as u64);
        let mut before = 0;
        for range in ranges {
            sink.put_varint(range.after - before);
            sink.put_varint(range.upto - range.after);
            before = range.upto;
        }
    }
}

pub(super) fn read_context(reader: &mut Reader<'_>) -> Result<CausalContext> {
    let mut context = CausalContext::default();
    let mut actor_before = None;
    // An id, a count, a gap and a length.
    for _ in 0..reader.count(11)? {
        let actor = ActorId(reader.u64()?);
        if actor_before.is_some_and(|before| before >= actor) {
            return Err(EnvelopeError::Content("actors out of order"));
        }
        actor_before = Some(actor);
        read_ranges(reader, actor, &mut context)?;
    }
    Ok(context)
}

fn read_ranges(reader: &mut Reader<'_>, actor: ActorId, context: &mut CausalContext) -> Result<()> {
    let count = reader.count(2)?;
    if count == 0 {
        return Err(EnvelopeError::Content("an actor without a range"));
    }
    if context.len() + count > CausalContext::RANGES_MAX {
        return Err(EnvelopeError::Content("a context of too many ranges"));
    }
    let mut before = 0u64;
    for index in 0..count {
        let (gap, len) = (reader.varint()?, reader.varint()?);
        if len == 0 || (index > 0 && gap == 0) {
            return Err(EnvelopeError::Content("ranges that touch or are empty"));
        }
        let after = before.checked_add(gap);
        let ends = after.and_then(|after| Some((after, after.checked_add(len)?)));
        let (after, upto) = ends.ok_or(EnvelopeError::Content("a counter above 64 bits"))?;
        context.push(Range { actor, after, upto });
        before = upto;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_spelling() {
        for number in [0, 1, 127, 128, 16_383, 16_384, 1 << 51, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            bytes.put_varint(number);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint(), Ok(number));
            assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn over_long_and_over_large_numbers_are_refused() {
        for bytes in [&[0x80, 0x00][..], &[0xff, 0x80, 0x00], &[0xff; 11]] {
            assert!(Reader::new(bytes).varint().is_err(), "{bytes:x?}");
        }
        let mut above = vec![0xff; 9];
        above.push(0x02);
        assert_eq!(Reader::new(&above).varint(), Err(EnvelopeError::Content("a number above 64 bits")));
        assert!(Reader::new(&[0x80]).varint().is_err(), "cut in the middle");
    }

    #[test]
    fn a_count_is_held_against_what_is_left() {
        let mut bytes = Vec::new();
        bytes.put_varint(u64::MAX);
        assert!(Reader::new(&bytes).count(1).is_err());
        assert_eq!(Reader::new(&[2, 0, 0]).count(1), Ok(2));
        assert!(Reader::new(&[2, 0, 0]).count(2).is_err());
    }
}
