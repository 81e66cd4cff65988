//! The bytes of an object, on disk and between peers. Byte table: `docs/formats.md`.

use bytes::Bytes;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use super::wire::{self, Length, Reader, Sink};
use super::{CausalContext, Dot, Metadata, Sibling};

/// Why bytes are not an object. Whoever meets it treats the object as unknown here, never as missing.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum EnvelopeError {
    #[error("envelope too short")]
    Short,
    #[error("envelope of format {0}; this release reads up to {1}")]
    Version(u8, u8),
    #[error("envelope checksum does not match")]
    Checksum,
    #[error("envelope content: {0}")]
    Content(&'static str),
}

/// The format this release writes, and the only one so far.
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 8;
/// Version, no actor, no sibling, checksum.
const BYTES_MIN: usize = 1 + 1 + 1 + CHECKSUM_BYTES;
/// Actor, distance, flags, time: the smallest sibling.
const SIBLING_BYTES_MIN: usize = 1 + 1 + 1 + 8;

/// What a sibling has. The rest of the bits is for later formats: set, they are refused.
const VALUE: u8 = 1;
const CONTENT_TYPE: u8 = 2;
const CONTENT_ENCODING: u8 = 4;
const USER: u8 = 8;
const EXPIRES: u8 = 16;
const WRITE_ID: u8 = 32;
const FLAGS: u8 = VALUE | CONTENT_TYPE | CONTENT_ENCODING | USER | EXPIRES | WRITE_ID;

/// `siblings` in the order of their dots.
pub(super) fn encode(context: &CausalContext, siblings: &[&Sibling]) -> Bytes {
    let mut length = Length::default();
    put(&mut length, context, siblings);
    let mut buffer = Vec::with_capacity(length.0 + CHECKSUM_BYTES);
    put(&mut buffer, context, siblings);
    let checksum = xxh3_64(&buffer);
    buffer.put_u64(checksum);
    Bytes::from(buffer)
}

/// What an envelope holds.
type Content = (CausalContext, SmallVec<[Sibling; 1]>);

/// Everything checked: what comes out encodes to the same bytes again.
pub(super) fn decode(envelope: &Bytes) -> Result<Content, EnvelopeError> {
    let body = body_of(envelope)?;
    if checksum_of(envelope) != Some(xxh3_64(&envelope[..body])) {
        return Err(EnvelopeError::Checksum);
    }
    decode_verified(envelope)
}

/// How many bytes stand before the checksum.
fn body_of(envelope: &[u8]) -> Result<usize, EnvelopeError> {
    let body = envelope.len().checked_sub(CHECKSUM_BYTES).ok_or(EnvelopeError::Short)?;
    match envelope[0] {
        VERSION if envelope.len() < BYTES_MIN => Err(EnvelopeError::Short),
        VERSION => Ok(body),
        other => Err(EnvelopeError::Version(other, VERSION)),
    }
}

/// The same without the checksum: the bytes of the values are not looked at.
pub(super) fn decode_verified(envelope: &Bytes) -> Result<Content, EnvelopeError> {
    let body = body_of(envelope)?;
    let mut reader = Reader::new(&envelope[1..body]);
    let context = wire::read_context(&mut reader)?;
    let actors: SmallVec<[_; 4]> = context.actors().collect();
    let mut siblings = SmallVec::<[Sibling; 1]>::new();
    for _ in 0..reader.count(SIBLING_BYTES_MIN)? {
        let dot = read_dot(&mut reader, &actors)?;
        if !context.contains(dot) {
            return Err(EnvelopeError::Content("a sibling its context does not cover"));
        }
        if siblings.last().is_some_and(|before| before.dot >= dot) {
            return Err(EnvelopeError::Content("siblings out of order"));
        }
        siblings.push(read_sibling(&mut reader, dot, envelope)?);
    }
    reader.end()?;
    Ok((context, siblings))
}

/// The last eight bytes of an envelope.
pub(super) fn checksum_of(envelope: &[u8]) -> Option<u64> {
    match envelope.last_chunk() {
        Some(bytes) if envelope.len() >= BYTES_MIN => Some(u64::from_le_bytes(*bytes)),
        _ => None,
    }
}

fn put(sink: &mut impl Sink, context: &CausalContext, siblings: &[&Sibling]) {
    sink.put_u8(VERSION);
    wire::put_context(sink, context);
    sink.put_varint(siblings.len() as u64);
    for sibling in siblings {
        put_dot(sink, context, sibling.dot);
        put_sibling(sink, sibling);
    }
}

