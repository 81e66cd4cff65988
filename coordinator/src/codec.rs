//! The bytes of peer messages: format version, kind, fields. A message says where it ends, so that several can stand
//! in one body. An object or value is copied once, into the buffer it is sent from, and not at all when received.

mod list;

use bytes::Bytes;
use rondo_ring::{NodeId, ReplicationFactor};
use rondo_storage::engine::Durability;
use rondo_storage::store::{BlindPut, Change, Condition, Ttl};
use rondo_storage::versions::{ActorId, CausalContext, Conflict, Dot, ETag, Metadata};
use smallvec::SmallVec;

use crate::answer::{Failure, Outcome, WriteAnswer};
use crate::bucket::QuorumKind;
use crate::choice::QuorumChoice;
use crate::message::{ForwardedWrite, Refusal, ReplicaReply, ReplicaRequest, ReplicaValue, Want};
use crate::wire::{
    CONTEXT_BYTES_MAX, OBJECT_BYTES_MAX, TEXT_BYTES_MAX, VERSION, WireError, put_bytes, put_key, put_len, take_bytes,
    take_key, take_len, take_u8, take_u16, take_u32, take_u64,
};

/// Most `Rondo-Meta-*` fields.
const USER_FIELDS_MAX: usize = 64;
/// Longer than the text of any ETag.
const ETAG_BYTES_MAX: usize = 64;
/// More than the fixed fields of any message take, key and metadata texts aside.
const OVERHEAD_BYTES: usize = 128;

impl ReplicaRequest {
    /// Appends its bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.reserve(self.bytes_expected());
        match self {
            Self::Merge { key, object, durability } => {
                out.extend_from_slice(&[VERSION, 1, durability_code(*durability)]);
                put_key(out, key);
                put_bytes(out, object);
            }
            Self::Read { key, want } => {
                let want = match want {
                    Want::Object => 0,
                    Want::Digest => 1,
                    Want::Hinted => 2,
                };
                out.extend_from_slice(&[VERSION, 2, want]);
                put_key(out, key);
            }
            Self::Forward(write) => {
                out.extend_from_slice(&[VERSION, 3]);
                put_forward(out, write);
            }
            Self::List(query) => {
                out.extend_from_slice(&[VERSION, 4]);
                list::put_query(out, query);
            }
            Self::Hint { target, key, object, durability } => {
                out.extend_from_slice(&[VERSION, 5, durability_code(*durability)]);
                out.extend_from_slice(&target.0.to_le_bytes());
                put_key(out, key);
                put_bytes(out, object);
            }
            Self::Deliver { key, object } => {
                out.extend_from_slice(&[VERSION, 6]);
                put_key(out, key);
                put_bytes(out, object);
            }
        }
    }

    /// Takes one message off the front of `input`. What is left in `input` after an error means nothing.
    pub fn decode(input: &mut Bytes) -> Result<Self, WireError> {
        check_version(input)?;
        match take_u8(input)? {
            1 => {
                let durability = take_durability(input)?;
                let key = take_key(input)?;
                Ok(Self::Merge { key, object: take_bytes(input, "object", OBJECT_BYTES_MAX)?, durability })
            }
            2 => {
                let want = match take_u8(input)? {
                    0 => Want::Object,
                    1 => Want::Digest,
                    2 => Want::Hinted,
                    _ => return Err(WireError::Value("kind of read")),
                };
                Ok(Self::Read { key: take_key(input)?, want })
            }
            3 => Ok(Self::Forward(Box::new(take_forward(input)?))),
            4 => Ok(Self::List(Box::new(list::take_query(input)?))),
            5 => {
                let (durability, target) = (take_durability(input)?, take_node(input)?);
                let key = take_key(input)?;
                let object = take_bytes(input, "object", OBJECT_BYTES_MAX)?;
                Ok(Self::Hint { target, key, object, durability })
            }
            6 => {
                let key = take_key(input)?;
                Ok(Self::Deliver { key, object: take_bytes(input, "object", OBJECT_BYTES_MAX)? })
            }
            _ => Err(WireError::Value("kind of request")),
        }
    }

    /// About how many bytes it takes, never much less: for the buffer, and for bounds on what is in flight.
    pub fn bytes_expected(&self) -> usize {
        let (key, value_len) = match self {
            Self::Merge { key, object, .. } | Self::Hint { key, object, .. } | Self::Deliver { key, object } => {
                (key, object.len())
            }
            Self::Read { key, .. } => (key, 0),
            Self::Forward(write) => (&write.key, write.change.value.as_ref().map_or(0, Bytes::len)),
            Self::List(query) => return OVERHEAD_BYTES + list::query_bytes(query),
        };
        OVERHEAD_BYTES + key.row().len() + value_len
    }
}

