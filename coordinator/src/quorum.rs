//! When a quorum is met: a tally without any knowledge of what is counted.
//!
//! After the put core of Riak KV: results go in one at a time, and after each the tally knows whether there are
//! enough, whether there can still be enough, and how many there are.

use rondo_ring::{NodeId, ReplicationFactor};
use smallvec::SmallVec;

use crate::choice::QuorumChoice;

/// What is known of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vote {
    /// Not asked yet.
    Open,
    /// Asked.
    Asked,
    /// Counts.
    Cast,
    /// Will never count.
    Failed,
    /// It will not, but a node that stands in for it may.
    StoodFor,
}

/// A node that was asked instead of an owner.
#[derive(Clone, Copy, Debug)]
struct StandIn {
    node: NodeId,
    owner: NodeId,
    counts: bool,
}

/// Where a tally stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It takes more votes, and they may come.
    Undecided,
    /// Enough.
    Satisfied,
    /// Too many owners failed, or there are too few of them.
    Impossible,
}

/// So many votes are needed of the owners in one group: all of them for a number, a zone for the zone words.
#[derive(Clone, Copy, Debug)]
struct Need {
    group: u8,
    votes: u8,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    node: NodeId,
    /// Which need it serves; `None`: counted and shown, needed by none.
    group: Option<u8>,
    vote: Vote,
}

/// R or W of one request over the owners of its key. Each owner counts at most once, by itself or by a node that stands
/// in for it, and the first result of each stands.
#[derive(Clone, Debug)]
pub struct Quorum {
    n: u8,
    owners: SmallVec<[Owner; 7]>,
    needs: SmallVec<[Need; 3]>,
    /// None but in a sloppy quorum of which an owner is missing.
    stand_ins: Vec<StandIn>,
}