/// By the actor's place in the context and the distance from its highest counter: two bytes for most siblings.
fn put_dot(sink: &mut impl Sink, context: &CausalContext, dot: Dot) {
    let place = context.actors().position(|(actor, _)| actor == dot.actor);
    sink.put_varint(place.expect("an object's context covers the dots of its siblings") as u64);
    sink.put_varint(context.highest(dot.actor) - dot.counter);
}

fn read_dot(reader: &mut Reader<'_>, actors: &[(super::ActorId, u64)]) -> Result<Dot, EnvelopeError> {
    let (place, distance) = (reader.varint()?, reader.varint()?);
    let found = usize::try_from(place).ok().and_then(|place| actors.get(place));
    let &(actor, highest) = found.ok_or(EnvelopeError::Content("a sibling of an unknown actor"))?;
    let counter = highest.checked_sub(distance).ok_or(EnvelopeError::Content("a counter below zero"))?;
    Ok(Dot { actor, counter })
}

fn put_sibling(sink: &mut impl Sink, sibling: &Sibling) {
    let metadata = &sibling.metadata;
    sink.put_u8(flags_of(sibling));
    sink.put_u64(metadata.modified_us);
    if metadata.expires_us != 0 {
        sink.put_u64(metadata.expires_us);
    }
    if metadata.write_id != 0 {
        sink.put_u64(metadata.write_id);
    }
    for text in [&metadata.content_type, &metadata.content_encoding] {
        if !text.is_empty() {
            sink.put_sized(text);
        }
    }
    if !metadata.user.is_empty() {
        sink.put_varint(metadata.user.len() as u64);
        // Sorted here as well: a caller's order must not become a second spelling.
        let mut user: SmallVec<[&(Bytes, Bytes); 8]> = metadata.user.iter().collect();
        user.sort_unstable();
        for (name, value) in user {
            sink.put_sized(name);
            sink.put_sized(value);
        }
    }
    if let Some(value) = &sibling.value {
        sink.put_sized(value);
    }
}

fn flags_of(sibling: &Sibling) -> u8 {
    let metadata = &sibling.metadata;
    let has = [
        (sibling.value.is_some(), VALUE),
        (!metadata.content_type.is_empty(), CONTENT_TYPE),
        (!metadata.content_encoding.is_empty(), CONTENT_ENCODING),
        (!metadata.user.is_empty(), USER),
        (metadata.expires_us != 0, EXPIRES),
        (metadata.write_id != 0, WRITE_ID),
    ];
    has.iter().filter(|(has, _)| *has).fold(0, |flags, (_, flag)| flags | flag)
}

fn read_sibling(reader: &mut Reader<'_>, dot: Dot, whole: &Bytes) -> Result<Sibling, EnvelopeError> {
    let flags = reader.u8()?;
    if flags & !FLAGS != 0 {
        return Err(EnvelopeError::Content("unknown flags"));
    }
    let has = |flag: u8| flags & flag != 0;
    let metadata = Metadata {
        modified_us: reader.u64()?,
        expires_us: if has(EXPIRES) { non_zero(reader)? } else { 0 },
        write_id: if has(WRITE_ID) { non_zero(reader)? } else { 0 },
        content_type: if has(CONTENT_TYPE) { non_empty(reader, whole)? } else { Bytes::new() },
        content_encoding: if has(CONTENT_ENCODING) { non_empty(reader, whole)? } else { Bytes::new() },
        user: if has(USER) { read_user(reader, whole)? } else { SmallVec::new() },
    };
    let value = if has(VALUE) { Some(reader.sized_shared(whole)?) } else { None };
    Ok(Sibling { dot, value, metadata })
}

fn non_zero(reader: &mut Reader<'_>) -> Result<u64, EnvelopeError> {
    match reader.u64()? {
        0 => Err(EnvelopeError::Content("a flag without its number")),
        number => Ok(number),
    }
}

fn non_empty(reader: &mut Reader<'_>, whole: &Bytes) -> Result<Bytes, EnvelopeError> {
    let text = reader.sized_shared(whole)?;
    if text.is_empty() { Err(EnvelopeError::Content("a flag without its text")) } else { Ok(text) }
}

fn read_user(reader: &mut Reader<'_>, whole: &Bytes) -> Result<SmallVec<[(Bytes, Bytes); 0]>, EnvelopeError> {
    let count = reader.count(2)?;
    if count == 0 {
        return Err(EnvelopeError::Content("a flag without its metadata"));
    }
    let mut user = SmallVec::with_capacity(count);
    for _ in 0..count {
        user.push((reader.sized_shared(whole)?, reader.sized_shared(whole)?));
    }
    if user.is_sorted() { Ok(user) } else { Err(EnvelopeError::Content("user metadata out of order")) }
}
