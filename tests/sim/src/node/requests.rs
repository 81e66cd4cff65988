//! Carries out what the machines of reads and writes ask for, as `node/src/server/drive.rs` does.

use std::time::Duration;

use rondo_coordinator::{
    Action, Actions, Event as Told, Failure, Now, QuorumChoice, Read, ReadRequest, ReplicaReply, ReplicaRequest, Write,
    WriteAnswer, WriteRequest,
};
use rondo_ring::NodeId;
use rondo_storage::Key;
use rondo_storage::store::{BlindPut, Change, Condition, Store, StoreDone, StoreError, Updated};
use rondo_storage::versions::{CausalContext, Conflict};

use super::calls::{Caller, Peer};
use super::disk::Waits;
use super::packet::Body;
use crate::history::Answer;
use crate::invariants::dots;
use crate::mutant::Mutant;
use crate::world::{Happens, World};

/// One request in progress.
#[derive(Debug)]
pub struct Running {
    machine: Machine,
    wake: Option<Now>,
    answer_to: AnswerTo,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there are few, and each is made once")]
enum Machine {
    Write(Write),
    Read(Read),
}

/// Who asked.
#[derive(Clone, Copy, Debug)]
pub enum AnswerTo {
    /// A client, with this request.
    Client(u64),
    /// A node that forwarded a write: the node, its call, its process.
    Peer(usize, u64, u64),
}

impl World {
    pub(crate) fn begin_write(&mut self, node: usize, request: WriteRequest, answer_to: AnswerTo) {
        let (now, view) = (self.clock(node), self.nodes[node].running().view.clone());
        let (machine, actions) = Write::start(request, &view, &self.options, now);
        self.begin(node, Machine::Write(machine), answer_to, actions);
    }

    pub(crate) fn begin_read(&mut self, node: usize, mut request: ReadRequest, answer_to: AnswerTo) {
        match self.mutant {
            Mutant::ReadsOne => request.r = QuorumChoice::One,
            Mutant::IgnoresContexts => request.at_least = None,
            _ => {}
        }
        let now = self.clock(node);
        let process = self.nodes[node].running();
        process.hedges.earn();
        let read_p95 = |of: NodeId| process.peers.get(&of).and_then(Peer::read_p95);
        let (machine, actions) = Read::start(request, &process.view, read_p95, &self.options, now);
        self.begin(node, Machine::Read(machine), answer_to, actions);
    }

    fn begin(&mut self, node: usize, machine: Machine, answer_to: AnswerTo, actions: Actions) {
        let id = self.serial();
        self.nodes[node].running().machines.insert(id, Running { machine, wake: None, answer_to });
        self.carry_out(node, id, actions);
        self.remove_finished(node, id);
    }

    fn remove_finished(&mut self, node: usize, id: u64) {
        let machines = &mut self.nodes[node].running().machines;
        let finished = machines.get(&id).is_some_and(|running| match &running.machine {
            Machine::Write(write) => write.is_finished(),
            Machine::Read(read) => read.is_finished(),
        });
        if finished {
            machines.remove(&id);
        }
    }

    pub(crate) fn wake(&mut self, node: usize, machine: u64) {
        let now = self.clock(node);
        let Some(running) = self.nodes[node].running().machines.get_mut(&machine) else {
            return self.wake_list(node, machine);
        };
        if running.wake.is_some_and(|wake| wake <= now) {
            running.wake = None;
            self.tell(node, machine, Told::Wake);
        }
    }

    /// The same once what is being carried out is done.
    fn tell_later(&mut self, node: usize, id: u64, event: Told) {
        self.nodes[node].running().inbox.push_back((id, event));
    }

    /// Something happens to a machine, if it is still there.
    pub(crate) fn tell(&mut self, node: usize, id: u64, event: Told) {
        let now = self.clock(node);
        let Some(running) = self.nodes[node].running().machines.get_mut(&id) else { return };
        let actions = match &mut running.machine {
            Machine::Write(write) => write.on_event(event, now),
            Machine::Read(read) => read.on_event(event, now),
        };
        self.carry_out(node, id, actions);
        self.remove_finished(node, id);
    }

