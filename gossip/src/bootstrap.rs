//! Forming a cluster exactly once: a two-phase commit among its founders, proposed by the one with the smallest id.
//!
//! Every exchange is a request and its reply. [`Bootstrap::handle`] answers a request; [`Bootstrap::tick`] says what to
//! ask; [`Bootstrap::reply`] takes the answer. Whenever [`Bootstrap::state`] changed, the driver makes it durable
//! before it sends anything (G1): the state is all that must survive a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rondo_ring::{Layout, LayoutError, NodeId, PartitionCount, ReplicationFactor};
use serde::{Deserialize, Serialize};

use crate::message::Message;
use crate::node_info::NodeInfo;

/// A candidate not heard of for this long is gone.
const CANDIDATE_AGE_MAX: Duration = Duration::from_secs(5);
/// A proposal that not everyone has accepted by then is withdrawn.
const PROPOSAL_AGE_MAX: Duration = Duration::from_secs(10);
/// How often a node introduces itself, and asks again.
const INTERVAL: Duration = Duration::from_millis(200);
/// How often it tells of the commit: those who wait for it ask on their own.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// After a member declined: it is bound to another proposal, and asking it at once again changes nothing.
const PAUSE_AFTER_DECLINE: Duration = Duration::from_secs(1);
/// Most candidates kept (G6).
const CANDIDATES_MAX: usize = 64;

/// What founders must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundingOptions {
    /// How many nodes found the cluster.
    pub expect: u8,
    /// Q.
    pub partitions: PartitionCount,
    /// N.
    pub n: ReplicationFactor,
}

/// Unformed nodes introduce themselves with this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidates {
    /// The sender.
    pub this: NodeInfo,
    /// What it was told to found; `None`: it only waits for a cluster.
    pub options: Option<FoundingOptions>,
    /// Addresses of the candidates it knows.
    pub known: Vec<(NodeId, String)>,
    /// A formed cluster it has heard of: passed on, since the seeds of the next may all be outside that cluster (G3).
    pub formed: Option<u128>,
}

/// A cluster as it was founded: the same bytes on every member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The new cluster's id; also names the proposal.
    pub cluster: u128,
    /// Who proposed it.
    pub proposer: NodeId,
    /// Everyone, in order of ids.
    pub members: Vec<NodeInfo>,
    /// Epoch 1.
    pub layout: Layout,
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is the cluster.
    Committed,
    /// It will never be.
    Withdrawn,
    /// Not yet known.
    Undecided,
}

/// All that must be durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FoundingState {
    /// Free to propose and to accept.
    #[default]
    Free,
    /// Bound to this proposal until its proposer says what became of it (G1).
    Accepted(Box<Founding>),
    /// Member of this cluster for good.
    Formed(Box<Founding>),
}

#[derive(Clone, Debug)]
struct Candidate {
    info: NodeInfo,
    options: Option<FoundingOptions>,
    heard: Duration,
}

/// A proposal of this node's own.
#[derive(Clone, Debug)]
struct Proposal {
    accepted: BTreeSet<NodeId>,
    began: Duration,
}

/// A request to send: to an address, and to whom it must go if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// host:port.
    pub address: String,
    /// Refuse any other node at that address.
    pub node: Option<NodeId>,
    /// What.
    pub message: Message,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    this: NodeInfo,
    options: Option<FoundingOptions>,
    seeds: Vec<String>,
    state: FoundingState,
    candidates: BTreeMap<NodeId, Candidate>,
    /// Addresses heard of at second hand.
    rumoured: BTreeMap<NodeId, String>,
    proposal: Option<Proposal>,
    /// Members still to be told of the commit.
    uninformed: BTreeSet<NodeId>,
    foreign: Option<u128>,
    /// Why the last proposal came to nothing.
    failure: Option<String>,
    next_round: Duration,
    /// No proposal before.
    next_proposal: Duration,
}

impl Bootstrap {
    /// `state` as it was persisted. `options`: `None` for a node that founds nothing.
    pub fn new(this: NodeInfo, options: Option<FoundingOptions>, seeds: Vec<String>, state: FoundingState) -> Self {
        let uninformed = match &state {
            FoundingState::Formed(founding) if founding.proposer == this.id => others(founding, this.id),
            _ => BTreeSet::new(),
        };
        Self {
            this,
            options,
            seeds,
            state,
            candidates: BTreeMap::new(),
            rumoured: BTreeMap::new(),
            proposal: None,
            uninformed,
            foreign: None,
            failure: None,
            next_round: Duration::ZERO,
            next_proposal: Duration::ZERO,
        }
    }

    /// What must be durable before anything is sent.
    pub fn state(&self) -> &FoundingState {
        &self.state
    }

    /// The cluster, once there is one.
    pub fn formed(&self) -> Option<&Founding> {
        match &self.state {
            FoundingState::Formed(founding) => Some(founding),
            _ => None,
        }
    }

    /// Everything was said: a formed node whose fellow founders all know.
    pub fn is_quiet(&self) -> bool {
        self.formed().is_some() && self.uninformed.is_empty()
    }

