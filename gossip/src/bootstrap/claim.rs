//! A member that lost its whole directory comes back: an empty node claims the place of the member with its name (G10,
//! docs/decisions/0014-a-lost-member-comes-back-under-its-name.md).
//!
//! The claimant asks every other member of the founding. A member grants the place, to one claimant at a time, if it
//! holds the one who had it to be down. What is granted is a start number above every start of that member anybody has
//! heard of: whichever process has the highest is the member.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rondo_ring::NodeId;
use serde::{Deserialize, Serialize};

use super::{Bootstrap, Founding, FoundingState, Request, others};
use crate::message::Message;
use crate::node_info::NodeInfo;

/// For so long a member grants a place to nobody else. It grants nothing for as long after its own start either: what
/// it granted before it no longer knows.
pub const GRANT_AGE_MAX: Duration = Duration::from_secs(15);
/// The claimant takes the place within so long of its first question, or asks anew: its grants are then younger still.
const ATTEMPT_AGE_MAX: Duration = Duration::from_secs(5);
/// How often it asks.
const INTERVAL: Duration = Duration::from_millis(500);
/// Whoever was heard of so lately is not down, whatever the failure detection still says: it may be starting.
const SILENCE_MIN: Duration = Duration::from_secs(3);

/// "I am empty and have the name of that member of yours. May I be it, with this start?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Of which cluster.
    pub cluster: u128,
    /// Whose place.
    pub seat: NodeId,
    /// The name that both have.
    pub name: String,
    /// Where the claimant is.
    pub address: String,
    /// Names the attempt: a grant is for one of them.
    pub attempt: u64,
    /// The start that the claimant would have.
    pub start: u64,
}

/// A member's word on a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// As far as it depends on this member.
    Granted,
    /// It knows of this start, or has granted it: ask for a higher one.
    Above(u64),
    /// No, and why.
    Declined(String),
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimAnswer {
    /// The word on it.
    pub verdict: Verdict,
    /// Whom this member holds to be down.
    pub down: Vec<NodeId>,
    /// The members' records: where they are now.
    pub members: Vec<NodeInfo>,
}

/// What a member believes when it judges a claim.
#[derive(Clone, Debug, Default)]
pub struct Belief {
    /// It takes requests, and so takes part in the failure detection.
    pub serves: bool,
    /// Members it holds to be down.
    pub down: BTreeSet<NodeId>,
    /// The last start it remembers of the one whose place is claimed; 0: none.
    pub last_start: u64,
    /// The members' records.
    pub members: Vec<NodeInfo>,
}

/// A place that was granted: with it in `node.json`, durably, the claimant is that member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The cluster.
    pub founding: Founding,
    /// The member.
    pub node: NodeId,
    /// Above every start of it that the others know of.
    pub start: u64,
}

/// A member's side: the last grant of a place. When it lapses its start is remembered all the same.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    claimant: NodeId,
    address: String,
    attempt: u64,
    start: u64,
    at: Duration,
}

/// The claimant's side.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    founding: Box<Founding>,
    seat: NodeId,
    name: String,
    attempt: u64,
    start: u64,
    began: Option<Duration>,
    words: BTreeMap<NodeId, Word>,
    records: BTreeMap<NodeId, NodeInfo>,
    /// What stood in the way of the last attempt.
    obstacle: Option<String>,
}

#[derive(Clone, Debug)]
enum Word {
    Granted { down: BTreeSet<NodeId> },
    Declined(String),
}

impl Lost {
    /// `None` unless a member of the founding has this node's name, and another id.
    fn find(founding: &Founding, this: &NodeInfo) -> Option<Self> {
        if founding.members.iter().any(|member| member.id == this.id) {
            return None;
        }
        let seat = founding.members.iter().find(|member| member.name == this.name)?;
        Some(Self {
            founding: Box::new(founding.clone()),
            seat: seat.id,
            name: seat.name.clone(),
            attempt: 0,
            start: 1,
            began: None,
            words: BTreeMap::new(),
            records: founding.members.iter().map(|member| (member.id, member.clone())).collect(),
            obstacle: None,
        })
    }

    /// Everyone but the one whose place it is.
    fn others(&self) -> BTreeSet<NodeId> {
        others(&self.founding, self.seat)
    }

