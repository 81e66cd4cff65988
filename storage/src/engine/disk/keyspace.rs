//! One keyspace: a tree of tables, the memtable that fills, and those that wait to be written.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use lsm_tree::compaction::Leveled;
use lsm_tree::config::{
    BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry, PartitioningPolicy, PinningPolicy,
    RestartIntervalPolicy,
};
use lsm_tree::{AbstractTree, AnyTree, CompressionType, Config, SequenceNumberCounter, Tree};
use parking_lot::Mutex;
use smallvec::smallvec;

use super::format::{keyspace_dir, unopenable};
use super::in_memory::{Asked, InMemory, Tables};
use super::memtable::{Memtable, Spread, Version};
use super::merged::Merged;
use super::within_reach::Blocks;
use crate::engine::{EngineError, EngineOptions, Keyspace, Write};

/// More runs than this in level 0 stop the writer. The manifest counts runs in one byte, so the hard end is 255.
const L0_RUNS_MAX: usize = 24;
/// Memtables waiting for the disk.
const WAITING_MAX: usize = 4;
/// How often it is looked whether readers have let go of a picture. They hold one for some µs.
const LET_GO_EVERY: Duration = Duration::from_millis(1);
/// No row in the memtable.
const NONE: u64 = u64::MAX;

/// A memtable that waits to become a table.
struct Waiting {
    first_sequence: u64,
    memtable: Arc<Memtable>,
}

/// What all trees share.
pub(super) struct Shared {
    pub(super) sequence: SequenceNumberCounter,
    pub(super) blocks: Arc<Blocks>,
}

/// A read asks every run of level 0, so their filters err least; below it there is one run a level.
fn filters() -> FilterPolicy {
    let level_0 = FilterPolicyEntry::Bloom(BloomConstructionPolicy::FalsePositiveRate(0.000_1));
    FilterPolicy::new([level_0, FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0))])
}

/// The filters of objects stay in memory, ten bits a key: that a key is new must not be asked of the disk. The other
/// keyspaces are read in ranges, for which filters are of no use.
fn pinned_filters(keyspace: Keyspace) -> PinningPolicy {
    if keyspace == Keyspace::Objects { PinningPolicy::all(true) } else { PinningPolicy::new([true, false]) }
}

/// What is kept in memory is kept whole.
fn partitioned_filters(keyspace: Keyspace) -> PartitioningPolicy {
    if keyspace == Keyspace::Objects {
        PartitioningPolicy::all(false)
    } else {
        PartitioningPolicy::new([false, false, false, true])
    }
}

/// Objects are looked for one by one: what stays in memory of their indexes is the top, and a look-up reads one part.
fn partitioned_indexes(keyspace: Keyspace) -> PartitioningPolicy {
    match asked(keyspace) {
        Asked::OneByOne => PartitioningPolicy::all(true),
        Asked::InRanges => PartitioningPolicy::new([false, false, false, true]),
    }
}

fn asked(keyspace: Keyspace) -> Asked {
    if keyspace == Keyspace::Objects { Asked::OneByOne } else { Asked::InRanges }
}

fn spread(keyspace: Keyspace) -> Spread {
    if keyspace == Keyspace::Objects { Spread::Evenly } else { Spread::Anyhow }
}

/// A tree of tables, and the memtables before it. Only the writer adds rows and rotates.
pub(super) struct KeyspaceTree {
    pub(super) tree: Tree,
    pub(super) dir: PathBuf,
    pub(super) blocks: Arc<Blocks>,
    asked: Asked,
    spread: Spread,
    strategy: Arc<Leveled>,
    waiting: Mutex<VecDeque<Waiting>>,
    active_first: AtomicU64,
    /// Changed with `waiting` locked.
    in_memory: ArcSwap<InMemory>,
    /// Held by who shows other tables, from looking at them on. Taken before `waiting`.
    showing: Mutex<()>,
    /// Sequence number of the last batch that removes a row here. A reader that finds nothing cannot see the number
    /// of the removal it found; this stands in for it.
    pub(super) removing: AtomicU64,
    /// Held by a compaction step, and by whoever removes the files of a failed step.
    compacting: Mutex<()>,
}

