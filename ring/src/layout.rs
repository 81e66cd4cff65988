//! The layout: partition → ordered owners.

use serde::{Deserialize, Serialize};

use crate::assign;
use crate::ids::{Epoch, NodeId, PartitionCount, PartitionId, ReplicationFactor, Token};
use crate::preference::{PREFERENCE_LIST_MAX, preference_lists};
use crate::table::Owners;
use crate::view::NodeList;

/// What the layout needs to know of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who it is.
    pub id: NodeId,
    /// Failure domain, 1 to 255 bytes. Owners are in distinct zones whenever there are at least N of them.
    pub zone: String,
    /// Relative share of the data, 1 to 1,000.
    pub weight: u32,
}

impl Member {
    /// The greatest weight.
    pub const WEIGHT_MAX: u32 = 1_000;
    /// The longest name of a zone, in bytes.
    pub const ZONE_BYTES_MAX: usize = 255;

    fn check(&self) -> Result<(), LayoutError> {
        if !(1..=Self::WEIGHT_MAX).contains(&self.weight) {
            return Err(LayoutError::Weight { node: self.id, weight: self.weight });
        }
        if !(1..=Self::ZONE_BYTES_MAX).contains(&self.zone.len()) {
            return Err(LayoutError::Zone { node: self.id, bytes: self.zone.len() });
        }
        Ok(())
    }
}

/// One replica of a partition changing hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Of which partition.
    pub partition: PartitionId,
    /// Who ceases to be an owner: nobody where the number of owners grows.
    pub leaves: Option<NodeId>,
    /// Who becomes an owner and has to be sent the data: nobody where the number of owners shrinks.
    pub joins: Option<NodeId>,
}

/// Why there is no such layout. Nothing has changed: the layout in force, if any, stays.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LayoutError {
    /// Q out of range.
    #[error("{0} partitions: a power of two from 1 to 16,384 is allowed")]
    PartitionCount(u16),
    /// N out of range.
    #[error("{0} replicas: 1 to 7 are allowed")]
    ReplicationFactor(u8),
    /// Nobody to own anything, or more members than are allowed.
    #[error("{0} members: 1 to 1,000 are allowed")]
    MemberCount(usize),
    /// One node twice among the members.
    #[error("node {0} is named twice among the members")]
    DuplicateMember(NodeId),
    /// Members of a stored layout are not in order of their ids.
    #[error("the members are not in order of their ids at node {0}")]
    MemberOrder(NodeId),
    /// Weight out of range.
    #[error("weight {weight} of node {node}: 1 to 1,000 is allowed")]
    Weight {
        /// Whose.
        node: NodeId,
        /// The weight refused.
        weight: u32,
    },
    /// The zone's name is empty or too long.
    #[error("the zone of node {node} has a name of {bytes} bytes: 1 to 255 are allowed")]
    Zone {
        /// Whose.
        node: NodeId,
        /// Length of the name refused.
        bytes: usize,
    },
    /// Epoch 0, or no epoch left for a successor.
    #[error("epoch {0}: 1 to 2^64 − 1 are allowed")]
    Epoch(u64),
    /// A stored table of another size than Q · min(N, members).
    #[error("the table has {found} owners instead of {expected}")]
    OwnerCount {
        /// Q · min(N, members).
        expected: usize,
        /// Entries in the table.
        found: usize,
    },
    /// A stored table names an owner that is no member.
    #[error("partition {partition} names member {index} of {members}")]
    OwnerIndex {
        /// Where.
        partition: u16,
        /// The index refused.
        index: u16,
        /// How many members there are.
        members: usize,
    },
    /// A stored table names an owner twice for one partition.
    #[error("partition {partition} names node {node} twice")]
    RepeatedOwner {
        /// Where.
        partition: u16,
        /// Which.
        node: NodeId,
    },
}

