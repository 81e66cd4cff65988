//! Counters for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Inner;
use crate::engine::EngineStatus;
use crate::versions::ActorId;

/// For metrics and operators. Totals count since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it; units are last in them")]
pub struct StoreStatus {
    /// The instance whose dots this store makes at the moment.
    pub instance: ActorId,
    /// Its start has been judged and it serves.
    pub begun: bool,
    /// Client writes queued.
    pub updates_total: u64,
    /// Replica writes queued.
    pub merges_total: u64,
    /// Replica writes that brought nothing new.
    pub merges_unchanged_total: u64,
    /// Writes that failed after they were queued.
    pub write_failures_total: u64,
    /// Client writes refused for their siblings.
    pub too_many_siblings_total: u64,
    /// Client writes refused for their conditions.
    pub conditions_failed_total: u64,
    /// Times a row or a range was found damaged.
    pub damaged_total: u64,
    /// Damaged rows replaced by a healthy object.
    pub repaired_total: u64,
    /// Partitions whose reads do not count.
    pub untrusted_partitions: usize,
    /// Engines moved aside that are still in the directory.
    pub quarantined_engines: usize,
    /// Partitions whose Merkle tree is ready.
    pub digests_ready: usize,
    pub pending_writes: usize,
    pub low_disk: bool,
    /// Writes kept for other nodes.
    pub hints: u64,
    /// What they take.
    pub hints_bytes: u64,
    /// Writes kept for other nodes since the start, merged ones included.
    pub hints_kept_total: u64,
    /// Not kept for want of room.
    pub hints_refused_total: u64,
    /// Removed after they were delivered.
    pub hints_delivered_total: u64,
    /// `u64::MAX` where the store has no file system.
    pub disk_available_bytes: u64,
    /// What the engine's files take.
    pub disk_used_bytes: u64,
    pub engine: EngineStatus,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) updates: AtomicU64,
    pub(super) merges: AtomicU64,
    pub(super) unchanged: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) too_many_siblings: AtomicU64,
    pub(super) conditions_failed: AtomicU64,
    pub(super) damaged: AtomicU64,
    pub(super) repaired: AtomicU64,
}

impl Counters {
    pub(super) fn note_damage(&self) {
        add_one(&self.damaged);
    }
}

pub(super) fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Inner {
    pub(super) fn status(&self) -> StoreStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let engine = self.engine.status();
        let hints = self.hints.counts();
        StoreStatus {
            instance: self.session.lock().actor,
            begun: self.begun.get().is_some(),
            updates_total: read(&self.counters.updates),
            merges_total: read(&self.counters.merges),
            merges_unchanged_total: read(&self.counters.unchanged),
            write_failures_total: read(&self.counters.failures),
            too_many_siblings_total: read(&self.counters.too_many_siblings),
            conditions_failed_total: read(&self.counters.conditions_failed),
            damaged_total: read(&self.counters.damaged),
            repaired_total: read(&self.counters.repaired),
            untrusted_partitions: self.trust.untrusted().len(),
            quarantined_engines: self.home.as_ref().map_or(0, |home| home.quarantined),
            digests_ready: self.begun.get().map_or(0, |begun| begun.trees.ready()),
            pending_writes: self.stripes.pending(),
            low_disk: self.guard.is_low(),
            hints: hints.iter().map(|(_, kept)| kept.count).sum(),
            hints_bytes: hints.iter().map(|(_, kept)| kept.bytes).sum(),
            hints_kept_total: read(&self.hints.counters.kept),
            hints_refused_total: read(&self.hints.counters.refused),
            hints_delivered_total: read(&self.hints.counters.forgotten),
            disk_available_bytes: self.guard.available_bytes(),
            disk_used_bytes: engine.table_bytes + engine.log_bytes,
            engine,
        }
    }
}
