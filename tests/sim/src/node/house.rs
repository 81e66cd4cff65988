//! A process from its start to its end, and what it does by the clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rondo_antientropy::Handoff;
use rondo_coordinator::HedgeBudget;
use rondo_ring::{Liveness, View};
use rondo_storage::engine::memory::CrashLoss;
use rondo_storage::store::{Rebuild, Store};
use rondo_storage::versions::ActorId;

use super::Process;
use super::disk::copy;
use super::exchange::Exchanges;
use super::membership::Membership;
use crate::mutant::Mutant;
use crate::world::{Event, Happens, World};

/// How often the house is looked after.
const HOUSE: Duration = Duration::from_secs(1);

impl World {
    /// Starts a node over what its disk has.
    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        self.nodes[node].lives += 1;
        let start = self.nodes[node].lives;
        self.nodes[node].wall.advance(self.now);
        let store = self.open_store(node);
        let clock_began = self.random.duration(Duration::ZERO, Duration::from_secs(1_000));
        let all = (0..self.nodes.len()).map(|other| self.info(other, self.nodes[other].lives)).collect();
        let seed = self.random.bits();
        let membership = Membership::new(self.info(node, start), all, clock_began, seed);
        let view = View::new(self.nodes[node].id, self.layout.clone(), |_| Liveness::Suspect);
        self.nodes[node].process = Some(Process {
            life: start,
            began: self.now,
            clock_began,
            store,
            membership,
            view: Arc::new(view),
            machines: BTreeMap::new(),
            lists: BTreeMap::new(),
            calls: BTreeMap::new(),
            peers: BTreeMap::new(),
            hedges: HedgeBudget::default(),
            refill: None,
            exchanges: Exchanges::new(self.nodes[node].id),
            handoff: Handoff::default(),
            delivering: BTreeMap::new(),
            inbox: VecDeque::new(),
            done: Arc::default(),
            committing: 0,
        });
        self.history.count("starts");
        self.trace.event(self.now, node, "starts", start, String::new);
        let turn = self.random.duration(Duration::ZERO, HOUSE);
        self.at_node(self.now, node, Happens::Tick);
        self.at_node(self.now, node, Happens::Exchange);
        self.at_node(self.now, node, Happens::Handoff);
        self.at_node(self.now + turn, node, Happens::House);
    }

    /// After any end that was not in order the storage instance is new, as `storage/src/store/home.rs` has it.
    fn open_store(&mut self, node: usize) -> Arc<Store> {
        let mut instance = self.random.bits();
        if self.mutant == Mutant::ReusesDots {
            instance = node as u64 + 1;
        }
        let disk = &self.nodes[node];
        disk.engine.hold();
        let (engine, partitions) = (disk.engine.clone(), self.layout.partitions());
        let store = Store::over_distrusting(engine, disk.wall.clone(), ActorId(instance), partitions, &disk.untrusted);
        Arc::new(store)
    }

    /// The process ends at once; its disk keeps what was done, but for what the loss takes.
    pub(crate) fn crash(&mut self, node: usize, loss: CrashLoss) {
        let Some(process) = self.nodes[node].process.take() else { return };
        self.nodes[node].untrusted = process.store.untrusted();
        let next = self.nodes[node].engine.crash(loss);
        self.nodes[node].engine = Arc::new(next);
        self.nodes[node].paused_until = self.nodes[node].paused_until.min(self.now);
        self.orphan_clients_of(node);
        if loss == CrashLoss::Process {
            self.hang_up(node);
        }
        self.trace.event(self.now, node, "dies", process.life, || format!("{loss:?}"));
    }

    /// It starts again after a while.
    pub(crate) fn start_later(&mut self, node: usize, after: Duration) {
        self.at(self.now + after, Event::Start { node });
    }

    pub(crate) fn keep_house(&mut self, node: usize) {
        let store = self.nodes[node].running().store.clone();
        store.tick();
        // As many steps as half a second is enough for.
        for _ in 0..10_000 {
            if store.rebuild_digests() != Rebuild::Advanced {
                break;
            }
        }
        self.look_for_lost_partitions(node);
        if self.nodes[node].old_disk.is_none() || self.random.chance(100) {
            self.nodes[node].old_disk = Some(Arc::new(copy(&self.nodes[node].engine)));
        }
        self.at_node(self.now + HOUSE, node, Happens::House);
    }
}
