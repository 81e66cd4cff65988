//! A write at a node that may not coordinate it: handed to one owner, and to a further one only where that is safe.
//!
//! An owner that was not reached, or refused, has not begun the write, and the next one is asked at once (C1). An owner
//! that is silent may have begun it. Waiting for it would let one hung node stall its clients, so after a short while
//! another is asked to carry out the same request under the same `write_id`: should both have done it, the versions
//! show one sibling.
//!
//! In a sloppy quorum the nodes that stand in for owners are asked after the owners, in the order of the preference list;
//! this node may be one of them (`missed.rs`).

use rondo_ring::NodeId;
use smallvec::SmallVec;

use crate::answer::{Failure, Outcome};
use crate::message::{ForwardedWrite, Refusal, ReplicaError, ReplicaReply, ReplicaRequest};
use crate::options::CoordinatorOptions;
use crate::put::{WriteRequest, unavailable};
use crate::quorum::Quorum;
use crate::{Action, Actions, Now};

/// Most owners that may have begun one write.
const BEGUN_MAX: usize = 3;

/// What every step needs of the write it belongs to.
pub(crate) struct Context<'a> {
    pub(crate) request: &'a WriteRequest,
    pub(crate) quorum: &'a Quorum,
    pub(crate) options: &'a CoordinatorOptions,
    pub(crate) now: Now,
}

/// Who was asked and what came of it.
#[derive(Debug)]
pub(crate) struct Forwarding {
    /// To be asked, the nearest last.
    candidates: SmallVec<[NodeId; 7]>,
    /// Refused because it came too late to them: they have not begun it and may be asked again.
    too_late: SmallVec<[NodeId; 7]>,
    /// Asked and silent.
    waiting: SmallVec<[NodeId; BEGUN_MAX]>,
    /// How many may have begun it and will not say.
    lost: usize,
    /// An owner answered for good: nobody else is asked.
    settled: Option<Failure>,
    /// The last owner that has not begun it said so.
    refused: Option<Failure>,
    /// When the next one is asked, if there is one; and how long a silent one is waited for where another has refused.
    patience_until: Now,
    this: NodeId,
    /// Everybody before this node has been asked.
    this_is_next: bool,
    /// Everybody who was.
    asked: SmallVec<[NodeId; 2]>,
}

impl Forwarding {
    /// Those that may coordinate it, first to be asked first: owners that can be reached, then stand-ins. With `this`
    /// among them nobody behind it is asked.
    pub(crate) fn new(this: NodeId, mut candidates: SmallVec<[NodeId; 7]>) -> Self {
        candidates.reverse();
        Self {
            this,
            this_is_next: false,
            asked: SmallVec::new(),
            candidates,
            too_late: SmallVec::new(),
            waiting: SmallVec::new(),
            lost: 0,
            settled: None,
            refused: None,
            patience_until: Now::ZERO,
        }
    }

    pub(crate) fn start(&mut self, context: &Context<'_>, actions: &mut Actions) {
        self.ask_next(context, actions);
    }

    /// A wake-up that comes late says that this node was stopped or starved: the answer may be here and unread, and what
    /// it says may be history. It is read before another owner is asked to do the same once more.
    pub(crate) fn on_wake(&mut self, context: &Context<'_>, actions: &mut Actions) {
        let slack = context.options.forward_patience() / 4;
        if context.now >= self.patience_until + slack {
            self.patience_until = context.now + slack;
        }
        if context.now >= self.patience_until && self.candidates.is_empty() {
            self.candidates.extend(self.too_late.drain(..).rev());
        }
        if context.now >= self.patience_until && self.may_ask() {
            self.ask_next(context, actions);
        } else if context.now >= self.patience_until && self.is_refused() {
            self.lost += self.waiting.drain(..).len();
            self.give_up(context, actions);
        } else {
            self.wish_to_wake(context, actions);
        }
    }

    pub(crate) fn on_reply(
        &mut self,
        from: NodeId,
        result: Result<ReplicaReply, ReplicaError>,
        context: &Context<'_>,
        actions: &mut Actions,
    ) {
        let Some(place) = self.waiting.iter().position(|&node| node == from) else { return };
        self.waiting.remove(place);
        match result {
            Ok(ReplicaReply::Forwarded(Ok(answer))) => return actions.push(Action::AnswerWrite(Ok(answer))),
            Ok(ReplicaReply::Forwarded(Err(failure))) => self.failed_there(failure, context),
            Ok(ReplicaReply::Refused(Refusal::Busy)) => self.refused = Some(Failure::Busy),
            Ok(ReplicaReply::Refused(refusal)) => {
                if refusal == Refusal::Expired {
                    self.too_late.push(from);
                }
                self.refused = Some(unavailable(context.quorum, Outcome::NotApplied));
            }
            Err(ReplicaError::NotSent) => {
                self.refused = Some(unavailable(context.quorum, Outcome::NotApplied));
            }
            Err(ReplicaError::Lost | ReplicaError::TimedOut) => self.lost += 1,
            // No answer to what was asked: what that node did is not known.
            Ok(ReplicaReply::Merged | ReplicaReply::Value(_) | ReplicaReply::Listed(_)) => self.lost += 1,
        }
        if self.may_ask() {
            self.ask_next(context, actions);
        } else if !self.waiting.is_empty() {
            if self.is_refused() {
                self.patience_until = context.now + context.options.forward_patience();
                self.wish_to_wake(context, actions);
            }
        } else if self.may_ask_again() {
            // A stall that held up all of them has made all of them refuse; it is over soon.
            self.patience_until = context.now + context.options.forward_patience() / 4;
            actions.push(Action::WakeAt(self.patience_until.min(context.request.deadline)));
        } else {
            self.give_up(context, actions);
        }
    }

