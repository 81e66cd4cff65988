//! Whose votes a listing needs: every partition belongs to one group, and a group's owners vote on all of its keys.

use std::collections::BTreeMap;

use rondo_ring::{NodeId, PartitionCount, PartitionId, PartitionSet, ReplicationFactor, View};
use smallvec::SmallVec;

use crate::choice::QuorumChoice;
use crate::plan::Plan;
use crate::quorum::{Decision, Quorum};

/// Index of a group in its cover.
pub(super) type GroupId = usize;

/// Nodes to ask, each for the keys of these groups.
pub(super) type Asked = BTreeMap<NodeId, Vec<GroupId>>;

/// Partitions with the same owners, of which this listing knows the same.
#[derive(Clone, Debug)]
struct Group {
    partitions: PartitionSet,
    /// Nearest first.
    owners: SmallVec<[NodeId; 7]>,
    /// Who was asked and who failed. Votes are counted in a copy, since they change from key to key.
    quorum: Quorum,
}

/// All partitions, in groups.
#[derive(Debug)]
pub(super) struct Cover {
    of: PartitionCount,
    groups: Vec<Group>,
}

impl Cover {
    /// From one view: a listing never mixes two layouts. There are few groups where there are few nodes.
    pub(super) fn new(view: &View, n: ReplicationFactor, r: QuorumChoice) -> Self {
        let of = view.layout().partitions();
        let mut by_owners: BTreeMap<&[NodeId], GroupId> = BTreeMap::new();
        let mut groups: Vec<Group> = Vec::new();
        for partition in (0..of.get()).map(PartitionId) {
            let token = of.tokens(partition).0;
            let group = *by_owners.entry(view.owners(token, n)).or_insert_with(|| {
                let Plan { owners, quorum, .. } = Plan::at(view, token, n, r);
                let owners = owners.into_iter().map(|owner| owner.node).collect();
                groups.push(Group { partitions: PartitionSet::empty(of), owners, quorum });
                groups.len() - 1
            });
            groups[group].partitions.insert(partition);
        }
        Self { of, groups }
    }

    /// How many groups there are. None is ever taken away.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// The partitions of these groups together.
    pub(super) fn partitions(&self, groups: &[GroupId]) -> PartitionSet {
        let mut all = PartitionSet::empty(self.of);
        for &group in groups {
            self.groups[group].partitions.iter().for_each(|partition| all.insert(partition));
        }
        all
    }

    /// The nearest owners of every group, until those asked are enough. They count as asked from now on.
    pub(super) fn ask_as_needed(&mut self) -> Asked {
        let mut asked = Asked::new();
        for (id, group) in self.groups.iter_mut().enumerate() {
            for &node in &group.owners {
                if group.quorum.wants(node) {
                    group.quorum.ask(node);
                    asked.entry(node).or_default().push(id);
                }
            }
        }
        asked
    }

    /// One more owner for each of these groups: one of those asked is slow.
    pub(super) fn ask_one_more(&mut self, groups: &[GroupId]) -> Asked {
        let mut asked = Asked::new();
        for &id in groups {
            let Group { owners, quorum, .. } = &mut self.groups[id];
            if let Some(&node) = owners.iter().find(|&&node| quorum.could_use(node)) {
                quorum.ask(node);
                asked.entry(node).or_default().push(id);
            }
        }
        asked
    }

    /// The node votes on no key of these groups.
    pub(super) fn fail(&mut self, node: NodeId, groups: &[GroupId]) {
        groups.iter().for_each(|&group| self.groups[group].quorum.fail(node));
    }

    /// The node does not vote on these partitions of the group: they become a group of their own, whose id is
    /// returned unless there are none.
    pub(super) fn split(&mut self, group: GroupId, node: NodeId, lost: &PartitionSet) -> Option<GroupId> {
        let whole = &mut self.groups[group];
        let mut part = whole.clone();
        part.partitions = PartitionSet::empty(self.of);
        lost.iter().filter(|&partition| whole.partitions.contains(partition)).for_each(|p| part.partitions.insert(p));
        part.partitions.iter().for_each(|partition| whole.partitions.remove(partition));
        part.quorum.fail(node);
        (!part.partitions.is_empty()).then(|| {
            self.groups.push(part);
            self.groups.len() - 1
        })
    }

    /// A group that can no longer be decided.
    pub(super) fn lost(&self) -> Option<GroupId> {
        let impossible = |group: &Group| group.quorum.decision() == Decision::Impossible;
        self.groups.iter().position(|group| !group.partitions.is_empty() && impossible(group))
    }

    /// The tally of any group.
    pub(super) fn quorum(&self, group: GroupId) -> &Quorum {
        &self.groups[group].quorum
    }

    /// The tally of a group as long as nobody has voted; `None` for one without partitions, which needs no votes.
    pub(super) fn tally(&self, group: GroupId) -> Option<Quorum> {
        let Group { partitions, quorum, .. } = &self.groups[group];
        (!partitions.is_empty()).then(|| quorum.clone())
    }
}