    /// What the node is waiting for, in words for `/readyz` and the log.
    pub fn waiting_for(&self) -> String {
        if self.formed().is_none()
            && let Some(obstacle) = self.obstacle().or_else(|| self.failure.clone())
        {
            return obstacle;
        }
        match (&self.state, self.foreign, self.options) {
            (FoundingState::Formed(_), ..) => "nothing: the cluster is formed".into(),
            (FoundingState::Accepted(founding), ..) => {
                format!("the word of node {} on the cluster it proposed", founding.proposer)
            }
            (FoundingState::Free, Some(cluster), _) => {
                format!("a place in the formed cluster {cluster:032x}; joining a formed cluster is not in this release")
            }
            (FoundingState::Free, None, None) => {
                "a cluster: neither bootstrap-expect is set nor does a seed know of one".into()
            }
            (FoundingState::Free, None, Some(options)) => {
                format!("{} founders; {} are here", options.expect, self.candidates.len() + 1)
            }
        }
    }

    /// Answers another node's request.
    pub fn handle(&mut self, from: NodeId, message: Message, now: Duration) -> Message {
        match message {
            Message::Introduce(candidates) => self.introduced(from, candidates, now),
            Message::Formed(founding) => {
                self.heard_of(*founding);
                Message::Ok
            }
            Message::Propose(founding) => self.proposed(from, *founding),
            Message::Commit(founding) => {
                self.commit_accepted(*founding);
                Message::Ok
            }
            Message::AskOutcome(cluster) => Message::Outcome(self.outcome(cluster)),
            _ => Message::Declined("not a question about founding".into()),
        }
    }

    /// What to ask now. Call often; it says nothing when nothing is due.
    pub fn tick(&mut self, now: Duration, fresh_cluster_id: u128) -> Vec<Request> {
        if now < self.next_round {
            return Vec::new();
        }
        self.next_round = now + INTERVAL;
        self.candidates.retain(|_, candidate| now.saturating_sub(candidate.heard) <= CANDIDATE_AGE_MAX);
        self.withdraw_if_late(now);
        self.propose_if_complete(now, fresh_cluster_id);
        match &self.state {
            FoundingState::Free => self.introductions(),
            FoundingState::Accepted(founding) if founding.proposer == self.this.id => self.proposals(founding),
            FoundingState::Accepted(founding) => self.ask_outcome(founding),
            FoundingState::Formed(founding) => {
                self.next_round = now + COMMIT_INTERVAL;
                self.commits(founding)
            }
        }
    }

    /// Takes the reply of `from` to a request of [`Bootstrap::tick`]. A request without a reply needs no word.
    pub fn reply(&mut self, from: NodeId, request: &Message, reply: Message, now: Duration) {
        match (request, reply) {
            (_, Message::Formed(founding)) => self.heard_of(*founding),
            (_, Message::Introduce(candidates)) => self.remember(from, candidates, now),
            (Message::Propose(proposed), Message::Accepted) => self.accepted_by(from, proposed.cluster),
            (Message::Propose(proposed), Message::Declined(why)) => self.declined_by(from, proposed.cluster, &why, now),
            (Message::Commit(_), Message::Ok) => {
                self.uninformed.remove(&from);
            }
            (Message::AskOutcome(cluster), Message::Outcome(outcome)) => self.learned(from, *cluster, &outcome),
            _ => {}
        }
    }

    /// A member speaks as one: it need not be told of the commit any more, at an address that may no longer be its own.
    pub fn informed(&mut self, member: NodeId) {
        self.uninformed.remove(&member);
    }

    fn introduced(&mut self, from: NodeId, candidates: Candidates, now: Duration) -> Message {
        if let FoundingState::Formed(founding) = &self.state {
            return Message::Formed(founding.clone());
        }
        self.remember(from, candidates, now);
        Message::Introduce(self.introduction())
    }

    fn introduction(&self) -> Candidates {
        let known = self.candidates.values().map(|c| (c.info.id, c.info.peer_addr.clone())).collect();
        Candidates { this: self.this.clone(), options: self.options, known, formed: self.foreign }
    }

