//! A cluster in one thread: the real machines over simulated stores, a seeded network and virtual time.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a module of a test: everything in it is for that test")]

pub mod check;
pub mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use check::{Checks, Coordinated};
use rondo_coordinator::{
    Action, Actions, CoordinatorOptions, Event, HedgeBudget, Now, Origin, Read, ReadRequest, ReplicaError,
    ReplicaReply, ReplicaRequest, ReplicaValue, Write, WriteRequest,
};
use rondo_ring::{Layout, Liveness, Member, NodeId, PartitionCount, ReplicationFactor, View};
use rondo_storage::Key;
use rondo_storage::engine::EngineError;
use store::{Commit, SimStore};

/// Splitmix64: the same seed, the same run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True this often in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }
}

/// Rates in one run, drawn from its seed: events in a thousand.
pub struct Faults {
    pub loss: u64,
    pub slow: u64,
    pub broken: u64,
    pub disk_errors: u64,
}

pub struct Node {
    pub id: NodeId,
    pub store: SimStore,
    /// Stopped until then: nothing it has to do is done, nothing is lost.
    pub hung_until: Now,
    pub hung_since: Now,
    /// Killed at that time; its durable data stays.
    pub dead_since: Option<Now>,
    /// What it knows of the others' times.
    pub read_p95: BTreeMap<NodeId, Duration>,
    pub hedges: HedgeBudget,
    /// How much longer than others it takes to answer.
    pub slow_by: Duration,
    /// Commits are durable in the order in which they were queued.
    committed_at: Now,
}

#[allow(clippy::large_enum_variant, reason = "there are few, and each is made once")]
enum Machine {
    Write(Write),
    Read(Read),
}

struct Running {
    node: usize,
    machine: Machine,
    wake: Option<Now>,
    /// Where the answer of a forwarded write goes.
    reply_to: Option<u64>,
}

enum Task {
    /// Something happens to a machine.
    Deliver { machine: u64, event: Event },
    /// The wish of a machine, unless it has another by now.
    Wake { machine: u64 },
    /// A request reaches a node.
    Arrive { node: usize, request: ReplicaRequest, sent_at: Now, reply_to: u64 },
    /// The reply to a send, unless there was one.
    Reply { send: u64, result: Result<ReplicaReply, ReplicaError> },
    /// The disk is done.
    Commit { node: usize, commit: Commit, then: Then },
}

/// Who waits for a commit.
enum Then {
    Durable(u64),
    MergedHere(u64),
    Reply(u64),
}

struct Send {
    machine: u64,
    to: NodeId,
}

pub struct Sim {
    pub now: Now,
    pub random: Random,
    pub faults: Faults,
    pub nodes: Vec<Node>,
    pub layout: Arc<Layout>,
    pub options: CoordinatorOptions,
    pub checks: Checks,
    tasks: BTreeMap<(Now, u64), Task>,
    machines: BTreeMap<u64, Running>,
    sends: BTreeMap<u64, Send>,
    serial: u64,
}

impl Sim {
    pub fn new(seed: u64, node_count: u64, zones: u64) -> Self {
        let mut random = Random::new(seed);
        let faults = Faults {
            loss: random.below(60),
            slow: random.below(100),
            broken: random.below(60),
            disk_errors: random.below(30),
        };
        let ids = (1..=node_count).map(|i| NodeId(u128::from(i)));
        let zone = |i: u128| format!("z{}", i as u64 % zones);
        let members = ids.clone().map(|id| Member { id, zone: zone(id.0), weight: 1 }).collect();
        let (q, n) = (PartitionCount::new(8).unwrap(), ReplicationFactor::new(3).unwrap());
        let layout = Arc::new(Layout::found(members, q, n).unwrap());
        let node = |id: NodeId| Node {
            id,
            store: SimStore::new(id.0 as u64),
            hung_until: Now::ZERO,
            hung_since: Now::ZERO,
            dead_since: None,
            read_p95: BTreeMap::new(),
            hedges: HedgeBudget::default(),
            slow_by: Duration::ZERO,
            committed_at: Now::ZERO,
        };
        Self {
            now: Duration::from_secs(1),
            random,
            faults,
            nodes: ids.map(node).collect(),
            layout,
            options: CoordinatorOptions::default(),
            checks: Checks::default(),
            tasks: BTreeMap::new(),
            machines: BTreeMap::new(),
            sends: BTreeMap::new(),
            serial: 0,
        }
    }

