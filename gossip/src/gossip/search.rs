//! A node that hears of nobody looks for the others: every address may have changed, its own too. One seed that is right
//! is enough.

use std::time::Duration;

use rondo_ring::{Liveness, NodeId};

use super::Gossip;
use crate::bootstrap::Request;
use crate::members::Taken;
use crate::message::Message;
use crate::node_info::NodeInfo;
use crate::rumour::Rumour;

/// Between two searches of a node that hears of nobody.
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);
/// Between two words to a seed while some member is not there: two halves of a cluster that lost each other's addresses
/// have their seeds in common.
const SEED_INTERVAL: Duration = Duration::from_secs(5);

impl Gossip {
    pub(super) fn search(&mut self) {
        let now = self.now();
        if now < self.next_search {
            return;
        }
        self.next_search = now + SEARCH_INTERVAL;
        let others = self.members.others().len();
        let up = self.able_witnesses();
        if !self.members.this().serves() || up.is_empty() {
            self.ask_for_members(&up);
        } else if up.len() < others {
            self.next_search = now + SEED_INTERVAL;
            self.speak_to_a_seed();
        }
    }

    /// Every seed, and one of the members known: of those that seem alive, if any does.
    fn ask_for_members(&mut self, up: &[NodeId]) {
        let one = self.random.pick(if up.is_empty() { &self.rotation } else { up }).copied();
        let this = self.members.this().clone();
        let message = Message::AskMembers(Box::new(this));
        for address in self.other_seeds() {
            self.outbox.push(Request { address, node: None, message: message.clone() });
        }
        if let Some(one) = one {
            self.send(one, message);
        }
    }

    fn speak_to_a_seed(&mut self) {
        let seeds = self.other_seeds();
        if let Some(address) = self.random.pick(&seeds).cloned() {
            let this = self.members.this().id;
            let message = self.exchange(None, &[this], Vec::new());
            self.outbox.push(Request { address, node: None, message });
        }
    }

    fn other_seeds(&self) -> Vec<String> {
        self.seeds.iter().filter(|seed| **seed != self.members.this().peer_addr).cloned().collect()
    }

    pub(super) fn say_members(&mut self, from: NodeId, info: NodeInfo) -> Message {
        if info.id != from {
            return Message::Declined("it speaks for another node".into());
        }
        self.take_rumours(vec![Rumour::of(info)]);
        Message::Members(self.members.infos())
    }

    /// Records at second hand: where members are, and no sign of life. Whoever gave them tells the others.
    pub(super) fn told_members(&mut self, infos: Vec<NodeInfo>) {
        for rumour in infos.into_iter().map(Rumour::of) {
            let node = rumour.node;
            if node == self.members.this().id {
                self.answer_for_oneself(&rumour);
                continue;
            }
            match self.members.take(rumour) {
                Taken::Joined => self.expect(node),
                Taken::Renewed => self.cleared(node),
                Taken::Known | Taken::Lacking | Taken::Graver => {}
            }
        }
    }

    /// The members that are believed to be alive, in order of ids.
    pub fn up(&self, now: Duration) -> Vec<NodeId> {
        let up = |node: &NodeId| self.liveness(*node, now) == Liveness::Up;
        self.members.others().keys().copied().filter(up).collect()
    }
}