    fn begin(&mut self, now: Duration, attempt: u64) {
        self.obstacle = self.began.and_then(|_| self.missing());
        self.words.clear();
        (self.attempt, self.began) = (attempt, Some(now));
    }

    fn is_late(&self, now: Duration) -> bool {
        self.began.is_none_or(|began| now.saturating_sub(began) > ATTEMPT_AGE_MAX)
    }

    /// Whatever was granted was a lower start.
    fn raise(&mut self, known: u64) {
        if known >= self.start {
            self.start = known.saturating_add(1);
            self.words.retain(|_, word| matches!(word, Word::Declined(_)));
        }
    }

    fn remember(&mut self, members: Vec<NodeInfo>) {
        for info in members {
            self.records.entry(info.id).and_modify(|held| {
                if info.stamp() > held.stamp() {
                    *held = info;
                }
            });
        }
    }

    /// What the claim lacks (G10); `None`: nothing.
    fn missing(&self) -> Option<String> {
        let refusal = self.words.iter().find_map(|(node, word)| match word {
            Word::Declined(why) => Some((node, why)),
            Word::Granted { .. } => None,
        });
        if let Some((node, why)) = refusal {
            return Some(format!("{} says: {why}", self.show(*node)));
        }
        let (others, granted) = (self.others(), self.words.len());
        if 2 * granted <= others.len() {
            let silent = others.iter().filter(|node| !self.words.contains_key(node)).map(|&node| self.show(node));
            let silent: Vec<_> = silent.collect();
            return Some(format!(
                "{granted} of the {} other members have granted it, which is no majority; no word of {}",
                others.len(),
                silent.join(", ")
            ));
        }
        let down = |node: &NodeId| {
            self.words.values().all(|word| matches!(word, Word::Granted { down } if down.contains(node)))
        };
        let present = others.iter().find(|node| !self.words.contains_key(node) && !down(node))?;
        Some(format!("{} has not said a word, and is not down", self.show(*present)))
    }

    fn show(&self, node: NodeId) -> String {
        self.records.get(&node).map_or(node.to_string(), |info| format!("{} at {}", info.name, info.peer_addr))
    }
}

impl Bootstrap {
    /// A formed cluster that has a place for this node's name.
    pub(super) fn look_for_place(&mut self, founding: &Founding) {
        if self.state == FoundingState::Free && self.lost.is_none() {
            self.lost = Lost::find(founding, &self.this);
        }
    }

    /// The place that was granted, once it was.
    pub fn seat(&self) -> Option<&Seat> {
        match &self.state {
            FoundingState::Claimed(seat) => Some(seat),
            _ => None,
        }
    }

    /// Where the members of the cluster are whose place this node claims, as far as it was told.
    pub fn seat_members(&self) -> Vec<NodeInfo> {
        self.lost.iter().flat_map(|lost| lost.records.values().cloned()).collect()
    }

    /// A member spoke, whatever about.
    pub fn heard(&mut self, member: NodeId, now: Duration) {
        self.began.get_or_insert(now);
        if self.formed().is_some_and(|founding| founding.members.iter().any(|other| other.id == member)) {
            self.heard.insert(member, now);
        }
    }

    /// Answers a claim.
    pub fn claimed(&mut self, from: NodeId, claim: &Claim, belief: Belief, now: Duration) -> Message {
        let verdict = match self.objection(from, claim, &belief, now) {
            Some(why) => Verdict::Declined(why),
            None => self.grant(from, claim, &belief, now),
        };
        let down = belief.down.into_iter().collect();
        Message::ClaimAnswer(Box::new(ClaimAnswer { verdict, down, members: belief.members }))
    }