impl ReplicaReply {
    /// Appends its bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self {
            Self::Merged => out.push(1),
            Self::Value(ReplicaValue::Missing) => out.push(2),
            Self::Value(ReplicaValue::Digest(digest)) => {
                out.push(3);
                out.extend_from_slice(&digest.to_le_bytes());
            }
            Self::Value(ReplicaValue::Object(object)) => put_object(out, 4, object),
            Self::Value(ReplicaValue::Unknown(None)) => out.push(5),
            Self::Value(ReplicaValue::Unknown(Some(object))) => put_object(out, 6, object),
            Self::Forwarded(Ok(answer)) => {
                out.push(7);
                put_answer(out, answer);
            }
            Self::Forwarded(Err(failure)) => {
                out.push(8);
                put_failure(out, failure);
            }
            Self::Refused(refusal) => out.extend_from_slice(&[9, refusal_code(*refusal)]),
            Self::Listed(page) => {
                out.push(10);
                list::put_page(out, page);
            }
        }
    }

    /// Takes one message off the front of `input`. What is left in `input` after an error means nothing.
    pub fn decode(input: &mut Bytes) -> Result<Self, WireError> {
        check_version(input)?;
        let value = match take_u8(input)? {
            1 => return Ok(Self::Merged),
            2 => ReplicaValue::Missing,
            3 => ReplicaValue::Digest(take_u64(input)?),
            4 => ReplicaValue::Object(take_bytes(input, "object", OBJECT_BYTES_MAX)?),
            5 => ReplicaValue::Unknown(None),
            6 => ReplicaValue::Unknown(Some(take_bytes(input, "object", OBJECT_BYTES_MAX)?)),
            7 => return Ok(Self::Forwarded(Ok(take_answer(input)?))),
            8 => return Ok(Self::Forwarded(Err(take_failure(input)?))),
            9 => return Ok(Self::Refused(take_refusal(input)?)),
            10 => return Ok(Self::Listed(Box::new(list::take_page(input)?))),
            _ => return Err(WireError::Value("kind of reply")),
        };
        Ok(Self::Value(value))
    }
}

fn check_version(input: &mut Bytes) -> Result<(), WireError> {
    match take_u8(input)? {
        VERSION => Ok(()),
        other => Err(WireError::Version(other)),
    }
}

fn put_object(out: &mut Vec<u8>, kind: u8, object: &[u8]) {
    out.reserve(object.len() + OVERHEAD_BYTES);
    out.push(kind);
    put_bytes(out, object);
}

fn durability_code(durability: Durability) -> u8 {
    match durability {
        Durability::Fsync => 0,
        Durability::Interval => 1,
    }
}

fn take_durability(input: &mut Bytes) -> Result<Durability, WireError> {
    match take_u8(input)? {
        0 => Ok(Durability::Fsync),
        1 => Ok(Durability::Interval),
        _ => Err(WireError::Value("durability")),
    }
}

fn take_node(input: &mut Bytes) -> Result<NodeId, WireError> {
    let low = u128::from(take_u64(input)?);
    Ok(NodeId(low | u128::from(take_u64(input)?) << 64))
}

fn put_context(out: &mut Vec<u8>, context: &CausalContext) {
    put_len(out, context.encoded_len());
    context.encode_into(out);
}

fn take_context(input: &mut Bytes) -> Result<CausalContext, WireError> {
    Ok(CausalContext::decode(&take_bytes(input, "context", CONTEXT_BYTES_MAX)?)?)
}

const HAS_CONTEXT: u8 = 1;
const HAS_VALUE: u8 = 2;
const BLIND_SIBLING: u8 = 4;
const LAST_WRITER: u8 = 8;
const HAS_CONDITION: u8 = 16;
const HAS_TTL: u8 = 32;
const SLOPPY: u8 = 64;
const FLAGS: u8 = HAS_CONTEXT | HAS_VALUE | BLIND_SIBLING | LAST_WRITER | HAS_CONDITION | HAS_TTL | SLOPPY;

fn put_forward(out: &mut Vec<u8>, write: &ForwardedWrite) {
    let change = &write.change;
    let mut flags = 0;
    flags |= if change.context.is_some() { HAS_CONTEXT } else { 0 };
    flags |= if change.value.is_some() { HAS_VALUE } else { 0 };
    flags |= if change.blind == BlindPut::Sibling { BLIND_SIBLING } else { 0 };
    flags |= if change.conflict == Conflict::Lww { LAST_WRITER } else { 0 };
    flags |= if change.condition.is_some() { HAS_CONDITION } else { 0 };
    flags |= if change.ttl.is_some() { HAS_TTL } else { 0 };
    flags |= if write.quorum == QuorumKind::Sloppy { SLOPPY } else { 0 };
    out.extend_from_slice(&[flags, durability_code(change.durability), write.n.get(), write.w.code()]);
    out.extend_from_slice(&write.remaining_ms.to_le_bytes());
    out.extend_from_slice(&write.start_within_ms.to_le_bytes());
    out.extend_from_slice(&change.siblings_max.to_le_bytes());
    put_key(out, &write.key);
    put_metadata(out, &change.metadata);
    change.ttl.iter().for_each(|ttl| out.extend_from_slice(&ttl.seconds().to_le_bytes()));
    change.condition.iter().for_each(|condition| put_condition(out, condition));
    change.context.iter().for_each(|context| put_context(out, context));
    change.value.iter().for_each(|value| put_bytes(out, value));
}

