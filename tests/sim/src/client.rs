//! Clients: each has one request at a time, remembers what it has seen, and asks any node that is there.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::{ListRequest, Origin, QuorumChoice, QuorumKind, ReadRequest, WriteRequest};
use rondo_storage::Key;
use rondo_storage::engine::Durability;
use rondo_storage::store::{BlindPut, Change, Condition, Ttl, WallClock};
use rondo_storage::versions::{CausalContext, Conflict, Metadata};

use crate::history::{Acknowledged, Answer, Asked, AskedList, AskedRead, AskedWrite, Op};
use crate::invariants::{self, listings, read_your_writes};
use crate::mutant::Mutant;
use crate::node::requests::AnswerTo;
use crate::setup::BUCKET;
use crate::world::{Event, World};

/// What a client remembers.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// What it last saw of a key.
    seen: BTreeMap<Key, CausalContext>,
    /// Its request in progress.
    waiting: Option<u64>,
}

/// How a client reads.
struct Reading {
    r: (QuorumChoice, u8),
    quorum: QuorumKind,
    at_least: Option<CausalContext>,
    timeout: Duration,
}

impl World {
    pub(crate) fn client_acts(&mut self, client: usize) {
        if self.clients[client].waiting.is_some() || self.setup_is_quiet() {
            return;
        }
        let there: Vec<usize> = (0..self.nodes.len()).filter(|&node| self.nodes[node].is_there(self.now)).collect();
        if there.is_empty() {
            return self.next_turn(client, Duration::from_millis(100));
        }
        let node = there[self.random.index(there.len())];
        self.nodes[node].wall.advance(self.now);
        let key = self.setup.keys[self.random.index(self.setup.keys.len())].clone();
        let turn = self.random.below(1_000);
        if turn < self.setup.writes {
            self.client_writes(client, node, key);
        } else if turn < self.setup.writes + (1_000 - self.setup.writes) / 10 {
            self.client_lists(client, node);
        } else {
            self.client_reads(client, node, key);
        }
        self.settle(node);
    }

    fn next_turn(&mut self, client: usize, after: Duration) {
        self.at(self.now + after, Event::Client { client });
    }

    fn timeout(&mut self) -> Duration {
        self.random.duration(Duration::from_millis(300), Duration::from_secs(4))
    }

    /// A number of owners, now and then as a word.
    fn quorum(&mut self) -> (QuorumChoice, u8) {
        let n = self.setup.n;
        match self.random.below(8) {
            0 => (QuorumChoice::One, 1),
            1 => (QuorumChoice::All, n),
            2 => {
                let count = 1 + self.random.below(n.into()) as u8;
                (QuorumChoice::Count(count), count)
            }
            _ => (QuorumChoice::Quorum, n / 2 + 1),
        }
    }

    fn quorum_kind(&mut self) -> QuorumKind {
        if self.random.chance(self.setup.sloppy) { QuorumKind::Sloppy } else { QuorumKind::Strict }
    }

    fn open_op(&mut self, client: usize, node: usize, asked: Asked, timeout: Duration) -> u64 {
        let id = self.serial();
        self.trace.event(self.now, node, "asked", id, || format!("client {client}: {}", shown(&asked)));
        let (began, deadline) = (self.now, self.now + timeout);
        let op = Op { node, asked, began, deadline, stopped_until: None, ended: None, answers: 0, orphaned: false };
        self.history.ops.insert(id, op);
        self.clients[client].waiting = Some(id);
        id
    }

    fn client_writes(&mut self, client: usize, node: usize, key: Key) {
        let label = Bytes::from(format!("c{client}-{}", self.serial()));
        let ((w, required), timeout) = (self.quorum(), self.timeout());
        let change = self.change(client, &key, &label);
        let asked = AskedWrite {
            key: key.clone(),
            label,
            w: required,
            n: self.setup.n,
            durable: change.durability == Durability::Fsync,
            expires: change.ttl.is_some(),
            deletes: change.value.is_none(),
            sloppy: false,
        };
        self.history.key(&key).asked.insert(asked.label.clone(), asked.clone());
        let op = self.open_op(client, node, Asked::Write(asked), timeout);
        let write_id = NonZeroU64::new(self.random.bits() | 1).expect("odd");
        let deadline = self.clock(node) + timeout;
        let n = self.setup.replication();
        let (quorum, origin) = (self.quorum_kind(), Origin::Client { write_id });
        let request = WriteRequest { key, change, n, w, quorum, deadline, origin };
        self.begin_write(node, request, AnswerTo::Client(op));
    }

