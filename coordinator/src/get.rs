//! A read, from the client's request to the last repair.
//!
//! The value from the nearest owner, digests from as many others as R needs (Dynamo, section 4.5; digests are
//! Cassandra's). A digest is a vote only once everything in the state it stands for has been merged. After the answer,
//! whatever still arrives serves the repair of the replicas.
//!
//! An owner is late once it takes longer than 95 of 100 of its reads, or than those of an owner that could stand in for
//! it: then one more is asked, within a budget (C9). One that is always slow is asked after the others.

use rondo_ring::{Liveness, NodeId, ReplicationFactor, View};
use rondo_storage::Key;
use rondo_storage::engine::Durability;
use rondo_storage::versions::CausalContext;
use smallvec::SmallVec;
use std::time::Duration;

use crate::answer::{Failure, Outcome, ReadAnswer};
use crate::bucket::QuorumKind;
use crate::choice::QuorumChoice;
use crate::message::{ReplicaError, ReplicaReply, ReplicaRequest, ReplicaValue, Want};
use crate::options::CoordinatorOptions;
use crate::plan::Plan;
use crate::put::unavailable;
use crate::quorum::{Decision, Quorum};
use crate::repair::{Gathered, Holds};
use crate::sloppy::StandIns;
use crate::{Action, Actions, Event, Now};

/// A read as a client asks for it.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// Of what.
    pub key: Key,
    /// N of the bucket.
    pub n: ReplicationFactor,
    /// R.
    pub r: QuorumChoice,
    /// Which nodes count.
    pub quorum: QuorumKind,
    /// Answer with nothing that does not cover this.
    pub at_least: Option<CausalContext>,
    /// The client is answered by then.
    pub deadline: Now,
}

/// One read: feed it events until it [is finished](Self::is_finished).
#[derive(Debug)]
pub struct Read {
    request: ReadRequest,
    this: NodeId,
    options: CoordinatorOptions,
    quorum: Quorum,
    /// Nearest first.
    replicas: SmallVec<[Replica; 7]>,
    /// May be asked what they keep for the owners; nobody where the quorum is strict.
    stand_ins: StandIns,
    gathered: Gathered,
    /// When owners that are not taken for up are waited for no longer, if nobody else is left to bring what the client
    /// has seen.
    give_up_at: Option<Now>,
    /// When it will be woken.
    wakes_at: Now,
    began: Now,
    store_took: Option<Duration>,
    answered: bool,
}

/// One owner, as far as this read knows it.
#[derive(Clone, Copy, Debug)]
struct Replica {
    node: NodeId,
    liveness: Liveness,
    /// It is no owner: asked for what it keeps for those, and sent nothing.
    stands_in: bool,
    holds: Holds,
    waiting: Waiting,
    /// Within which time it answers 95 of 100 reads, if that is known.
    read_p95: Option<Duration>,
    /// If it is waited for: when it is late.
    late_at: Now,
}

/// What of a replica is outstanding: at most one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// It was never asked.
    Unasked,
    /// Nothing.
    Nothing,
    Digest,
    Object,
    Repair,
}

/// Whether to wait for an object that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Waits,
    Hedges,
}

impl Read {
    /// Begins. `read_p95` is what is known of the nodes' times, as in [`Replicas::read_p95`](crate::Replicas::read_p95).
    pub fn start(
        request: ReadRequest,
        view: &View,
        read_p95: impl Fn(NodeId) -> Option<Duration>,
        options: &CoordinatorOptions,
        now: Now,
    ) -> (Self, Actions) {
        let Plan { this, owners, quorum } = Plan::new(view, &request.key, request.n, request.r);
        let stand_ins = StandIns::new(view, request.key.token(), request.n, request.quorum);
        let unasked = |owner: crate::plan::Owner| Replica {
            node: owner.node,
            liveness: owner.liveness,
            stands_in: false,
            holds: Holds::Silent,
            waiting: Waiting::Unasked,
            read_p95: read_p95(owner.node),
            late_at: Now::MAX,
        };
        let mut replicas: SmallVec<[Replica; 7]> = owners.into_iter().map(unasked).collect();
        if !tries_the_slow(now) {
            slow_ones_last(this, &mut replicas, options);
        }
        let mut read = Self {
            this,
            quorum,
            replicas,
            stand_ins,
            gathered: Gathered::default(),
            give_up_at: None,
            wakes_at: Now::MAX,
            options: options.clone(),
            began: now,
            store_took: None,
            answered: false,
            request,
        };
        let mut actions = Actions::new();
        read.advance(now, Patience::Waits, &mut actions);
        read.wish_to_wake(&mut actions);
        (read, actions)
    }