fn take_forward(input: &mut Bytes) -> Result<ForwardedWrite, WireError> {
    let flags = take_u8(input)?;
    if flags & !FLAGS != 0 {
        return Err(WireError::Value("flag of a forwarded write"));
    }
    let durability = take_durability(input)?;
    let n = ReplicationFactor::new(take_u8(input)?).map_err(|_| WireError::Value("n"))?;
    let w = QuorumChoice::from_code(take_u8(input)?).ok_or(WireError::Value("w"))?;
    let (remaining_ms, start_within_ms) = (take_u32(input)?, take_u32(input)?);
    let siblings_max = take_u16(input)?;
    let key = take_key(input)?;
    let metadata = take_metadata(input)?;
    let ttl = (flags & HAS_TTL != 0).then(|| take_ttl(input)).transpose()?;
    let condition = (flags & HAS_CONDITION != 0).then(|| take_condition(input)).transpose()?;
    let context = (flags & HAS_CONTEXT != 0).then(|| take_context(input)).transpose()?;
    let value = (flags & HAS_VALUE != 0).then(|| take_bytes(input, "value", OBJECT_BYTES_MAX)).transpose()?;
    let blind = if flags & BLIND_SIBLING != 0 { BlindPut::Sibling } else { BlindPut::Overwrite };
    let conflict = if flags & LAST_WRITER != 0 { Conflict::Lww } else { Conflict::Siblings };
    let change = Change { context, blind, conflict, condition, value, metadata, ttl, siblings_max, durability };
    let quorum = if flags & SLOPPY != 0 { QuorumKind::Sloppy } else { QuorumKind::Strict };
    Ok(ForwardedWrite { key, change, n, w, quorum, remaining_ms, start_within_ms })
}

fn take_ttl(input: &mut Bytes) -> Result<Ttl, WireError> {
    Ttl::new(take_u32(input)?.into()).map_err(|_| WireError::Value("ttl"))
}

fn put_condition(out: &mut Vec<u8>, condition: &Condition) {
    match condition {
        Condition::Absent => out.push(0),
        Condition::Present => out.push(1),
        Condition::AnyOf(etags) => {
            out.push(2);
            put_len(out, etags.len());
            etags.iter().for_each(|etag| put_bytes(out, etag.as_str().as_bytes()));
        }
    }
}

fn take_condition(input: &mut Bytes) -> Result<Condition, WireError> {
    match take_u8(input)? {
        0 => Ok(Condition::Absent),
        1 => Ok(Condition::Present),
        2 => {
            let len = take_len(input)?;
            if len > Condition::ETAGS_MAX {
                return Err(WireError::TooLong { what: "condition", len, max: Condition::ETAGS_MAX });
            }
            Ok(Condition::AnyOf((0..len).map(|_| take_etag(input)).collect::<Result<_, _>>()?))
        }
        _ => Err(WireError::Value("condition")),
    }
}

fn take_etag(input: &mut Bytes) -> Result<ETag, WireError> {
    let text = take_bytes(input, "ETag", ETAG_BYTES_MAX)?;
    let etag = std::str::from_utf8(&text).ok().and_then(|text| ETag::parse(text).ok());
    etag.ok_or(WireError::Value("ETag"))
}

