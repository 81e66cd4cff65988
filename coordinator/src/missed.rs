//! What an owner misses of a write: kept for it by a node that stands in for it, or here (Dynamo, section 4.6).
//!
//! In a strict quorum a hint counts for nothing and is kept here: together with the own write for an owner that is known
//! to be down, and for one whose acknowledgement does not come as soon as the own write is durable, so that there is no
//! hint of a write that is nowhere (C3). In a sloppy quorum the next node of the preference list is asked to keep it, and
//! its word counts instead of the owner's; where nobody is left to ask, or the client has its answer, the hint is kept
//! here.
//!
//! Where no owner can be reached at all, a stand-in coordinates: it makes the write's dot, over what it keeps for the
//! owners, and is the first of the stand-ins itself.

use rondo_ring::NodeId;
use smallvec::SmallVec;

use crate::answer::{Failure, Outcome};
use crate::bucket::QuorumKind;
use crate::message::ReplicaRequest;
use crate::put::{Coordination, Origin, Own, Role, Write, unavailable};
use crate::quorum::Decision;
use crate::{Action, Actions, Now};

impl Write {
    /// The owner will not take the write, or its stand-in will not.
    pub(crate) fn missed(&mut self, owner: NodeId, now: Now, actions: &mut Actions) {
        if !self.plan.quorum.has_failed(owner) {
            // It has acknowledged, or may yet, or another stands in for it.
            return;
        }
        if !self.answered && self.stand_in(owner, now, actions) {
            return;
        }
        let coordination = self.coordination();
        coordination.missed.push(owner);
        self.keep_missed(actions);
    }

    /// Keeps what was missed so far, if the write is durable here; if it will never be, nothing is kept.
    pub(crate) fn keep_missed(&mut self, actions: &mut Actions) {
        if self.coordination().missed.is_empty() {
            return;
        }
        let durability = self.request.change.durability;
        let key = self.request.key.clone();
        let coordination = self.coordination();
        let (Own::Durable, Some(updated)) = (coordination.own, &coordination.updated) else { return };
        for target in coordination.missed.drain(..) {
            coordination.waiting += 1;
            actions.push(Action::HintHere { target, key: key.clone(), object: updated.object.clone(), durability });
        }
    }

    /// Sends the write to the next node that may stand in for the owner; whether there was one.
    fn stand_in(&mut self, owner: NodeId, now: Now, actions: &mut Actions) -> bool {
        let Some(to) = self.stand_ins.assign(owner, &mut self.plan.quorum) else { return false };
        self.send_hint(to, owner, now, actions);
        true
    }

    /// Sends the write to those that were found for owners known to be down, and looks again after a while.
    pub(crate) fn send_to_stand_ins(&mut self, now: Now, actions: &mut Actions) {
        let this = self.plan.this;
        let asked: SmallVec<[(NodeId, NodeId); 2]> = self.stand_ins.asked().iter().copied().collect();
        for (to, owner) in asked.into_iter().filter(|&(to, _)| to != this) {
            self.send_hint(to, owner, now, actions);
        }
        if !self.answered {
            let patience = now + self.options.forward_patience();
            actions.push(Action::WakeAt(patience.min(self.request.deadline)));
        }
    }

    fn send_hint(&mut self, to: NodeId, target: NodeId, now: Now, actions: &mut Actions) {
        let (key, durability) = (self.request.key.clone(), self.request.change.durability);
        let deadline = self.request.deadline.max(now + self.options.background());
        let coordination = self.coordination();
        let Some(object) = coordination.updated.as_ref().map(|updated| updated.object.clone()) else { return };
        coordination.waiting += 1;
        let request = ReplicaRequest::Hint { target, key, object, durability };
        actions.push(Action::Send { to, request, deadline });
    }

    /// An owner that says nothing is not waited for any longer: another may answer in its place, if the quorum is sloppy.
    pub(crate) fn lose_patience(&mut self, now: Now, actions: &mut Actions) {
        if self.request.quorum == QuorumKind::Sloppy && !self.answered && self.plan.owns() {
            for owner in self.plan.silent_owners() {
                if !self.stand_in(owner, now, actions) {
                    break;
                }
            }
        }
        self.wake_at_deadline(actions);
    }

    /// A node that is asked by another one for a key that it does not own, and whose quorum is sloppy: it is asked because
    /// that one has reached no owner.
    pub(crate) fn is_sent_to_stand_in(&self) -> bool {
        self.request.origin == Origin::Peer && self.stand_ins.left().contains(&self.plan.this)
    }

    /// Who may coordinate the write where no owner does, first to be asked first: nobody behind this node, if it may.
    pub(crate) fn coordinating_stand_ins(&self) -> SmallVec<[NodeId; 4]> {
        let mut order: SmallVec<[NodeId; 4]> = self.stand_ins.left().iter().rev().copied().collect();
        if let Some(place) = order.iter().position(|&node| node == self.plan.this) {
            order.truncate(place + 1);
        }
        order
    }

    /// Nobody who was asked has coordinated the write, and this node is next. Some of them may have begun it.
    pub(crate) fn take_over(&mut self, actions: &mut Actions) {
        let Role::Forwarding(forwarding) = &self.role else { return };
        let (asked, outcome) = (forwarding.asked().to_vec(), forwarding.outcome());
        self.stand_ins.leave_out(&asked);
        let may_be_elsewhere = outcome == Outcome::Unknown;
        self.role = Role::Coordinating(Coordination { may_be_elsewhere, ..Coordination::new(Own::Updating) });
        self.coordinate_for_owners(actions);
    }

    /// Each owner is stood in for: the first by this node, the others by the nodes behind it as far as there are any. What
    /// nobody else keeps for an owner is kept here too, and counts for nothing.
    pub(crate) fn coordinate_for_owners(&mut self, actions: &mut Actions) {
        let this = self.plan.this;
        self.stand_ins.leave_out(&[this]);
        let mut hint_for = SmallVec::new();
        let owners: SmallVec<[NodeId; 7]> = self.plan.owners.iter().map(|owner| owner.node).collect();
        for owner in owners {
            self.plan.quorum.fail(owner);
            if hint_for.is_empty() {
                self.stand_ins.assign_to(this, owner, &mut self.plan.quorum);
                hint_for.push(owner);
            } else if self.stand_ins.assign(owner, &mut self.plan.quorum).is_none() {
                hint_for.push(owner);
            }
        }
        if self.plan.quorum.decision() == Decision::Impossible {
            self.coordination().own = Own::NotThere;
            return self.decide(actions);
        }
        self.wake_at_deadline(actions);
        let (key, change) = (self.request.key.clone(), self.request.change.clone());
        actions.push(Action::UpdateHints { key, change, hint_for });
    }

    /// Hints that are durable: those of the own write's batch with that, the others as they were acknowledged.
    pub(crate) fn hinted(&self) -> u8 {
        let Role::Coordinating(coordination) = &self.role else { return 0 };
        let beside = match (coordination.own, &coordination.updated) {
            (Own::Durable, Some(updated)) => updated.hinted,
            _ => 0,
        };
        beside + coordination.hinted
    }

    /// The failure of a write that no node could coordinate.
    pub(crate) fn unavailable(&self, outcome: Outcome) -> Failure {
        unavailable(&self.plan.quorum, outcome)
    }
}
