//! A write, from the client's request to the last replica's word.
//!
//! The coordinating owner reads, merges and writes in its own store, and sends the result to the other owners while
//! its own fsync runs (Dynamo, section 4.5). It answers at W durable acknowledgements; the rest goes on. Which writes
//! reach this machine at a node that is no owner is in `forward.rs`, what becomes of those that an owner has no room for in
//! `busy.rs`, of those that it misses, and who may stand in for it, in `missed.rs`.

use std::num::NonZeroU64;

use bytes::Bytes;
use rondo_ring::{Liveness, NodeId, ReplicationFactor, View};
use rondo_storage::Key;
use rondo_storage::engine::EngineError;
use rondo_storage::store::{Change, StoreError, Updated};
use smallvec::SmallVec;

use crate::answer::{Failure, Outcome, WriteAnswer};
use crate::bucket::QuorumKind;
use crate::busy::Busy;
use crate::choice::QuorumChoice;
use crate::forward::Forwarding;
use crate::message::{Refusal, ReplicaError, ReplicaReply, ReplicaRequest};
use crate::options::CoordinatorOptions;
use crate::plan::Plan;
use crate::quorum::{Decision, Quorum};
use crate::sloppy::StandIns;
use crate::{Action, Actions, Event, Now};

/// Who asks for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client of this node. The id is random; it names the request should it have to be forwarded.
    Client {
        /// See [`Metadata::write_id`](rondo_storage::versions::Metadata::write_id).
        write_id: NonZeroU64,
    },
    /// Another node, which does not own the key. This node coordinates or refuses: it never forwards again (C1).
    Peer,
}

/// A write as a client or a peer asks for it.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// Of what.
    pub key: Key,
    /// What.
    pub change: Change,
    /// N of the bucket.
    pub n: ReplicationFactor,
    /// W.
    pub w: QuorumChoice,
    /// Which nodes count.
    pub quorum: QuorumKind,
    /// The client is answered by then.
    pub deadline: Now,
    /// Who asks.
    pub origin: Origin,
}

/// One write: feed it events until it [is finished](Self::is_finished).
#[derive(Debug)]
pub struct Write {
    pub(crate) request: WriteRequest,
    pub(crate) plan: Plan,
    pub(crate) options: CoordinatorOptions,
    pub(crate) role: Role,
    /// Nobody where the quorum is strict.
    pub(crate) stand_ins: StandIns,
    pub(crate) answered: bool,
}

/// What this node does for the write.
#[derive(Debug)]
pub(crate) enum Role {
    Coordinating(Coordination),
    /// Boxed: the path of a node that owns the key, which is most, moves the machine about without it.
    Forwarding(Box<Forwarding>),
}

/// How far the own store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// Asked to update; not answered.
    Updating,
    /// Queued, not durable.
    Committing,
    /// Durable.
    Durable,
    /// Not there, and never will be.
    NotThere,
}

#[derive(Debug)]
pub(crate) struct Coordination {
    pub(crate) own: Own,
    pub(crate) updated: Option<Updated>,
    /// Other nodes that have not replied, and hints that are being kept here.
    pub(crate) waiting: u8,
    /// A node acknowledged, or may have taken the write without saying so.
    pub(crate) may_be_elsewhere: bool,
    /// Owners that had no room for it; mostly nobody.
    pub(crate) busy: Option<Box<Busy>>,
    /// Owners for whom it is kept here as soon as it is durable here.
    pub(crate) missed: SmallVec<[NodeId; 1]>,
    /// Hints kept so far, but for those of the own write's batch.
    pub(crate) hinted: u8,
}

impl Coordination {
    pub(crate) fn new(own: Own) -> Self {
        let missed = SmallVec::new();
        Self { own, updated: None, waiting: 0, may_be_elsewhere: false, busy: None, missed, hinted: 0 }
    }
}