    pub fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// What a node believes of the others: right, but some 300 ms late.
    pub fn view(&self, node: usize) -> View {
        let late = Duration::from_millis(300);
        View::new(self.nodes[node].id, Arc::clone(&self.layout), |id| {
            let other = &self.nodes[id.0 as usize - 1];
            let hung = other.hung_until > self.now && other.hung_since + late <= self.now;
            match other.dead_since {
                Some(since) if since + late <= self.now => Liveness::Down,
                _ if hung && other.hung_since + 3 * late <= self.now => Liveness::Down,
                _ if hung => Liveness::Suspect,
                _ => Liveness::Up,
            }
        })
    }

    /// As a node finds out by itself that another answers nobody: some 300 ms late.
    fn is_silent(&self, of: NodeId) -> bool {
        let (late, other) = (Duration::from_millis(300), &self.nodes[of.0 as usize - 1]);
        let hung = other.hung_until > self.now && other.hung_since + late <= self.now;
        hung || other.dead_since.is_some_and(|since| since + late <= self.now)
    }

    /// The number the next machine will have.
    pub fn next_id(&self) -> u64 {
        self.serial + 1
    }

    pub fn serves(&self, node: usize) -> bool {
        self.nodes[node].dead_since.is_none() && self.nodes[node].hung_until <= self.now
    }

    pub fn write(&mut self, node: usize, request: WriteRequest) -> u64 {
        let (machine, actions) = Write::start(request, &self.view(node), &self.options, self.now);
        self.run(node, Machine::Write(machine), None, actions)
    }

    pub fn read(&mut self, node: usize, request: ReadRequest) -> u64 {
        self.nodes[node].hedges.earn();
        let read_p95 = |of: NodeId| self.nodes[node].read_p95.get(&of).copied();
        let (machine, actions) = Read::start(request, &self.view(node), read_p95, &self.options, self.now);
        self.run(node, Machine::Read(machine), None, actions)
    }

    pub fn write_id(&mut self) -> Origin {
        Origin::Client { write_id: NonZeroU64::new(self.random.next() | 1).unwrap() }
    }

    fn run(&mut self, node: usize, machine: Machine, reply_to: Option<u64>, actions: Actions) -> u64 {
        let id = self.serial();
        self.machines.insert(id, Running { node, machine, wake: None, reply_to });
        self.carry_out(id, actions);
        self.remove_finished(id);
        id
    }

    fn remove_finished(&mut self, id: u64) {
        let finished = self.machines.get(&id).is_some_and(|running| match &running.machine {
            Machine::Write(write) => write.is_finished(),
            Machine::Read(read) => read.is_finished(),
        });
        if finished {
            self.machines.remove(&id);
        }
    }

    fn at(&mut self, time: Now, task: Task) {
        let serial = self.serial();
        self.tasks.insert((time.max(self.now), serial), task);
    }

    /// Does the next thing; false when there is nothing to do before `until`.
    pub fn step(&mut self, until: Now) -> bool {
        match self.tasks.first_key_value() {
            Some((&(time, serial), _)) if time <= until => {
                let task = self.tasks.remove(&(time, serial)).expect("it is the first");
                self.now = time;
                self.perform(task);
                true
            }
            _ => {
                self.now = until;
                false
            }
        }
    }

    pub fn run_until(&mut self, until: Now) {
        while self.step(until) {}
    }

    fn perform(&mut self, task: Task) {
        let node = match &task {
            Task::Deliver { machine, .. } | Task::Wake { machine } => self.machines.get(machine).map(|m| m.node),
            Task::Arrive { node, .. } | Task::Commit { node, .. } => Some(*node),
            Task::Reply { send, .. } => {
                self.sends.get(send).and_then(|s| self.machines.get(&s.machine)).map(|m| m.node)
            }
        };
        let Some(node) = node else { return };
        let hung_until = self.nodes[node].hung_until;
        if hung_until > self.now {
            return self.at(hung_until, task);
        }
        match task {
            Task::Deliver { machine, event } => self.deliver(machine, event),
            Task::Wake { machine } => {
                if self.machines[&machine].wake.is_some_and(|wake| wake <= self.now) {
                    self.deliver(machine, Event::Wake);
                }
            }
            Task::Arrive { node, request, sent_at, reply_to } => self.arrive(node, request, sent_at, reply_to),
            Task::Reply { send, result } => {
                if let Some(Send { machine, to }) = self.sends.remove(&send) {
                    self.deliver(machine, Event::Reply { from: to, result });
                }
            }
            Task::Commit { node, commit, then } => self.commit(node, commit, then),
        }
    }

