//! Drives anti-entropy and answers the others', as `node/src/server/exchange.rs` does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rondo_antientropy::answer::{Reply, reply};
use rondo_antientropy::round::{Action, Event};
use rondo_antientropy::{Answer, AntiEntropyOptions, Pair, Question, Round, Schedule};
use rondo_ring::{Liveness, NodeId, PartitionId, ReplicationFactor};
use rondo_storage::Key;
use rondo_storage::engine::Durability;
use rondo_storage::store::Merged;

use super::calls::Caller;
use super::disk::Waits;
use super::packet::Body;
use crate::mutant::Mutant;
use crate::world::{Happens, World};

/// How often the members and their health are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long an answer may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Anti-entropy of one process.
#[derive(Debug)]
pub struct Exchanges {
    schedule: Schedule,
    rounds: BTreeMap<NodeId, Round>,
    /// Rows on their way to the disk, by number.
    merging: BTreeMap<u64, Merging>,
}

/// Rows that are merged together.
#[derive(Debug)]
struct Merging {
    left: usize,
    changed: u64,
    failed: bool,
    then: Then,
}

/// Who waits for them.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// This node's round with that one.
    Round(NodeId),
    /// Another node's question: the node, its call, its process.
    Answer(usize, u64, u64),
}

impl Exchanges {
    pub(crate) fn new(this: NodeId) -> Self {
        let schedule = Schedule::new(this, AntiEntropyOptions::default());
        Self { schedule, rounds: BTreeMap::new(), merging: BTreeMap::new() }
    }
}

impl World {
    /// To be called again and again.
    pub(crate) fn begin_due_rounds(&mut self, node: usize) {
        let now = self.clock(node);
        let shared = self.sharing(node);
        let process = self.nodes[node].running();
        let peers: Vec<_> = shared.into_iter().map(|id| (id, process.view.liveness(id) != Liveness::Down)).collect();
        process.exchanges.schedule.set_peers(&peers, 0, now);
        while self.mutant != Mutant::NeverHeals {
            let Some((peer, memory)) = self.nodes[node].running().exchanges.schedule.next(now) else { break };
            let options = AntiEntropyOptions::default();
            let round = self.with_pair(node, peer, |pair| Round::new(pair, memory, &options));
            self.nodes[node].running().exchanges.rounds.insert(peer, round);
            self.step_round(node, peer, Event::Begin);
        }
        let due = self.nodes[node].running().exchanges.schedule.wake_at();
        let due = due.map_or(LOOK, |at| at.saturating_sub(now).min(LOOK)).max(Duration::from_millis(1));
        self.at_node(self.now + due, node, Happens::Exchange);
    }

    /// The other nodes that may own keys of which this one is an owner too.
    fn sharing(&self, node: usize) -> BTreeSet<NodeId> {
        let this = self.nodes[node].id;
        let lists = (0..self.layout.partitions().get()).map(|partition| {
            let list = self.layout.preference_list(PartitionId(partition));
            &list[..list.len().min(usize::from(self.setup.n))]
        });
        let shared = lists.filter(|list| list.contains(&this)).flatten().copied();
        shared.filter(|&other| other != this).collect()
    }