fn put_metadata(out: &mut Vec<u8>, metadata: &Metadata) {
    for number in [metadata.modified_us, metadata.expires_us, metadata.write_id] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put_bytes(out, &metadata.content_type);
    put_bytes(out, &metadata.content_encoding);
    put_len(out, metadata.user.len());
    for (name, value) in &metadata.user {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

fn take_metadata(input: &mut Bytes) -> Result<Metadata, WireError> {
    let (modified_us, expires_us, write_id) = (take_u64(input)?, take_u64(input)?, take_u64(input)?);
    if write_id == 0 {
        return Err(WireError::Value("write id"));
    }
    let content_type = take_bytes(input, "content type", TEXT_BYTES_MAX)?;
    let content_encoding = take_bytes(input, "content encoding", TEXT_BYTES_MAX)?;
    let len = take_len(input)?;
    if len > USER_FIELDS_MAX {
        return Err(WireError::TooLong { what: "user metadata", len, max: USER_FIELDS_MAX });
    }
    let mut user = SmallVec::with_capacity(len);
    for _ in 0..len {
        let name = take_bytes(input, "metadata name", TEXT_BYTES_MAX)?;
        user.push((name, take_bytes(input, "metadata value", TEXT_BYTES_MAX)?));
    }
    Ok(Metadata { content_type, content_encoding, user, modified_us, expires_us, write_id })
}

fn put_answer(out: &mut Vec<u8>, answer: &WriteAnswer) {
    out.extend_from_slice(&answer.dot.actor.0.to_le_bytes());
    out.extend_from_slice(&answer.dot.counter.to_le_bytes());
    out.extend_from_slice(&answer.siblings.to_le_bytes());
    out.extend_from_slice(&answer.modified_us.to_le_bytes());
    out.extend_from_slice(&answer.expires_us.to_le_bytes());
    out.extend_from_slice(&[answer.acks, answer.n, answer.hinted, u8::from(answer.sloppy)]);
    put_context(out, &answer.context);
}

fn take_answer(input: &mut Bytes) -> Result<WriteAnswer, WireError> {
    let dot = Dot { actor: ActorId(take_u64(input)?), counter: take_u64(input)? };
    let siblings = take_u32(input)?;
    let (modified_us, expires_us) = (take_u64(input)?, take_u64(input)?);
    let (acks, n, hinted) = (take_u8(input)?, take_u8(input)?, take_u8(input)?);
    let sloppy = match take_u8(input)? {
        0 => false,
        1 => true,
        _ => return Err(WireError::Value("kind of quorum")),
    };
    let context = take_context(input)?;
    Ok(WriteAnswer { dot, context, siblings, modified_us, expires_us, acks, n, hinted, sloppy })
}

fn put_failure(out: &mut Vec<u8>, failure: &Failure) {
    let mut counted = |kind: u8, required: u8, acked: u8, n: u8, outcome: Outcome| {
        out.extend_from_slice(&[kind, required, acked, n, u8::from(outcome == Outcome::Unknown)]);
    };
    match failure {
        Failure::Unavailable { required, acked, n, outcome } => counted(1, *required, *acked, *n, *outcome),
        Failure::TimedOut { required, acked, n, outcome } => counted(2, *required, *acked, *n, *outcome),
        Failure::ContextNotReached => out.push(3),
        Failure::TooManySiblings { count, max, context } => {
            out.push(4);
            out.extend_from_slice(&count.to_le_bytes());
            out.extend_from_slice(&max.to_le_bytes());
            put_context(out, context);
        }
        Failure::LowDisk => out.push(5),
        Failure::Busy => out.push(6),
        Failure::ConditionFailed { etag, context } => {
            out.push(7);
            put_bytes(out, etag.as_ref().map_or(&[], |etag| etag.as_str().as_bytes()));
            put_context(out, context);
        }
    }
}

fn take_failure(input: &mut Bytes) -> Result<Failure, WireError> {
    match take_u8(input)? {
        kind @ (1 | 2) => {
            let (required, acked, n) = (take_u8(input)?, take_u8(input)?, take_u8(input)?);
            let outcome = match take_u8(input)? {
                0 => Outcome::NotApplied,
                1 => Outcome::Unknown,
                _ => return Err(WireError::Value("outcome")),
            };
            Ok(match kind {
                1 => Failure::Unavailable { required, acked, n, outcome },
                _ => Failure::TimedOut { required, acked, n, outcome },
            })
        }
        3 => Ok(Failure::ContextNotReached),
        4 => {
            let (count, max) = (take_u32(input)?, take_u16(input)?);
            Ok(Failure::TooManySiblings { count, max, context: take_context(input)? })
        }
        5 => Ok(Failure::LowDisk),
        6 => Ok(Failure::Busy),
        7 => {
            let etag = if input.first() == Some(&0) { take_u8(input).map(|_| None)? } else { Some(take_etag(input)?) };
            Ok(Failure::ConditionFailed { etag, context: take_context(input)? })
        }
        _ => Err(WireError::Value("failure")),
    }
}

/// In the order of their codes.
const REFUSALS: [Refusal; 6] =
    [Refusal::LowDisk, Refusal::Busy, Refusal::NotOwner, Refusal::Expired, Refusal::Damaged, Refusal::Storage];

fn refusal_code(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::LowDisk => 0,
        Refusal::Busy => 1,
        Refusal::NotOwner => 2,
        Refusal::Expired => 3,
        Refusal::Damaged => 4,
        Refusal::Storage => 5,
    }
}

fn take_refusal(input: &mut Bytes) -> Result<Refusal, WireError> {
    REFUSALS.get(usize::from(take_u8(input)?)).copied().ok_or(WireError::Value("refusal"))
}