    fn remember(&mut self, from: NodeId, candidates: Candidates, now: Duration) {
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
    fn obstacle(&self) -> Option<String> {
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
    fn known_addresses(&self) -> BTreeSet<String> {
        let direct = self.candidates.values().map(|candidate| &candidate.info.peer_addr);
        let known = self.seeds.iter().chain(direct).chain(self.rumoured.values()).cloned();
        known.filter(|address| *address != self.this.peer_addr).collect()
    }

    fn introductions(&self) -> Vec<Request> {
        let message = Message::Introduce(self.introduction());
        let request = |address| Request { address, node: None, message: message.clone() };
        self.known_addresses().into_iter().map(request).collect()
    }

    /// G3, and the proposer is the smallest of all that are known, so that rivals are rare (they are harmless: G1).
    fn propose_if_complete(&mut self, now: Duration, cluster: u128) {
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

    fn propose(&mut self, founding: Founding, now: Duration) {
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

    /// To those who were not told yet, and by the seeds: after a restart everyone may be somewhere else.
    fn commits(&self, founding: &Founding) -> Vec<Request> {
        if self.uninformed.is_empty() {
            return Vec::new();
        }
        let message = Message::Commit(Box::new(founding.clone()));
        let there = founding.members.iter().filter(|member| self.uninformed.contains(&member.id));
        let to_seed = |address| Request { address, node: None, message: message.clone() };
        let told = there.map(|member| request_to(member, message.clone()));
        told.chain(self.known_addresses().into_iter().map(to_seed)).collect()
    }

    fn proposals(&self, founding: &Founding) -> Vec<Request> {
        let Some(proposal) = &self.proposal else { return Vec::new() };
        let missing = founding.members.iter().filter(|m| m.id != self.this.id && !proposal.accepted.contains(&m.id));
        missing.map(|member| request_to(member, Message::Propose(Box::new(founding.clone())))).collect()
    }

    fn proposed(&mut self, from: NodeId, founding: Founding) -> Message {
        let member = founding.members.iter().any(|member| member.id == self.this.id);
        match &self.state {
            FoundingState::Formed(own) if own.cluster == founding.cluster => Message::Accepted,
            FoundingState::Formed(own) => Message::Formed(own.clone()),
            FoundingState::Accepted(other) if other.cluster == founding.cluster => Message::Accepted,
            FoundingState::Accepted(other) => {
                Message::Declined(format!("it has accepted the proposal of {}", other.proposer))
            }
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

    fn accepted_by(&mut self, from: NodeId, cluster: u128) {
        let FoundingState::Accepted(founding) = &self.state else { return };
        let Some(proposal) = self.proposal.as_mut().filter(|_| founding.cluster == cluster) else { return };
        proposal.accepted.insert(from);
        let others = others(founding, self.this.id);
        if others.is_subset(&proposal.accepted) {
            self.uninformed = others;
            self.state = FoundingState::Formed(founding.clone());
        }
    }

    fn declined_by(&mut self, from: NodeId, cluster: u128, why: &str, now: Duration) {
        if self.own_proposal().is_some_and(|founding| founding.cluster == cluster) {
            self.failure = Some(format!("node {from}, which declined: {why}"));
            self.next_proposal = now + PAUSE_AFTER_DECLINE;
            self.withdraw();
        }
    }

    fn own_proposal(&self) -> Option<&Founding> {
        match &self.state {
            FoundingState::Accepted(founding) if founding.proposer == self.this.id => Some(founding),
            _ => None,
        }
    }

    /// Once this is durable the proposal is dead: a new one has a new id, and whoever asks about the old is told so.
    fn withdraw(&mut self) {
        self.state = FoundingState::Free;
        self.proposal = None;
        self.candidates.clear();
    }

    /// Also after a restart in the middle of a proposal, when nobody knows any more who had accepted.
    fn withdraw_if_late(&mut self, now: Duration) {
        let late = self.proposal.as_ref().is_none_or(|proposal| now.saturating_sub(proposal.began) > PROPOSAL_AGE_MAX);
        if self.own_proposal().is_some() && late {
            self.withdraw();
        }
    }

    /// The proposer, where it was and wherever it may be now; and everyone else, since another member may know that it
    /// was committed. The introductions bring the addresses of those who moved meanwhile.
    fn ask_outcome(&self, founding: &Founding) -> Vec<Request> {
        let mut addresses = self.known_addresses();
        addresses.extend(founding.members.iter().filter(|m| m.id != self.this.id).map(|m| m.peer_addr.clone()));
        let ask = |address| Request { address, node: None, message: Message::AskOutcome(founding.cluster) };
        addresses.into_iter().map(ask).chain(self.introductions()).collect()
    }

    fn outcome(&self, cluster: u128) -> Outcome {
        match &self.state {
            FoundingState::Formed(founding) if founding.cluster == cluster => Outcome::Committed,
            FoundingState::Accepted(founding) if founding.cluster == cluster => Outcome::Undecided,
            _ => Outcome::Withdrawn,
        }
    }

    fn learned(&mut self, from: NodeId, cluster: u128, outcome: &Outcome) {
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
    fn commit_accepted(&mut self, founding: Founding) {
        if matches!(&self.state, FoundingState::Accepted(accepted) if **accepted == founding) {
            self.state = FoundingState::Formed(Box::new(founding));
        }
    }

    fn heard_of(&mut self, founding: Founding) {
        self.foreign = Some(founding.cluster);
        self.commit_accepted(founding);
    }
}

fn others(founding: &Founding, this: NodeId) -> BTreeSet<NodeId> {
    founding.members.iter().map(|member| member.id).filter(|&id| id != this).collect()
}

fn request_to(member: &NodeInfo, message: Message) -> Request {
    Request { address: member.peer_addr.clone(), node: Some(member.id), message }
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
