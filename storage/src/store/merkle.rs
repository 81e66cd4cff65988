//! Merkle trees over what is published here, one per partition, for replicas to compare.
//!
//! A leaf is one contiguous range of tokens and holds the exclusive-or of a hash of (row key, digest of the object) for
//! each of its rows: a write changes it in O(1), by taking the old hash out and putting the new one in. The nodes above
//! are the exclusive-or of those below, so nothing needs to be recomputed, and equal sets of rows have equal trees in
//! whatever order they were written. Memory: 8 bytes for each of about 2²⁰ leaves in all, taken when a partition gets
//! its first row; at a million keys that is one key a leaf.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rondo_ring::{PartitionCount, PartitionId, Token};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Leaves of all partitions together, as a power of two, as far as the bounds for one partition allow.
const LEAVES_LOG2: u32 = 20;
/// Bounds for the leaves of one partition, as powers of two.
const PARTITION_LEAVES_LOG2: (u32, u32) = (6, 16);
/// Writes noted while one page is scanned; with more, the partition starts again.
const NOTED_MAX: usize = 1 << 16;

/// What a write replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// No row.
    Nothing,
    /// A row whose object had this digest.
    Digest(u64),
    /// A row that could not be read: what it had added to its leaf is not known.
    Unreadable,
}

#[derive(Debug)]
enum State {
    /// Nothing is known yet: writes leave it so.
    Unbuilt,
    /// Rows up to `counted` (empty: none) are in the leaves. While a page behind it is being read, what is written
    /// there is noted, with its place in the order of writes.
    Building { counted: Bytes, noted: Option<BTreeMap<Bytes, Noted>> },
    /// Every published row is in the leaves.
    Ready,
    /// A scan met damage. A repair in the partition makes it `Unbuilt` again.
    Unreadable,
}

/// The last write of a row: its place in the order of writes, and the digest of its object.
type Noted = (u64, u64);

#[derive(Debug)]
struct Tree {
    state: State,
    root: u64,
    leaves: Vec<u64>,
}

/// One page of a partition's rows, read and not yet counted.
#[derive(Debug)]
pub(super) struct ScannedPage {
    pub(super) partition: PartitionId,
    /// Row keys in order, with the digests of their objects.
    pub(super) rows: Vec<(Bytes, u64)>,
    /// The last row key looked at; `None`: nothing follows.
    pub(super) upto: Option<Bytes>,
}

/// The trees of all partitions.
#[derive(Debug)]
pub(super) struct Trees {
    partitions: PartitionCount,
    leaves_log2: u32,
    trees: Box<[Mutex<Tree>]>,
}

impl Trees {
    /// Unbuilt, or ready where there is no row at all.
    pub(super) fn new(partitions: PartitionCount, empty: bool) -> Self {
        let (low, high) = PARTITION_LEAVES_LOG2;
        let leaves_log2 = LEAVES_LOG2.saturating_sub(partitions.get().trailing_zeros()).clamp(low, high);
        let state = || if empty { State::Ready } else { State::Unbuilt };
        let tree = |_| Mutex::new(Tree { state: state(), root: 0, leaves: Vec::new() });
        Self { partitions, leaves_log2, trees: (0..partitions.get()).map(tree).collect() }
    }

    pub(super) fn partitions(&self) -> PartitionCount {
        self.partitions
    }

    pub(super) fn leaf_count(&self) -> usize {
        1 << self.leaves_log2
    }

    /// First and last token of a leaf.
    pub(super) fn leaf_tokens(&self, partition: PartitionId, leaf: usize) -> (Token, Token) {
        let (first, last) = self.partitions.tokens(partition);
        let width_less_one = (last.0 - first.0) >> self.leaves_log2;
        let start = first.0 + leaf as u64 * (width_less_one + 1);
        (Token(start), Token(start + width_less_one))
    }

    /// A write of this row was published. `order` rises with the writes of a row, which may be reported in another one.
    pub(super) fn written(&self, token: Token, row: &Bytes, order: u64, before: Before, after: u64) {
        let leaf = self.leaf_of(token);
        let tree = &mut *self.tree(self.partitions.partition_of(token)).lock();
        let counted = match &mut tree.state {
            _ if before == Before::Unreadable => {
                tree.forget();
                false
            }
            State::Ready => true,
            State::Building { counted, .. } if row <= counted => true,
            State::Building { noted: Some(noted), .. } => {
                let last = noted.entry(row.clone()).or_default();
                *last = (*last).max((order, after));
                if noted.len() > NOTED_MAX {
                    tree.forget();
                }
                false
            }
            State::Building { .. } | State::Unbuilt | State::Unreadable => false,
        };
        if counted {
            let old = if let Before::Digest(digest) = before { hash(row, digest) } else { 0 };
            tree.toggle(leaf, old ^ hash(row, after), self.leaf_count());
        }
    }

    /// The root, once the tree is ready.
    pub(super) fn root(&self, partition: PartitionId) -> Option<u64> {
        let tree = self.tree(partition).lock();
        matches!(tree.state, State::Ready).then_some(tree.root)
    }