impl Write {
    /// Begins. Where the owners known to be down already make W impossible, that is the answer, and nothing is
    /// written anywhere.
    pub fn start(request: WriteRequest, view: &View, options: &CoordinatorOptions, now: Now) -> (Self, Actions) {
        let plan = Plan::new(view, &request.key, request.n, request.w);
        let stand_ins = StandIns::new(view, request.key.token(), request.n, request.quorum);
        let role = Role::Coordinating(Coordination::new(Own::Updating));
        let mut write = Self { request, plan, options: options.clone(), role, stand_ins, answered: false };
        let mut actions = Actions::new();
        if write.plan.owns() {
            write.coordinate(&mut actions);
        } else if write.is_sent_to_stand_in() {
            write.coordinate_for_owners(&mut actions);
        } else {
            write.forward(now, &mut actions);
        }
        (write, actions)
    }

    /// What follows from an event.
    pub fn on_event(&mut self, event: Event, now: Now) -> Actions {
        let mut actions = Actions::new();
        match (&mut self.role, event) {
            (_, Event::Wake) if now >= self.request.deadline => {
                self.time_out(&mut actions);
                self.give_up_busy(now, &mut actions);
            }
            (Role::Coordinating(_), Event::Wake) => {
                self.lose_patience(now, &mut actions);
                self.ask_again(now, &mut actions);
            }
            (Role::Coordinating(_), Event::Updated(Ok(updated))) => self.updated(updated, now, &mut actions),
            (Role::Coordinating(_), Event::Updated(Err(refused))) => self.refused_here(refused, now, &mut actions),
            (Role::Coordinating(c), Event::Durable(result)) => {
                c.own = if result.is_ok() { Own::Durable } else { Own::NotThere };
                vote(&mut self.plan.quorum, self.plan.this, result.is_ok());
                self.keep_missed(&mut actions);
                self.decide(&mut actions);
            }
            (Role::Coordinating(_), Event::Reply { from, result }) => self.replied(from, &result, now, &mut actions),
            (Role::Coordinating(c), Event::Hinted(result)) => {
                c.on_hinted(result.is_ok());
                self.decide(&mut actions);
            }
            (Role::Forwarding(_), Event::Wake) => self.with_forwarding(now, &mut actions, Forwarding::on_wake),
            (Role::Forwarding(_), Event::Reply { from, result }) => {
                self.with_forwarding(now, &mut actions, |f, context, actions| {
                    f.on_reply(from, result, context, actions);
                });
            }
            // No other event answers an action of a write.
            (_, _) => {}
        }
        actions
    }

    /// Answered, and nothing is outstanding that would change a replica.
    pub fn is_finished(&self) -> bool {
        self.answered
            && match &self.role {
                Role::Coordinating(c) => c.waiting == 0 && !matches!(c.own, Own::Updating | Own::Committing),
                Role::Forwarding(_) => true,
            }
    }

    /// What an owner that is down misses is kept for it by a node that stands in for it, or else here together with the
    /// own write.
    fn coordinate(&mut self, actions: &mut Actions) {
        let mut hint_for = SmallVec::new();
        for owner in self.plan.owners.iter().filter(|owner| owner.liveness == Liveness::Down) {
            self.plan.quorum.fail(owner.node);
            if self.stand_ins.assign(owner.node, &mut self.plan.quorum).is_none() {
                hint_for.push(owner.node);
            }
        }
        if self.plan.quorum.decision() == Decision::Impossible {
            self.coordination().own = Own::NotThere;
            return self.decide(actions);
        }
        self.wake_at_deadline(actions);
        let (key, change) = (self.request.key.clone(), self.request.change.clone());
        actions.push(Action::UpdateHere { key, change, hint_for });
    }

    /// The write is queued here: all reachable owners get it at once, not only W of them. An owner that is suspect
    /// gets it too: if it is only slow, it needs no repair later.
    fn updated(&mut self, updated: Updated, now: Now, actions: &mut Actions) {
        let others = if self.plan.owns() { self.plan.reachable_others() } else { SmallVec::new() };
        self.send_merges(&others, &updated.object, now, actions);
        let coordination = self.coordination();
        coordination.own = Own::Committing;
        coordination.updated = Some(updated);
        coordination.waiting += others.len() as u8;
        if self.request.quorum == QuorumKind::Sloppy {
            self.send_to_stand_ins(now, actions);
        }
    }

