//! From suspicion to *down*: whom this node could not reach it accuses; two accusers that stay without an answer for long
//! enough make a node down (G8). Every accusation names the life it is about, and a word of the accused outdoes it.

use std::collections::BTreeSet;
use std::time::Duration;

use rondo_ring::{Liveness, NodeId};

use super::Gossip;
use crate::members::SOURCES;
use crate::node_info::Stamp;
use crate::options::FAN_OUT;

/// Further accusers beyond which suspicion gets no shorter.
const CONFIRMATIONS: usize = 2;
/// The least deviation of arrivals, in hundredths of the heartbeat interval: machines are busy at times.
const DEVIATION_PERCENT: u64 = 40;

/// This node could not reach a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accusation {
    /// Of the record it is about.
    stamp: Stamp,
    since: Duration,
    pub(super) next_probe: Duration,
}

impl Gossip {
    /// What this node believes of a member, from what it has heard itself and from others. The caller adds what its
    /// requests say.
    pub fn liveness(&self, node: NodeId, now: Duration) -> Liveness {
        self.believed(node, self.presence.at(now))
    }

    /// The same in time as this node saw it pass.
    pub(super) fn believed(&self, node: NodeId, seen: Duration) -> Liveness {
        if node == self.members.this().id {
            return Liveness::Up;
        }
        match self.members.get(node) {
            None => Liveness::Down,
            Some(member) if member.down || self.lone.contains(&node) => Liveness::Down,
            Some(member) if !member.accusers.is_empty() || self.is_silent(node, seen) => Liveness::Suspect,
            Some(_) => Liveness::Up,
        }
    }

    fn is_silent(&self, node: NodeId, seen: Duration) -> bool {
        let deviation_min_ms = (self.options.heartbeat_ms * DEVIATION_PERCENT / 100) as f64;
        let phi = self.arrivals.get(&node).map(|arrivals| arrivals.phi(seen, deviation_min_ms));
        phi.is_none_or(|phi| phi >= f64::from(self.options.suspect_phi))
    }

    /// Neither this node nor those that confirm it could reach the member.
    pub(super) fn accuse(&mut self, node: NodeId, mut confirmed: Vec<NodeId>) {
        let Some(member) = self.members.get(node).filter(|member| !member.down) else { return };
        let (now, stamp) = (self.now(), member.info.stamp());
        let next_probe = now + self.options.heartbeat();
        self.accusations.entry(node).or_insert(Accusation { stamp, since: now, next_probe });
        confirmed.push(self.members.this().id);
        self.members.accuse(node, &confirmed);
        self.rumours.push(node);
    }

    /// Others accuse a member. A node whose own word is among the accusations stands by it and goes on asking; of the
    /// others some look for themselves, so that there are several sources however large the cluster is.
    pub(super) fn heard_accused(&mut self, node: NodeId) {
        let Some(member) = self.members.get(node) else { return };
        if member.down {
            self.accusations.remove(&node);
        } else if member.accusers.contains(&self.members.this().id) {
            let (since, stamp) = (self.now(), member.info.stamp());
            self.accusations.entry(node).or_insert(Accusation { stamp, since, next_probe: since });
        } else if self.random.below(self.members.others().len()) < FAN_OUT as usize && !self.probes.contains_key(&node)
        {
            self.probe(node);
        }
    }

    /// The member has spoken in a new record. An accuser of one that was alive all the time trusts itself less.
    pub(super) fn cleared(&mut self, node: NodeId) {
        self.lone.remove(&node);
        self.probes.remove(&node);
        let Some(accusation) = self.accusations.remove(&node) else { return };
        if self.members.info(node).is_some_and(|info| info.incarnation == accusation.stamp.incarnation) {
            self.health.worse(1);
        }
    }

    /// Accusations that have stood for long enough.
    pub(super) fn judge(&mut self) {
        let (now, least) = (self.now(), Duration::from_millis(self.options.suspicion_min_ms));
        let ripe = |accusation: &Accusation| now.saturating_sub(accusation.since) >= least;
        let ripe: Vec<_> =
            self.accusations.iter().filter(|(_, accusation)| ripe(accusation)).map(|(&n, _)| n).collect();
        if ripe.is_empty() {
            return;
        }
        let witnesses = self.able_witnesses();
        for node in ripe {
            self.judge_one(node, &witnesses);
        }
    }

    fn judge_one(&mut self, node: NodeId, witnesses: &[NodeId]) {
        let accusation = self.accusations[&node];
        let Some(member) = self.members.get(node) else { return };
        let since = self.now().saturating_sub(accusation.since);
        if member.down || member.info.stamp() != accusation.stamp {
            self.accusations.remove(&node);
        } else if witnesses.is_empty() {
            if since >= self.options.suspicion_max() {
                self.accusations.remove(&node);
                self.lone.insert(node);
            }
        } else {
            let confirmations = member.accusers.iter().filter(|&&by| by != self.members.this().id).count();
            let expected = CONFIRMATIONS.min(witnesses.len());
            let patience = self.options.suspicion(confirmations, expected) * self.health.patience();
            if since >= patience && self.agreed(&member.accusers, witnesses) && self.members.condemn(node) {
                self.accusations.remove(&node);
                self.rumours.push(node);
            }
        }
    }

    /// G8: this node and another, and two zones where those who could tell are in several.
    fn agreed(&self, accusers: &[NodeId], witnesses: &[NodeId]) -> bool {
        let this = self.members.this().id;
        let sources: BTreeSet<_> = accusers.iter().copied().chain([this]).collect();
        let of_witnesses = self.zones(witnesses.iter().copied().chain([this]));
        sources.len() >= SOURCES && self.zones(sources.into_iter()) >= of_witnesses.min(2)
    }

    fn zones(&self, nodes: impl Iterator<Item = NodeId>) -> usize {
        nodes.map(|node| self.members.zone(node)).collect::<BTreeSet<_>>().len()
    }
}