    fn deliver(&mut self, id: u64, event: Event) {
        let now = self.now;
        let Some(running) = self.machines.get_mut(&id) else { return };
        let actions = match &mut running.machine {
            Machine::Write(write) => write.on_event(event, now),
            Machine::Read(read) => read.on_event(event, now),
        };
        self.carry_out(id, actions);
        self.remove_finished(id);
    }

    fn carry_out(&mut self, id: u64, actions: Actions) {
        let node = self.machines[&id].node;
        for action in actions {
            match action {
                Action::UpdateHere { key, change, .. } => self.update_here(id, node, &key, change),
                // These stores keep no hints: what is missed is left to the repair by reads.
                Action::HintHere { .. } => {
                    let event = Event::Hinted(Err(rondo_storage::store::StoreError::HintsFull));
                    self.at(self.now, Task::Deliver { machine: id, event });
                }
                Action::UpdateHints { .. } | Action::ReadHintsHere { .. } => panic!("every quorum is strict"),
                Action::MergeHere { key, object, .. } => {
                    self.checks.repairs += 1;
                    let commit = self.nodes[node].store.merge(&key, &object);
                    self.queue_commit(node, commit, Then::MergedHere(id));
                }
                Action::ReadHere { key } => {
                    let stored = self.nodes[node].store.read(&key);
                    self.at(self.now, Task::Deliver { machine: id, event: Event::ReadHere(stored) });
                }
                Action::Send { to, request, deadline } => self.send(id, to, request, deadline),
                Action::AnswerWrite(result) => {
                    let reply_to = self.machines[&id].reply_to;
                    self.checks.write_answered(id, self.now, &result, &self.nodes, reply_to.is_none());
                    if let Some(send) = reply_to {
                        self.answer(send, ReplicaReply::Forwarded(result));
                    }
                }
                Action::AnswerRead(result) => self.checks.read_answered(id, self.now, result),
                Action::MayHedge { late } => {
                    let may = self.nodes[node].hedges.spend() || self.is_silent(late);
                    self.checks.hedges += u64::from(may);
                    self.at(self.now, Task::Deliver { machine: id, event: Event::MayHedge(may) });
                }
                Action::WakeAt(time) => {
                    self.machines.get_mut(&id).expect("it is running").wake = Some(time);
                    self.at(time, Task::Wake { machine: id });
                }
            }
        }
    }

    fn update_here(&mut self, id: u64, node: usize, key: &Key, change: rondo_storage::store::Change) {
        let now_us = self.now.as_micros() as u64;
        let (label, deletes) = (change.metadata.content_type.clone(), change.value.is_none());
        let event = match self.nodes[node].store.update(key, change, now_us) {
            Ok((updated, commit, replaces)) => {
                self.checks.coordinated(Coordinated { key: key.clone(), label, deletes, dot: updated.dot, replaces });
                self.checks.siblings += u64::from(updated.siblings > 1);
                self.at(self.now, Task::Deliver { machine: id, event: Event::Updated(Ok(updated)) });
                return self.queue_commit(node, commit, Then::Durable(id));
            }
            Err(refused) => Event::Updated(Err(refused)),
        };
        self.at(self.now, Task::Deliver { machine: id, event });
    }

    fn queue_commit(&mut self, node: usize, commit: Commit, then: Then) {
        let fsync = Duration::from_micros(200 + self.random.below(3_000));
        let time = self.nodes[node].committed_at.max(self.now + fsync);
        self.nodes[node].committed_at = time;
        self.at(time, Task::Commit { node, commit, then });
    }

    fn commit(&mut self, node: usize, commit: Commit, then: Then) {
        let disk_works = !self.random.chance(self.faults.disk_errors);
        let done = self.nodes[node].store.commit(&commit, disk_works);
        if done {
            self.checks.committed(&commit.object);
        }
        let failed = || EngineError::Write("simulated".into());
        let result = if done { Ok(()) } else { Err(failed()) };
        match then {
            Then::Durable(machine) => self.deliver(machine, Event::Durable(result)),
            Then::MergedHere(machine) => self.deliver(machine, Event::MergedHere(result.map_err(Into::into))),
            Then::Reply(send) if self.nodes[node].dead_since.is_some() => {
                self.at(self.now, Task::Reply { send, result: Err(ReplicaError::Lost) });
            }
            Then::Reply(send) => self.answer(send, ReplicaReply::to_merge(result.map_err(Into::into))),
        }
    }

