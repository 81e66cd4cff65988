//! What the transport knows of each peer: counters for the metrics page, evidence for the failure detector. Shared by
//! all workers; recording takes no lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rondo_coordinator::{Now, ReplicaError};
use rondo_ring::NodeId;

use super::Lane;
use super::latency::Latency;
use super::options::PeerOptions;
use super::recent::{Recent, Times};

/// What speaks for and against a peer at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// When it last answered, on any lane or control connection.
    pub last_success: Option<Now>,
    /// When a connection, handshake or batch last failed.
    pub last_failure: Option<Now>,
    /// For how long the oldest batch has been unanswered.
    pub oldest_unanswered: Option<Duration>,
    /// Some batch has been unanswered for longer than its lane allows.
    pub overdue: bool,
}

impl Evidence {
    /// Route around it for now: something is overdue, or it failed and has not answered since.
    pub fn suspect(&self) -> bool {
        self.overdue || self.last_failure > self.last_success
    }
}

/// Counters of one lane to one peer, since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounters {
    /// Requests sent.
    pub batches: u64,
    /// Operations in them.
    pub ops: u64,
    /// Bytes of their bodies.
    pub sent_bytes: u64,
    /// Bytes of the answers' bodies.
    pub received_bytes: u64,
    /// Operations answered `NotSent`.
    pub not_sent: u64,
    /// Operations answered `Lost`.
    pub lost: u64,
    /// Operations answered `TimedOut`.
    pub timed_out: u64,
    /// Connections made.
    pub connects: u64,
    /// Attempts that failed.
    pub connect_failures: u64,
}

#[derive(Debug, Default)]
struct LaneStats {
    batches: AtomicU64,
    ops: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    not_sent: AtomicU64,
    lost: AtomicU64,
    timed_out: AtomicU64,
    connects: AtomicU64,
    connect_failures: AtomicU64,
    /// When the oldest unanswered batch was sent; 0: there is none. See `Waiting`.
    waiting_since: AtomicU64,
    latency: Latency,
    recent: Recent,
}

/// One peer. Times are microseconds since the origin, plus one; 0 is never.
#[derive(Debug)]
pub struct PeerStats {
    origin: Instant,
    last_success: AtomicU64,
    last_failure: AtomicU64,
    /// When it last connected to this node. It can be tried then; whether it answers is another question.
    last_greeting: AtomicU64,
    lanes: [LaneStats; Lane::ALL.len()],
}

impl PeerStats {
    fn new(origin: Instant) -> Self {
        Self {
            origin,
            last_success: AtomicU64::new(0),
            last_failure: AtomicU64::new(0),
            last_greeting: AtomicU64::new(0),
            lanes: std::array::from_fn(|_| LaneStats::default()),
        }
    }

    /// The counters of a lane.
    pub fn counters(&self, lane: Lane) -> LaneCounters {
        let lane = &self.lanes[lane as usize];
        LaneCounters {
            batches: lane.batches.load(Relaxed),
            ops: lane.ops.load(Relaxed),
            sent_bytes: lane.sent_bytes.load(Relaxed),
            received_bytes: lane.received_bytes.load(Relaxed),
            not_sent: lane.not_sent.load(Relaxed),
            lost: lane.lost.load(Relaxed),
            timed_out: lane.timed_out.load(Relaxed),
            connects: lane.connects.load(Relaxed),
            connect_failures: lane.connect_failures.load(Relaxed),
        }
    }

    /// What speaks for and against the peer.
    pub fn evidence(&self, options: &PeerOptions) -> Evidence {
        let now = self.now();
        let mut evidence = Evidence {
            last_success: time(self.last_success.load(Relaxed)),
            last_failure: time(self.last_failure.load(Relaxed)),
            ..Evidence::default()
        };
        for lane in Lane::ALL {
            let Some(since) = time(self.lanes[lane as usize].waiting_since.load(Relaxed)) else { continue };
            let age = now.saturating_sub(since);
            evidence.oldest_unanswered = evidence.oldest_unanswered.max(Some(age));
            evidence.overdue |= age > options.lane(lane).suspect_after;
        }
        evidence
    }

    /// Within which time it answers 95 of 100 batches of reads, waiting in the queue included; `None` before there are
    /// enough. Costs one load.
    pub fn read_p95(&self) -> Option<Duration> {
        self.lanes[Lane::Read as usize].latency.p95()
    }

    /// Whether it has answered, on any lane or control connection, or connected to this node, after that.
    pub(super) fn was_there_since(&self, since: Now) -> bool {
        let last = self.last_success.load(Relaxed).max(self.last_greeting.load(Relaxed));
        time(last) > Some(since)
    }

    pub(super) fn greeted(&self) {
        self.last_greeting.store(stamp(self.now()), Relaxed);
    }

    pub(super) fn succeeded(&self) {
        self.last_success.store(stamp(self.now()), Relaxed);
    }

    pub(super) fn failed(&self) {
        self.last_failure.store(stamp(self.now()), Relaxed);
    }

    pub(super) fn connected(&self, lane: Lane) {
        self.lanes[lane as usize].connects.fetch_add(1, Relaxed);
        self.succeeded();
    }

    pub(super) fn connect_failed(&self, lane: Lane) {
        self.lanes[lane as usize].connect_failures.fetch_add(1, Relaxed);
        self.failed();
    }

