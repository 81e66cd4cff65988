//! One connection's worth of a lane: takes batches from the queue, sends them, hands out the replies.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::{ReplicaError, ReplicaReply};
use rondo_ring::NodeId;
use tokio::time::{Instant, sleep, sleep_until};

use super::batch::{self, Op, Sealed};
use super::client::Network;
use super::error::PeerError;
use super::handshake::Purpose;
use super::lane::{Lane, Queue};
use super::link::Link;
use super::options::{BATCH_OPS_MAX, OP_BYTES_MAX};
use super::stats::{PeerStats, Waiting};
use super::{ROUTE_OPS, backoff};

/// How often deadlines are looked at while something is in flight or a connection is being made. Only what takes
/// longer than this pays for it.
const TICK: Duration = Duration::from_millis(10);
/// So many times the patience is what an attempt may take while the peer is heard of: three round trips to a distant one.
const SLOW_GREETING: u32 = 3;
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = OP_BYTES_MAX + (8 << 20) + BATCH_OPS_MAX * 64;

/// What all slots of a lane share.
pub(super) struct Channel {
    pub(super) network: Arc<Network>,
    pub(super) node: NodeId,
    pub(super) lane: Lane,
    pub(super) stats: Arc<PeerStats>,
    pub(super) queue: Queue,
}

/// A link that is counted as long as it lives.
struct Counted<'a> {
    link: Link,
    /// When its last answer, at first the handshake's, was read.
    heard: Instant,
    /// It has carried a batch.
    used: bool,
    queue: &'a Queue,
}

impl<'a> Counted<'a> {
    fn new(link: Link, queue: &'a Queue) -> Self {
        queue.linked();
        Self { link, heard: Instant::now(), used: false, queue }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.queue.unlinked();
    }
}

/// Why a link is given up.
enum GiveUp {
    /// The peer had closed it while it was idle.
    Stale,
    /// It broke or hangs.
    Broken,
    /// The peer does not want what it is sent: to ask again at once is no use.
    Unwanted(PeerError),
}

/// Runs until it is aborted.
pub(super) async fn run(channel: Arc<Channel>) {
    let queue = &channel.queue;
    let mut link: Option<Counted<'_>> = None;
    loop {
        queue.wait().await;
        if link.as_ref().is_none_or(|counted| counted.link.is_closed()) {
            link = None;
            match channel.connect().await {
                Ok(opened) => {
                    channel.stats.connected(channel.lane);
                    link = Some(Counted::new(opened, queue));
                }
                Err(error) => channel.back_off(&error).await,
            }
        }
        let Some(counted) = &mut link else { continue };
        if let Err(reason) = channel.serve_one(counted).await {
            link = None;
            match reason {
                GiveUp::Stale => {}
                GiveUp::Broken => queue.distrust(),
                GiveUp::Unwanted(error) => channel.back_off(&error).await,
            }
        }
    }
}

impl Channel {
    /// While it is tried, deadlines are kept; and where it failed before, nobody waits for long. An attempt that has taken
    /// longer than that, while the peer was heard of, is given up for a second one: what the first has sent may be lost,
    /// and the system repeats that more and more rarely.
    async fn connect(&self) -> Result<Link, PeerError> {
        let mut opening = pin!(self.open());
        let options = self.network.options();
        let failed_before = self.queue.is_broken();
        let waiting = Waiting::new(&self.stats, self.lane);
        let (mut began, heard_of_after) = (Instant::now(), self.stats.now());
        let mut is_second = false;
        loop {
            tokio::select! {
                biased;
                opened = &mut opening => return opened,
                () = sleep(TICK) => {}
            }
            waiting.assert();
            self.queue.expire(Instant::now());
            if !failed_before || began.elapsed() < options.reconnect_patience || self.queue.has_link() {
                continue;
            }
            if is_second || !self.stats.was_there_since(heard_of_after) {
                self.queue.shut(began + options.connect_timeout + TICK);
            } else if began.elapsed() >= options.reconnect_patience * SLOW_GREETING {
                opening.set(self.open());
                (began, is_second) = (Instant::now(), true);
            }
        }
    }

    async fn open(&self) -> Result<Link, PeerError> {
        let address = self.network.addresses().get(self.node).ok_or(PeerError::NoAddress(self.node))?;
        Link::open(&self.network, &address, Purpose::Operations, Some(self.node)).await
    }