    /// What follows from an event.
    pub fn on_event(&mut self, event: Event, now: Now) -> Actions {
        let mut actions = Actions::new();
        let mut patience = Patience::Waits;
        if matches!(event, Event::Wake) {
            self.wakes_at = Now::MAX;
        }
        match event {
            Event::Wake if self.answered => {}
            Event::Wake if now >= self.request.deadline => self.time_out(&mut actions),
            Event::Wake => self.look_for_late_ones(now, &mut actions),
            Event::MayHedge(true) if !self.answered => {
                patience = Patience::Hedges;
                self.ask_one_more(now, &mut actions);
            }
            Event::MayHedge(_) => {}
            Event::ReadHere(stored) => {
                self.store_took = Some(now.saturating_sub(self.began));
                self.heard(self.this, ReplicaValue::of(stored, Want::Object));
            }
            Event::NotReadHere => self.repaired(self.this, false),
            Event::MergedHere(result) => self.repaired(self.this, result.is_ok()),
            Event::Reply { from, result } => self.on_reply(from, result),
            // Events of a write answer no action of a read.
            Event::Updated(_) | Event::Durable(_) | Event::Hinted(_) => {}
        }
        self.advance(now, patience, &mut actions);
        self.wish_to_wake(&mut actions);
        actions
    }

    /// Answered, and no reply or repair is outstanding.
    pub fn is_finished(&self) -> bool {
        self.answered && !self.replicas.iter().any(Replica::is_waiting)
    }

    fn on_reply(&mut self, from: NodeId, result: Result<ReplicaReply, ReplicaError>) {
        match result {
            Ok(ReplicaReply::Value(value)) => self.heard(from, value),
            Ok(ReplicaReply::Merged) => self.repaired(from, true),
            Ok(ReplicaReply::Refused(_) | ReplicaReply::Forwarded(_) | ReplicaReply::Listed(_)) | Err(_) => {
                self.repaired(from, false)
            }
        }
    }

    /// Bytes that are no object are as unknown as damaged ones, whoever sends them (C4).
    fn heard(&mut self, from: NodeId, value: ReplicaValue) {
        let Some(index) = self.replicas.iter().position(|r| r.node == from && r.is_waiting()) else { return };
        let holds = match value {
            // Asked for the object: a replica that will not show it would be asked for ever.
            ReplicaValue::Digest(_) if self.replicas[index].waiting == Waiting::Object => Holds::Gone,
            ReplicaValue::Missing => Holds::Nothing,
            ReplicaValue::Digest(digest) => Holds::Digest(digest),
            ReplicaValue::Object(object) => self.gathered.add(object).map_or(Holds::Untrusted(None), Holds::Digest),
            ReplicaValue::Unknown(readable) => Holds::Untrusted(readable.and_then(|bytes| self.gathered.add(bytes))),
        };
        let replica = &mut self.replicas[index];
        (replica.holds, replica.waiting) = (holds, Waiting::Nothing);
    }

    /// A repair ended, or whatever was outstanding failed.
    fn repaired(&mut self, from: NodeId, done: bool) {
        if let Some(replica) = self.replicas.iter_mut().find(|r| r.node == from && r.is_waiting()) {
            replica.waiting = Waiting::Nothing;
            replica.holds = if done { replica.holds } else { Holds::Gone };
        }
    }

