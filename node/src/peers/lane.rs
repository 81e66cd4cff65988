//! The queue of one class of operations to one peer. Knows no sockets: slots (`slot.rs`) empty it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rondo_coordinator::{Now, ReplicaError, ReplicaRequest, Trace};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::batch::Batch;
use super::options::{LaneOptions, OP_BYTES_MAX};
use super::reply::Reply;
use super::stats::PeerStats;

/// A class of operations. They do not share batches, since a batch is answered as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Reads: answered from memory or disk at once.
    Read = 0,
    /// Durable merges: answered after an fsync.
    Write = 1,
    /// Forwarded writes: answered after a quorum elsewhere.
    Forward = 2,
    /// Repair: yields to everything else by being apart from it.
    Background = 3,
    /// Pages of listings: answered after hundreds of rows have been read.
    List = 4,
    /// What was kept for the peer while it was away: yields as repair does.
    Hint = 5,
}

impl Lane {
    /// Every lane, in order.
    pub const ALL: [Self; 6] = [Self::Read, Self::Write, Self::Forward, Self::Background, Self::List, Self::Hint];

    /// Where an operation goes.
    pub fn of(request: &ReplicaRequest) -> Self {
        match request {
            ReplicaRequest::Read { .. } => Self::Read,
            // A hint that stands in for an owner's write is as urgent as that.
            ReplicaRequest::Merge { .. } | ReplicaRequest::Hint { .. } => Self::Write,
            ReplicaRequest::Forward(_) => Self::Forward,
            ReplicaRequest::List(_) => Self::List,
            ReplicaRequest::Deliver { .. } => Self::Hint,
        }
    }

    /// Short name, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Forward => "forward",
            Self::Background => "background",
            Self::List => "list",
            Self::Hint => "hint",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether operations are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Connected, or never tried.
    Open,
    /// The last attempt to connect failed. From `retry_at` on, or once the peer was there `since`, the next
    /// operation starts another.
    Broken { since: Now, retry_at: Instant },
}

impl Gate {
    /// A peer that came back is asked at once: were it left out until `retry_at`, the next one to go away would be
    /// the second that is missing.
    fn refuses(self, peer: &PeerStats) -> bool {
        match self {
            Self::Open => false,
            Self::Broken { since, retry_at } => Instant::now() < retry_at && !peer.was_there_since(since),
        }
    }
}

struct State {
    batches: VecDeque<Batch>,
    ops: usize,
    bytes: usize,
    gate: Gate,
    /// Slots with a connection.
    links: usize,
    /// Attempts to connect that failed in a row.
    failures: u32,
    /// Bytes of the last full batch: the next buffer's first size.
    capacity: usize,
}

/// Bounded in operations and bytes.
pub(super) struct Queue {
    lane: Lane,
    options: LaneOptions,
    stats: Arc<PeerStats>,
    state: Mutex<State>,
    arrivals: Notify,
}

impl Queue {
    pub(super) fn new(lane: Lane, options: LaneOptions, stats: Arc<PeerStats>) -> Self {
        let state =
            State { batches: VecDeque::new(), ops: 0, bytes: 0, gate: Gate::Open, links: 0, failures: 0, capacity: 0 };
        Self { lane, options, stats, state: Mutex::new(state), arrivals: Notify::new() }
    }

    pub(super) fn options(&self) -> &LaneOptions {
        &self.options
    }

    /// Queues an operation, or gives the reply back: it is not sent.
    pub(super) fn push(
        &self,
        request: &ReplicaRequest,
        trace: Option<&Trace>,
        deadline: Instant,
        reply: Reply,
    ) -> Result<(), Reply> {
        let mut state = self.state.lock();
        let full = state.ops >= self.options.queue_ops_max || state.bytes >= self.options.queue_bytes_max;
        if full || state.gate.refuses(&self.stats) {
            return Err(reply);
        }
        state.add(&self.options, request, trace, deadline, reply)?;
        drop(state);
        // The slot that waited last most likely has a connection.
        self.arrivals.notify_last();
        Ok(())
    }

    /// Returns once something is queued.
    pub(super) async fn wait(&self) {
        while self.state.lock().batches.is_empty() {
            self.arrivals.notified().await;
        }
    }

    /// Wakes another slot for what is queued: this one cannot send it.
    pub(super) fn pass_on(&self) {
        self.arrivals.notify_one();
    }