    fn carry_out(&mut self, node: usize, id: u64, actions: Actions) {
        for action in actions {
            match action {
                Action::UpdateHere { key, change, hint_for } => {
                    if !hint_for.is_empty() {
                        self.history.count("hints kept");
                    }
                    self.update_here(node, id, &key, change, |store, key, change, done| {
                        store.update_beside(key, change, &hint_for, || Some(done))
                    });
                }
                Action::UpdateHints { key, change, hint_for } => {
                    self.history.count("writes without any owner");
                    self.update_here(node, id, &key, change, |store, key, change, done| {
                        store.update_hinted(key, change, &hint_for, || Some(done))
                    });
                }
                Action::HintHere { target, key, object, durability } => {
                    self.history.count("hints kept");
                    let (store, done) = self.store_and_done(node, Waits::Hinted(id));
                    if let Err(error) = store.keep_hint(target, &key, &object, durability, || Some(done)) {
                        self.tell_later(node, id, Told::Hinted(Err(error)));
                    }
                }
                Action::ReadHintsHere { key } => {
                    let hinted = self.nodes[node].running().store.read_hinted(&key);
                    self.tell_later(node, id, Told::ReadHere(hinted.stored));
                }
                Action::MergeHere { key, object, durability } => {
                    self.history.count("repairs");
                    let (store, done) = self.store_and_done(node, Waits::MergedHere(id));
                    if let Err(error) = store.merge(&key, &object, durability, done) {
                        self.tell_later(node, id, Told::MergedHere(Err(error)));
                    }
                }
                Action::ReadHere { key } => {
                    let stored = self.nodes[node].running().store.read(&key);
                    self.tell_later(node, id, Told::ReadHere(stored));
                }
                Action::Send { to, request, deadline } => self.send(node, id, to, request, deadline),
                Action::MayHedge { late } => {
                    let may = self.is_suspect(node, late) || self.nodes[node].running().hedges.spend();
                    if may {
                        self.history.count("hedges");
                    }
                    self.tell_later(node, id, Told::MayHedge(may));
                }
                Action::WakeAt(at) => {
                    let process = self.nodes[node].running();
                    if let Some(running) = process.machines.get_mut(&id) {
                        running.wake = Some(at);
                        let at = process.world_time(at);
                        self.at_node(at, node, Happens::Wake { machine: id });
                    }
                }
                Action::AnswerWrite(result) => self.answer_write(node, id, result),
                Action::AnswerRead(result) => {
                    if let Some(AnswerTo::Client(op)) = self.answer_to(node, id) {
                        self.answer(op, &Answer::Read(result));
                    }
                }
            }
        }
    }

    fn answer_to(&mut self, node: usize, id: u64) -> Option<AnswerTo> {
        self.nodes[node].running().machines.get(&id).map(|running| running.answer_to)
    }

    fn answer_write(&mut self, node: usize, id: u64, result: Result<WriteAnswer, Failure>) {
        match self.answer_to(node, id) {
            Some(AnswerTo::Client(op)) => self.answer(op, &Answer::Write(result)),
            Some(AnswerTo::Peer(to, call, life)) => {
                self.reply(node, to, (call, life), Body::Replied(Box::new(ReplicaReply::Forwarded(result))));
            }
            None => {}
        }
    }

    /// The callback of a commit for whoever waits for it.
    pub(crate) fn store_and_done(&mut self, node: usize, waits: Waits) -> (std::sync::Arc<Store>, StoreDone) {
        let process = self.nodes[node].running();
        let (store, done) = (process.store.clone(), process.done.clone());
        let lies = self.mutant == Mutant::AcknowledgesTooEarly;
        (store, Box::new(move |result| done.lock().push((waits, if lies { Ok(()) } else { result }))))
    }

    fn update_here(
        &mut self,
        node: usize,
        id: u64,
        key: &Key,
        change: Change,
        update: impl FnOnce(&Store, &Key, &Change, StoreDone) -> Result<Updated, StoreError>,
    ) {
        let (label, deletes) = (change.metadata.content_type.clone(), change.value.is_none());
        let replaces = replaces(&change);
        let (store, done) = self.store_and_done(node, Waits::Durable(id));
        let updated = update(&store, key, &change, done);
        if let Ok(updated) = &updated {
            let now = self.now;
            dots::on_update(&mut self.history, key, (&label, deletes), replaces, updated, now);
            self.trace.event(now, node, "coordinates", updated.dot.counter, || {
                format!("{} {} as {:?}", key.key(), String::from_utf8_lossy(&label), updated.dot)
            });
        }
        self.tell_later(node, id, Told::Updated(updated));
    }

    fn send(&mut self, node: usize, id: u64, to: NodeId, request: ReplicaRequest, deadline: Now) {
        match &request {
            ReplicaRequest::Forward(_) => self.history.count("forwards"),
            ReplicaRequest::Merge { key, object, .. } => {
                dots::on_envelope(&mut self.history, key, object);
                let repairs = self.nodes[node].running().machines.get(&id);
                if repairs.is_some_and(|running| matches!(running.machine, Machine::Read(_))) {
                    self.history.count("repairs");
                    if self.mutant == Mutant::NeverHeals {
                        return self.tell_later(node, id, Told::Reply { from: to, result: Ok(ReplicaReply::Merged) });
                    }
                }
            }
            ReplicaRequest::Hint { key, object, .. } => {
                self.history.count("hints kept");
                dots::on_envelope(&mut self.history, key, object);
            }
            ReplicaRequest::Read { .. } | ReplicaRequest::List(_) | ReplicaRequest::Deliver { .. } => {}
        }
        self.call(node, to, Body::Replica(Box::new(request)), Caller::Machine(id), deadline);
    }
}

/// What a client's write replaces; `None`: whatever its owner holds.
fn replaces(change: &Change) -> Option<CausalContext> {
    let names_versions = matches!(change.condition, Some(Condition::Absent | Condition::AnyOf(_)));
    match (&change.context, change.conflict, change.blind) {
        (Some(context), Conflict::Siblings, _) => Some(context.clone()),
        (None, Conflict::Siblings, BlindPut::Sibling) if change.value.is_some() && !names_versions => {
            Some(CausalContext::default())
        }
        _ => None,
    }
}

/// How long a page takes to be read from a disk.
pub(crate) const PAGE_TAKES: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(4));
