//! Members are spoken to in turn, a constant number of them in each interval (SWIM, Das et al., 2002, section 4.3). One
//! that does not answer is asked for through others; only when none of them reaches it either is it accused.

use std::collections::BTreeSet;
use std::time::Duration;

use rondo_ring::{Liveness, NodeId};

use super::Gossip;
use crate::message::{Message, Probed};

/// Helpers asked to reach a node that does not answer.
const HELPERS: usize = 3;
/// Nodes under accusation that are spoken to again at once, beside those whose turn it is (G6).
const ACCUSED_AT_ONCE_MAX: usize = 3;
/// Probes made for others at the same time (G6).
const FAVOURS_MAX: usize = 64;

/// A member whose answer is waited for.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    until: Duration,
    /// Once it did not answer in time.
    helpers: Option<Helpers>,
}

#[derive(Clone, Debug, Default)]
struct Helpers {
    /// Who has not reported yet.
    asked: BTreeSet<NodeId>,
    /// Who could not reach it either, and finds nothing wrong with itself.
    confirmed: Vec<NodeId>,
}

impl Gossip {
    /// The next in turn. In a small cluster the same member is not spoken to again within a heartbeat interval.
    pub(super) fn probe_next(&mut self) {
        let (now, round) = (self.now(), self.options.round());
        if now < self.next_turn || self.rotation.is_empty() {
            return;
        }
        // Ticks come late: the turns keep their rate all the same, without catching up on more than one.
        self.next_turn = (self.next_turn + round).max(now.saturating_sub(round / 2));
        let node = self.rotation[self.turn % self.rotation.len()];
        let spoken = self.spoken.get(&node).copied();
        if spoken.is_some_and(|spoken| now + round / 2 < spoken + self.options.heartbeat()) {
            return;
        }
        self.turn = (self.turn + 1) % self.rotation.len();
        self.spoken.insert(node, now);
        self.probe(node);
    }

    /// Speaks to a member, and waits for its answer unless it is known not to answer.
    pub(super) fn probe(&mut self, node: NodeId) {
        let message = self.exchange(Some(node), &[], Vec::new());
        self.send(node, message);
        let given_up = self.members.get(node).is_none_or(|member| member.down)
            || self.lone.contains(&node)
            || self.accusations.contains_key(&node);
        if !given_up && !self.probes.contains_key(&node) {
            let until = self.now() + self.options.probe_timeout() * self.health.patience();
            self.probes.insert(node, Probe { until, helpers: None });
        }
    }

    pub(super) fn conclude_probes(&mut self) {
        let now = self.now();
        let late: Vec<_> = self.probes.iter().filter(|(_, probe)| probe.until <= now).map(|(&n, _)| n).collect();
        for node in late {
            match &self.probes[&node].helpers {
                None => self.ask_helpers(node),
                Some(_) => self.conclude(node),
            }
        }
    }

    fn ask_helpers(&mut self, node: NodeId) {
        let helpers = self.choose_helpers(node);
        let until = self.now() + self.options.probe_timeout() * 3 / 2 * self.health.patience();
        let asked = helpers.iter().copied().collect();
        self.probes.insert(node, Probe { until, helpers: Some(Helpers { asked, confirmed: Vec::new() }) });
        for &helper in &helpers {
            self.send(helper, Message::AskProbe(node));
        }
        if helpers.is_empty() {
            self.conclude(node);
        }
    }

    /// Of other zones first: their word is of more worth (G8), and their path to the node is another.
    fn choose_helpers(&mut self, node: NodeId) -> Vec<NodeId> {
        let mut able: Vec<_> = self.able_witnesses().into_iter().filter(|&helper| helper != node).collect();
        self.random.shuffle(&mut able);
        let zone = self.members.this().zone.clone();
        able.sort_by_key(|&helper| self.members.zone(helper) == zone);
        able.truncate(HELPERS);
        able
    }

    /// Members that could reach another if it could be reached.
    pub(super) fn able_witnesses(&self) -> Vec<NodeId> {
        let able = |node: &NodeId| self.believed(*node, self.now()) == Liveness::Up;
        self.members.others().keys().copied().filter(able).collect()
    }

    /// Everyone that was asked has spoken, or had the time to.
    fn conclude(&mut self, node: NodeId) {
        let Some(Probe { helpers: Some(helpers), .. }) = self.probes.remove(&node) else { return };
        if !helpers.asked.is_empty() {
            self.health.worse(1);
        }
        self.accuse(node, helpers.confirmed);
    }

    pub(super) fn helper_said(&mut self, from: NodeId, word: Probed) {
        let Some(probe) = self.probes.get_mut(&word.node) else { return };
        let Some(helpers) = probe.helpers.as_mut() else { return };
        if !helpers.asked.remove(&from) {
            return;
        }
        if word.reached {
            self.probes.remove(&word.node);
            return;
        }
        if word.well {
            helpers.confirmed.push(from);
        }
        if helpers.asked.is_empty() {
            self.conclude(word.node);
        }
    }

    pub(super) fn helper_declined(&mut self, from: NodeId, node: NodeId) {
        let Some(helpers) = self.probes.get_mut(&node).and_then(|probe| probe.helpers.as_mut()) else { return };
        if helpers.asked.remove(&from) && helpers.asked.is_empty() {
            self.conclude(node);
        }
    }

    pub(super) fn asked_to_probe(&mut self, from: NodeId, node: NodeId) -> Message {
        let able = self.members.this().serves() && self.members.get(node).is_some() && node != from;
        if !able || self.favours.len() >= FAVOURS_MAX {
            return Message::Declined("it cannot help".into());
        }
        self.favours.insert((node, from), self.now() + self.options.probe_timeout());
        let message = self.exchange(Some(node), &[], Vec::new());
        self.send(node, message);
        Message::Ok
    }

    pub(super) fn conclude_favours(&mut self) {
        let now = self.now();
        let late: Vec<_> = self.favours.iter().filter(|&(_, &until)| until <= now).map(|(&key, _)| key).collect();
        late.into_iter().for_each(|(node, asker)| self.report(node, asker, false));
    }

    fn report(&mut self, node: NodeId, asker: NodeId, reached: bool) {
        self.favours.remove(&(node, asker));
        let well = self.health.is_well();
        self.send(asker, Message::Probed(Probed { node, reached, well }));
    }

    /// A member spoke to this node, whatever about.
    pub(super) fn arrived(&mut self, from: NodeId) {
        let now = self.now();
        if let Some(arrivals) = self.arrivals.get_mut(&from) {
            arrivals.arrived(now);
        }
        self.probes.remove(&from);
        self.lone.remove(&from);
        if self.accusations.remove(&from).is_some() {
            // It is told so with this exchange, and answers for itself.
            self.health.worse(1);
        }
        let waiting: Vec<_> =
            self.favours.range((from, NodeId(0))..=(from, NodeId(u128::MAX))).map(|(&k, _)| k).collect();
        waiting.into_iter().for_each(|(node, asker)| self.report(node, asker, true));
    }

    /// Whom this node accuses it speaks to again with every heartbeat: it may be alive, and must hear of it.
    pub(super) fn probe_the_accused(&mut self) {
        let (now, heartbeat) = (self.now(), self.options.heartbeat());
        let due = self.accusations.iter().filter(|(_, accusation)| accusation.next_probe <= now);
        let due: Vec<_> = due.map(|(&node, _)| node).take(ACCUSED_AT_ONCE_MAX).collect();
        for node in due {
            self.accusations.get_mut(&node).expect("it is there").next_probe = now + heartbeat;
            self.probe(node);
        }
    }
}