    pub(crate) fn send_merges(&self, to: &[NodeId], object: &Bytes, now: Now, actions: &mut Actions) {
        let deadline = self.request.deadline.max(now + self.options.background());
        for &to in to {
            let (key, object, durability) = (self.request.key.clone(), object.clone(), self.request.change.durability);
            actions.push(Action::Send { to, request: ReplicaRequest::Merge { key, object, durability }, deadline });
        }
    }

    /// A node's word about the write, or that it will give none.
    fn replied(&mut self, from: NodeId, result: &Result<ReplicaReply, ReplicaError>, now: Now, actions: &mut Actions) {
        let instead_of = self.stand_ins.stands_for(from);
        if instead_of.is_none() && !self.plan.owns() {
            // An owner that was silent when it was asked to coordinate this write.
            return;
        }
        let is_busy = matches!(result, Ok(ReplicaReply::Refused(Refusal::Busy)));
        if is_busy && instead_of.is_none() && self.needs(from) {
            return self.ask_again_later(from, now, actions);
        }
        let merged = matches!(result, Ok(ReplicaReply::Merged));
        let not_taken = matches!(result, Ok(ReplicaReply::Refused(_)) | Err(ReplicaError::NotSent));
        let coordination = self.coordination();
        coordination.waiting = coordination.waiting.saturating_sub(1);
        coordination.may_be_elsewhere |= !not_taken;
        coordination.hinted += u8::from(merged && instead_of.is_some());
        vote(&mut self.plan.quorum, from, merged);
        if !merged {
            self.missed(instead_of.unwrap_or(from), now, actions);
        }
        self.decide(actions);
    }

    /// Nothing was begun here, so another owner may coordinate without a second dot (C1). Low disk and too much in
    /// flight are for the client to know: it asked this node.
    fn refused_here(&mut self, refused: StoreError, now: Now, actions: &mut Actions) {
        self.coordination().own = Own::NotThere;
        self.plan.quorum.fail(self.plan.this);
        let failure = match refused {
            StoreError::TooManySiblings { count, max, context } => {
                Failure::TooManySiblings { count: u32::try_from(count).unwrap_or(u32::MAX), max, context }
            }
            StoreError::ConditionFailed { etag, context } => Failure::ConditionFailed { etag, context },
            StoreError::LowDisk | StoreError::HintsFull | StoreError::Engine(EngineError::DiskFull) => Failure::LowDisk,
            StoreError::Engine(EngineError::Busy) => Failure::Busy,
            // Damaged here, or not trusted to judge a condition, or the disk fails, or whatever else: an error of
            // `update` means that nothing was begun.
            _ => {
                if !self.answered && self.plan.owns() && matches!(self.request.origin, Origin::Client { .. }) {
                    return self.forward(now, actions);
                }
                self.unavailable(Outcome::NotApplied)
            }
        };
        // Somebody who was asked before this node may have carried it out.
        let outcome = self.coordination().outcome();
        let failure = if outcome == Outcome::Unknown { self.unavailable(outcome) } else { failure };
        self.answer(Err(failure), actions);
    }

    /// The quorum decision: success at W durable acknowledgements (C2), failure as soon as there can be no W.
    pub(crate) fn decide(&mut self, actions: &mut Actions) {
        let outcome = self.coordination().outcome();
        match (self.plan.quorum.decision(), &self.coordination().updated) {
            (Decision::Undecided, _) => {}
            (Decision::Satisfied, Some(updated)) => {
                let answer = WriteAnswer {
                    dot: updated.dot,
                    context: updated.context.clone(),
                    siblings: u32::try_from(updated.siblings).unwrap_or(u32::MAX),
                    modified_us: updated.modified_us,
                    expires_us: updated.expires_us,
                    acks: self.plan.quorum.acked(),
                    n: self.plan.quorum.n(),
                    hinted: self.hinted(),
                    sloppy: self.plan.quorum.counts_stand_ins(),
                };
                self.answer(Ok(answer), actions);
            }
            (Decision::Satisfied | Decision::Impossible, _) => {
                self.answer(Err(self.unavailable(outcome)), actions);
            }
        }
    }