    pub(super) fn sent(&self, lane: Lane, ops: usize, bytes: usize) {
        let lane = &self.lanes[lane as usize];
        lane.batches.fetch_add(1, Relaxed);
        lane.ops.fetch_add(ops as u64, Relaxed);
        lane.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// `took` is from when the first of the operations was queued.
    pub(super) fn answered(&self, lane: Lane, ops: usize, bytes: usize, took: Duration) {
        let now = self.now();
        self.last_success.store(stamp(now), Relaxed);
        let lane = &self.lanes[lane as usize];
        lane.received_bytes.fetch_add(bytes as u64, Relaxed);
        lane.latency.record(took);
        lane.recent.record(now, took, ops as u32);
    }

    /// How long the operations of a lane took in the last minutes, waiting in the queue included; those without an
    /// answer do not count.
    pub fn recent(&self, lane: Lane, now: Now) -> Times {
        Times::of([&self.lanes[lane as usize].recent], now)
    }

    pub(super) fn op_failed(&self, lane: Lane, error: ReplicaError) {
        let lane = &self.lanes[lane as usize];
        let counter = match error {
            ReplicaError::NotSent => &lane.not_sent,
            ReplicaError::Lost => &lane.lost,
            ReplicaError::TimedOut => &lane.timed_out,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn now(&self) -> Now {
        self.origin.elapsed()
    }
}

fn stamp(at: Now) -> u64 {
    at.as_micros() as u64 + 1
}

fn time(stamp: u64) -> Option<Now> {
    stamp.checked_sub(1).map(Duration::from_micros)
}

/// A batch in flight, as evidence. Many share one cell that holds the oldest: who ends clears only what is its own,
/// and who still waits asserts itself again at every tick.
pub(super) struct Waiting {
    peer: Arc<PeerStats>,
    lane: Lane,
    since: u64,
}

impl Waiting {
    pub(super) fn new(peer: &Arc<PeerStats>, lane: Lane) -> Self {
        let waiting = Self { peer: Arc::clone(peer), lane, since: stamp(peer.now()) };
        waiting.assert();
        waiting
    }

    pub(super) fn assert(&self) {
        let older = |held: u64| (held == 0 || held > self.since).then_some(self.since);
        // Err means that an older batch is there already, which is as good.
        let _ = self.cell().fetch_update(Relaxed, Relaxed, older);
    }

    fn cell(&self) -> &AtomicU64 {
        &self.peer.lanes[self.lane as usize].waiting_since
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Err means that another batch's time is there, which stays.
        let _ = self.cell().compare_exchange(self.since, 0, Relaxed, Relaxed);
    }
}

/// All peers ever talked to.
#[derive(Debug)]
pub struct Health {
    origin: Instant,
    peers: ArcSwap<BTreeMap<NodeId, Arc<PeerStats>>>,
}

impl Health {
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin, peers: ArcSwap::default() }
    }

    /// A peer's entry, if it was ever talked to.
    pub fn get(&self, node: NodeId) -> Option<Arc<PeerStats>> {
        self.peers.load().get(&node).cloned()
    }

    /// As [`PeerStats::read_p95`]. Asked for every owner of every read: no counter is shared between the workers for it.
    pub fn read_p95(&self, node: NodeId) -> Option<Duration> {
        self.peers.load().get(&node)?.read_p95()
    }

    /// Every peer, in order of ids.
    pub fn all(&self) -> Arc<BTreeMap<NodeId, Arc<PeerStats>>> {
        self.peers.load_full()
    }

    pub(super) fn entry(&self, node: NodeId) -> Arc<PeerStats> {
        loop {
            if let Some(entry) = self.get(node) {
                return entry;
            }
            let fresh = Arc::new(PeerStats::new(self.origin));
            self.peers.rcu(|old| {
                let mut new = BTreeMap::clone(old);
                new.entry(node).or_insert_with(|| Arc::clone(&fresh));
                new
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_waiting_batch_is_what_shows() {
        let health = Health::new(Instant::now());
        let peer = health.entry(NodeId(1));
        let options = PeerOptions::default();
        assert_eq!(peer.evidence(&options).oldest_unanswered, None);
        let first = Waiting::new(&peer, Lane::Read);
        let second = Waiting { peer: Arc::clone(&peer), lane: Lane::Read, since: first.since + 1_000 };
        second.assert();
        let held = || peer.lanes[Lane::Read as usize].waiting_since.load(Relaxed);
        assert_eq!(held(), first.since);
        let since = second.since;
        drop(first);
        assert_eq!(held(), 0);
        second.assert();
        assert_eq!(held(), since);
        drop(second);
        assert_eq!(peer.evidence(&options).oldest_unanswered, None);
    }

    #[test]
    fn a_failure_makes_suspect_until_the_next_success() {
        let options = PeerOptions::default();
        let origin = Instant::now().checked_sub(Duration::from_secs(9)).unwrap();
        let peer = PeerStats::new(origin);
        assert!(!peer.evidence(&options).suspect());
        peer.connect_failed(Lane::Write);
        assert!(peer.evidence(&options).suspect());
        peer.answered(Lane::Read, 1, 10, Duration::from_millis(1));
        assert!(!peer.evidence(&options).suspect());
        peer.lanes[Lane::Write as usize].waiting_since.store(stamp(Duration::from_secs(8)), Relaxed);
        assert!(peer.evidence(&options).overdue);
    }
}
