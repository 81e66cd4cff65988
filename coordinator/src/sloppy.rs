//! Nodes that stand in for owners that cannot be reached (Dynamo, SOSP 2007, section 4.6: the sloppy quorum).
//!
//! They come in the order of the preference list, so that all nodes agree on whom to try first: those of other zones
//! first, and whoever is suspected after whoever is not. Each stands in for one owner of a request, and an owner, the
//! coordinating node included, stands in for nobody: a node counts once.

use rondo_ring::{Liveness, NodeId, View};
use smallvec::SmallVec;

use crate::bucket::QuorumKind;
use crate::plan::Plan;
use crate::quorum::Quorum;
use rondo_ring::{ReplicationFactor, Token};

/// The fallbacks of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct StandIns {
    /// Not asked yet, the best last.
    left: SmallVec<[NodeId; 4]>,
    /// Asked, and for whom.
    asked: SmallVec<[(NodeId, NodeId); 2]>,
}

impl StandIns {
    /// Those that may be reached, this node included where it is one; nobody where the quorum is strict.
    pub(crate) fn new(view: &View, token: Token, n: ReplicationFactor, kind: QuorumKind) -> Self {
        if kind == QuorumKind::Strict {
            return Self::default();
        }
        let reachable = |node: &&NodeId| view.liveness(**node) != Liveness::Down;
        let mut left: SmallVec<[NodeId; 4]> = view.fallbacks(token, n).iter().filter(reachable).copied().collect();
        // Stable, and so is the reversal: the preference list decides among equals.
        left.sort_by_key(|&node| view.liveness(node));
        left.reverse();
        Self { left, asked: SmallVec::new() }
    }

    /// Everyone not asked yet, the best last.
    pub(crate) fn left(&self) -> &[NodeId] {
        &self.left
    }

    /// These are asked for nothing by this request.
    pub(crate) fn leave_out(&mut self, nodes: &[NodeId]) {
        self.left.retain(|node| !nodes.contains(node));
    }

    /// The next one stands in for an owner from now on; `None` where nobody is left.
    pub(crate) fn assign(&mut self, owner: NodeId, quorum: &mut Quorum) -> Option<NodeId> {
        let stand_in = self.left.pop()?;
        self.assign_to(stand_in, owner, quorum);
        Some(stand_in)
    }

    /// This one does.
    pub(crate) fn assign_to(&mut self, stand_in: NodeId, owner: NodeId, quorum: &mut Quorum) {
        self.asked.push((stand_in, owner));
        quorum.stand_in(owner, stand_in);
    }

    /// For whom it was asked.
    pub(crate) fn stands_for(&self, node: NodeId) -> Option<NodeId> {
        self.asked.iter().find(|(stand_in, _)| *stand_in == node).map(|&(_, owner)| owner)
    }

    /// Who was asked, and for whom.
    pub(crate) fn asked(&self) -> &[(NodeId, NodeId)] {
        &self.asked
    }
}