    fn change(&mut self, client: usize, key: &Key, label: &Bytes) -> Change {
        let stays = self.setup.stays(key);
        let context = self.clients[client].seen.get(key).cloned().filter(|_| self.random.chance(600));
        let blind = if self.random.chance(300) { BlindPut::Sibling } else { BlindPut::Overwrite };
        let condition = match self.random.below(20) {
            0 => Some(Condition::Absent),
            1 => Some(Condition::Present),
            _ => None,
        };
        let deletes = !stays && self.random.chance(self.setup.deletes);
        let expires = !stays && self.random.chance(100);
        let seconds = 1 + self.random.below(30);
        Change {
            context,
            blind,
            conflict: Conflict::Siblings,
            condition,
            value: (!deletes).then(|| label.clone()),
            metadata: Metadata { content_type: label.clone(), ..Metadata::default() },
            ttl: expires.then(|| Ttl::new(seconds).expect("a short time")),
            siblings_max: 12,
            durability: if self.random.chance(100) { Durability::Interval } else { Durability::Fsync },
        }
    }

    fn client_reads(&mut self, client: usize, node: usize, key: Key) {
        let (r, timeout) = (self.quorum(), self.timeout());
        let at_least = self.clients[client].seen.get(&key).cloned().filter(|_| self.random.chance(300));
        let quorum = self.quorum_kind();
        self.reads(client, node, key, Reading { r, quorum, at_least, timeout });
    }

    /// A damaged row is noticed, and repaired, when an owner is asked for it: clients may not have been so lucky.
    pub(crate) fn everything_is_read(&mut self) {
        for key in self.setup.keys.clone() {
            let Some(node) = (0..self.nodes.len()).find(|&node| self.nodes[node].is_there(self.now)) else { return };
            let (r, timeout) = ((QuorumChoice::All, self.setup.n), Duration::from_secs(4));
            self.reads(0, node, key, Reading { r, quorum: QuorumKind::Strict, at_least: None, timeout });
            self.settle(node);
        }
    }

    fn reads(&mut self, client: usize, node: usize, key: Key, reading: Reading) {
        let Reading { r: (r, required), quorum, at_least, timeout } = reading;
        let must_cover = read_your_writes::owed(self.history.key(&key), required);
        let asked =
            AskedRead { key: key.clone(), r: required, n: self.setup.n, at_least: at_least.clone(), must_cover };
        let op = self.open_op(client, node, Asked::Read(asked), timeout);
        let deadline = self.clock(node) + timeout;
        let request = ReadRequest { key, n: self.setup.replication(), r, quorum, at_least, deadline };
        self.begin_read(node, request, AnswerTo::Client(op));
    }

    fn client_lists(&mut self, client: usize, node: usize) {
        let ((r, required), timeout) = (self.quorum(), self.timeout());
        let staying: Vec<Key> = self.setup.keys.iter().filter(|key| self.setup.stays(key)).cloned().collect();
        let must_have = listings::owed(&mut self.history, &staying, required);
        let op = self.open_op(client, node, Asked::List(AskedList { must_have }), timeout);
        let request = ListRequest {
            bucket: BUCKET.into(),
            prefix: String::new(),
            after: None,
            limit: 1_000,
            n: self.setup.replication(),
            r,
            conflict: Conflict::Siblings,
            now_us: self.nodes[node].wall.now_us(),
            deadline: self.clock(node) + timeout,
        };
        self.begin_list(node, request, op);
    }

    /// A node tells its client how its request ended.
    pub(crate) fn answer(&mut self, id: u64, answer: &Answer) {
        match self.mutant {
            Mutant::SwallowsAnswers if self.random.chance(20) => return,
            Mutant::AnswersTwice if self.random.chance(20) => self.client_hears(id, answer),
            _ => {}
        }
        self.client_hears(id, answer);
    }

