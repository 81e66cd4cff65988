//! A batch on the wire, both ways.
//!
//! An operation is encoded when it is queued, straight into the buffer that will be sent: one copy of a value, one
//! contiguous write, nothing allocated per operation but its reply.

use bytes::{Buf, BufMut, Bytes};
use rondo_coordinator::message::Refusal;
use rondo_coordinator::{ReplicaError, ReplicaReply, ReplicaRequest, Trace};
use rondo_ring::Epoch;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use super::options::BATCH_OPS_MAX;
use super::reply::Reply;

/// Format of a batch.
const VERSION: u8 = 2;
/// Version, epoch, time since the last answer, count.
const HEAD_BYTES: usize = 1 + 8 + 4 + 4;
/// Remaining time, length.
const FRAME_HEAD_BYTES: usize = 4 + 4;
/// In a frame's length: a trace stands before the operation. An operation is far shorter than this.
const TRACED: u32 = 1 << 31;

/// An operation that waits or is in flight.
pub(super) struct Op {
    /// Where its frame begins.
    at: usize,
    pub(super) deadline: Instant,
    /// `None` once answered.
    pub(super) reply: Option<Reply>,
}

/// Operations that will be one request.
pub(super) struct Batch {
    /// When its first operation was queued.
    since: Instant,
    bytes: Vec<u8>,
    pub(super) ops: Vec<Op>,
}

impl Batch {
    pub(super) fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + capacity);
        bytes.resize(HEAD_BYTES, 0);
        Self { since: Instant::now(), bytes, ops: Vec::new() }
    }

    /// Appends an operation; the length of its frame.
    pub(super) fn push(
        &mut self,
        request: &ReplicaRequest,
        trace: Option<&Trace>,
        deadline: Instant,
        reply: Reply,
    ) -> usize {
        let at = self.bytes.len();
        self.bytes.resize(at + FRAME_HEAD_BYTES, 0);
        trace.inspect(|trace| trace.encode_into(&mut self.bytes));
        request.encode_into(&mut self.bytes);
        let len = (self.bytes.len() - at - FRAME_HEAD_BYTES) as u32;
        let traced = if trace.is_some() { TRACED } else { 0 };
        self.bytes[at + 4..at + 8].copy_from_slice(&(len | traced).to_le_bytes());
        self.ops.push(Op { at, deadline, reply: Some(reply) });
        self.bytes.len() - at
    }

    pub(super) fn frames_bytes(&self) -> usize {
        self.bytes.len() - HEAD_BYTES
    }

    /// Takes the newest operation back out.
    pub(super) fn pop(&mut self) -> Option<(Vec<u8>, Op)> {
        let mut op = self.ops.pop()?;
        let frame = self.bytes.split_off(op.at);
        op.at = 0;
        Some((frame, op))
    }

    /// Appends what `pop` gave.
    pub(super) fn append(&mut self, frame: &[u8], op: Op) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        self.ops.push(Op { at, ..op });
    }

    /// Ready to be sent at `now`, over a connection on which the last answer was `heard`: operations that were answered
    /// or are too late are taken out, and returned as the second part if they still need an answer.
    pub(super) fn seal(mut self, epoch: Epoch, heard: Instant, now: Instant) -> (Sealed, Vec<Reply>) {
        let late = self.drop_late(now);
        for op in &self.ops {
            let remaining_ms = u32::try_from((op.deadline - now).as_millis()).unwrap_or(u32::MAX);
            self.bytes[op.at..op.at + 4].copy_from_slice(&remaining_ms.to_le_bytes());
        }
        self.bytes[0] = VERSION;
        self.bytes[1..9].copy_from_slice(&epoch.0.to_le_bytes());
        let idle_us = u32::try_from((now - heard).as_micros()).unwrap_or(u32::MAX);
        self.bytes[9..13].copy_from_slice(&idle_us.to_le_bytes());
        self.bytes[13..17].copy_from_slice(&(self.ops.len() as u32).to_le_bytes());
        (Sealed { since: self.since, bytes: self.bytes.into(), ops: self.ops }, late)
    }

    fn drop_late(&mut self, now: Instant) -> Vec<Reply> {
        if self.ops.iter().all(|op| op.reply.is_some() && op.deadline > now) {
            return Vec::new();
        }
        let mut late = Vec::new();
        let mut kept = Self { since: self.since, ..Self::new(self.bytes.len()) };
        let ends: Vec<usize> = self.ops.iter().skip(1).map(|op| op.at).chain([self.bytes.len()]).collect();
        for (op, end) in std::mem::take(&mut self.ops).into_iter().zip(ends) {
            if op.deadline > now && op.reply.is_some() {
                kept.append(&self.bytes[op.at..end], op);
            } else {
                late.extend(op.reply);
            }
        }
        *self = kept;
        late
    }
}