    fn time_out(&mut self, actions: &mut Actions) {
        let outcome = match &self.role {
            Role::Coordinating(c) => c.outcome(),
            Role::Forwarding(f) => f.outcome(),
        };
        let (required, acked, n) = (self.plan.quorum.required(), self.plan.quorum.acked(), self.plan.quorum.n());
        self.answer(Err(Failure::TimedOut { required, acked, n, outcome }), actions);
    }

    /// Exactly once (C6).
    fn answer(&mut self, result: Result<WriteAnswer, Failure>, actions: &mut Actions) {
        if !std::mem::replace(&mut self.answered, true) {
            actions.push(Action::AnswerWrite(result));
        }
    }

    pub(crate) fn wake_at_deadline(&self, actions: &mut Actions) {
        if !self.answered {
            actions.push(Action::WakeAt(self.request.deadline));
        }
    }

    /// Hands the write to the other owners, or says at once that there are none; a peer's write goes back to the peer.
    fn forward(&mut self, now: Now, actions: &mut Actions) {
        let Origin::Client { write_id } = self.request.origin else {
            return self.answer(Err(self.unavailable(Outcome::NotApplied)), actions);
        };
        self.request.change.metadata.write_id = write_id.get();
        let mut candidates = self.plan.reachable_others();
        candidates.extend(self.coordinating_stand_ins());
        self.role = Role::Forwarding(Box::new(Forwarding::new(self.plan.this, candidates)));
        self.with_forwarding(now, actions, Forwarding::start);
    }

    fn with_forwarding(
        &mut self,
        now: Now,
        actions: &mut Actions,
        step: impl FnOnce(&mut Forwarding, &crate::forward::Context<'_>, &mut Actions),
    ) {
        if let (Role::Forwarding(forwarding), false) = (&mut self.role, self.answered) {
            let context = crate::forward::Context {
                request: &self.request,
                quorum: &self.plan.quorum,
                options: &self.options,
                now,
            };
            step(forwarding, &context, actions);
            self.answered = matches!(actions.last(), Some(Action::AnswerWrite(_)));
        }
        if let (Role::Forwarding(forwarding), false) = (&self.role, self.answered)
            && forwarding.is_for_this_node()
        {
            self.take_over(actions);
        }
    }

    pub(crate) fn coordination(&mut self) -> &mut Coordination {
        match &mut self.role {
            Role::Coordinating(coordination) => coordination,
            Role::Forwarding(_) => unreachable!("only the steps of a coordinating write ask for it"),
        }
    }
}

impl Coordination {
    fn on_hinted(&mut self, kept: bool) {
        self.waiting = self.waiting.saturating_sub(1);
        self.may_be_elsewhere |= kept;
        self.hinted += u8::from(kept);
    }

    /// `NotApplied` only where the own store does not have it and every node it was sent to said that it does not
    /// have it either (C3).
    fn outcome(&self) -> Outcome {
        let nowhere = self.own == Own::NotThere && self.waiting == 0 && !self.may_be_elsewhere;
        if nowhere { Outcome::NotApplied } else { Outcome::Unknown }
    }
}

pub(crate) fn vote(quorum: &mut Quorum, node: NodeId, acknowledged: bool) {
    if acknowledged { quorum.ack(node) } else { quorum.fail(node) }
}

/// The failure of a quorum that cannot be met.
pub(crate) fn unavailable(quorum: &Quorum, outcome: Outcome) -> Failure {
    Failure::Unavailable { required: quorum.required(), acked: quorum.acked(), n: quorum.n(), outcome }
}