impl Plan {
    /// The owners a write was sent to that have neither answered nor been stood in for.
    pub(crate) fn silent_owners(&self) -> SmallVec<[NodeId; 7]> {
        let silent = |owner: &&crate::plan::Owner| owner.node != self.this && self.quorum.awaits(owner.node);
        self.owners.iter().filter(silent).map(|owner| owner.node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::QuorumChoice;
    use crate::quorum::Decision;
    use rondo_ring::{Layout, Member, PartitionCount};
    use std::sync::Arc;

    /// Seven nodes in three zones.
    fn view(liveness: impl Fn(NodeId) -> Liveness) -> View {
        let zone = |id: u128| ["a", "b", "c"][id as usize % 3].to_owned();
        let members = (1..=7).map(|id| Member { id: NodeId(id), zone: zone(id), weight: 1 }).collect();
        let n = ReplicationFactor::new(3).unwrap();
        let layout = Layout::found(members, PartitionCount::new(8).unwrap(), n).unwrap();
        View::new(NodeId(1), Arc::new(layout), liveness)
    }

    fn n() -> ReplicationFactor {
        ReplicationFactor::new(3).unwrap()
    }

    #[test]
    fn they_come_in_the_order_of_the_preference_list_and_suspects_last() {
        let up = view(|_| Liveness::Up);
        let token = Token(0);
        let order = up.fallbacks(token, n()).to_vec();
        let taken = |view: &View| {
            let mut left = StandIns::new(view, token, n(), QuorumKind::Sloppy).left().to_vec();
            left.reverse();
            left
        };
        assert_eq!((order.len(), taken(&up)), (4, order.clone()));
        let second = order.iter().copied().find(|&node| node != NodeId(1) && node != order[0]).unwrap();
        let first = order[0];
        let believed = view(|node| match node {
            node if node == first => Liveness::Suspect,
            node if node == second => Liveness::Down,
            _ => Liveness::Up,
        });
        let rest = order.iter().copied().filter(|&node| node != second && (node != first || first == NodeId(1)));
        let mut expected: Vec<_> = rest.collect();
        if first != NodeId(1) {
            expected.push(first);
        }
        assert_eq!(taken(&believed), expected);
        assert!(StandIns::new(&up, token, n(), QuorumKind::Strict).left().is_empty());
    }

    /// A node counts once, whomever it stands in for, and an owner that is back counts no second time.
    #[test]
    fn a_stand_in_counts_for_one_owner() {
        let view = view(|_| Liveness::Up);
        let mut plan = Plan::at(&view, Token(0), n(), QuorumChoice::Count(2));
        let owners: Vec<NodeId> = plan.owners.iter().map(|owner| owner.node).collect();
        let mut stand_ins = StandIns::new(&view, Token(0), n(), QuorumKind::Sloppy);
        let quorum = &mut plan.quorum;
        quorum.fail(owners[0]);
        quorum.fail(owners[1]);
        assert_eq!(quorum.decision(), Decision::Impossible);
        let by = stand_ins.assign(owners[0], quorum).unwrap();
        assert_eq!((quorum.decision(), stand_ins.stands_for(by)), (Decision::Undecided, Some(owners[0])));
        quorum.ack(by);
        quorum.ack(by);
        quorum.ack(owners[0]);
        assert_eq!((quorum.acked(), quorum.decision(), quorum.counts_stand_ins()), (1, Decision::Undecided, true));
        quorum.ack(owners[2]);
        assert_eq!((quorum.acked(), quorum.decision()), (2, Decision::Satisfied));
    }

    /// Whoever of the two comes first counts; the failure of one leaves the other.
    #[test]
    fn an_owner_and_its_stand_in_are_one_vote() {
        let view = view(|_| Liveness::Up);
        let fresh = || Plan::at(&view, Token(0), n(), QuorumChoice::All);
        let (owner, by) = (fresh().owners[1].node, NodeId(99));
        let mut plan = fresh();
        plan.quorum.stand_in(owner, by);
        assert!(!plan.quorum.awaits(owner));
        plan.quorum.fail(by);
        assert!(plan.quorum.awaits(owner) && plan.quorum.decision() == Decision::Undecided);
        plan.quorum.ack(owner);
        assert_eq!((plan.quorum.acked(), plan.quorum.counts_stand_ins()), (1, false));
        let mut plan = fresh();
        plan.quorum.stand_in(owner, by);
        plan.quorum.fail(owner);
        assert_eq!(plan.quorum.decision(), Decision::Undecided);
        plan.quorum.fail(by);
        assert!(plan.quorum.decision() == Decision::Impossible && plan.quorum.has_failed(owner));
        plan.quorum.stand_in(owner, NodeId(98));
        plan.quorum.ack(NodeId(98));
        assert_eq!((plan.quorum.acked(), plan.quorum.decision()), (1, Decision::Undecided));
    }
}