    /// Whether it is this node's turn to coordinate the write.
    pub(crate) fn is_for_this_node(&self) -> bool {
        self.this_is_next
    }

    /// Everybody who was asked to coordinate it.
    pub(crate) fn asked(&self) -> &[NodeId] {
        &self.asked
    }

    /// Whether an owner that was asked may have the write.
    pub(crate) fn outcome(&self) -> Outcome {
        let settled = matches!(
            self.settled,
            Some(
                Failure::Unavailable { outcome: Outcome::Unknown, .. }
                    | Failure::TimedOut { outcome: Outcome::Unknown, .. }
            )
        );
        if settled || self.lost > 0 || !self.waiting.is_empty() { Outcome::Unknown } else { Outcome::NotApplied }
    }

    /// An owner that says `not-applied` is as good as one that refused: its disk may be the trouble, not the quorum.
    fn failed_there(&mut self, failure: Failure, context: &Context<'_>) {
        match failure {
            Failure::LowDisk => self.refused = Some(unavailable(context.quorum, Outcome::NotApplied)),
            Failure::Busy
            | Failure::Unavailable { outcome: Outcome::NotApplied, .. }
            | Failure::TimedOut { outcome: Outcome::NotApplied, .. } => self.refused = Some(failure),
            Failure::Unavailable { .. }
            | Failure::TimedOut { .. }
            | Failure::TooManySiblings { .. }
            | Failure::ConditionFailed { .. } => self.settled = Some(failure),
            // Never the answer to a write: what that node did is not known.
            Failure::ContextNotReached => self.lost += 1,
        }
    }

    /// An owner has said for good that nothing was written there. True of all only where no other is silent.
    fn is_refused(&self) -> bool {
        matches!(self.settled, Some(Failure::TooManySiblings { .. } | Failure::ConditionFailed { .. }))
    }

    fn may_ask(&self) -> bool {
        self.settled.is_none() && !self.candidates.is_empty() && self.waiting.len() + self.lost < BEGUN_MAX
    }

    /// After a while.
    fn may_ask_again(&self) -> bool {
        self.settled.is_none() && !self.too_late.is_empty() && self.waiting.len() + self.lost < BEGUN_MAX
    }

    fn ask_next(&mut self, context: &Context<'_>, actions: &mut Actions) {
        let Some(to) = self.candidates.pop() else { return self.give_up(context, actions) };
        if to == self.this {
            self.this_is_next = true;
            return;
        }
        self.asked.push(to);
        self.waiting.push(to);
        self.patience_until = context.now + context.options.forward_patience();
        actions.push(Action::Send { to, request: forwarded(context), deadline: context.request.deadline });
        self.wish_to_wake(context, actions);
    }

    fn wish_to_wake(&self, context: &Context<'_>, actions: &mut Actions) {
        let deadline = context.request.deadline;
        let impatient = self.may_ask() || self.may_ask_again() || self.is_refused();
        actions.push(Action::WakeAt(if impatient { self.patience_until.min(deadline) } else { deadline }));
    }

    /// Nobody is left to ask or to wait for.
    fn give_up(&mut self, context: &Context<'_>, actions: &mut Actions) {
        let unknown = || unavailable(context.quorum, Outcome::Unknown);
        // "Nothing was written" is true of that owner only.
        let refused_by_one = self.is_refused() && self.lost > 0;
        let failure = match (self.settled.take(), self.refused.take()) {
            (Some(_), _) if refused_by_one => unknown(),
            (Some(settled), _) => settled,
            (None, _) if self.lost > 0 => unknown(),
            (None, Some(refused)) => refused,
            (None, None) => unavailable(context.quorum, Outcome::NotApplied),
        };
        actions.push(Action::AnswerWrite(Err(failure)));
    }
}

fn forwarded(context: &Context<'_>) -> ReplicaRequest {
    let WriteRequest { key, change, n, w, quorum, deadline, .. } = context.request;
    let remaining_ms = u32::try_from(deadline.saturating_sub(context.now).as_millis()).unwrap_or(u32::MAX);
    ReplicaRequest::Forward(Box::new(ForwardedWrite {
        key: key.clone(),
        change: change.clone(),
        n: *n,
        w: *w,
        quorum: *quorum,
        remaining_ms,
        start_within_ms: remaining_ms.min(context.options.forward_patience_ms),
    }))
}
