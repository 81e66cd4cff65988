//! Makes the trouble that the plan has drawn, and ends it.

use std::sync::Arc;
use std::time::Duration;

use rondo_storage::engine::memory::CrashLoss;
use rondo_storage::engine::{Engine, Keyspace, MemoryEngine};

use crate::faults::{Rates, Trouble};
use crate::history::At;
use crate::mutant::Mutant;
use crate::node::disk::copy;
use crate::world::{Event, World};

/// From then on nothing goes wrong any more.
pub const HEALS_AT: At = Duration::from_secs(45);
/// From then on no client asks.
pub const QUIET_AT: At = Duration::from_secs(48);
/// After so long another try, where a trouble cannot be made now.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Furthest that a clock is set.
const HOUR_US: i64 = 3_600_000_000;

impl World {
    /// Whether clients have stopped asking.
    pub(crate) fn setup_is_quiet(&self) -> bool {
        self.now >= QUIET_AT
    }

    pub(crate) fn trouble(&mut self, index: usize) {
        if self.now >= HEALS_AT {
            return;
        }
        let (trouble, mean) = self.setup.plan.troubles[index];
        // One that has never found a node that may be away goes before those that have.
        let others = self.waiting_troubles.iter().any(|&waiting| waiting != index);
        let gives_way = others && trouble.takes_a_node_away() && self.has_made(trouble);
        let made = !gives_way && self.make(trouble);
        let next = if made { self.random.around(mean) } else { AGAIN_AFTER };
        if made {
            self.history.count(Self::name_of(trouble));
            self.waiting_troubles.remove(&index);
        } else if trouble.takes_a_node_away() && !trouble.loses_a_disk() && !self.has_made(trouble) {
            self.waiting_troubles.insert(index);
        }
        self.at(self.now + next.max(AGAIN_AFTER), Event::Trouble { index });
    }

    fn has_made(&self, trouble: Trouble) -> bool {
        self.history.times(Self::name_of(trouble)) > 0
    }

