//! Forming a cluster exactly once: a two-phase commit among its founders, proposed by the one with the smallest id.
//!
//! Every exchange is a request and its reply. [`Bootstrap::handle`] answers a request; [`Bootstrap::tick`] says what to
//! ask; [`Bootstrap::reply`] takes the answer. Whenever [`Bootstrap::state`] changed, the driver makes it durable
//! before it sends anything (G1): the state is all that must survive a restart. What candidates say of themselves is in
//! `introduce`, proposals in `propose`, their end in `commit`, and the way back of a member that lost everything in
//! `claim`.

mod claim;
mod commit;
mod introduce;
mod propose;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rondo_ring::{Layout, NodeId, PartitionCount, ReplicationFactor};
use serde::{Deserialize, Serialize};

use crate::message::Message;
use crate::node_info::NodeInfo;
pub use claim::{Belief, Claim, ClaimAnswer, GRANT_AGE_MAX, Seat, Verdict};
use claim::{Grant, Lost};

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
    /// Free all the same until this place is in `node.json`; from then on that member, restarted (G10).
    Claimed(Box<Seat>),
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
    /// The place in a formed cluster that this node claims.
    lost: Option<Lost>,
    /// Places granted to others.
    grants: BTreeMap<NodeId, Grant>,
    /// When members were last heard of.
    heard: BTreeMap<NodeId, Duration>,
    /// When this process was first told the time.
    began: Option<Duration>,
    /// Why the last proposal came to nothing.
    failure: Option<String>,
    next_round: Duration,
    /// No proposal before.
    next_proposal: Duration,
}

impl Bootstrap {
    /// `state` as it was persisted. `options`: `None` for a node that founds nothing.
    pub fn new(this: NodeInfo, options: Option<FoundingOptions>, seeds: Vec<String>, state: FoundingState) -> Self {
        let state = match state {
            FoundingState::Claimed(seat) if seat.node == this.id => FoundingState::Formed(Box::new(seat.founding)),
            FoundingState::Claimed(_) => FoundingState::Free,
            state => state,
        };
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
            lost: None,
            grants: BTreeMap::new(),
            heard: BTreeMap::new(),
            began: None,
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
        if let Some(place) = self.waiting_for_place() {
            return place;
        }
        if self.formed().is_none()
            && let Some(obstacle) = self.obstacle().or_else(|| self.failure.clone())
        {
            return obstacle;
        }
        match (&self.state, self.foreign, self.options) {
            (FoundingState::Formed(_), ..) => "nothing: the cluster is formed".into(),
            (FoundingState::Claimed(seat), ..) => format!("its own start as member {}", seat.node),
            (FoundingState::Accepted(founding), ..) => {
                format!("the word of node {} on the cluster it proposed", founding.proposer)
            }
            (FoundingState::Free, Some(cluster), _) => {
                format!(
                    "a place in the formed cluster {cluster:032x}; no member of it is known by the name {:?}, and a new \
                     member is not in this release",
                    self.this.name
                )
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
        self.began.get_or_insert(now);
        self.next_round = now + INTERVAL;
        self.candidates.retain(|_, candidate| now.saturating_sub(candidate.heard) <= CANDIDATE_AGE_MAX);
        self.withdraw_if_late(now);
        self.propose_if_complete(now, fresh_cluster_id);
        match &self.state {
            FoundingState::Free if self.lost.is_some() => self.claims(now, fresh_cluster_id as u64),
            FoundingState::Free => self.introductions(),
            FoundingState::Claimed(_) => Vec::new(),
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
            (Message::Claim(claim), Message::ClaimAnswer(answer)) => self.claim_answered(from, claim, *answer, now),
            // A release that knows of no claims says no.
            (Message::Claim(claim), Message::Declined(why)) => {
                let answer = ClaimAnswer { verdict: Verdict::Declined(why), down: Vec::new(), members: Vec::new() };
                self.claim_answered(from, claim, answer, now);
            }
            (Message::AskOutcome(cluster), Message::Outcome(outcome)) => self.learned(from, *cluster, &outcome),
            _ => {}
        }
    }

    /// A member speaks as one: it need not be told of the commit any more, at an address that may no longer be its own.
    pub fn informed(&mut self, member: NodeId) {
        self.uninformed.remove(&member);
    }
}

fn others(founding: &Founding, this: NodeId) -> BTreeSet<NodeId> {
    founding.members.iter().map(|member| member.id).filter(|&id| id != this).collect()
}

fn request_to(member: &NodeInfo, message: Message) -> Request {
    Request { address: member.peer_addr.clone(), node: Some(member.id), message }
}
