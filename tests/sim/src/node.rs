//! One node: a disk that outlives its processes, and a process that drives the machines as the server does.

pub mod calls;
pub mod disk;
pub mod exchange;
pub mod handoff;
pub mod house;
pub mod listing;
pub mod membership;
pub mod packet;
pub mod refill;
pub mod replica;
pub mod requests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rondo_antientropy::Handoff;
use rondo_coordinator::{Event as Told, HedgeBudget, Now};
use rondo_ring::{NodeId, PartitionId, View};
use rondo_storage::engine::MemoryEngine;
use rondo_storage::store::Store;

use crate::clock::Wall;
use crate::history::At;
use crate::random::Random;
use crate::setup::Setup;
use calls::{Call, Peer};
use disk::Completions;
use exchange::Exchanges;
use listing::RunningList;
use membership::Membership;
use refill::RunningRefill;
use requests::Running;

/// A node: what is left of it when its process is gone.
pub struct Node {
    /// Its identity.
    pub id: NodeId,
    /// Its disk.
    pub engine: Arc<MemoryEngine>,
    /// The clock on its wall.
    pub wall: Arc<Wall>,
    /// Its disk as it was some time ago.
    pub old_disk: Option<Arc<MemoryEngine>>,
    /// Partitions whose reads do not count: on disk too.
    pub untrusted: Vec<PartitionId>,
    /// Rows that were made unreadable.
    pub damaged: Vec<bytes::Bytes>,
    /// Stopped until then.
    pub paused_until: At,
    /// When it was last stopped.
    pub paused_since: At,
    /// The process, while there is one.
    pub process: Option<Process>,
    /// Processes so far.
    lives: u64,
}

/// All that a kill -9 takes.
pub struct Process {
    /// Which of the node's processes.
    pub life: u64,
    /// When it started, and what its clock said then.
    began: At,
    clock_began: Now,
    /// Its storage.
    pub store: Arc<Store>,
    /// Who is alive.
    pub membership: Membership,
    /// What the coordinators are given.
    pub view: Arc<View>,
    /// Reads and writes, by number.
    pub machines: BTreeMap<u64, Running>,
    /// Listings, by number.
    pub lists: BTreeMap<u64, RunningList>,
    /// What was asked of others, by number.
    pub calls: BTreeMap<u64, Call>,
    /// What is known of others.
    pub peers: BTreeMap<NodeId, Peer>,
    /// Of its reads.
    pub hedges: HedgeBudget,
    /// While partitions are refilled.
    pub refill: Option<RunningRefill>,
    /// Comparing with the others.
    pub exchanges: Exchanges,
    /// Delivery of hints.
    pub handoff: Handoff,
    /// Hints on their way, by call: whose, and of what.
    pub delivering: BTreeMap<u64, (NodeId, bytes::Bytes)>,
    /// What machines are told once the event in hand is dealt with.
    pub inbox: VecDeque<(u64, Told)>,
    /// What the disk has finished and nobody was told yet.
    pub done: Completions,
    /// How many batches the disk is working at.
    pub committing: usize,
}

impl Node {
    pub(crate) fn new(index: usize, random: &mut Random) -> Self {
        // Clocks of well-kept machines, within a second.
        let off_us = random.below(2_000_000) as i64 - 1_000_000;
        Self {
            id: Setup::id(index),
            engine: Arc::default(),
            wall: Wall::off_by(off_us),
            old_disk: None,
            untrusted: Vec::new(),
            damaged: Vec::new(),
            paused_until: Duration::ZERO,
            paused_since: Duration::ZERO,
            process: None,
            lives: 0,
        }
    }

    /// Which process it has.
    #[must_use]
    pub fn life(&self) -> Option<u64> {
        self.process.as_ref().map(|process| process.life)
    }

    /// Whether it would answer now.
    #[must_use]
    pub fn is_there(&self, now: At) -> bool {
        self.process.is_some() && self.paused_until <= now
    }

    /// How old a request may be that is read now, as its server's pulse tells after a stop (`node/src/server/stall.rs`).
    #[must_use]
    pub fn pulse_age(&self, now: At) -> Duration {
        let stopped = self.paused_until.saturating_sub(self.paused_since);
        let since = now.saturating_sub(self.paused_until);
        let aftermath = stopped.min(Duration::from_millis(500));
        let stalled = stopped > Duration::from_millis(100);
        if stalled && since < aftermath { now - self.paused_since } else { Duration::ZERO }
    }

    pub(crate) fn clock(&self, now: At) -> Now {
        self.process.as_ref().map_or(now, |process| now - process.began + process.clock_began)
    }

    pub(crate) fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("only a running process has events")
    }
}

impl Process {
    /// When the node's clock says `at`.
    #[must_use]
    pub fn world_time(&self, at: Now) -> At {
        (at + self.began).saturating_sub(self.clock_began)
    }
}