/// An epoch-numbered table partition → ordered owners, computed by one deterministic function (invariants R1 to R7 of
/// the crate). Immutable: a change of the members makes a [successor](Layout::successor).
///
/// Serialised as its members and the table of owners as indexes into them; checked when it is read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Layout {
    epoch: Epoch,
    partitions: PartitionCount,
    n: ReplicationFactor,
    /// In order of their ids.
    members: Vec<Member>,
    /// Per partition, indexes into `members`.
    rows: Vec<Owners>,
    /// Per partition `preference_length` nodes.
    preferences: Vec<NodeId>,
    /// Per member, how often it is in `rows`.
    owned: Vec<usize>,
}

/// What goes into a file or a message.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Layout")]
struct Stored {
    epoch: Epoch,
    partitions: PartitionCount,
    n: ReplicationFactor,
    members: Vec<Member>,
    /// min(N, members) per partition, one partition after the other.
    owners: Vec<u16>,
}

impl From<Layout> for Stored {
    fn from(layout: Layout) -> Self {
        let owners = layout.rows.into_iter().flatten().collect();
        let Layout { epoch, partitions, n, members, .. } = layout;
        Self { epoch, partitions, n, members, owners }
    }
}

impl TryFrom<Stored> for Layout {
    type Error = LayoutError;

    fn try_from(stored: Stored) -> Result<Self, LayoutError> {
        let Stored { epoch, partitions, n, members, owners } = stored;
        if let Some(pair) = members.windows(2).find(|pair| pair[0].id > pair[1].id) {
            return Err(LayoutError::MemberOrder(pair[1].id));
        }
        check_members(&members)?;
        if epoch.0 == 0 {
            return Err(LayoutError::Epoch(epoch.0));
        }
        let width = members.len().min(n.get().into());
        let expected = width * usize::from(partitions.get());
        if owners.len() != expected {
            return Err(LayoutError::OwnerCount { expected, found: owners.len() });
        }
        let rows: Vec<Owners> = owners.chunks_exact(width).map(Owners::from_slice).collect();
        for (partition, row) in (0..).zip(&rows) {
            check_row(&members, partition, row)?;
        }
        Ok(Self::assemble(epoch, partitions, n, members, rows))
    }
}

/// Checks what a layout needs of its members, sorted by id.
fn check_members(members: &[Member]) -> Result<(), LayoutError> {
    if !(1..=Layout::MEMBERS_MAX).contains(&members.len()) {
        return Err(LayoutError::MemberCount(members.len()));
    }
    if let Some(pair) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(LayoutError::DuplicateMember(pair[0].id));
    }
    members.iter().try_for_each(Member::check)
}

fn check_row(members: &[Member], partition: u16, row: &[u16]) -> Result<(), LayoutError> {
    for (place, &index) in row.iter().enumerate() {
        let Some(member) = members.get(usize::from(index)) else {
            return Err(LayoutError::OwnerIndex { partition, index, members: members.len() });
        };
        if row[..place].contains(&index) {
            return Err(LayoutError::RepeatedOwner { partition, node: member.id });
        }
    }
    Ok(())
}

impl Layout {
    /// The most members.
    pub const MEMBERS_MAX: usize = 1_000;

    /// The founding layout, epoch 1. The order of `members` does not matter.
    pub fn found(members: Vec<Member>, partitions: PartitionCount, n: ReplicationFactor) -> Result<Self, LayoutError> {
        let members = in_order(members)?;
        let rows = assign::found(&members, partitions.get().into(), n.get().into());
        Ok(Self::assemble(Epoch(1), partitions, n, members, rows))
    }

    /// The layout after a change of the members: epoch + 1, as few moves as their shares demand.
    pub fn successor(&self, members: Vec<Member>) -> Result<Self, LayoutError> {
        let members = in_order(members)?;
        let epoch = self.epoch.0.checked_add(1).ok_or(LayoutError::Epoch(self.epoch.0))?;
        let renamed: Vec<Option<u16>> = self.members.iter().map(|old| index_of(&members, old.id)).collect();
        let rename = |row: &Owners| row.iter().map(|&old| renamed[usize::from(old)]).collect();
        let previous: Vec<Vec<Option<u16>>> = self.rows.iter().map(rename).collect();
        let rows = assign::succeed(&members, &previous, self.n.get().into());
        Ok(Self::assemble(Epoch(epoch), self.partitions, self.n, members, rows))
    }