/// A batch as it travels.
pub(super) struct Sealed {
    pub(super) since: Instant,
    pub(super) bytes: Bytes,
    pub(super) ops: Vec<Op>,
}

impl Sealed {
    /// Back into the queue: it did not leave.
    pub(super) fn unseal(self) -> Batch {
        Batch { since: self.since, bytes: self.bytes.into(), ops: self.ops }
    }
}

/// Bytes that are no batch. Nothing in it was begun.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a batch of this release: {0}")]
pub(super) struct BatchError(&'static str);

const SHORT: BatchError = BatchError("cut short");

/// One operation as received. `None` where its frame is whole and its content is not understood.
pub(super) struct Received {
    pub(super) remaining: Duration,
    pub(super) trace: Option<Arc<Trace>>,
    pub(super) request: Option<ReplicaRequest>,
}

/// A batch as received.
pub(super) struct Request {
    /// The sender's.
    pub(super) epoch: Epoch,
    /// From the sender's hearing of the last answer on the connection to the batch's leaving.
    pub(super) idle: Duration,
    pub(super) ops: Vec<Received>,
}

/// Takes a request apart, all of it before anything is begun.
pub(super) fn decode_request(mut input: Bytes) -> Result<Request, BatchError> {
    check_version(&mut input)?;
    let epoch = Epoch(input.try_get_u64_le().map_err(|_| SHORT)?);
    let idle = Duration::from_micros(input.try_get_u32_le().map_err(|_| SHORT)?.into());
    let count = take_count(&mut input)?;
    let mut ops = Vec::with_capacity(count);
    for _ in 0..count {
        let remaining = Duration::from_millis(input.try_get_u32_le().map_err(|_| SHORT)?.into());
        let len = input.try_get_u32_le().map_err(|_| SHORT)?;
        let frame = take_frame(&mut input, len & !TRACED)?;
        let (trace, request) = understood(frame, len & TRACED != 0).unzip();
        ops.push(Received { remaining, trace: trace.flatten(), request });
    }
    end(&input)?;
    Ok(Request { epoch, idle, ops })
}

fn understood(mut frame: Bytes, traced: bool) -> Option<(Option<Arc<Trace>>, ReplicaRequest)> {
    let trace = if traced { Some(Arc::new(Trace::decode(&mut frame).ok()?)) } else { None };
    let request = ReplicaRequest::decode(&mut frame).ok()?;
    frame.is_empty().then_some((trace, request))
}

/// How a result is told, besides `Ok`.
const STATUS_REPLY: u8 = 0;
const STATUS_NOT_BEGUN: u8 = 1;
const STATUS_LOST: u8 = 2;
const STATUS_TIMED_OUT: u8 = 3;

type OpResult = Result<ReplicaReply, ReplicaError>;

/// The answer to a batch: one result per operation, in its order. Values beyond `values_bytes_max` in total are
/// refused instead of sent; there is always room for the first.
pub(super) fn encode_replies(results: Vec<OpResult>, values_bytes_max: usize) -> Bytes {
    let mut out = Vec::with_capacity(5 + results.len() * 16);
    out.push(VERSION);
    out.put_u32_le(results.len() as u32);
    for result in results {
        let at = out.len();
        out.extend_from_slice(&[0; 5]);
        match result {
            Ok(reply) => {
                reply.encode_into(&mut out);
                if matches!(reply, ReplicaReply::Value(_) | ReplicaReply::Listed(_))
                    && at > 5
                    && out.len() > values_bytes_max
                {
                    out.truncate(at + 5);
                    ReplicaReply::Refused(Refusal::Busy).encode_into(&mut out);
                }
            }
            Err(ReplicaError::NotSent) => out[at] = STATUS_NOT_BEGUN,
            Err(ReplicaError::Lost) => out[at] = STATUS_LOST,
            Err(ReplicaError::TimedOut) => out[at] = STATUS_TIMED_OUT,
        }
        let len = (out.len() - at - 5) as u32;
        out[at + 1..at + 5].copy_from_slice(&len.to_le_bytes());
    }
    out.into()
}

/// The results of a batch of `ops` operations. A reply that is not understood is `Lost`.
pub(super) fn decode_replies(mut input: Bytes, ops: usize) -> Result<Vec<OpResult>, BatchError> {
    check_version(&mut input)?;
    if take_count(&mut input)? != ops {
        return Err(BatchError("another number of replies than of operations"));
    }
    let mut results = Vec::with_capacity(ops);
    for _ in 0..ops {
        let status = input.try_get_u8().map_err(|_| SHORT)?;
        let len = input.try_get_u32_le().map_err(|_| SHORT)?;
        let mut frame = take_frame(&mut input, len)?;
        results.push(match status {
            STATUS_REPLY => ReplicaReply::decode(&mut frame).map_err(|_| ReplicaError::Lost),
            STATUS_NOT_BEGUN => Err(ReplicaError::NotSent),
            STATUS_TIMED_OUT => Err(ReplicaError::TimedOut),
            _ => Err(ReplicaError::Lost),
        });
    }
    end(&input)?;
    Ok(results)
}

fn check_version(input: &mut Bytes) -> Result<(), BatchError> {
    match input.try_get_u8() {
        Ok(VERSION) => Ok(()),
        Ok(_) => Err(BatchError("another version")),
        Err(_) => Err(SHORT),
    }
}

fn take_count(input: &mut Bytes) -> Result<usize, BatchError> {
    match input.try_get_u32_le() {
        Ok(count) if count as usize <= BATCH_OPS_MAX => Ok(count as usize),
        Ok(_) => Err(BatchError("too many operations")),
        Err(_) => Err(SHORT),
    }
}

fn take_frame(input: &mut Bytes, len: u32) -> Result<Bytes, BatchError> {
    let len = len as usize;
    if len > input.len() { Err(SHORT) } else { Ok(input.split_to(len)) }
}

fn end(input: &Bytes) -> Result<(), BatchError> {
    if input.is_empty() { Ok(()) } else { Err(BatchError("bytes after its end")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rondo_coordinator::{ReplicaValue, Want};
    use rondo_storage::Key;

    fn read(number: usize) -> ReplicaRequest {
        ReplicaRequest::Read { key: Key::new("b", &format!("k{number}")).unwrap(), want: Want::Object }
    }

    fn keys(sealed: &Sealed) -> Vec<String> {
        let Request { ops, .. } = decode_request(sealed.bytes.clone()).unwrap();
        assert_eq!(ops.len(), sealed.ops.len());
        ops.into_iter()
            .map(|op| match op.request {
                Some(ReplicaRequest::Read { key, .. }) => key.key().to_owned(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn batch_of(deadlines: impl IntoIterator<Item = Instant>) -> Batch {
        let mut batch = Batch::new(0);
        for (number, deadline) in deadlines.into_iter().enumerate() {
            batch.push(&read(number), None, deadline, Reply::new(Box::new(|_| ())));
        }
        batch
    }

    fn sealed_now(batch: Batch) -> Sealed {
        let now = Instant::now();
        batch.seal(Epoch(1), now, now).0
    }

    #[test]
    fn an_operation_that_is_late_or_answered_does_not_leave() {
        let now = Instant::now();
        let later = now + Duration::from_millis(1_500);
        let mut batch = batch_of([later, now, later, later, now]);
        batch.ops[3].reply = None;
        let (sealed, late) = batch.seal(Epoch(9), now - Duration::from_micros(17), now);
        assert_eq!(keys(&sealed), ["k0", "k2"]);
        assert_eq!(late.len(), 2);
        let Request { epoch, idle, ops } = decode_request(sealed.bytes.clone()).unwrap();
        assert_eq!((epoch, idle), (Epoch(9), Duration::from_micros(17)));
        assert!(ops.iter().all(|op| op.remaining == Duration::from_millis(1_500)));
    }

    #[test]
    fn a_batch_that_did_not_leave_is_sealed_again_with_what_is_left() {
        let now = Instant::now();
        let batch =
            batch_of([now + Duration::from_secs(9), now + Duration::from_secs(1), now + Duration::from_secs(9)]);
        let (sealed, late) = batch.seal(Epoch(1), now, now);
        assert!(late.is_empty());
        let (sealed, late) = sealed.unseal().seal(Epoch(2), now, now + Duration::from_secs(2));
        assert_eq!(late.len(), 1);
        assert_eq!(keys(&sealed), ["k0", "k2"]);
        let Request { epoch, ops, .. } = decode_request(sealed.bytes).unwrap();
        assert_eq!((epoch, ops[0].remaining), (Epoch(2), Duration::from_secs(7)));
    }

    #[test]
    fn results_come_back_as_they_were() {
        let object = || ReplicaReply::Value(ReplicaValue::Object(Bytes::from_static(b"0123456789")));
        let results = vec![
            Ok(ReplicaReply::Merged),
            Err(ReplicaError::NotSent),
            Ok(object()),
            Err(ReplicaError::Lost),
            Err(ReplicaError::TimedOut),
            Ok(object()),
        ];
        let bytes = encode_replies(results.clone(), 1_000);
        let decoded = decode_replies(bytes.clone(), results.len()).unwrap();
        assert_eq!(format!("{decoded:?}"), format!("{results:?}"));
        assert!(decode_replies(bytes.clone(), results.len() - 1).is_err());
        assert!(decode_replies(bytes.slice(..bytes.len() - 1), results.len()).is_err());
    }

    #[test]
    fn values_beyond_the_bound_are_refused_and_writes_never() {
        let object = || Ok(ReplicaReply::Value(ReplicaValue::Object(Bytes::from(vec![1; 100]))));
        let results = vec![object(), object(), Ok(ReplicaReply::Merged)];
        let decoded = decode_replies(encode_replies(results, 50), 3).unwrap();
        assert!(matches!(
            decoded[..],
            [Ok(ReplicaReply::Value(_)), Ok(ReplicaReply::Refused(Refusal::Busy)), Ok(ReplicaReply::Merged)]
        ));
    }

    #[test]
    fn an_operation_that_is_not_understood_spoils_only_itself() {
        let later = Instant::now() + Duration::from_secs(9);
        let sealed = sealed_now(batch_of([later, later]));
        let mut bytes = sealed.bytes.to_vec();
        bytes[HEAD_BYTES + FRAME_HEAD_BYTES] = 0xff;
        let Request { ops, .. } = decode_request(bytes.into()).unwrap();
        assert!(ops[0].request.is_none() && ops[1].request.is_some());
    }

    #[test]
    fn a_trace_travels_with_its_operation_and_costs_the_others_nothing() {
        let later = Instant::now() + Duration::from_secs(9);
        let trace = Trace { trace_id: 7, parent_id: 8, flags: 1, request_id: "order-7".into() };
        let mut batch = Batch::new(0);
        let sizes =
            [None, Some(&trace), None].map(|trace| batch.push(&read(1), trace, later, Reply::new(Box::new(|_| ()))));
        assert_eq!((sizes[0], sizes[1]), (sizes[2], sizes[0] + 16 + 8 + 1 + 1 + 7));
        let Request { ops, .. } = decode_request(sealed_now(batch).bytes).unwrap();
        let traces: Vec<_> = ops.iter().map(|op| op.trace.as_deref()).collect();
        assert_eq!(traces, [None, Some(&trace), None]);
        assert!(ops.iter().all(|op| op.request.is_some()));
    }

    proptest! {
        #[test]
        fn damaged_batches_never_panic(cut in 0_usize..200, at in 0_usize..200, byte: u8, noise: Vec<u8>) {
            let later = Instant::now() + Duration::from_secs(9);
            let sealed = sealed_now(batch_of([later, later, later]));
            let mut bytes = sealed.bytes.to_vec();
            bytes.truncate(cut);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if cut < sealed.bytes.len() && at >= cut {
                prop_assert!(decode_request(bytes.clone().into()).is_err());
            }
            let _ = decode_request(bytes.clone().into());
            let _ = decode_replies(bytes.into(), 3);
            let _ = decode_request(noise.clone().into());
            let _ = decode_replies(noise.into(), 1);
        }
    }
}
