//! A proposal: made by the smallest, accepted by every member or withdrawn.

use std::collections::BTreeSet;
use std::time::Duration;

use rondo_ring::{Layout, LayoutError, NodeId};

use super::{
    Bootstrap, Founding, FoundingOptions, FoundingState, PAUSE_AFTER_DECLINE, PROPOSAL_AGE_MAX, Proposal, Request,
    others, request_to,
};
use crate::message::Message;
use crate::node_info::NodeInfo;

impl Bootstrap {
    /// G3, and the proposer is the smallest of all that are known, so that rivals are rare (they are harmless: G1).
    pub(super) fn propose_if_complete(&mut self, now: Duration, cluster: u128) {
        let Some(options) = self.options else { return };
        if self.state != FoundingState::Free || self.foreign.is_some() || now < self.next_proposal {
            return;
        }
        let fellows: Vec<_> = self.candidates.values().filter(|c| c.options == Some(options)).collect();
        if fellows.len() + 1 < usize::from(options.expect) || fellows.iter().any(|c| c.info.id < self.this.id) {
            return;
        }
        let chosen = fellows.iter().take(usize::from(options.expect) - 1).map(|c| c.info.clone());
        let members: Vec<_> = std::iter::once(self.this.clone()).chain(chosen).collect();
        match found(cluster, self.this.id, members, options) {
            Ok(founding) => self.propose(founding, now),
            Err(why) => self.failure = Some(format!("a possible layout: {why}")),
        }
    }

    pub(super) fn propose(&mut self, founding: Founding, now: Duration) {
        let names: BTreeSet<_> = founding.members.iter().map(|member| &member.name).collect();
        if names.len() < founding.members.len() {
            return;
        }
        self.failure = None;
        let alone = founding.members.len() == 1;
        self.proposal = Some(Proposal { accepted: BTreeSet::new(), began: now });
        let founding = Box::new(founding);
        self.state = if alone { FoundingState::Formed(founding) } else { FoundingState::Accepted(founding) };
    }

    pub(super) fn proposals(&self, founding: &Founding) -> Vec<Request> {
        let Some(proposal) = &self.proposal else { return Vec::new() };
        let missing = founding.members.iter().filter(|m| m.id != self.this.id && !proposal.accepted.contains(&m.id));
        missing.map(|member| request_to(member, Message::Propose(Box::new(founding.clone())))).collect()
    }

    pub(super) fn proposed(&mut self, from: NodeId, founding: Founding) -> Message {
        let member = founding.members.iter().any(|member| member.id == self.this.id);
        match &self.state {
            FoundingState::Formed(own) if own.cluster == founding.cluster => Message::Accepted,
            FoundingState::Formed(own) => Message::Formed(own.clone()),
            FoundingState::Accepted(other) if other.cluster == founding.cluster => Message::Accepted,
            FoundingState::Accepted(other) => {
                Message::Declined(format!("it has accepted the proposal of {}", other.proposer))
            }
            FoundingState::Claimed(_) => Message::Declined("it has a place in a formed cluster".into()),
            FoundingState::Free if self.foreign.is_some() => Message::Declined("it knows of a formed cluster".into()),
            FoundingState::Free if !member || founding.proposer != from || self.options.is_none() => {
                Message::Declined("it takes no part in this founding".into())
            }
            FoundingState::Free => {
                self.state = FoundingState::Accepted(Box::new(founding));
                Message::Accepted
            }
        }
    }

    pub(super) fn accepted_by(&mut self, from: NodeId, cluster: u128) {
        let FoundingState::Accepted(founding) = &self.state else { return };
        let Some(proposal) = self.proposal.as_mut().filter(|_| founding.cluster == cluster) else { return };
        proposal.accepted.insert(from);
        let others = others(founding, self.this.id);
        if others.is_subset(&proposal.accepted) {
            self.uninformed = others;
            self.state = FoundingState::Formed(founding.clone());
        }
    }

    pub(super) fn declined_by(&mut self, from: NodeId, cluster: u128, why: &str, now: Duration) {
        if self.own_proposal().is_some_and(|founding| founding.cluster == cluster) {
            self.failure = Some(format!("node {from}, which declined: {why}"));
            self.next_proposal = now + PAUSE_AFTER_DECLINE;
            self.withdraw();
        }
    }

    pub(super) fn own_proposal(&self) -> Option<&Founding> {
        match &self.state {
            FoundingState::Accepted(founding) if founding.proposer == self.this.id => Some(founding),
            _ => None,
        }
    }

    /// Once this is durable the proposal is dead: a new one has a new id, and whoever asks about the old is told so.
    pub(super) fn withdraw(&mut self) {
        self.state = FoundingState::Free;
        self.proposal = None;
        self.candidates.clear();
    }

    /// Also after a restart in the middle of a proposal, when nobody knows any more who had accepted.
    pub(super) fn withdraw_if_late(&mut self, now: Duration) {
        let late = self.proposal.as_ref().is_none_or(|proposal| now.saturating_sub(proposal.began) > PROPOSAL_AGE_MAX);
        if self.own_proposal().is_some() && late {
            self.withdraw();
        }
    }
}

fn found(
    cluster: u128,
    proposer: NodeId,
    mut members: Vec<NodeInfo>,
    options: FoundingOptions,
) -> Result<Founding, LayoutError> {
    members.sort_by_key(|member| member.id);
    let layout = Layout::found(members.iter().map(NodeInfo::member).collect(), options.partitions, options.n)?;
    Ok(Founding { cluster, proposer, members, layout })
}
