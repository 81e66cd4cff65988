//! Owners that had no room for a write: they have begun nothing, so those that the quorum cannot do without are asked again
//! until the client's time is over. What the others miss is kept for them, as what a node that is down misses.

use std::time::Duration;

use rondo_ring::NodeId;

use crate::put::{Coordination, Own, Role, Write, vote};
use crate::quorum::Decision;
use crate::{Action, Actions, Now};

/// Before an owner is asked for the second time; twice as long before each further time, up to [`DOUBLINGS_MAX`] times.
const PAUSE: Duration = Duration::from_millis(20);
const DOUBLINGS_MAX: u8 = 4;

/// Who is to be asked again.
#[derive(Debug, Default)]
pub(crate) struct Busy {
    owners: Vec<NodeId>,
    rounds: u8,
}

impl Write {
    /// Whether the client still waits, and cannot get what it asked for without this owner.
    pub(crate) fn needs(&self, owner: NodeId) -> bool {
        let mut without = self.plan.quorum.clone();
        without.fail(owner);
        !self.answered && self.stand_ins.left().is_empty() && without.decision() == Decision::Impossible
    }

    /// It stays among those that are waited for.
    pub(crate) fn ask_again_later(&mut self, owner: NodeId, now: Now, actions: &mut Actions) {
        let busy = self.coordination().busy.get_or_insert_default();
        busy.owners.push(owner);
        let pause = PAUSE * (1 << busy.rounds);
        actions.push(Action::WakeAt((now + pause).min(self.request.deadline)));
    }

    /// Sends the write once more to those that had no room. Of a write that failed here nobody is told any more.
    pub(crate) fn ask_again(&mut self, now: Now, actions: &mut Actions) {
        let Role::Coordinating(coordination) = &mut self.role else { return };
        if coordination.own == Own::NotThere {
            return self.give_up_busy(now, actions);
        }
        let (Some(busy), Some(updated)) = (&mut coordination.busy, &coordination.updated) else { return };
        let (owners, object) = (std::mem::take(&mut busy.owners), updated.object.clone());
        busy.rounds = (busy.rounds + 1).min(DOUBLINGS_MAX);
        self.send_merges(&owners, &object, now, actions);
    }

    /// There is no time left: they have missed it.
    pub(crate) fn give_up_busy(&mut self, now: Now, actions: &mut Actions) {
        let Role::Coordinating(Coordination { busy, waiting, .. }) = &mut self.role else { return };
        let owners = busy.as_mut().map(|busy| std::mem::take(&mut busy.owners)).unwrap_or_default();
        *waiting = waiting.saturating_sub(owners.len() as u8);
        for owner in owners {
            vote(&mut self.plan.quorum, owner, false);
            self.missed(owner, now, actions);
        }
    }
}