impl Quorum {
    /// The only door. `owners` are distinct; fewer than N of them while the cluster is smaller than N, and then a
    /// number above theirs is impossible from the start. `zone_of` names an owner's zone, `own_zone` that of the
    /// coordinating node.
    pub fn new<'a>(
        n: ReplicationFactor,
        choice: QuorumChoice,
        owners: &[NodeId],
        zone_of: impl Fn(NodeId) -> &'a str,
        own_zone: &str,
    ) -> Self {
        let majority = n.get() / 2 + 1;
        let local = owners.iter().any(|&node| zone_of(node) == own_zone);
        match choice {
            QuorumChoice::Count(count) => Self::counted(n, owners, count),
            QuorumChoice::One => Self::counted(n, owners, 1),
            QuorumChoice::All => Self::counted(n, owners, n.get()),
            QuorumChoice::LocalQuorum if local => {
                Self::zoned(n, owners, |node| (zone_of(node) == own_zone).then_some(own_zone))
            }
            QuorumChoice::Quorum | QuorumChoice::LocalQuorum => Self::counted(n, owners, majority),
            QuorumChoice::EachQuorum => Self::zoned(n, owners, |node| Some(zone_of(node))),
        }
    }

    fn counted(n: ReplicationFactor, owners: &[NodeId], votes: u8) -> Self {
        let owners = owners.iter().map(|&node| Owner { node, group: Some(0), vote: Vote::Open }).collect();
        Self { n: n.get(), owners, needs: SmallVec::from_slice(&[Need { group: 0, votes }]), stand_ins: Vec::new() }
    }

    /// A majority in every zone that `zone_of` names.
    fn zoned<'a>(n: ReplicationFactor, owners: &[NodeId], zone_of: impl Fn(NodeId) -> Option<&'a str>) -> Self {
        let mut zones: SmallVec<[(&str, u8); 7]> = SmallVec::new();
        let mut grouped = SmallVec::new();
        for &node in owners {
            let group = zone_of(node).map(|zone| {
                let known = zones.iter().position(|(name, _)| *name == zone);
                let index = known.unwrap_or_else(|| {
                    zones.push((zone, 0));
                    zones.len() - 1
                });
                zones[index].1 += 1;
                index as u8
            });
            grouped.push(Owner { node, group, vote: Vote::Open });
        }
        let needs = zones.iter().enumerate();
        let needs = needs.map(|(group, (_, owners))| Need { group: group as u8, votes: owners / 2 + 1 }).collect();
        Self { n: n.get(), owners: grouped, needs, stand_ins: Vec::new() }
    }

    /// N of the bucket.
    pub fn n(&self) -> u8 {
        self.n
    }

    /// Votes needed in all.
    pub fn required(&self) -> u8 {
        self.needs.iter().map(|need| need.votes).sum()
    }

    /// Votes cast, those beyond the needs included.
    pub fn acked(&self) -> u8 {
        self.owners.iter().filter(|owner| owner.vote == Vote::Cast).count() as u8
    }

    /// The owner is being asked.
    pub fn ask(&mut self, node: NodeId) {
        self.change(node, &[Vote::Open], Vote::Asked);
    }

    /// The owner, or a node that stands in for one, voted or acknowledged: the owner's vote, which is cast once. Others,
    /// and second results, change nothing.
    pub fn ack(&mut self, node: NodeId) {
        if self.change(node, &[Vote::Open, Vote::Asked], Vote::Cast) || self.stand_ins.is_empty() {
            return;
        }
        if let Some(place) = self.stand_ins.iter().position(|stand_in| stand_in.node == node) {
            let owner = self.stand_ins[place].owner;
            // Said again it changes nothing, and counts all the same.
            let cast = self.change(owner, &[Vote::Open, Vote::Asked, Vote::StoodFor], Vote::Cast);
            self.stand_ins[place].counts |= cast;
        }
    }

    /// The owner, or a node that stands in for one, failed or refused, or is not to be trusted.
    pub fn fail(&mut self, node: NodeId) {
        let is_stood_for = self.stand_ins.iter().any(|stand_in| stand_in.owner == node);
        let left = if is_stood_for { Vote::StoodFor } else { Vote::Failed };
        self.change(node, &[Vote::Open, Vote::Asked], left);
        if let Some(place) = self.stand_ins.iter().position(|stand_in| stand_in.node == node && !stand_in.counts) {
            let owner = self.stand_ins.swap_remove(place).owner;
            if !self.stand_ins.iter().any(|stand_in| stand_in.owner == owner) {
                self.change(owner, &[Vote::StoodFor], Vote::Failed);
            }
        }
    }

    /// `node`, which is no owner, is asked instead of the owner, who may still vote for itself.
    pub fn stand_in(&mut self, owner: NodeId, node: NodeId) {
        self.change(owner, &[Vote::Failed], Vote::StoodFor);
        self.stand_ins.push(StandIn { node, owner, counts: false });
    }

    /// The owner will not vote, and nobody stands in for it.
    pub fn has_failed(&self, owner: NodeId) -> bool {
        self.owners.iter().any(|known| known.node == owner && known.vote == Vote::Failed)
    }

    /// The owner has not said anything, and nobody stands in for it.
    pub fn awaits(&self, owner: NodeId) -> bool {
        let silent = |known: &Owner| known.node == owner && matches!(known.vote, Vote::Open | Vote::Asked);
        self.owners.iter().any(silent) && !self.stand_ins.iter().any(|stand_in| stand_in.owner == owner)
    }

    /// Whether one of the votes was cast by a node that is no owner.
    pub fn counts_stand_ins(&self) -> bool {
        self.stand_ins.iter().any(|stand_in| stand_in.counts)
    }

    /// Votes of owners themselves.
    pub fn acked_by_owners(&self) -> u8 {
        self.acked() - self.stand_ins.iter().filter(|stand_in| stand_in.counts).count() as u8
    }

    /// Whether there was such an owner.
    fn change(&mut self, node: NodeId, from: &[Vote], to: Vote) -> bool {
        let found = self.owners.iter_mut().find(|owner| owner.node == node && from.contains(&owner.vote));
        found.map(|owner| owner.vote = to).is_some()
    }

    /// Where it stands.
    pub fn decision(&self) -> Decision {
        let missing = |votes: &[Vote]| self.needs.iter().any(|need| self.count(need.group, votes) < need.votes);
        if !missing(&[Vote::Cast]) {
            Decision::Satisfied
        } else if missing(&[Vote::Cast, Vote::Asked, Vote::Open, Vote::StoodFor]) {
            Decision::Impossible
        } else {
            Decision::Undecided
        }
    }

    /// Whether it takes one more owner than those who voted and those who were asked; such an owner would be `node`.
    pub fn wants(&self, node: NodeId) -> bool {
        self.lacks(node, &[Vote::Cast, Vote::Asked, Vote::StoodFor])
    }

    /// Whether a vote of `node`, not asked yet, could help if those who were asked stay silent.
    pub fn could_use(&self, node: NodeId) -> bool {
        self.lacks(node, &[Vote::Cast])
    }

    fn lacks(&self, node: NodeId, counted: &[Vote]) -> bool {
        let owner = self.owners.iter().find(|owner| owner.node == node && owner.vote == Vote::Open);
        owner.and_then(|owner| owner.group).is_some_and(|group| {
            self.needs.iter().any(|need| need.group == group && self.count(group, counted) < need.votes)
        })
    }

    fn count(&self, group: u8, votes: &[Vote]) -> u8 {
        let counted = |owner: &&Owner| owner.group == Some(group) && votes.contains(&owner.vote);
        self.owners.iter().filter(counted).count() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(n: u8) -> ReplicationFactor {
        ReplicationFactor::new(n).unwrap()
    }

    fn nodes(count: u128) -> Vec<NodeId> {
        (1..=count).map(NodeId).collect()
    }

    /// Nodes 1–3 in zone a, 4–5 in b, 6 in c.
    fn zone_of(node: NodeId) -> &'static str {
        match node.0 {
            1..=3 => "a",
            4..=5 => "b",
            _ => "c",
        }
    }

    fn quorum(n_: u8, choice: QuorumChoice, owners: u128) -> Quorum {
        Quorum::new(n(n_), choice, &nodes(owners), zone_of, "a")
    }

    #[test]
    fn required_for_every_n_and_word() {
        for n_ in 1..=7 {
            let required = |choice| quorum(n_, choice, u128::from(n_)).required();
            assert_eq!(required(QuorumChoice::One), 1);
            assert_eq!(required(QuorumChoice::All), n_);
            assert_eq!(required(QuorumChoice::Quorum), n_ / 2 + 1);
            assert!((1..=n_).all(|count| required(QuorumChoice::Count(count)) == count));
        }
    }

    /// C2, C4: a node counts once, whatever it says again, and strangers never.
    #[test]
    fn a_node_counts_once() {
        let mut tally = quorum(3, QuorumChoice::Count(2), 3);
        tally.ack(NodeId(1));
        tally.ack(NodeId(1));
        tally.ack(NodeId(9));
        assert_eq!((tally.acked(), tally.decision()), (1, Decision::Undecided));
        tally.fail(NodeId(1));
        tally.fail(NodeId(2));
        tally.ack(NodeId(2));
        assert_eq!((tally.acked(), tally.decision()), (1, Decision::Undecided));
        tally.ack(NodeId(3));
        assert_eq!((tally.acked(), tally.decision()), (2, Decision::Satisfied));
    }

    #[test]
    fn it_is_impossible_as_soon_as_too_many_failed() {
        let mut tally = quorum(5, QuorumChoice::Quorum, 5);
        tally.fail(NodeId(1));
        tally.fail(NodeId(2));
        assert_eq!(tally.decision(), Decision::Undecided);
        tally.fail(NodeId(3));
        assert_eq!(tally.decision(), Decision::Impossible);
    }

    #[test]
    fn a_small_cluster_meets_what_its_nodes_can() {
        assert_eq!(quorum(3, QuorumChoice::Quorum, 1).decision(), Decision::Impossible);
        let mut tally = quorum(3, QuorumChoice::Quorum, 2);
        tally.ack(NodeId(1));
        tally.ack(NodeId(2));
        assert_eq!((tally.decision(), tally.acked(), tally.n()), (Decision::Satisfied, 2, 3));
    }

    #[test]
    fn a_local_quorum_counts_only_its_zone() {
        let mut tally = quorum(6, QuorumChoice::LocalQuorum, 6);
        assert_eq!(tally.required(), 2);
        [4, 5, 6, 1].into_iter().for_each(|node| tally.ack(NodeId(node)));
        assert_eq!((tally.decision(), tally.acked()), (Decision::Undecided, 4));
        tally.fail(NodeId(2));
        assert_eq!(tally.decision(), Decision::Undecided);
        tally.ack(NodeId(3));
        assert_eq!(tally.decision(), Decision::Satisfied);
    }

    #[test]
    fn a_zone_without_owners_takes_a_majority_of_all() {
        let owners = nodes(3);
        let tally = Quorum::new(n(3), QuorumChoice::LocalQuorum, &owners, zone_of, "z");
        assert_eq!(tally.required(), 2);
    }

    #[test]
    fn each_quorum_takes_a_majority_in_every_zone() {
        let mut tally = quorum(6, QuorumChoice::EachQuorum, 6);
        assert_eq!(tally.required(), 2 + 2 + 1);
        [1, 2, 3, 4, 5].into_iter().for_each(|node| tally.ack(NodeId(node)));
        assert_eq!(tally.decision(), Decision::Undecided);
        let mut failed = tally.clone();
        failed.fail(NodeId(6));
        assert_eq!(failed.decision(), Decision::Impossible);
        tally.ack(NodeId(6));
        assert_eq!(tally.decision(), Decision::Satisfied);
    }

    #[test]
    fn no_more_owners_are_wanted_than_needed() {
        let mut tally = quorum(3, QuorumChoice::Count(2), 3);
        tally.ask(NodeId(1));
        assert!(tally.wants(NodeId(2)));
        tally.ask(NodeId(2));
        assert!(!tally.wants(NodeId(3)) && tally.could_use(NodeId(3)));
        tally.fail(NodeId(2));
        assert!(tally.wants(NodeId(3)) && !tally.wants(NodeId(2)));
    }
}
