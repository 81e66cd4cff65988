//! A write, from the client's request to the last replica's word.
//!
//! The coordinating owner reads, merges and writes in its own store, and sends the result to the other owners while
//! its own fsync runs (Dynamo, section 4.5). It answers at W durable acknowledgements; the rest goes on. Which writes
//! reach this machine at a node that is no owner is in `forward.rs`.

use std::num::NonZeroU64;

use rondo_ring::{Liveness, NodeId, ReplicationFactor, View};
use rondo_storage::Key;
use rondo_storage::engine::EngineError;
use rondo_storage::store::{Change, StoreError, Updated};

use crate::answer::{Failure, Outcome, WriteAnswer};
use crate::choice::QuorumChoice;
use crate::forward::Forwarding;
use crate::message::{ReplicaError, ReplicaReply, ReplicaRequest};
use crate::options::CoordinatorOptions;
use crate::plan::Plan;
use crate::quorum::{Decision, Quorum};
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
    /// The client is answered by then.
    pub deadline: Now,
    /// Who asks.
    pub origin: Origin,
}

/// One write: feed it events until it [is finished](Self::is_finished).
#[derive(Debug)]
pub struct Write {
    request: WriteRequest,
    plan: Plan,
    options: CoordinatorOptions,
    role: Role,
    answered: bool,
}

/// What this node does for the write.
#[derive(Debug)]
enum Role {
    Coordinating(Coordination),
    /// Boxed: the path of a node that owns the key, which is most, moves the machine about without it.
    Forwarding(Box<Forwarding>),
}

/// How far the own store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
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
struct Coordination {
    own: Own,
    updated: Option<Updated>,
    /// Other owners that have not replied.
    waiting: u8,
    /// An owner acknowledged, or may have taken the write without saying so.
    may_be_elsewhere: bool,
}

impl Write {
    /// Begins. Where the owners known to be down already make W impossible, that is the answer, and nothing is
    /// written anywhere.
    pub fn start(request: WriteRequest, view: &View, options: &CoordinatorOptions, now: Now) -> (Self, Actions) {
        let plan = Plan::new(view, &request.key, request.n, request.w);
        let coordination = Coordination { own: Own::Updating, updated: None, waiting: 0, may_be_elsewhere: false };
        let role = Role::Coordinating(coordination);
        let mut write = Self { request, plan, options: options.clone(), role, answered: false };
        let mut actions = Actions::new();
        if !write.plan.owns() {
            write.forward(now, &mut actions);
        } else {
            write.coordinate(&mut actions);
        }
        (write, actions)
    }

    /// What follows from an event.
    pub fn on_event(&mut self, event: Event, now: Now) -> Actions {
        let mut actions = Actions::new();
        match (&mut self.role, event) {
            (_, Event::Wake) if now >= self.request.deadline => self.time_out(&mut actions),
            (Role::Coordinating(_), Event::Wake) => self.wake_at_deadline(&mut actions),
            (Role::Coordinating(_), Event::Updated(Ok(updated))) => self.updated(updated, now, &mut actions),
            (Role::Coordinating(_), Event::Updated(Err(refused))) => self.refused_here(refused, now, &mut actions),
            (Role::Coordinating(c), Event::Durable(result)) => {
                c.own = if result.is_ok() { Own::Durable } else { Own::NotThere };
                vote(&mut self.plan.quorum, self.plan.this, result.is_ok());
                self.decide(&mut actions);
            }
            (Role::Coordinating(c), Event::Reply { from, result }) => {
                c.on_reply(from, &result, &mut self.plan.quorum);
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

    fn coordinate(&mut self, actions: &mut Actions) {
        for owner in self.plan.owners.iter().filter(|owner| owner.liveness == Liveness::Down) {
            self.plan.quorum.fail(owner.node);
        }
        if self.plan.quorum.decision() == Decision::Impossible {
            self.coordination().own = Own::NotThere;
            return self.decide(actions);
        }
        self.wake_at_deadline(actions);
        actions.push(Action::UpdateHere { key: self.request.key.clone(), change: self.request.change.clone() });
    }

    /// The write is queued here: all reachable owners get it at once, not only W of them. An owner that is suspect
    /// gets it too: if it is only slow, it needs no repair later.
    fn updated(&mut self, updated: Updated, now: Now, actions: &mut Actions) {
        let others = self.plan.reachable_others();
        let deadline = self.request.deadline.max(now + self.options.background());
        for &to in &others {
            let (key, object) = (self.request.key.clone(), updated.object.clone());
            let request = ReplicaRequest::Merge { key, object, durability: self.request.change.durability };
            actions.push(Action::Send { to, request, deadline });
        }
        let coordination = self.coordination();
        *coordination = Coordination {
            own: Own::Committing,
            updated: Some(updated),
            waiting: others.len() as u8,
            may_be_elsewhere: false,
        };
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
            StoreError::LowDisk | StoreError::Engine(EngineError::DiskFull) => Failure::LowDisk,
            StoreError::Engine(EngineError::Busy) => Failure::Busy,
            // Damaged here, or not trusted to judge a condition, or the disk fails, or whatever else: an error of
            // `update` means that nothing was begun.
            _ => {
                if !self.answered && matches!(self.request.origin, Origin::Client { .. }) {
                    return self.forward(now, actions);
                }
                self.unavailable(Outcome::NotApplied)
            }
        };
        self.answer(Err(failure), actions);
    }

    /// The quorum decision: success at W durable acknowledgements (C2), failure as soon as there can be no W.
    fn decide(&mut self, actions: &mut Actions) {
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

    fn unavailable(&self, outcome: Outcome) -> Failure {
        unavailable(&self.plan.quorum, outcome)
    }

    /// Exactly once (C6).
    fn answer(&mut self, result: Result<WriteAnswer, Failure>, actions: &mut Actions) {
        if !std::mem::replace(&mut self.answered, true) {
            actions.push(Action::AnswerWrite(result));
        }
    }

    fn wake_at_deadline(&self, actions: &mut Actions) {
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
        self.role = Role::Forwarding(Box::new(Forwarding::new(self.plan.reachable_others())));
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
    }

    fn coordination(&mut self) -> &mut Coordination {
        match &mut self.role {
            Role::Coordinating(coordination) => coordination,
            Role::Forwarding(_) => unreachable!("only the steps of a coordinating write ask for it"),
        }
    }
}

impl Coordination {
    fn on_reply(&mut self, from: NodeId, result: &Result<ReplicaReply, ReplicaError>, quorum: &mut Quorum) {
        self.waiting = self.waiting.saturating_sub(1);
        let merged = matches!(result, Ok(ReplicaReply::Merged));
        let not_taken = matches!(result, Ok(ReplicaReply::Refused(_)) | Err(ReplicaError::NotSent));
        self.may_be_elsewhere |= !not_taken;
        vote(quorum, from, merged);
    }

    /// `NotApplied` only where the own store does not have it and every owner it was sent to said that it does not
    /// have it either (C3).
    fn outcome(&self) -> Outcome {
        let nowhere = self.own == Own::NotThere && self.waiting == 0 && !self.may_be_elsewhere;
        if nowhere { Outcome::NotApplied } else { Outcome::Unknown }
    }
}

fn vote(quorum: &mut Quorum, node: NodeId, acknowledged: bool) {
    if acknowledged { quorum.ack(node) } else { quorum.fail(node) }
}

/// The failure of a quorum that cannot be met.
pub(crate) fn unavailable(quorum: &Quorum, outcome: Outcome) -> Failure {
    Failure::Unavailable { required: quorum.required(), acked: quorum.acked(), n: quorum.n(), outcome }
}
