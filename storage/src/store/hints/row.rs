//! The bytes of a hint at rest (`docs/formats.md`).

use bytes::Bytes;
use rondo_ring::{NodeId, Token};
use xxhash_rust::xxh3::xxh3_64;

use crate::Key;
use crate::versions::Object;

const FORMAT: u8 = 1;
/// Format and time, then their checksum.
const TIMED: usize = 9;
pub(super) const HEADER: usize = TIMED + 8;
const TARGET: usize = size_of::<NodeId>();

/// Where the hint for a node and a row is kept: target (16 bytes, big-endian) ‖ row key.
pub(super) fn row_of(target: NodeId, row: &[u8]) -> Bytes {
    [&target.0.to_be_bytes(), row].concat().into()
}

/// The first row of a target, and the first one behind all of its rows.
pub(super) fn bounds(target: NodeId, after: Option<&[u8]>) -> (Vec<u8>, Option<Vec<u8>>) {
    let from = match after {
        Some(after) => [&target.0.to_be_bytes(), after, &[0]].concat(),
        None => target.0.to_be_bytes().to_vec(),
    };
    (from, target.0.checked_add(1).map(|next| next.to_be_bytes().to_vec()))
}

/// Whom a row is kept for, and the key of what is kept; `None` where it is no row of hints.
pub(super) fn names(row: &Bytes) -> Option<(NodeId, Key)> {
    let target = row.get(..TARGET)?.try_into().ok().map(u128::from_be_bytes)?;
    Some((NodeId(target), Key::from_row(row.slice(TARGET..)).ok()?))
}

/// The token in a row's key, without a look at the rest.
pub(super) fn token_of(row: &[u8]) -> Option<Token> {
    Some(Token(u64::from_be_bytes(row.get(TARGET..TARGET + 8)?.try_into().ok()?)))
}

/// A hint as it was kept.
#[derive(Clone, Debug)]
pub(in crate::store) struct Held {
    /// When the oldest write in it was kept, µs since 1970.
    pub(super) since_us: u64,
    pub(super) envelope: Bytes,
    pub(super) object: Object,
}

pub(super) fn encode(since_us: u64, envelope: &[u8]) -> Bytes {
    let mut value = Vec::with_capacity(HEADER + envelope.len());
    value.push(FORMAT);
    value.extend_from_slice(&since_us.to_le_bytes());
    value.extend_from_slice(&xxh3_64(&value).to_le_bytes());
    value.extend_from_slice(envelope);
    value.into()
}

/// When it was kept; `None` where the header is not one of this format.
pub(super) fn since(value: &[u8]) -> Option<u64> {
    let (timed, sum) = (value.get(..TIMED)?, value.get(TIMED..HEADER)?);
    let whole = timed[0] == FORMAT && sum == xxh3_64(timed).to_le_bytes();
    whole.then(|| u64::from_le_bytes(timed[1..].try_into().expect("nine bytes less one are eight")))
}

/// `None` where the value is damaged.
pub(super) fn decode(value: &Bytes) -> Option<Held> {
    let since_us = since(value)?;
    let envelope = value.slice(HEADER..);
    Some(Held { since_us, object: Object::decode(&envelope).ok()?, envelope })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versions::{ActorId, CausalContext, Dot, Metadata, Sibling};

    fn envelope() -> Bytes {
        let mut object = Object::default();
        let dot = Dot { actor: ActorId(1), counter: 2 };
        let sibling = Sibling { dot, value: Some("v".into()), metadata: Metadata::default() };
        object.update(&CausalContext::default(), sibling);
        object.encode()
    }

    /// As `docs/formats.md` has it: a hint kept by an earlier build must still be delivered.
    #[test]
    fn the_format_is_the_documented_one() {
        let value = encode(0x0102_0304_0506_0708, b"envelope");
        let sum = xxh3_64(&value[..9]).to_le_bytes();
        assert_eq!(value[..9], [1, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!((&value[9..17], &value[17..]), (&sum[..], &b"envelope"[..]));
        let key = Key::new("b", "k").unwrap();
        let row = row_of(NodeId(0xab), key.row());
        assert_eq!((row[15], &row[16..]), (0xab, &key.row()[..]));
        assert_eq!(names(&row), Some((NodeId(0xab), key.clone())));
        assert_eq!(token_of(&row), Some(key.token()));
    }

    #[test]
    fn any_changed_byte_makes_it_unreadable() {
        let value = encode(77, &envelope());
        assert_eq!(decode(&value).unwrap().since_us, 77);
        for at in 0..value.len() {
            let mut changed = value.to_vec();
            changed[at] ^= 1;
            assert!(decode(&changed.into()).is_none(), "byte {at}");
        }
        assert!(decode(&Bytes::new()).is_none() && names(&Bytes::from_static(b"short")).is_none());
    }

    #[test]
    fn a_targets_rows_are_one_range() {
        let (from, to) = bounds(NodeId(7), None);
        let row = row_of(NodeId(7), b"x");
        assert!(from[..] <= row[..] && row[..] < to.unwrap()[..]);
        let (behind, _) = bounds(NodeId(7), Some(b"x"));
        assert!(row[..] < behind[..] && behind[..] < row_of(NodeId(7), b"x\0\0")[..]);
        assert_eq!(bounds(NodeId(u128::MAX), None).1, None);
    }
}