    /// The decision of a read: an answer with R votes (C4) that cover what the client has seen, a failure as soon as
    /// there can be none, and otherwise whom to ask next.
    fn advance(&mut self, now: Now, patience: Patience, actions: &mut Actions) {
        self.count_votes();
        if !self.answered {
            let reached = self.request.at_least.as_ref().is_none_or(|context| self.gathered.covers(context));
            match self.quorum.decision() {
                Decision::Satisfied if reached && self.knows_of_nothing() => {
                    self.answer(Err(unavailable(&self.quorum, Outcome::NotApplied)), actions);
                }
                Decision::Satisfied if reached => self.answer(Ok(self.votes()), actions),
                Decision::Satisfied => self.ask_all(now, actions),
                Decision::Impossible if self.ask_stand_ins(now, actions) => {}
                Decision::Impossible => {
                    self.answer(Err(unavailable(&self.quorum, Outcome::NotApplied)), actions);
                }
                Decision::Undecided => {
                    self.ask_as_needed(now, actions);
                    self.fetch(now, patience, actions);
                }
            }
        }
        if self.answered {
            self.fetch(now, Patience::Waits, actions);
            self.repair(now, actions);
        }
    }

    fn count_votes(&mut self) {
        for replica in &self.replicas {
            match replica.holds {
                holds if self.gathered.explains(holds) => self.quorum.ack(replica.node),
                Holds::Untrusted(_) | Holds::Gone => self.quorum.fail(replica.node),
                Holds::Silent | Holds::Nothing | Holds::Digest(_) => {}
            }
        }
    }

    /// The nearest owners until those asked are enough: the first for the object, the others for digests.
    fn ask_as_needed(&mut self, now: Now, actions: &mut Actions) {
        for index in 0..self.replicas.len() {
            if self.quorum.wants(self.replicas[index].node) {
                self.ask(index, self.kind_of_question(), now, actions);
            }
        }
    }

    /// Nodes that stand in for the owners and keep nothing of the key: that is no word about what the owners hold.
    fn knows_of_nothing(&self) -> bool {
        self.quorum.counts_stand_ins() && self.quorum.acked_by_owners() == 0 && self.gathered.is_empty()
    }

    /// In a sloppy quorum: other nodes for owners that failed, as many as the quorum takes beside the owners that are left.
    /// Whether it can be met with them.
    fn ask_stand_ins(&mut self, now: Now, actions: &mut Actions) -> bool {
        let mut index = 0;
        while self.quorum.decision() == Decision::Impossible
            && let Some(&Replica { node: owner, stands_in, .. }) = self.replicas.get(index)
        {
            if !stands_in && self.quorum.has_failed(owner) {
                let Some(node) = self.stand_ins.assign(owner, &mut self.quorum) else { break };
                self.ask_stand_in(node, now, actions);
            }
            index += 1;
        }
        let possible = self.quorum.decision() != Decision::Impossible;
        if possible {
            self.ask_as_needed(now, actions);
        }
        possible
    }

    fn ask_stand_in(&mut self, node: NodeId, now: Now, actions: &mut Actions) {
        self.replicas.push(Replica {
            node,
            liveness: Liveness::Up,
            stands_in: true,
            holds: Holds::Silent,
            waiting: Waiting::Unasked,
            read_p95: None,
            late_at: Now::MAX,
        });
        self.ask(self.replicas.len() - 1, Want::Hinted, now, actions);
    }

    /// Asks whether it may go round an owner that is late, if there is a way round; that owner is late again after the
    /// longest patience.
    fn look_for_late_ones(&mut self, now: Now, actions: &mut Actions) {
        let next = now + self.options.hedge_after();
        let mut late = None;
        let this = self.this;
        for replica in self.replicas.iter_mut().filter(|r| r.node != this && r.is_waiting() && now >= r.late_at) {
            replica.late_at = next;
            late = late.or(Some(replica.node));
        }
        if let Some(late) = late.filter(|_| self.has_a_way_round()) {
            actions.push(Action::MayHedge { late });
        }
    }

    /// An owner that was not asked, or one that has said what it holds and was not asked for it.
    fn has_a_way_round(&self) -> bool {
        let unfetched = |r: &Replica| r.waiting == Waiting::Nothing && self.is_unexplained(r.holds);
        self.replicas.iter().any(|r| self.quorum.could_use(r.node) || unfetched(r))
    }