    fn with_pair<T>(&self, node: usize, peer: NodeId, work: impl FnOnce(&Pair<'_>) -> T) -> T {
        let process = self.nodes[node].process.as_ref().expect("only a running process has events");
        let replication = self.setup.replication();
        let n = move |_: &str| -> ReplicationFactor { replication };
        work(&Pair { store: &process.store, view: &process.view, peer, n: &n, depth: usize::from(self.setup.n) })
    }

    fn step_round(&mut self, node: usize, peer: NodeId, event: Event) {
        let Some(mut round) = self.nodes[node].running().exchanges.rounds.remove(&peer) else { return };
        let action = self.with_pair(node, peer, |pair| round.step(event, pair));
        self.nodes[node].running().exchanges.rounds.insert(peer, round);
        let now = self.clock(node);
        match action {
            Action::Ask(question) => {
                let body = Body::Question(Box::new(question));
                self.call(node, peer, body, Caller::Exchange, now + CALL_LIMIT);
            }
            Action::Wait(pause) => self.at_node(self.now + pause, node, Happens::Waited { peer }),
            Action::Merge(rows) => self.merge_rows(node, rows, Then::Round(peer)),
            Action::Finish(outcome) => {
                self.history.count("exchanges");
                if outcome.keys_differing > 0 {
                    self.history.count("exchanges that found differences");
                }
                let exchanges = &mut self.nodes[node].running().exchanges;
                exchanges.rounds.remove(&peer);
                exchanges.schedule.ended(peer, outcome, now);
            }
        }
    }

    pub(crate) fn round_has_waited(&mut self, node: usize, peer: NodeId) {
        self.step_round(node, peer, Event::Waited);
    }

    pub(crate) fn round_was_answered(&mut self, node: usize, peer: NodeId, answer: Option<Answer>) {
        self.step_round(node, peer, answer.map_or(Event::Failed, Event::Answered));
    }

    pub(crate) fn serve_question(&mut self, node: usize, from: usize, (call, life): (u64, u64), question: Question) {
        let (now, peer) = (self.clock(node), self.nodes[from].id);
        let began = match question {
            Question::Compare { in_sync, .. } => Some(in_sync),
            _ => None,
        };
        let answer = match self.with_pair(node, peer, |pair| reply(pair, question)) {
            Reply::Answer(answer) => answer,
            Reply::Merge(rows) => return self.merge_rows(node, rows, Then::Answer(from, call, life)),
            Reply::Hurry => {
                self.nodes[node].running().exchanges.schedule.hurry(peer, now);
                Answer::Hurried
            }
        };
        if let Some(in_sync) = began {
            let schedule = &mut self.nodes[node].running().exchanges.schedule;
            schedule.heard(peer, in_sync || answer == Answer::Same, now);
        }
        self.reply(node, from, (call, life), Body::Answer(Box::new(answer)));
    }

    /// What is durable, or was before, is counted off one by one.
    fn merge_rows(&mut self, node: usize, rows: Vec<(Bytes, Bytes)>, then: Then) {
        let number = self.serial();
        let merging = Merging { left: rows.len() + 1, changed: 0, failed: false, then };
        self.nodes[node].running().exchanges.merging.insert(number, merging);
        for (row, object) in rows {
            let (store, done) = self.store_and_done(node, Waits::Exchange(number));
            match Key::from_row(row).map(|key| store.merge(&key, &object, Durability::Fsync, done)) {
                Ok(Ok(Merged::Queued)) => {
                    self.history.count("keys mended by exchanges");
                    if let Some(merging) = self.nodes[node].running().exchanges.merging.get_mut(&number) {
                        merging.changed += 1;
                    }
                }
                Ok(Ok(Merged::Unchanged)) => {}
                Ok(Err(_)) | Err(_) => self.exchange_merged_one(node, number, false),
            }
        }
        self.exchange_merged_one(node, number, true);
    }

    pub(crate) fn exchange_merged_one(&mut self, node: usize, number: u64, done: bool) {
        let all = &mut self.nodes[node].running().exchanges.merging;
        let Some(merging) = all.get_mut(&number) else { return };
        merging.failed |= !done;
        merging.left -= 1;
        if merging.left > 0 {
            return;
        }
        let Some(Merging { changed, failed, then, .. }) = all.remove(&number) else { return };
        match then {
            Then::Round(peer) => {
                self.step_round(node, peer, if failed { Event::Failed } else { Event::Merged(changed) });
            }
            Then::Answer(from, call, life) => {
                let answer = if failed { Answer::Refused } else { Answer::Taken };
                self.reply(node, from, (call, life), Body::Answer(Box::new(answer)));
            }
        }
    }
}
