//! What can be compared with another node, and the digests to compare it by.

use rondo_ring::{NodeId, PartitionCount, PartitionId, PartitionSet, ReplicationFactor, View};
use rondo_storage::Key;
use rondo_storage::store::Store;
use xxhash_rust::xxh3::Xxh3;

use crate::question::{Answer, DIGESTS_MAX, Group, packed, unpacked};

/// One pair of nodes, as one of them sees it: which partitions and which of their keys both should hold, and what this
/// one does hold.
pub struct Pair<'a> {
    /// What is held here.
    pub store: &'a Store,
    /// The layout.
    pub view: &'a View,
    /// The other node.
    pub peer: NodeId,
    /// N of a bucket.
    pub n: &'a (dyn Fn(&str) -> ReplicationFactor + Send + Sync),
    /// The largest N of any bucket: how far down a preference list keys may be.
    pub depth: usize,
}

impl std::fmt::Debug for Pair<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("this", &self.view.this()).field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Pair<'_> {
    /// Partitions that both may own keys of.
    pub fn partitions(&self) -> PartitionSet {
        let count = self.view.layout().partitions();
        let mut set = PartitionSet::empty(count);
        (0..count.get()).map(PartitionId).filter(|&p| self.shares(p)).for_each(|p| set.insert(p));
        set
    }

    /// Whether both may own keys of the partition.
    pub fn shares(&self, partition: PartitionId) -> bool {
        if partition.0 >= self.count().get() {
            return false;
        }
        let list = self.view.layout().preference_list(partition);
        let list = &list[..list.len().min(self.depth)];
        list.contains(&self.peer) && list.contains(&self.view.this())
    }

    /// Whether both are owners of the key in this row, by its bucket's N. A row key that is none is nobody's.
    pub fn keeps(&self, row: &[u8]) -> bool {
        let Ok(key) = Key::from_row(bytes::Bytes::copy_from_slice(row)) else { return false };
        let owners = self.view.owners(key.token(), (self.n)(key.bucket()));
        owners.contains(&self.peer) && owners.contains(&self.view.this())
    }

    /// Levels of each tree below its root; 0 before the store has begun.
    pub(crate) fn height(&self) -> u8 {
        self.store.leaf_count().map_or(0, |count| count.ilog2() as u8)
    }

    fn count(&self) -> PartitionCount {
        self.view.layout().partitions()
    }
}

/// The roots of the partitions a node can compare with another: those whose tree is complete and whose reads count. A
/// partition without trust is refilled first ([`crate::refill`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    pub(crate) partitions: PartitionSet,
    /// In the order of the partitions.
    pub(crate) roots: Vec<u64>,
}

impl Roots {
    /// As they are now, of some partitions.
    pub fn of(store: &Store, shared: &PartitionSet) -> Self {
        let untrusted = store.untrusted();
        let (mut partitions, mut roots) = (PartitionSet::empty(shared.of()), Vec::new());
        for partition in shared.iter().filter(|partition| untrusted.binary_search(partition).is_err()) {
            if let Some(root) = store.digest(partition) {
                partitions.insert(partition);
                roots.push(root);
            }
        }
        Self { partitions, roots }
    }

    /// One number for all: equal sets of equal roots have equal hashes.
    pub fn hash(&self) -> u64 {
        let mut hasher = Xxh3::new();
        let words = self.partitions.words().iter().chain(&self.roots);
        words.for_each(|word| hasher.update(&word.to_le_bytes()));
        hasher.digest()
    }

    pub(crate) fn to_answer(&self) -> Answer {
        Answer::Roots { partitions: self.partitions.words().to_vec(), roots: packed(&self.roots) }
    }

    /// What an answer says; `None` where it is none for this ring.
    pub(crate) fn from_answer(of: PartitionCount, partitions: Vec<u64>, roots: &[u8]) -> Option<Self> {
        let partitions = PartitionSet::from_words(of, partitions)?;
        let roots: Vec<u64> = unpacked(roots).collect();
        (roots.len() == partitions.len()).then_some(Self { partitions, roots })
    }

    /// Partitions both could compare, and what their roots differ by.
    pub(crate) fn differences(&self, other: &Self) -> Vec<(PartitionId, u64)> {
        let theirs: Vec<(PartitionId, u64)> = other.partitions.iter().zip(other.roots.iter().copied()).collect();
        let of_theirs = |partition| theirs.binary_search_by_key(&partition, |(p, _)| *p).ok().map(|at| theirs[at].1);
        let both = self.partitions.iter().zip(&self.roots).filter_map(|(p, mine)| Some((p, mine ^ of_theirs(p)?)));
        both.collect()
    }
}

/// The digests a group asks for; `None` where there is no tree, or where the group makes no sense for it.
pub(crate) fn digests(store: &Store, group: &Group) -> Option<Vec<u64>> {
    let leaves = store.leaves(group.partition)?;
    let (height, depth, below) = (leaves.len().ilog2(), u32::from(group.depth), u32::from(group.below));
    let width = 1_usize << height.checked_sub(depth + below)?;
    let count = group.nodes.len().checked_mul(1 << below).filter(|&count| count <= DIGESTS_MAX)?;
    let mut digests = Vec::with_capacity(count);
    for &node in &group.nodes {
        let first = (node as usize).checked_mul(width << below)?;
        let under = leaves.get(first..first + (width << below))?;
        digests.extend(under.chunks(width).map(|leaves| leaves.iter().fold(0, |all, leaf| all ^ leaf)));
    }
    Some(digests)
}