    async fn back_off(&self, error: &PeerError) {
        tracing::debug!(peer = %self.node, lane = %self.lane, "no connection: {error}");
        self.stats.connect_failed(self.lane);
        let options = self.network.options();
        let pause =
            |failures| backoff::pause(options.backoff_min, options.backoff_max, failures, self.network.random());
        if self.queue.has_link() {
            // Another connection does the work, or finds that it is gone as well: nothing waits for this one.
            self.queue.pass_on();
            sleep(pause(1)).await;
        } else {
            self.queue.shut(Instant::now() + pause(self.queue.count_failure()));
        }
    }

    /// Sends the oldest batch.
    async fn serve_one(&self, counted: &mut Counted<'_>) -> Result<(), GiveUp> {
        let Some(batch) = self.queue.take() else { return Ok(()) };
        let (mut sealed, late) = batch.seal(self.network.identity().epoch(), counted.heard, Instant::now());
        self.queue.fail(late, ReplicaError::NotSent);
        if sealed.ops.is_empty() {
            return Ok(());
        }
        match self.exchange(&mut counted.link, &sealed.bytes, &mut sealed.ops).await {
            Err(PeerError::NotSent) if counted.used => {
                self.queue.restore(sealed.unseal());
                Err(GiveUp::Stale)
            }
            answer => {
                (counted.used, counted.heard) = (true, Instant::now());
                self.deliver(sealed, answer)
            }
        }
    }

    /// Waits for the answer, answering each operation whose deadline passes before.
    async fn exchange(&self, link: &mut Link, body: &Bytes, ops: &mut [Op]) -> Result<Bytes, PeerError> {
        let waiting = Waiting::new(&self.stats, self.lane);
        let give_up = Instant::now() + self.queue.options().batch_timeout;
        let mut answer = pin!(link.post(ROUTE_OPS, body.clone(), ANSWER_BYTES_MAX));
        loop {
            let first = ops.iter().filter(|op| op.reply.is_some()).map(|op| op.deadline).min().unwrap_or(give_up);
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = sleep_until(first.min(Instant::now() + TICK)) => {}
            }
            let now = Instant::now();
            if now >= give_up {
                return Err(PeerError::TimedOut);
            }
            waiting.assert();
            for op in ops.iter_mut().filter(|op| op.deadline <= now) {
                self.queue.fail(op.reply.take(), ReplicaError::TimedOut);
            }
            self.queue.expire(now);
        }
    }

    fn deliver(&self, sealed: Sealed, answer: Result<Bytes, PeerError>) -> Result<(), GiveUp> {
        let Sealed { since, bytes: sent, ops } = sealed;
        self.stats.sent(self.lane, ops.len(), sent.len());
        let (error, reason) = match answer {
            Ok(received) => {
                self.stats.answered(self.lane, ops.len(), received.len(), since.elapsed());
                match batch::decode_replies(received, ops.len()) {
                    Ok(results) => {
                        self.hand_out(ops, results);
                        return Ok(());
                    }
                    Err(error) => {
                        tracing::warn!(peer = %self.node, lane = %self.lane, "answer to a batch: {error}");
                        (ReplicaError::Lost, GiveUp::Broken)
                    }
                }
            }
            // All of these come before anything is begun.
            Err(error @ (PeerError::Refused(_) | PeerError::Status(400..=499) | PeerError::NotSent)) => {
                (ReplicaError::NotSent, GiveUp::Unwanted(error))
            }
            Err(error) => {
                tracing::debug!(peer = %self.node, lane = %self.lane, "batch lost: {error}");
                (ReplicaError::Lost, GiveUp::Broken)
            }
        };
        self.stats.failed();
        self.queue.fail(ops.into_iter().filter_map(|op| op.reply), error);
        Err(reason)
    }

    fn hand_out(&self, ops: Vec<Op>, results: Vec<Result<ReplicaReply, ReplicaError>>) {
        for (op, result) in ops.into_iter().zip(results) {
            let Some(reply) = op.reply else { continue };
            match result {
                Ok(answer) => reply.send(Ok(answer)),
                Err(error) => self.queue.fail([reply], error),
            }
        }
    }
}