    fn is_unexplained(&self, holds: Holds) -> bool {
        matches!(holds, Holds::Digest(_)) && !self.gathered.explains(holds)
    }

    /// Those asked are slow: one more owner that could stand in for them.
    fn ask_one_more(&mut self, now: Now, actions: &mut Actions) {
        if let Some(index) = self.replicas.iter().position(|r| self.quorum.could_use(r.node)) {
            let want = if self.gathered.is_empty() { Want::Object } else { Want::Digest };
            self.ask(index, want, now, actions);
        }
    }

    /// R votes do not reach what the client has seen: everybody else is asked, in a sloppy quorum those too who may keep it
    /// for an owner, and if that is nobody, nobody has it. Nor has anybody who can be reached, if only owners are left that
    /// were not taken for up and say nothing.
    fn ask_all(&mut self, now: Now, actions: &mut Actions) {
        let stand_ins: SmallVec<[NodeId; 4]> = self.stand_ins.left().iter().rev().copied().collect();
        self.stand_ins.leave_out(&stand_ins);
        for node in stand_ins {
            self.ask_stand_in(node, now, actions);
        }
        for index in 0..self.replicas.len() {
            if self.replicas[index].waiting == Waiting::Unasked {
                self.ask(index, Want::Object, now, actions);
            }
        }
        self.fetch(now, Patience::Hedges, actions);
        let mut waiting = self.replicas.iter().filter(|r| r.is_waiting()).peekable();
        let anybody = waiting.peek().is_some();
        if waiting.any(|r| r.liveness == Liveness::Up) {
            self.give_up_at = None;
            return;
        }
        let give_up_at = *self.give_up_at.get_or_insert(now + self.options.down_patience());
        if !anybody || now >= give_up_at {
            self.answer(Err(Failure::ContextNotReached), actions);
        }
    }

    fn kind_of_question(&self) -> Want {
        let coming = self.replicas.iter().any(|r| r.waiting == Waiting::Object);
        if coming || !self.gathered.is_empty() { Want::Digest } else { Want::Object }
    }

    /// Asks for the object behind each digest that stands for something not merged yet. As long as the first object is
    /// on its way it may be that very one.
    fn fetch(&mut self, now: Now, patience: Patience, actions: &mut Actions) {
        let coming = self.replicas.iter().any(|r| r.waiting == Waiting::Object && r.holds == Holds::Silent);
        if coming && !self.answered && patience == Patience::Waits {
            return;
        }
        for index in 0..self.replicas.len() {
            let Replica { holds, waiting, .. } = self.replicas[index];
            let fetching = |r: &Replica| r.waiting == Waiting::Object && r.holds == holds;
            let coming = patience == Patience::Waits && self.replicas.iter().any(fetching);
            if self.is_unexplained(holds) && waiting == Waiting::Nothing && !coming {
                self.ask(index, Want::Object, now, actions);
            }
        }
    }

    fn ask(&mut self, index: usize, want: Want, now: Now, actions: &mut Actions) {
        self.quorum.ask(self.replicas[index].node);
        let late_at = now + self.patience_for(index);
        let replica = &mut self.replicas[index];
        let (to, key) = (replica.node, self.request.key.clone());
        replica.late_at = late_at;
        if to == self.this {
            replica.waiting = Waiting::Object;
            let action = if replica.stands_in { Action::ReadHintsHere { key } } else { Action::ReadHere { key } };
            return actions.push(action);
        }
        replica.waiting = match want {
            Want::Object | Want::Hinted => Waiting::Object,
            Want::Digest => Waiting::Digest,
        };
        let deadline = match (replica.liveness, self.answered) {
            (Liveness::Down, _) => self.request.deadline.min(now + self.options.down_patience()),
            (_, true) => now + self.options.background(),
            (_, false) => self.request.deadline,
        };
        actions.push(Action::Send { to, request: ReplicaRequest::Read { key, want }, deadline });
    }

