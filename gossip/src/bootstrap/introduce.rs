//! Candidates make themselves known to each other.

use std::collections::BTreeSet;
use std::time::Duration;

use rondo_ring::NodeId;

use super::{Bootstrap, CANDIDATES_MAX, Candidate, Candidates, FoundingState, Request};
use crate::message::Message;
use crate::node_info::NodeInfo;

impl Bootstrap {
    pub(super) fn introduced(&mut self, from: NodeId, candidates: Candidates, now: Duration) -> Message {
        if let FoundingState::Formed(founding) = &self.state {
            return Message::Formed(founding.clone());
        }
        self.remember(from, candidates, now);
        Message::Introduce(self.introduction())
    }

    pub(super) fn introduction(&self) -> Candidates {
        let known = self.candidates.values().map(|c| (c.info.id, c.info.peer_addr.clone())).collect();
        Candidates { this: self.this.clone(), options: self.options, known, formed: self.foreign }
    }

    pub(super) fn remember(&mut self, from: NodeId, candidates: Candidates, now: Duration) {
        let info = candidates.this;
        if info.id != from || from == self.this.id {
            return;
        }
        self.foreign = self.foreign.or(candidates.formed);
        for (id, address) in candidates.known {
            if id != self.this.id && (self.rumoured.len() < CANDIDATES_MAX || self.rumoured.contains_key(&id)) {
                self.rumoured.insert(id, address);
            }
        }
        if self.candidates.len() < CANDIDATES_MAX || self.candidates.contains_key(&from) {
            self.candidates.insert(from, Candidate { info, options: candidates.options, heard: now });
        }
    }

    /// Nodes that cannot found a cluster together say so instead of waiting in silence.
    pub(super) fn obstacle(&self) -> Option<String> {
        let infos = || std::iter::once(&self.this).chain(self.candidates.values().map(|candidate| &candidate.info));
        let namesake = |info: &NodeInfo| infos().find(|other| other.name == info.name && other.id > info.id);
        if let Some((one, other)) = infos().find_map(|info| Some((info, namesake(info)?))) {
            return Some(format!(
                "another name: {} at {} and {} at {} are both called {:?}",
                one.id, one.peer_addr, other.id, other.peer_addr, one.name
            ));
        }
        let ours = self.options?;
        self.candidates.values().find_map(|Candidate { info, options, .. }| {
            let theirs = options.filter(|theirs| *theirs != ours)?;
            Some(format!(
                "the same settings: {:?} has bootstrap-expect {}, {} partitions, N {}; this node {}, {}, {}",
                info.name,
                theirs.expect,
                theirs.partitions.get(),
                theirs.n.get(),
                ours.expect,
                ours.partitions.get(),
                ours.n.get()
            ))
        })
    }

    /// Wherever somebody may be who knows more.
    pub(super) fn known_addresses(&self) -> BTreeSet<String> {
        let direct = self.candidates.values().map(|candidate| &candidate.info.peer_addr);
        let known = self.seeds.iter().chain(direct).chain(self.rumoured.values()).cloned();
        known.filter(|address| *address != self.this.peer_addr).collect()
    }

    pub(super) fn introductions(&self) -> Vec<Request> {
        let message = Message::Introduce(self.introduction());
        let request = |address| Request { address, node: None, message: message.clone() };
        self.known_addresses().into_iter().map(request).collect()
    }
}