impl KeyspaceTree {
    /// Opens or creates the tree.
    ///
    /// # Errors
    /// [`EngineError::Unopenable`]: its files are damaged or cannot be read.
    pub(super) fn open(
        dir: &Path,
        keyspace: Keyspace,
        shared: &Shared,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let dir = keyspace_dir(dir, keyspace);
        // Flushes and compactions would push the number that `lsm-tree` publishes past half-applied batches: it gets
        // one that nobody reads.
        let unused = SequenceNumberCounter::default();
        let config = Config::new(&dir, shared.sequence.clone(), unused)
            .use_cache(Arc::clone(&shared.blocks.cache))
            .use_descriptor_table(Some(Arc::clone(&shared.blocks.descriptors)))
            .index_block_partitioning_policy(partitioned_indexes(keyspace))
            .filter_policy(filters())
            .filter_block_pinning_policy(pinned_filters(keyspace))
            .filter_block_partitioning_policy(partitioned_filters(keyspace))
            .data_block_restart_interval_policy(RestartIntervalPolicy::new([10, 16]))
            .data_block_compression_policy(CompressionPolicy::new([
                CompressionType::None,
                CompressionType::None,
                CompressionType::Lz4,
            ]));
        let tree = match config.open() {
            Ok(AnyTree::Standard(tree)) => tree,
            Ok(AnyTree::Blob(_)) => return Err(unopenable(&dir, &"the tree is of a kind this engine does not make")),
            Err(error) => return Err(unopenable(&dir, &error)),
        };
        let (asked, spread, blocks) = (asked(keyspace), spread(keyspace), Arc::clone(&shared.blocks));
        let tables = Tables::of(&tree, None, asked, &blocks);
        Ok(Self {
            dir,
            blocks,
            asked,
            spread,
            strategy: Arc::new(Leveled::default().with_table_target_size(options.table_bytes)),
            waiting: Mutex::default(),
            in_memory: ArcSwap::from_pointee(InMemory::new(smallvec![Arc::new(Memtable::new(spread))], tables)),
            tree,
            showing: Mutex::default(),
            active_first: AtomicU64::new(NONE),
            removing: AtomicU64::new(0),
            compacting: Mutex::default(),
        })
    }

    /// Adds a row to the memtable that fills.
    pub(super) fn insert(&self, active: &Memtable, sequence: u64, write: Write, snapshots: &[u64]) {
        if self.active_first.load(Ordering::Relaxed) == NONE {
            self.active_first.store(sequence, Ordering::Release);
        }
        if write.value.is_none() {
            self.removing.store(sequence, Ordering::Release);
        }
        active.insert(write.key, Version { sequence, value: write.value }, snapshots);
    }

    /// The memtable that fills.
    pub(super) fn active(&self) -> Arc<Memtable> {
        Arc::clone(self.in_memory.load().active())
    }

    /// Puts the filling memtable into the queue for the disk, if there is something in it. Called by the writer only.
    pub(super) fn rotate(&self) -> bool {
        let mut waiting = self.waiting.lock();
        let memtable = self.active();
        if memtable.is_empty() {
            return false;
        }
        let first_sequence = self.active_first.swap(NONE, Ordering::AcqRel);
        waiting.push_back(Waiting { first_sequence, memtable });
        let tables = self.in_memory.load().tables();
        // What the picture before showed, this one shows too: whoever lets go of that frees nothing.
        self.show(Arc::new(Memtable::new(self.spread)), &waiting, tables);
        true
    }

    /// What can be read without waiting for the disk, as of now.
    pub(super) fn in_memory(&self) -> arc_swap::Guard<Arc<InMemory>> {
        self.in_memory.load()
    }

    /// After something has changed, with `waiting` locked. Returns the picture before.
    fn show(&self, active: Arc<Memtable>, waiting: &VecDeque<Waiting>, tables: Arc<Tables>) -> Arc<InMemory> {
        let waiting = waiting.iter().rev().map(|waiting| waiting.memtable.clone());
        let memtables = std::iter::once(active).chain(waiting).collect();
        self.in_memory.swap(Arc::new(InMemory::new(memtables, tables)))
    }

    /// The tables are others, and the `flushed` memtables that have waited longest are among them. (Others may be too, since
    /// their rows are the same.) Waits for the disk, and for readers.
    fn show_tables(&self, flushed: usize) {
        let _showing = self.showing.lock();
        let before = self.in_memory.load().tables();
        let tables = Tables::of(&self.tree, Some(&before), self.asked, &self.blocks);
        drop(before);
        let before = {
            let mut waiting = self.waiting.lock();
            waiting.drain(..flushed);
            self.show(self.active(), &waiting, tables)
        };
        // The last to let go of it frees memtables and removes files of tables. That must not be a worker. (A scan takes
        // what it needs out of the picture, and may be the last.)
        while Arc::strong_count(&before) > 1 {
            thread::sleep(LET_GO_EVERY);
        }
    }