    /// All leaves, once the tree is ready.
    pub(super) fn leaves(&self, partition: PartitionId) -> Option<Vec<u64>> {
        let tree = self.tree(partition).lock();
        matches!(tree.state, State::Ready).then(|| match tree.leaves.is_empty() {
            true => vec![0; self.leaf_count()],
            false => tree.leaves.clone(),
        })
    }

    /// How many trees are ready.
    pub(super) fn ready(&self) -> usize {
        self.trees.iter().filter(|tree| matches!(tree.lock().state, State::Ready)).count()
    }

    /// The first partition whose tree needs a scan, from where the scan goes on. Writes behind that are noted from now.
    pub(super) fn begin_page(&self) -> Option<(PartitionId, Bytes)> {
        for (at, tree) in self.trees.iter().enumerate() {
            let mut tree = tree.lock();
            if let State::Unbuilt = tree.state {
                tree.forget();
                tree.state = State::Building { counted: Bytes::new(), noted: None };
            }
            if let State::Building { counted, noted } = &mut tree.state {
                *noted = Some(BTreeMap::new());
                return Some((PartitionId(at as u16), counted.clone()));
            }
        }
        None
    }

    /// The scan of a partition failed: it has no digest until something in it is repaired.
    pub(super) fn unreadable(&self, partition: PartitionId) {
        let mut tree = self.tree(partition).lock();
        tree.forget();
        tree.state = State::Unreadable;
    }

    /// Counts a page. To be called when every write that was queued before the page was read is done: then what was
    /// noted is at least as new as what was read, and each later write says what it replaced.
    pub(super) fn count_page(&self, page: ScannedPage) {
        let tree = &mut *self.tree(page.partition).lock();
        let State::Building { counted, noted } = &mut tree.state else { return };
        let noted = noted.take().unwrap_or_default();
        match &page.upto {
            Some(upto) => *counted = upto.clone(),
            None => tree.state = State::Ready,
        }
        let read = page.rows.into_iter().filter(|(row, _)| !noted.contains_key(row));
        let within = |row: &Bytes| page.upto.as_ref().is_none_or(|upto| row <= upto);
        let newer = noted.iter().filter(|(row, _)| within(row)).map(|(row, (_, digest))| (row.clone(), *digest));
        for (row, digest) in read.chain(newer) {
            if let Some(token) = row.first_chunk() {
                let leaf = self.leaf_of(Token(u64::from_be_bytes(*token)));
                tree.toggle(leaf, hash(&row, digest), self.leaf_count());
            }
        }
    }

    /// For the file of a clean end: the leaves of each tree, `None` where it is not ready.
    pub(super) fn export(&self) -> Vec<Option<Vec<u64>>> {
        let leaves = |tree: &Mutex<Tree>| {
            let tree = tree.lock();
            matches!(tree.state, State::Ready).then(|| tree.leaves.clone())
        };
        self.trees.iter().map(leaves).collect()
    }

    /// Takes an export back, before any write.
    pub(super) fn import(&self, trees: Vec<Option<Vec<u64>>>) {
        for (tree, leaves) in self.trees.iter().zip(trees) {
            if let Some(leaves) = leaves.filter(|leaves| leaves.is_empty() || leaves.len() == self.leaf_count()) {
                let root = leaves.iter().fold(0, |root, leaf| root ^ leaf);
                *tree.lock() = Tree { state: State::Ready, root, leaves };
            }
        }
    }

    fn leaf_of(&self, token: Token) -> usize {
        let within = token.0 << self.partitions.get().trailing_zeros();
        (within >> (u64::BITS - self.leaves_log2)) as usize
    }

    fn tree(&self, partition: PartitionId) -> &Mutex<Tree> {
        &self.trees[usize::from(partition.0)]
    }
}

impl Tree {
    fn forget(&mut self) {
        *self = Self { state: State::Unbuilt, root: 0, leaves: Vec::new() };
    }

    fn toggle(&mut self, leaf: usize, change: u64, leaf_count: usize) {
        if self.leaves.is_empty() {
            self.leaves = vec![0; leaf_count];
        }
        self.leaves[leaf] ^= change;
        self.root ^= change;
    }
}

fn hash(row: &[u8], digest: u64) -> u64 {
    xxh3_64_with_seed(row, digest)
}

/// Writes between queueing and done, counted in two turns, so that one can wait for those queued before a moment
/// without stopping new ones (the grace period of read-copy-update).
#[derive(Debug, Default)]
pub(super) struct InFlight {
    turn: AtomicUsize,
    counts: [AtomicUsize; 2],
}

/// The turn a write was counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn(usize);

impl InFlight {
    /// Before a write is queued.
    pub(super) fn enter(&self) -> Turn {
        let turn = self.turn.load(Ordering::SeqCst) % 2;
        self.counts[turn].fetch_add(1, Ordering::SeqCst);
        Turn(turn)
    }

    /// After everything that follows from its being done.
    pub(super) fn leave(&self, turn: Turn) {
        self.counts[turn.0].fetch_sub(1, Ordering::SeqCst);
    }

    /// Those before this moment are in the turn returned; some later ones may be too.
    pub(super) fn next_turn(&self) -> Turn {
        Turn(self.turn.fetch_add(1, Ordering::SeqCst) % 2)
    }

    pub(super) fn is_over(&self, turn: Turn) -> bool {
        self.counts[turn.0].load(Ordering::SeqCst) == 0
    }
}