    fn client_hears(&mut self, id: u64, answer: &Answer) {
        let now = self.now;
        let Some(op) = self.history.ops.get_mut(&id) else { return };
        op.answers += 1;
        op.ended.get_or_insert(now);
        let op = op.clone();
        let mut answer = answer.clone();
        if self.mutant == Mutant::DeniesWrites {
            deny(&mut answer);
        }
        self.trace.event(now, op.node, "answers", id, || outcome(&answer));
        self.history.count(answer.kind());
        invariants::on_answer(&mut self.history, &op, &answer, now);
        self.remember(id, &op, &answer);
        if let Some(client) = self.clients.iter().position(|client| client.waiting == Some(id)) {
            self.clients[client].waiting = None;
            let think = self.random.around(self.setup.think);
            self.next_turn(client, think);
        }
    }

    /// What a client has seen, and what it may rely on.
    fn remember(&mut self, id: u64, op: &Op, answer: &Answer) {
        let client = self.clients.iter().position(|client| client.waiting == Some(id));
        let (key, context) = match (&op.asked, answer) {
            (Asked::Write(asked), Answer::Write(Ok(written))) => {
                let (dot, began, at) = (written.dot, op.began, self.now);
                // Where only owners counted it is as good as strict: the answer says so.
                let asked_as = AskedWrite { sloppy: written.sloppy, ..asked.clone() };
                if written.sloppy {
                    self.history.count("sloppy acknowledgements");
                }
                let acknowledged = Acknowledged { asked: asked_as, dot, began, at };
                self.history.key(&asked.key).acknowledged.push(acknowledged);
                (&asked.key, written.context.clone())
            }
            (Asked::Read(asked), Answer::Read(Ok(read))) => (&asked.key, read.object.context.clone()),
            _ => return,
        };
        if let Some(client) = client {
            self.clients[client].seen.insert(key.clone(), context);
        }
    }

    /// Their node is gone: they hear that the connection broke.
    pub(crate) fn orphan_clients_of(&mut self, node: usize) {
        for client in 0..self.clients.len() {
            let Some(id) = self.clients[client].waiting else { continue };
            let Some(op) = self.history.ops.get_mut(&id).filter(|op| op.node == node) else { continue };
            op.orphaned = true;
            self.clients[client].waiting = None;
            self.history.count("requests whose node died");
            self.next_turn(client, Duration::from_millis(50));
        }
    }

    /// Their node is stopped: they wait.
    pub(crate) fn clients_wait_for(&mut self, node: usize) {
        let until = self.nodes[node].paused_until + Duration::from_millis(5);
        for op in self.history.ops.values_mut().filter(|op| op.node == node && op.ended.is_none()) {
            op.stopped_until = op.stopped_until.max(Some(until));
        }
    }
}

/// A mutant's lie.
fn deny(answer: &mut Answer) {
    use rondo_coordinator::{Failure, Outcome};
    if let Answer::Write(Err(Failure::Unavailable { outcome, .. } | Failure::TimedOut { outcome, .. })) = answer {
        *outcome = Outcome::NotApplied;
    }
}

fn shown(asked: &Asked) -> String {
    match asked {
        Asked::Write(write) => {
            let what = if write.deletes { "deletes" } else { "puts" };
            let durable = if write.durable { "" } else { ", interval" };
            format!("{what} {} as {} W={}{durable}", write.key.key(), String::from_utf8_lossy(&write.label), write.w)
        }
        Asked::Read(read) => format!("gets {} R={} context {}", read.key.key(), read.r, read.at_least.is_some()),
        Asked::List(list) => format!("lists, owed {:?}", list.must_have),
    }
}

fn outcome(answer: &Answer) -> String {
    match answer {
        Answer::Write(Ok(answer)) => format!("{:?}, {} acks", answer.dot, answer.acks),
        Answer::Write(Err(failure)) | Answer::Read(Err(failure)) | Answer::List(Err(failure)) => format!("{failure:?}"),
        Answer::Read(Ok(answer)) => {
            let labels: Vec<_> = answer
                .object
                .siblings
                .iter()
                .map(|s| format!("{}{:?}", String::from_utf8_lossy(&s.metadata.content_type), s.dot))
                .collect();
            format!("{labels:?} of {:?}", answer.object.context)
        }
        Answer::List(Ok(answer)) => format!("{} keys", answer.items.len()),
    }
}