    /// The oldest batch.
    pub(super) fn take(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        let batch = state.batches.pop_front()?;
        state.ops -= batch.ops.len();
        state.bytes -= batch.frames_bytes();
        state.capacity = batch.frames_bytes().min(self.options.batch_bytes_max);
        if !state.batches.is_empty() {
            self.arrivals.notify_one();
        }
        Some(batch)
    }

    /// Puts a batch back that did not leave.
    pub(super) fn restore(&self, batch: Batch) {
        let mut state = self.state.lock();
        state.ops += batch.ops.len();
        state.bytes += batch.frames_bytes();
        state.batches.push_front(batch);
        drop(state);
        self.arrivals.notify_one();
    }

    /// Answers what has waited beyond its deadline. Its bytes are taken out when the batch is sealed.
    pub(super) fn expire(&self, now: Instant) {
        let mut late: Vec<Reply> = Vec::new();
        for op in self.state.lock().batches.iter_mut().flat_map(|batch| &mut batch.ops) {
            if op.deadline <= now {
                late.extend(op.reply.take());
            }
        }
        self.fail(late, ReplicaError::NotSent);
    }

    /// A slot has a connection: the peer is there.
    pub(super) fn linked(&self) {
        let mut state = self.state.lock();
        state.links += 1;
        state.failures = 0;
        state.gate = Gate::Open;
    }

    /// A slot's connection ended.
    pub(super) fn unlinked(&self) {
        self.state.lock().links -= 1;
    }

    /// Whether some slot has a connection.
    pub(super) fn has_link(&self) -> bool {
        self.state.lock().links > 0
    }

    /// Whether the last attempt failed.
    pub(super) fn is_broken(&self) -> bool {
        self.state.lock().gate != Gate::Open
    }

    /// One more failed attempt; how many there were.
    pub(super) fn count_failure(&self) -> u32 {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        state.failures
    }

    /// Takes nothing until `retry_at`, and answers everything that waits.
    pub(super) fn shut(&self, retry_at: Instant) {
        let batches = {
            let mut state = self.state.lock();
            state.gate = Gate::Broken { since: self.stats.now(), retry_at };
            (state.ops, state.bytes) = (0, 0);
            std::mem::take(&mut state.batches)
        };
        self.fail(batches.into_iter().flat_map(|batch| batch.ops).filter_map(|op| op.reply), ReplicaError::NotSent);
    }

    /// The next attempt to connect is one after a failure; operations are taken meanwhile.
    pub(super) fn distrust(&self) {
        self.state.lock().gate = Gate::Broken { since: self.stats.now(), retry_at: Instant::now() };
    }

    /// Answers and counts. Not to be called with anything locked: a reply may lead to the next operation.
    pub(super) fn fail(&self, replies: impl IntoIterator<Item = Reply>, error: ReplicaError) {
        for reply in replies {
            self.stats.op_failed(self.lane, error);
            reply.send(Err(error));
        }
    }
}

impl State {
    fn add(
        &mut self,
        options: &LaneOptions,
        request: &ReplicaRequest,
        trace: Option<&Trace>,
        deadline: Instant,
        reply: Reply,
    ) -> Result<(), Reply> {
        let full =
            |batch: &Batch| batch.ops.len() >= options.batch_ops_max || batch.frames_bytes() >= options.batch_bytes_max;
        let mut batch = match self.batches.pop_back() {
            Some(batch) if !full(&batch) => batch,
            other => {
                self.batches.extend(other);
                Batch::new(self.capacity)
            }
        };
        let frame_bytes = batch.push(request, trace, deadline, reply);
        let too_large = frame_bytes > OP_BYTES_MAX;
        let crowded = batch.ops.len() > 1 && batch.frames_bytes() > options.batch_bytes_max;
        let moved = if too_large || crowded { batch.pop() } else { None };
        if !batch.ops.is_empty() {
            self.batches.push_back(batch);
        }
        if let Some((frame, op)) = moved {
            if too_large {
                return op.reply.map_or(Ok(()), Err);
            }
            let mut next = Batch::new(frame.len());
            next.append(&frame, op);
            self.batches.push_back(next);
        }
        self.ops += 1;
        self.bytes += frame_bytes;
        Ok(())
    }
}
