//! Writes that are queued: how those that nobody was told of are committed, and which are known to be on disk.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Store;

impl Store {
    /// Commits what [`try_update`](Self::try_update) and [`try_merge`](Self::try_merge) have queued without an fsync, on the
    /// calling thread where that waits for nobody: to be called once after several of them, and soon. Not to be called
    /// in a `done`; those are called in it.
    pub fn commit_queued(&self) {
        self.inner.engine.commit_queued();
    }
}

/// Writes of [`Durability::Interval`](crate::engine::Durability::Interval) are published before they are on disk. A
/// replica write that brings nothing new may be acknowledged as durable at once only while there is none of those.
///
/// Counts, not names: an fsync covers the writes that were in the queue before it, so when it catches as many as were
/// ever begun, it has caught all of them.
#[derive(Debug)]
pub(super) struct Queued {
    total: AtomicU64,
    interval_begun: AtomicU64,
    interval_queued: AtomicU64,
    interval_synced: AtomicU64,
}

/// How many interval writes an fsync will cover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caught(u64);

impl Queued {
    /// As if one interval write were under way: what a start found in the log is on disk after the first fsync.
    pub(super) fn new() -> Self {
        Self {
            total: AtomicU64::new(0),
            interval_begun: AtomicU64::new(1),
            interval_queued: AtomicU64::new(1),
            interval_synced: AtomicU64::new(0),
        }
    }

    /// Writes of both kinds.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    /// Before a write is queued.
    pub(super) fn begin(&self, interval: bool) {
        self.total.fetch_add(1, Ordering::AcqRel);
        if interval {
            self.interval_begun.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// After it was, or was refused.
    pub(super) fn end(&self, interval: bool) {
        if interval {
            self.interval_queued.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Before a write with fsync is queued.
    pub(super) fn catch(&self) -> Caught {
        Caught(self.interval_queued.load(Ordering::SeqCst))
    }

    /// When it is done.
    pub(super) fn synced(&self, caught: Caught) {
        self.interval_synced.fetch_max(caught.0, Ordering::SeqCst);
    }

    /// Whether everything published is on disk. To be asked after the row was read.
    pub(super) fn all_synced(&self) -> bool {
        self.interval_synced.load(Ordering::SeqCst) == self.interval_begun.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_fsync_vouches_for_what_was_queued_before_it() {
        let queued = Queued::new();
        assert!(!queued.all_synced(), "what a start found in the log");
        let caught = queued.catch();
        queued.synced(caught);
        assert!(queued.all_synced());

        queued.begin(true);
        let too_early = queued.catch();
        queued.end(true);
        queued.synced(too_early);
        assert!(!queued.all_synced());
        queued.synced(queued.catch());
        assert!(queued.all_synced());
    }
}
