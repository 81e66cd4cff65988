//! What became of a proposal: told by its proposer, asked for by those it binds.

use rondo_ring::NodeId;

use super::{Bootstrap, Founding, FoundingState, Outcome, Request, request_to};
use crate::message::Message;

impl Bootstrap {
    /// To those who were not told yet, and by the seeds: after a restart everyone may be somewhere else.
    pub(super) fn commits(&self, founding: &Founding) -> Vec<Request> {
        if self.uninformed.is_empty() {
            return Vec::new();
        }
        let message = Message::Commit(Box::new(founding.clone()));
        let there = founding.members.iter().filter(|member| self.uninformed.contains(&member.id));
        let to_seed = |address| Request { address, node: None, message: message.clone() };
        let told = there.map(|member| request_to(member, message.clone()));
        told.chain(self.known_addresses().into_iter().map(to_seed)).collect()
    }

    /// The proposer, where it was and wherever it may be now; and everyone else, since another member may know that it
    /// was committed. The introductions bring the addresses of those who moved meanwhile.
    pub(super) fn ask_outcome(&self, founding: &Founding) -> Vec<Request> {
        let mut addresses = self.known_addresses();
        addresses.extend(founding.members.iter().filter(|m| m.id != self.this.id).map(|m| m.peer_addr.clone()));
        let ask = |address| Request { address, node: None, message: Message::AskOutcome(founding.cluster) };
        addresses.into_iter().map(ask).chain(self.introductions()).collect()
    }

    pub(super) fn outcome(&self, cluster: u128) -> Outcome {
        match &self.state {
            FoundingState::Formed(founding) if founding.cluster == cluster => Outcome::Committed,
            FoundingState::Accepted(founding) if founding.cluster == cluster => Outcome::Undecided,
            _ => Outcome::Withdrawn,
        }
    }

    pub(super) fn learned(&mut self, from: NodeId, cluster: u128, outcome: &Outcome) {
        let FoundingState::Accepted(founding) = &self.state else { return };
        if founding.cluster != cluster || from == self.this.id {
            return;
        }
        match outcome {
            // True whoever says it: only a member of that cluster does.
            Outcome::Committed => self.state = FoundingState::Formed(founding.clone()),
            Outcome::Withdrawn if from == founding.proposer => self.state = FoundingState::Free,
            Outcome::Withdrawn | Outcome::Undecided => {}
        }
    }

    /// A commit is believed only of the proposal this node accepted, which it did durably before (G2).
    pub(super) fn commit_accepted(&mut self, founding: Founding) {
        if matches!(&self.state, FoundingState::Accepted(accepted) if **accepted == founding) {
            self.state = FoundingState::Formed(Box::new(founding));
        }
    }

    pub(super) fn heard_of(&mut self, founding: Founding) {
        self.foreign = Some(founding.cluster);
        self.look_for_place(&founding);
        self.commit_accepted(founding);
    }
}