    /// As the history counts it.
    #[must_use]
    pub fn name_of(trouble: Trouble) -> &'static str {
        match trouble {
            Trouble::Crash => "crashes",
            Trouble::PowerLoss => "power losses",
            Trouble::Pause => "pauses",
            Trouble::Partition => "partitions",
            Trouble::ClockJump => "clock jumps",
            Trouble::DiskLoss => "lost disks",
            Trouble::OldDisk => "old disks",
            Trouble::Damage => "damaged rows",
        }
    }

    fn make(&mut self, trouble: Trouble) -> bool {
        let node = self.random.index(self.nodes.len());
        if trouble.loses_a_disk() && !self.all_disks_are_whole() {
            return false;
        }
        let away = self.nodes.iter().filter(|node| !node.is_there(self.now)).count();
        let away_is_allowed = away < self.setup.plan.away_max && self.nodes[node].is_there(self.now);
        match trouble {
            Trouble::Partition => self.partition(),
            Trouble::ClockJump => self.clock_jumps(node),
            Trouble::Damage => self.damage(node),
            _ if !away_is_allowed => false,
            Trouble::Pause => self.pause(node),
            Trouble::Crash => self.kill(node, CrashLoss::Process),
            Trouble::PowerLoss => self.kill(node, CrashLoss::Power),
            Trouble::DiskLoss => self.lose_disk(node, Arc::default()),
            Trouble::OldDisk => {
                let old = self.nodes[node].old_disk.clone();
                old.is_some_and(|old| self.lose_disk(node, Arc::new(copy(&old))))
            }
        }
    }

    /// With one loss at a time, each made good before the next, whatever two owners have stays.
    fn all_disks_are_whole(&mut self) -> bool {
        self.nodes.iter_mut().all(|node| {
            let engine = node.engine.clone();
            node.damaged.retain(|row| engine.get(Keyspace::Objects, row).is_err());
            if let Some(process) = &node.process {
                node.untrusted = process.store.untrusted();
            }
            node.damaged.is_empty() && node.untrusted.is_empty()
        })
    }

    fn kill(&mut self, node: usize, loss: CrashLoss) -> bool {
        if loss == CrashLoss::Power {
            self.history.power_losses += 1;
        }
        self.crash(node, loss);
        let away = self.random.duration(Duration::from_millis(100), Duration::from_secs(8));
        self.start_later(node, away);
        true
    }

    fn lose_disk(&mut self, node: usize, disk: Arc<MemoryEngine>) -> bool {
        self.history.losses += 1;
        self.crash(node, CrashLoss::Process);
        let partitions = self.layout.partitions().get();
        let lost = &mut self.nodes[node];
        (lost.engine, lost.old_disk) = (disk, None);
        if self.mutant == Mutant::ReusesDots {
            lost.wall.jump(-HOUR_US);
        }
        lost.untrusted = (0..partitions).map(rondo_ring::PartitionId).collect();
        let away = self.random.duration(Duration::from_millis(100), Duration::from_secs(4));
        self.start_later(node, away);
        true
    }

    fn pause(&mut self, node: usize) -> bool {
        let lasts = self.random.duration(Duration::from_millis(50), Duration::from_secs(5));
        let stopped = &mut self.nodes[node];
        (stopped.paused_since, stopped.paused_until) = (self.now, self.now + lasts);
        self.clients_wait_for(node);
        self.trace.event(self.now, node, "stops", lasts.as_millis() as u64, || format!("for {lasts:?}"));
        true
    }

    fn clock_jumps(&mut self, node: usize) -> bool {
        let by_us = self.random.below(2 * HOUR_US as u64) as i64 - HOUR_US;
        self.nodes[node].wall.jump(by_us);
        self.trace.event(self.now, node, "clock", by_us as u64, || format!("set by {} s", by_us / 1_000_000));
        true
    }

    fn damage(&mut self, node: usize) -> bool {
        let key = &self.setup.keys[self.random.index(self.setup.keys.len())];
        let engine = &self.nodes[node].engine;
        if !matches!(engine.get(Keyspace::Objects, key.row()), Ok(Some(_))) {
            return false;
        }
        engine.damage(Keyspace::Objects, key.row());
        let row = bytes::Bytes::copy_from_slice(key.row());
        self.trace.event(self.now, node, "damage", 0, || key.key().to_string());
        self.history.losses += 1;
        self.nodes[node].damaged.push(row);
        true
    }

    /// One node alone, one direction of one pair, or two halves.
    fn partition(&mut self) -> bool {
        if self.network.is_cut() {
            return false;
        }
        let nodes = self.nodes.len();
        let (one, other) = (self.random.index(nodes), self.random.index(nodes));
        let kind = self.random.below(4);
        let side: Vec<bool> = (0..nodes).map(|_| self.random.chance(500)).collect();
        for from in 0..nodes {
            for to in (0..nodes).filter(|&to| to != from) {
                let cut = match kind {
                    0 => from == one || to == one,
                    1 => from == one,
                    2 => from == one && to == other,
                    _ => side[from] != side[to],
                };
                if cut {
                    self.network.cut(from, to);
                }
            }
        }
        let lasts = self.random.duration(Duration::from_millis(300), Duration::from_secs(12));
        self.at(self.now + lasts, Event::Rejoined);
        self.trace.event(self.now, one, "partition", kind, || format!("{side:?} {other} for {lasts:?}"));
        self.network.is_cut()
    }

    pub(crate) fn rejoin(&mut self) {
        self.network.heal();
        self.trace.event(self.now, 0, "rejoined", 0, String::new);
    }

    /// Nothing is wrong any more: what is away comes back.
    pub fn heal(&mut self) {
        self.rates = Rates::default();
        self.network.heal();
        (0..self.nodes.len()).for_each(|node| self.start(node));
        self.trace.event(self.now, 0, "heals", 0, String::new);
    }
}