    fn delay(&mut self) -> Duration {
        let slow = if self.random.chance(self.faults.slow) { self.random.below(700_000) } else { 0 };
        Duration::from_micros(100 + self.random.below(2_000) + slow)
    }

    fn send(&mut self, machine: u64, to: NodeId, request: ReplicaRequest, deadline: Now) {
        self.checks.sent(&request);
        let send = self.serial();
        self.sends.insert(send, Send { machine, to });
        self.at(deadline, Task::Reply { send, result: Err(ReplicaError::TimedOut) });
        let (node, delay) = (to.0 as usize - 1, self.delay());
        if self.nodes[node].dead_since.is_some() {
            return self.at(self.now + delay, Task::Reply { send, result: Err(ReplicaError::NotSent) });
        }
        if self.random.chance(self.faults.broken) {
            let result = Err(if self.random.chance(500) { ReplicaError::NotSent } else { ReplicaError::Lost });
            let sent = result == Err(ReplicaError::Lost) && self.random.chance(500);
            self.at(self.now + delay, Task::Reply { send, result: result.map(|()| ReplicaReply::Merged) });
            if !sent {
                return;
            }
        }
        if !self.random.chance(self.faults.loss) {
            let arrive = Task::Arrive { node, request, sent_at: self.now, reply_to: send };
            self.at(self.now + delay, arrive);
        }
    }

    fn arrive(&mut self, node: usize, request: ReplicaRequest, sent_at: Now, reply_to: u64) {
        if self.nodes[node].dead_since.is_some() {
            return self.at(self.now, Task::Reply { send: reply_to, result: Err(ReplicaError::Lost) });
        }
        match request {
            ReplicaRequest::Merge { key, object, .. } => {
                let commit = self.nodes[node].store.merge(&key, &object);
                self.queue_commit(node, commit, Then::Reply(reply_to));
            }
            ReplicaRequest::Read { key, want } => {
                let value = ReplicaValue::of(self.nodes[node].store.read(&key), want);
                let delay = self.delay() + self.nodes[node].slow_by;
                self.answer_after(delay, reply_to, ReplicaReply::Value(value));
            }
            ReplicaRequest::List(_) | ReplicaRequest::Hint { .. } | ReplicaRequest::Deliver { .. } => {
                panic!("no client of the simulation lists or is sloppy")
            }
            ReplicaRequest::Forward(write) => match write.into_request(self.now - sent_at, self.now) {
                Ok(request) => {
                    let (machine, actions) = Write::start(request, &self.view(node), &self.options, self.now);
                    self.run(node, Machine::Write(machine), Some(reply_to), actions);
                }
                Err(refusal) => self.answer(reply_to, ReplicaReply::Refused(refusal)),
            },
        }
    }

    fn answer(&mut self, send: u64, reply: ReplicaReply) {
        let delay = self.delay();
        self.answer_after(delay, send, reply);
    }

    fn answer_after(&mut self, delay: Duration, send: u64, reply: ReplicaReply) {
        if !self.random.chance(self.faults.loss) {
            self.at(self.now + delay, Task::Reply { send, result: Ok(reply) });
        }
    }

    /// kill -9: what was in memory is gone, requests in progress with it.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].dead_since = Some(self.now);
        self.nodes[node].store.forget_pending();
        let gone: BTreeSet<u64> = self.machines.iter().filter(|(_, m)| m.node == node).map(|(id, _)| *id).collect();
        self.machines.retain(|id, _| !gone.contains(id));
        self.checks.clients_lost(&gone);
    }

    /// SIGSTOP until then. Its clients may be answered late.
    pub fn hang(&mut self, node: usize, until: Now) {
        (self.nodes[node].hung_since, self.nodes[node].hung_until) = (self.now, until);
        let stopped = self.machines.iter().filter(|(_, m)| m.node == node).map(|(id, _)| *id).collect();
        self.checks.clients_stalled(&stopped);
    }

    pub fn heal(&mut self) {
        self.faults = Faults { loss: 0, slow: 0, broken: 0, disk_errors: 0 };
        for node in &mut self.nodes {
            node.dead_since = None;
        }
    }

    pub fn is_idle(&self) -> bool {
        self.machines.is_empty()
    }
}
