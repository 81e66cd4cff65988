//! The disk: commits take time, come in groups, can fail, and are lost by a crash before they are done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rondo_antientropy::handoff::Sent;
use rondo_coordinator::{Event as Told, ReplicaReply};
use rondo_ring::NodeId;
use rondo_storage::engine::{Engine, EngineError, Keyspace, MemoryEngine};

use super::packet::Body;
use crate::mutant::Mutant;
use crate::troubles::HEALS_AT;
use crate::world::{Happens, World};

/// What the engine's writer has finished. It may be told on any thread, hence the lock.
pub type Completions = Arc<Mutex<Vec<(Waits, Result<(), EngineError>)>>>;

/// Who waits for a commit.
#[derive(Clone, Debug)]
pub enum Waits {
    /// A write that is coordinated here.
    Durable(u64),
    /// A read that repairs this replica.
    MergedHere(u64),
    /// Another node's merge: the node, its call, its process.
    Peer(usize, u64, u64),
    /// One row of a refill.
    Refill,
    /// A write that is kept for an owner which could not be reached.
    Hinted(u64),
    /// One row of those that an exchange brought.
    Exchange(u64),
    /// A hint for a node whose keys this one owns by now: whose, and of what.
    Handed(NodeId, Bytes),
    /// A hint for this node is removed.
    Forgotten(NodeId),
}

impl World {
    /// Tells those who wait for what is done, and gives the disk what there is to do.
    pub(crate) fn settle(&mut self, node: usize) {
        loop {
            let Some(process) = &mut self.nodes[node].process else { return };
            if let Some((machine, event)) = process.inbox.pop_front() {
                self.tell(node, machine, event);
                continue;
            }
            let done = std::mem::take(&mut *process.done.lock());
            if done.is_empty() {
                break;
            }
            done.into_iter().for_each(|(waits, result)| self.finished(node, waits, result));
        }
        let waiting = self.nodes[node].engine.waiting();
        let process = self.nodes[node].running();
        if process.committing == 0 && waiting > 0 {
            process.committing = waiting;
            let mut takes = self.random.duration(Duration::from_micros(200), Duration::from_micros(3_200));
            if self.random.chance(self.rates.slow) {
                takes += self.random.duration(Duration::ZERO, Duration::from_millis(60));
            }
            self.at_node(self.now + takes, node, Happens::Disk);
        }
    }

    pub(crate) fn disk_is_done(&mut self, node: usize) {
        let group = std::mem::take(&mut self.nodes[node].running().committing);
        let engine = self.nodes[node].engine.clone();
        let lies = self.mutant == Mutant::AcknowledgesTooEarly && self.now < HEALS_AT;
        let per_mille = if lies { 300 } else { self.rates.disk };
        if self.random.chance(per_mille) {
            self.history.count("failed commits");
            let full = self.random.chance(300);
            engine.fail_next(if full { EngineError::DiskFull } else { EngineError::Write("simulated".into()) });
        }
        for _ in 0..group {
            engine.step();
        }
    }

    fn finished(&mut self, node: usize, waits: Waits, result: Result<(), EngineError>) {
        match waits {
            Waits::Durable(machine) => self.tell(node, machine, Told::Durable(result)),
            Waits::MergedHere(machine) => self.tell(node, machine, Told::MergedHere(result.map_err(Into::into))),
            Waits::Peer(to, call, life) => {
                let reply = ReplicaReply::to_merge(result.map_err(Into::into));
                self.reply(node, to, (call, life), Body::Replied(Box::new(reply)));
            }
            Waits::Refill => self.refill_merged_one(node, result.is_ok()),
            Waits::Hinted(machine) => self.tell(node, machine, Told::Hinted(result.map_err(Into::into))),
            Waits::Exchange(number) => self.exchange_merged_one(node, number, result.is_ok()),
            Waits::Handed(target, row) => {
                self.handed(node, target, &row, if result.is_ok() { Sent::Taken } else { Sent::Failed });
            }
            Waits::Forgotten(target) => self.hint_forgotten(node, target),
        }
    }
}

/// Everything that is published, on another disk.
#[must_use]
pub fn copy(engine: &MemoryEngine) -> MemoryEngine {
    let to = MemoryEngine::new();
    for keyspace in Keyspace::ALL {
        let rows = engine.scan(keyspace, &[], None, usize::MAX).unwrap_or_default();
        for (key, value) in rows {
            let row = rondo_storage::engine::Write { keyspace, key, value: Some(value) };
            let batch = std::iter::once(row).collect();
            let done = Box::new(|_| {});
            to.submit(0, batch, rondo_storage::engine::Durability::Fsync, done).expect("an engine in memory takes it");
        }
    }
    to
}