    fn objection(&mut self, from: NodeId, claim: &Claim, belief: &Belief, now: Duration) -> Option<String> {
        let began = *self.began.get_or_insert(now);
        let this = self.this.id;
        let FoundingState::Formed(founding) = &self.state else { return Some("it is in no cluster".into()) };
        let Some(seat) = founding.members.iter().find(|member| member.id == claim.seat) else {
            return Some("it knows of no such member".into());
        };
        if founding.cluster != claim.cluster || founding.members.iter().any(|member| member.id == from) {
            return Some("it is in another cluster, or the place is claimed by a member".into());
        }
        if seat.name != claim.name {
            return Some(format!("that member is called {:?}", seat.name));
        }
        let now_at = belief.members.iter().find(|member| member.id == claim.seat);
        let address = now_at.map_or(&seat.peer_addr, |member| &member.peer_addr);
        let silent = self.heard.get(&claim.seat).is_none_or(|&heard| now.saturating_sub(heard) >= SILENCE_MIN);
        if claim.seat == this || !belief.down.contains(&claim.seat) || !silent {
            return Some(format!(
                "the name {} belongs to a member that is alive at {address}, or not yet down",
                seat.name
            ));
        }
        if !belief.serves || now.saturating_sub(began) < GRANT_AGE_MAX {
            return Some("it has only begun itself; soon".into());
        }
        let other = self.grants.get(&claim.seat).filter(|grant| grant.claimant != from);
        let other = other.filter(|grant| now.saturating_sub(grant.at) <= GRANT_AGE_MAX)?;
        Some(format!("the place was granted to another node called {} at {}", seat.name, other.address))
    }

    /// The same grant again is no longer for being asked for twice.
    fn grant(&mut self, from: NodeId, claim: &Claim, belief: &Belief, now: Duration) -> Verdict {
        let before = self.grants.get(&claim.seat);
        let own = before.filter(|grant| grant.claimant == from);
        let promised =
            before.map_or(0, |grant| if own.is_some() { grant.start.saturating_sub(1) } else { grant.start });
        let known = belief.last_start.max(promised);
        if claim.start <= known {
            return Verdict::Above(known);
        }
        if own.is_none_or(|grant| (grant.attempt, grant.start) != (claim.attempt, claim.start)) {
            let Claim { address, attempt, start, .. } = claim.clone();
            self.grants.insert(claim.seat, Grant { claimant: from, address, attempt, start, at: now });
        }
        Verdict::Granted
    }

    /// The question to every other member, where it may be: where it was founded, where others say it is, at the seeds.
    pub(super) fn claims(&mut self, now: Duration, fresh: u64) -> Vec<Request> {
        let mut addresses = self.known_addresses();
        let Some(lost) = &mut self.lost else { return Vec::new() };
        if lost.is_late(now) {
            lost.begin(now, fresh);
        }
        self.next_round = now + INTERVAL;
        let claim = Claim {
            cluster: lost.founding.cluster,
            seat: lost.seat,
            name: lost.name.clone(),
            address: self.this.peer_addr.clone(),
            attempt: lost.attempt,
            start: lost.start,
        };
        let others = lost.records.values().filter(|info| info.id != lost.seat);
        addresses.extend(others.map(|info| info.peer_addr.clone()));
        addresses.remove(&self.this.peer_addr);
        let message = Message::Claim(Box::new(claim));
        addresses.into_iter().map(|address| Request { address, node: None, message: message.clone() }).collect()
    }

    /// Takes a member's word; with the last that was lacking the place is this node's.
    pub(super) fn claim_answered(&mut self, from: NodeId, claim: &Claim, answer: ClaimAnswer, now: Duration) {
        let Some(lost) = self.lost.as_mut().filter(|_| self.state == FoundingState::Free) else { return };
        if claim.attempt != lost.attempt || !lost.others().contains(&from) || lost.is_late(now) {
            return;
        }
        lost.remember(answer.members);
        match answer.verdict {
            Verdict::Above(start) => {
                lost.raise(start);
                self.next_round = now;
            }
            Verdict::Granted if claim.start == lost.start => {
                lost.words.insert(from, Word::Granted { down: answer.down.into_iter().collect() });
            }
            Verdict::Granted => {}
            Verdict::Declined(why) => {
                lost.words.insert(from, Word::Declined(why));
            }
        }
        if lost.missing().is_none() {
            let (founding, node, start) = ((*lost.founding).clone(), lost.seat, lost.start);
            self.state = FoundingState::Claimed(Box::new(Seat { founding, node, start }));
        }
    }

    /// For people.
    pub(super) fn waiting_for_place(&self) -> Option<String> {
        let lost = self.lost.as_ref().filter(|_| self.state == FoundingState::Free)?;
        let why = lost.obstacle.clone().or_else(|| lost.missing());
        let why = why.unwrap_or_else(|| "it asks for it".into());
        Some(format!("the place of {:?} in the formed cluster {:032x}: {why}", lost.name, lost.founding.cluster))
    }
}
