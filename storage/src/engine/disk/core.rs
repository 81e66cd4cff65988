//! What the writer, the background threads and readers share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use lsm_tree::{AbstractTree, SeqNo, SequenceNumberCounter};

use super::in_memory::InMemory;
use super::keyspace::KeyspaceTree;
use super::log::LogShared;
use super::memtable::{Snapshots, Version};
use super::signal::Signal;
use crate::engine::{EngineError, EngineOptions, Keyspace, Rows};

/// Values of one page of a scan.
const SCAN_BYTES_MAX: usize = 4 << 20;
/// Spins before a reader lets the writer have its core.
const SPINS: u32 = 64;

/// Counters that only go up.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) batches: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) compactions: AtomicU64,
    pub(super) stall_ms: AtomicU64,
}

/// See the module.
pub(super) struct Core {
    pub(super) options: EngineOptions,
    pub(super) keyspaces: [KeyspaceTree; 4],
    pub(super) log: Arc<LogShared>,
    pub(super) signal: Signal,
    pub(super) counters: Counters,
    /// Shared with the trees, which number their lists of tables from it.
    pub(super) sequence: SequenceNumberCounter,
    /// Everything up to this number may be read. Only the writer moves it.
    pub(super) visible: AtomicU64,
    /// The last batch. Below `visible` when the trees took numbers since.
    pub(super) published: AtomicU64,
    pub(super) generation: AtomicU64,
    /// Bytes of keys and values in the queue.
    pub(super) queued_bytes: AtomicU64,
    pub(super) closed: AtomicBool,
    /// Commands on their way into the queue.
    pub(super) entering: AtomicU64,
    /// The last write failed.
    pub(super) failing: AtomicBool,
    /// A sync in the background failed: the writer leaves the segment.
    pub(super) log_suspect: AtomicBool,
    /// Of writes that are not on disk.
    pub(super) keeper_knows: AtomicBool,
    pub(super) snapshots: Snapshots,
}

impl Core {
    pub(super) fn new(
        options: EngineOptions,
        keyspaces: [KeyspaceTree; 4],
        log: Arc<LogShared>,
        sequence: SequenceNumberCounter,
        published: u64,
    ) -> Self {
        // Above all that was replayed, and above what the trees numbered their lists of tables with meanwhile.
        let visible = sequence.next();
        Self {
            options,
            keyspaces,
            log,
            signal: Signal::default(),
            counters: Counters::default(),
            sequence,
            visible: AtomicU64::new(visible),
            published: AtomicU64::new(published),
            generation: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            entering: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            log_suspect: AtomicBool::new(false),
            keeper_knows: AtomicBool::new(false),
            snapshots: Snapshots::default(),
        }
    }

    pub(super) fn keyspace(&self, keyspace: Keyspace) -> &KeyspaceTree {
        &self.keyspaces[keyspace as usize]
    }

    /// What was replaced before this number may go: who still reads it holds on to tables and memtables that have it.
    pub(super) fn watermark(&self) -> u64 {
        self.visible.load(Ordering::Acquire)
    }

    /// The newest value of a key. It is the newest row there is that is asked for, so no snapshot has to be registered; a
    /// row that is not published yet is in the log and about to be, and is waited for.
    pub(super) fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let keyspace = self.keyspace(keyspace);
        // What leaves the memtables in between has become a table before.
        let untabled = keyspace.in_memory().get_untabled(key);
        let row = match untabled {
            Some(row) => Some(row),
            None => {
                let row = keyspace.tree.get_internal_entry(key, SeqNo::MAX).map_err(|error| damaged(&error))?;
                row.map(Version::from)
            }
        };
        Ok(self.published(keyspace, row))
    }

    /// See [`crate::engine::Engine::get_from_memory`].
    pub(super) fn get_from_memory(&self, keyspace: Keyspace, key: &[u8]) -> Option<Option<Bytes>> {
        let keyspace = self.keyspace(keyspace);
        let row = keyspace.in_memory().get(key).ok()?;
        Some(self.published(keyspace, row))
    }

    /// What a row says, once that may be said.
    fn published(&self, keyspace: &KeyspaceTree, row: Option<Version>) -> Option<Bytes> {
        let sequence = row.as_ref().map_or_else(|| keyspace.removing.load(Ordering::Acquire), |row| row.sequence);
        self.wait_until_visible(sequence);
        row.and_then(|row| row.value)
    }

    fn wait_until_visible(&self, sequence: u64) {
        let mut spins = 0;
        while self.visible.load(Ordering::Acquire) < sequence {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    /// See [`crate::engine::Engine::scan`].
    pub(super) fn scan(
        &self,
        keyspace: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Rows, EngineError> {
        if limit == 0 || to.is_some_and(|to| to <= from) {
            return Ok(Rows::new());
        }
        super::hang::wait(self.log.engine_dir());
        let (snapshot, picture) = Snapshot::take(self, keyspace);
        let (mut page, mut bytes) = (Rows::new(), 0);
        for row in picture.scan(from, to, snapshot.number) {
            let row = row.map_err(|error| damaged(&error))?;
            bytes += row.value.len();
            page.push((row.key.user_key.into(), row.value.into()));
            if page.len() == limit || bytes >= SCAN_BYTES_MAX {
                break;
            }
        }
        Ok(page)
    }
}

/// A number that a scan reads at: what it sees is not freed while this is there.
pub(super) struct Snapshot<'a> {
    pub(super) number: u64,
    keyspace: Keyspace,
    all: &'a Snapshots,
}

impl<'a> Snapshot<'a> {
    /// The last published number, and what has all that can be read at it.
    pub(super) fn take(core: &'a Core, keyspace: Keyspace) -> (Self, InMemory) {
        let mut all = core.snapshots.lock();
        let number = core.visible.load(Ordering::Acquire);
        all[keyspace as usize].push(number);
        (Self { number, keyspace, all: &core.snapshots }, InMemory::clone(&core.keyspace(keyspace).in_memory()))
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        let numbers = &mut self.all.lock()[self.keyspace as usize];
        if let Some(at) = numbers.iter().position(|&number| number == self.number) {
            numbers.swap_remove(at);
        }
    }
}

fn damaged(error: &lsm_tree::Error) -> EngineError {
    EngineError::Damaged(error.to_string())
}

/// What a failed write means to whoever asked for it.
pub(super) fn write_error(error: &io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EngineError::DiskFull,
        _ => EngineError::Write(error.to_string()),
    }
}

/// The same for what a flush or compaction met.
pub(super) fn tree_write_error(error: &lsm_tree::Error) -> EngineError {
    match error {
        lsm_tree::Error::Io(error) => write_error(error),
        other => EngineError::Write(other.to_string()),
    }
}