    /// Its own, or that of an owner that could stand in for it.
    fn patience_for(&self, index: usize) -> Duration {
        let spare = self.replicas.iter().filter(|r| self.quorum.could_use(r.node));
        let patience = |r: &Replica| self.options.patience(r.read_p95);
        spare.map(patience).fold(patience(&self.replicas[index]), Duration::min)
    }

    /// Sends what it lacks to every replica seen to be behind (C7), once nothing that was seen is still unexplained.
    fn repair(&mut self, now: Now, actions: &mut Actions) {
        if self.replicas.iter().any(|r| r.waiting == Waiting::Object && r.holds != Holds::Silent) {
            return;
        }
        for replica in &mut self.replicas {
            let Some((object, digest)) = self.gathered.lacking(replica.holds) else { continue };
            if replica.waiting != Waiting::Nothing || replica.stands_in {
                continue;
            }
            (replica.holds, replica.waiting) = (Holds::Digest(digest), Waiting::Repair);
            let (key, durability, to) = (self.request.key.clone(), Durability::Fsync, replica.node);
            if to == self.this {
                actions.push(Action::MergeHere { key, object, durability });
            } else {
                let request = ReplicaRequest::Merge { key, object, durability };
                actions.push(Action::Send { to, request, deadline: now + self.options.background() });
            }
        }
    }

    fn votes(&self) -> ReadAnswer {
        let (acks, n, sloppy) = (self.quorum.acked(), self.quorum.n(), self.quorum.counts_stand_ins());
        ReadAnswer { object: self.gathered.object().clone(), acks, n, sloppy, store: self.store_took }
    }

    /// Where there are votes enough, the owners that say nothing are all that could have what the client has seen.
    fn time_out(&mut self, actions: &mut Actions) {
        if self.quorum.decision() == Decision::Satisfied {
            return self.answer(Err(Failure::ContextNotReached), actions);
        }
        let (required, acked, n) = (self.quorum.required(), self.quorum.acked(), self.quorum.n());
        self.answer(Err(Failure::TimedOut { required, acked, n, outcome: Outcome::NotApplied }), actions);
    }

    /// Exactly once (C6).
    fn answer(&mut self, result: Result<ReadAnswer, Failure>, actions: &mut Actions) {
        if !std::mem::replace(&mut self.answered, true) {
            actions.push(Action::AnswerRead(result));
        }
    }

    /// At the next time at which something may follow from nothing having happened. A wish that is there already for an
    /// earlier time is good enough.
    fn wish_to_wake(&mut self, actions: &mut Actions) {
        let late = self.replicas.iter().filter(|r| r.node != self.this && r.is_waiting()).map(|r| r.late_at);
        let next = late.chain(self.give_up_at).fold(self.request.deadline, Now::min);
        if !self.answered && next < self.wakes_at {
            self.wakes_at = next;
            actions.push(Action::WakeAt(next));
        }
    }
}

/// An owner that is passed over because it was slow is tried by one read in so many, or nobody would see it recover. Fewer
/// than the budget has hedges for, so that such a read costs its client no more than a hedge. Which reads it are is left
/// to the clock.
fn tries_the_slow(now: Now) -> bool {
    const ONE_IN: u128 = 31;
    now.as_micros().is_multiple_of(ONE_IN)
}

/// Owners as likely to be alive as another, and much slower, are asked after it.
fn slow_ones_last(this: NodeId, replicas: &mut [Replica], options: &CoordinatorOptions) {
    const MUCH: u32 = 4;
    let known = |r: &Replica| r.read_p95.filter(|_| r.node != this).map(|p95| options.patience(Some(p95)));
    let Some(best) = replicas.iter().filter_map(known).min() else { return };
    let slow = |r: &Replica| known(r) > Some(best * MUCH);
    if replicas.iter().any(slow) {
        replicas.sort_by_key(|r| (r.node != this, r.liveness, slow(r)));
    }
}

impl Replica {
    fn is_waiting(&self) -> bool {
        matches!(self.waiting, Waiting::Digest | Waiting::Object | Waiting::Repair)
    }
}