    /// Whether a further memtable may join the queue.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.lock().len() < WAITING_MAX && self.tree.l0_run_count() < L0_RUNS_MAX
    }

    /// The memtables that wait, newest first.
    pub(super) fn waiting(&self) -> Vec<Arc<Memtable>> {
        self.waiting.lock().iter().rev().map(|waiting| Arc::clone(&waiting.memtable)).collect()
    }

    /// The log is needed from the first row that is in no table.
    pub(super) fn needed_from(&self) -> u64 {
        let waiting = self.waiting.lock();
        waiting.front().map_or(NONE, |oldest| oldest.first_sequence).min(self.active_first.load(Ordering::Acquire))
    }

    /// Whether the filling memtable has a row that old.
    pub(super) fn active_reaches(&self, sequence: u64) -> bool {
        self.active_first.load(Ordering::Acquire) <= sequence
    }

    /// Writes those that have [waited](Self::waiting) longest to tables, newest first; called by one thread only. What else
    /// their batches wrote must be on disk, be it in the log: a batch is there whole or not at all (E1).
    ///
    /// # Errors
    /// Nothing was changed; the files that the attempt left are removed.
    pub(super) fn flush(&self, waiting: &[Arc<Memtable>], watermark: u64) -> lsm_tree::Result<()> {
        let first_id = self.tree.next_table_id();
        let flushed = {
            let _flush = self.tree.get_flush_lock();
            self.write_tables(waiting, watermark)
        };
        if let Err(error) = flushed {
            self.remove_partial(first_id);
            return Err(error);
        }
        self.show_tables(waiting.len());
        Ok(())
    }

    /// Makes one run of tables of memtables, newest first: of a row that several have, as it is in the newest. Scans that
    /// need it as it was before read the memtables.
    fn write_tables(&self, memtables: &[Arc<Memtable>], watermark: u64) -> lsm_tree::Result<()> {
        match self.tree.flush_to_tables(Merged::new(memtables.iter().map(|it| it.source(&[], None, u64::MAX))))? {
            Some((tables, _)) => self.tree.register_tables(&tables, None, None, &[], watermark),
            // Never seen: the rows would be in no table.
            None => Err(lsm_tree::Error::Unrecoverable),
        }
    }

    /// One step of compaction; whether there was anything to do.
    ///
    /// # Errors
    /// Nothing was changed; the files that the attempt left are removed.
    pub(super) fn compact(&self, watermark: u64) -> lsm_tree::Result<bool> {
        let first_id = self.tree.next_table_id();
        let compacted = {
            let _step = self.compacting.lock();
            let before = self.tree.current_version().id();
            let strategy = Arc::clone(&self.strategy);
            self.tree.compact(strategy, watermark).map(|()| self.tree.current_version().id() != before)
        };
        match compacted {
            Ok(true) => self.show_tables(0),
            Ok(false) => {}
            Err(_) => self.remove_partial(first_id),
        }
        compacted
    }

    /// Removes tables that a failed step began; without this they would take the space that its repetition needs.
    fn remove_partial(&self, first_id: u64) {
        let _step = self.compacting.lock();
        let _flush = self.tree.get_flush_lock();
        let version = self.tree.current_version();
        for id in first_id..self.tree.next_table_id() {
            if version.iter_tables().all(|table| table.id() != id) {
                // Most of them never existed or are gone by themselves.
                let _ = std::fs::remove_file(self.dir.join("tables").join(id.to_string()));
            }
        }
    }

    /// Lets go of earlier lists of tables.
    ///
    /// # Errors
    /// A file of an earlier list could not be removed.
    pub(super) fn release_versions(&self, watermark: u64) -> lsm_tree::Result<bool> {
        if self.tree.version_free_list_len() == 0 {
            return Ok(false);
        }
        self.tree.get_version_history_lock().maintenance(&self.dir, watermark)?;
        Ok(self.tree.version_free_list_len() > 0)
    }
}

#[cfg(test)]
pub(super) mod tests;
