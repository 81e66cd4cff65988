//! The bounded, checked pieces that peer messages are made of. Numbers are little-endian; lengths are LEB128 in at
//! most five bytes. What is read is sliced from the buffer, never copied.

use bytes::{Buf, Bytes};
use rondo_storage::Key;
use rondo_storage::key::KeyError;
use rondo_storage::versions::EnvelopeError;

/// Why bytes from a peer are no message. Nothing was done.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WireError {
    /// Of another release.
    #[error("peer message of format {0}; this release reads {VERSION}")]
    Version(u8),
    /// It ends too early.
    #[error("peer message cut short")]
    Short,
    /// A length beyond its bound.
    #[error("{what} of {len} bytes; at most {max} are allowed")]
    TooLong {
        /// Of what.
        what: &'static str,
        /// As it was given.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// A value with no meaning.
    #[error("peer message with a bad {0}")]
    Value(&'static str),
    /// No object has that name.
    #[error("peer message: {0}")]
    Key(#[from] KeyError),
    /// No causal context.
    #[error("peer message: {0}")]
    Context(#[from] EnvelopeError),
}

/// Format of the messages.
pub const VERSION: u8 = 1;
/// Longest object or value, in bytes: what the engine takes at most.
pub const OBJECT_BYTES_MAX: usize = 64 << 20;
/// Longest text of the metadata, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 16 << 10;
/// Longest encoded context, in bytes.
pub(crate) const CONTEXT_BYTES_MAX: usize = 64 << 10;
const ROW_BYTES_MAX: usize = 8 + Key::BUCKET_BYTES_MAX + 1 + Key::KEY_BYTES_MAX;

pub(crate) fn put_len(out: &mut Vec<u8>, len: usize) {
    let mut rest = len as u32;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

pub(crate) fn put_key(out: &mut Vec<u8>, key: &Key) {
    put_bytes(out, key.row());
}

pub(crate) fn take_u8(input: &mut Bytes) -> Result<u8, WireError> {
    input.try_get_u8().map_err(|_| WireError::Short)
}

pub(crate) fn take_u16(input: &mut Bytes) -> Result<u16, WireError> {
    input.try_get_u16_le().map_err(|_| WireError::Short)
}

pub(crate) fn take_u32(input: &mut Bytes) -> Result<u32, WireError> {
    input.try_get_u32_le().map_err(|_| WireError::Short)
}

pub(crate) fn take_u64(input: &mut Bytes) -> Result<u64, WireError> {
    input.try_get_u64_le().map_err(|_| WireError::Short)
}

pub(crate) fn take_len(input: &mut Bytes) -> Result<usize, WireError> {
    let mut len = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = take_u8(input)?;
        len |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(len).map_err(|_| WireError::Value("length"));
        }
    }
    Err(WireError::Value("length"))
}

pub(crate) fn take_bytes(input: &mut Bytes, what: &'static str, max: usize) -> Result<Bytes, WireError> {
    let len = take_len(input)?;
    if len > max {
        return Err(WireError::TooLong { what, len, max });
    }
    if len > input.len() {
        return Err(WireError::Short);
    }
    Ok(input.split_to(len))
}

pub(crate) fn take_key(input: &mut Bytes) -> Result<Key, WireError> {
    Ok(Key::from_row(take_bytes(input, "key", ROW_BYTES_MAX)?)?)
}
