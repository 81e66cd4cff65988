//! A read, from the client's request to the last repair.
//!
//! The value from the nearest owner, digests from as many others as R needs (Dynamo, section 4.5; digests are
//! Cassandra's). A digest is a vote only once everything in the state it stands for has been merged. After the answer,
//! whatever still arrives serves the repair of the replicas.

use rondo_ring::{Liveness, NodeId, ReplicationFactor, View};
use rondo_storage::Key;
use rondo_storage::engine::Durability;
use rondo_storage::versions::CausalContext;
use smallvec::SmallVec;
use std::time::Duration;

use crate::answer::{Failure, Outcome, ReadAnswer};
use crate::choice::QuorumChoice;
use crate::message::{ReplicaError, ReplicaReply, ReplicaRequest, ReplicaValue, Want};
use crate::options::CoordinatorOptions;
use crate::plan::Plan;
use crate::put::unavailable;
use crate::quorum::{Decision, Quorum};
use crate::repair::{Gathered, Holds};
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
    gathered: Gathered,
    /// When one more owner is asked.
    hedge_at: Now,
    began: Now,
    store_took: Option<Duration>,
    answered: bool,
}

/// One owner, as far as this read knows it.
#[derive(Clone, Copy, Debug)]
struct Replica {
    node: NodeId,
    liveness: Liveness,
    holds: Holds,
    waiting: Waiting,
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
    /// Begins.
    pub fn start(request: ReadRequest, view: &View, options: &CoordinatorOptions, now: Now) -> (Self, Actions) {
        let Plan { this, owners, quorum } = Plan::new(view, &request.key, request.n, request.r);
        let unasked = |owner: crate::plan::Owner| Replica {
            node: owner.node,
            liveness: owner.liveness,
            holds: Holds::Silent,
            waiting: Waiting::Unasked,
        };
        let mut read = Self {
            this,
            quorum,
            replicas: owners.into_iter().map(unasked).collect(),
            gathered: Gathered::default(),
            hedge_at: now + options.hedge_after(),
            options: options.clone(),
            began: now,
            store_took: None,
            answered: false,
            request,
        };
        let mut actions = Actions::new();
        read.wish_to_wake(&mut actions);
        read.advance(now, Patience::Waits, &mut actions);
        (read, actions)
    }

    /// What follows from an event.
    pub fn on_event(&mut self, event: Event, now: Now) -> Actions {
        let mut actions = Actions::new();
        let mut patience = Patience::Waits;
        match event {
            Event::Wake if self.answered => {}
            Event::Wake if now >= self.request.deadline => self.time_out(&mut actions),
            Event::Wake => {
                if now >= self.hedge_at {
                    patience = Patience::Hedges;
                    self.hedge_at = now + self.options.hedge_after();
                    self.ask_one_more(now, &mut actions);
                }
                self.wish_to_wake(&mut actions);
            }
            Event::ReadHere(stored) => {
                self.store_took = Some(now.saturating_sub(self.began));
                self.heard(self.this, ReplicaValue::of(stored, Want::Object));
            }
            Event::MergedHere(result) => self.repaired(self.this, result.is_ok()),
            Event::Reply { from, result } => self.on_reply(from, result),
            // Events of a write answer no action of a read.
            Event::Updated(_) | Event::Durable(_) => {}
        }
        self.advance(now, patience, &mut actions);
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
            Ok(ReplicaReply::Refused(_) | ReplicaReply::Forwarded(_)) | Err(_) => self.repaired(from, false),
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
                Decision::Satisfied if reached => self.answer(Ok(self.votes()), actions),
                Decision::Satisfied => self.ask_all(now, actions),
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

    /// Those asked are slow: one more owner that could stand in for them.
    fn ask_one_more(&mut self, now: Now, actions: &mut Actions) {
        if let Some(index) = self.replicas.iter().position(|r| self.quorum.could_use(r.node)) {
            let want = if self.gathered.is_empty() { Want::Object } else { Want::Digest };
            self.ask(index, want, now, actions);
        }
    }

    /// R votes do not reach what the client has seen: everybody else is asked, and if that is nobody, nobody has it.
    fn ask_all(&mut self, now: Now, actions: &mut Actions) {
        for index in 0..self.replicas.len() {
            if self.replicas[index].waiting == Waiting::Unasked {
                self.ask(index, Want::Object, now, actions);
            }
        }
        self.fetch(now, Patience::Hedges, actions);
        if !self.replicas.iter().any(Replica::is_waiting) {
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
            let unexplained = matches!(holds, Holds::Digest(_)) && !self.gathered.explains(holds);
            let coming = patience == Patience::Waits && self.replicas.iter().any(fetching);
            if unexplained && waiting == Waiting::Nothing && !coming {
                self.ask(index, Want::Object, now, actions);
            }
        }
    }

    fn ask(&mut self, index: usize, want: Want, now: Now, actions: &mut Actions) {
        let replica = &mut self.replicas[index];
        let (to, key) = (replica.node, self.request.key.clone());
        self.quorum.ask(to);
        if to == self.this {
            replica.waiting = Waiting::Object;
            return actions.push(Action::ReadHere { key });
        }
        replica.waiting = match want {
            Want::Object => Waiting::Object,
            Want::Digest => Waiting::Digest,
        };
        let deadline = match (replica.liveness, self.answered) {
            (Liveness::Down, _) => self.request.deadline.min(now + self.options.down_patience()),
            (_, true) => now + self.options.background(),
            (_, false) => self.request.deadline,
        };
        actions.push(Action::Send { to, request: ReplicaRequest::Read { key, want }, deadline });
    }

    /// Sends what it lacks to every replica seen to be behind (C7), once nothing that was seen is still unexplained.
    fn repair(&mut self, now: Now, actions: &mut Actions) {
        if self.replicas.iter().any(|r| r.waiting == Waiting::Object && r.holds != Holds::Silent) {
            return;
        }
        for replica in &mut self.replicas {
            let Some((object, digest)) = self.gathered.lacking(replica.holds) else { continue };
            if replica.waiting != Waiting::Nothing {
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
        let (acks, n) = (self.quorum.acked(), self.quorum.n());
        ReadAnswer { object: self.gathered.object().clone(), acks, n, store: self.store_took }
    }

    fn time_out(&mut self, actions: &mut Actions) {
        let (required, acked, n) = (self.quorum.required(), self.quorum.acked(), self.quorum.n());
        self.answer(Err(Failure::TimedOut { required, acked, n, outcome: Outcome::NotApplied }), actions);
    }

    /// Exactly once (C6).
    fn answer(&mut self, result: Result<ReadAnswer, Failure>, actions: &mut Actions) {
        if !std::mem::replace(&mut self.answered, true) {
            actions.push(Action::AnswerRead(result));
        }
    }

    fn wish_to_wake(&self, actions: &mut Actions) {
        actions.push(Action::WakeAt(self.hedge_at.min(self.request.deadline)));
    }
}

impl Replica {
    fn is_waiting(&self) -> bool {
        matches!(self.waiting, Waiting::Digest | Waiting::Object | Waiting::Repair)
    }
}