    fn assemble(
        epoch: Epoch,
        partitions: PartitionCount,
        n: ReplicationFactor,
        members: Vec<Member>,
        rows: Vec<Owners>,
    ) -> Self {
        let preferences = preference_lists(&members, &rows);
        let mut owned = vec![0; members.len()];
        rows.iter().flatten().for_each(|&owner| owned[usize::from(owner)] += 1);
        Self { epoch, partitions, n, members, rows, preferences, owned }
    }

    /// Its number.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Q.
    pub fn partitions(&self) -> PartitionCount {
        self.partitions
    }

    /// The N the table was made for. A bucket with another N takes as many of the preference list as it needs.
    pub fn n(&self) -> ReplicationFactor {
        self.n
    }

    /// All members, in order of their ids.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The partition of a token.
    pub fn partition_of(&self, token: Token) -> PartitionId {
        self.partitions.partition_of(token)
    }

    /// All the nodes that may hold the partition, best first: its owners as the table orders them, then fallbacks in
    /// a deterministic order that prefers zones not yet represented. At most 12. The owners of a bucket whose N is n
    /// are the first n. Allocates nothing, costs nanoseconds. Empty for a partition beyond Q.
    pub fn preference_list(&self, partition: PartitionId) -> &[NodeId] {
        let length = self.members.len().min(PREFERENCE_LIST_MAX);
        let start = usize::from(partition.0) * length;
        self.preferences.get(start..start + length).unwrap_or_default()
    }

    /// The owners of a partition in the table, min(N, members) of them, the primary first.
    pub fn owners(&self, partition: PartitionId) -> &[NodeId] {
        first(self.preference_list(partition), self.n)
    }

    /// What changes hands on the way from this layout to `next`, in order of the partitions, for a bucket whose N is
    /// the table's. Both layouts must be of the same cluster, and so have the same Q.
    pub fn moves<'a>(&'a self, next: &'a Layout) -> impl Iterator<Item = Move> + 'a {
        self.moves_of_bucket(next, self.n)
    }

    /// The same for a bucket with another N: its owners are the first n of the preference list.
    pub fn moves_of_bucket<'a>(&'a self, next: &'a Layout, n: ReplicationFactor) -> impl Iterator<Item = Move> + 'a {
        debug_assert_eq!(self.partitions, next.partitions, "Q is fixed when the cluster is created");
        (0..self.partitions.get()).map(PartitionId).flat_map(move |partition| {
            let [before, after] = [self, next].map(|layout| first(layout.preference_list(partition), n));
            let only = |these: &[NodeId], those: &[NodeId]| -> NodeList {
                these.iter().copied().filter(|node| !those.contains(node)).collect()
            };
            let (leave, join) = (only(before, after), only(after, before));
            (0..leave.len().max(join.len())).map(move |i| Move {
                partition,
                leaves: leave.get(i).copied(),
                joins: join.get(i).copied(),
            })
        })
    }

    /// How many partition replicas the table gives to this node; they add up to Q · min(N, members).
    pub fn owned_partitions(&self, node: NodeId) -> usize {
        index_of(&self.members, node).map_or(0, |index| self.owned[usize::from(index)])
    }
}

fn first(list: &[NodeId], n: ReplicationFactor) -> &[NodeId] {
    &list[..list.len().min(n.get().into())]
}

fn in_order(mut members: Vec<Member>) -> Result<Vec<Member>, LayoutError> {
    members.sort_by_key(|m| m.id);
    check_members(&members)?;
    Ok(members)
}

fn index_of(members: &[Member], node: NodeId) -> Option<u16> {
    members.binary_search_by_key(&node, |m| m.id).ok().map(|index| index as u16)
}
