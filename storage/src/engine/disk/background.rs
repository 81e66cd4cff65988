//! The threads beside the writer: flush, compaction, and the keeper of the log's files.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::core::{Core, tree_write_error};
use super::desk::Desk;
use super::keyspace::KeyspaceTree;
use super::memtable::Memtable;
use super::segment::Prewrite;
use super::signal::Work;
use super::writer::Command;

/// The longest time between two looks at everything.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Without a write for so long the engine is at rest.
const REST_AFTER: Duration = Duration::from_secs(5);
/// After the disk refused a spare file.
const PREWRITE_RETRY: Duration = Duration::from_secs(5);

/// Writes waiting memtables to tables and gives up the log behind them.
pub(super) fn flush_loop(core: &Core, writer: &Desk) {
    let mut seen = 0;
    while !core.signal.wait_for_work(&mut seen) {
        // Objects last: of a batch whose log is lost a name without its object does no harm.
        let keyspaces = core.keyspaces.iter().rev().map(|keyspace| (keyspace, keyspace.waiting()));
        let waiting: Vec<_> = keyspaces.filter(|(_, waiting)| !waiting.is_empty()).collect();
        if !waiting.is_empty() && sync_log(core, writer) {
            waiting.iter().for_each(|(keyspace, waiting)| flush(core, keyspace, waiting));
        }
        release(core, writer);
    }
}

fn flush(core: &Core, keyspace: &KeyspaceTree, waiting: &[Arc<Memtable>]) {
    core.signal.begin(Work::Flush);
    let flushed = keyspace.flush(waiting, core.watermark());
    report(core, Work::Flush, flushed.as_ref().err());
    if flushed.is_ok() {
        core.counters.flushes.fetch_add(1, Ordering::Relaxed);
        core.signal.request();
    }
}

/// Brings what was acknowledged without a sync to disk. Where that fails nothing more goes into this file of the log, and
/// what it has goes into tables, since it is in the memtables. Whether it is time for tables: after a failure the writer
/// has all memtables become some first.
fn sync_log(core: &Core, writer: &Desk) -> bool {
    if core.log.has_failed() {
        return true;
    }
    let synced = core.log.sync();
    if let Err(error) = &synced {
        tracing::error!(%error, "the commit log cannot be brought to disk");
        core.log_suspect.store(true, Ordering::SeqCst);
        core.generation.fetch_add(1, Ordering::SeqCst);
        writer.tick();
    }
    synced.is_ok()
}

fn release(core: &Core, writer: &Desk) {
    core.log.release(|| core.keyspaces.iter().map(KeyspaceTree::needed_from).min().unwrap_or_default());
    let watermark = core.watermark();
    let mut pinned = false;
    for keyspace in &core.keyspaces {
        match keyspace.release_versions(watermark) {
            Ok(still) => pinned |= still,
            Err(error) => tracing::warn!(%error, "an earlier list of tables cannot be removed"),
        }
    }
    if pinned {
        writer.tick();
    }
}

/// Merges tables until there is nothing to do.
pub(super) fn compaction_loop(core: &Core) {
    let mut seen = 0;
    while !core.signal.wait_for_work(&mut seen) {
        for keyspace in &core.keyspaces {
            let mut more = true;
            while more && !core.signal.is_stopping() {
                core.signal.begin(Work::Compaction);
                let compacted = keyspace.compact(core.watermark());
                report(core, Work::Compaction, compacted.as_ref().err());
                more = compacted.unwrap_or(false);
                core.counters.compactions.fetch_add(u64::from(more), Ordering::Relaxed);
            }
        }
    }
}

fn report(core: &Core, work: Work, error: Option<&lsm_tree::Error>) {
    let failure = error.map(tree_write_error);
    if let Some(error) = error {
        tracing::warn!(?work, %error, "tables could not be written; it is tried again");
    }
    core.signal.finish(work, failure);
}

/// Brings writes that asked for no sync to disk in time, has the next file of the log ready before it is needed, and sees
/// when nothing is written any more.
pub(super) fn keeper_loop(core: &Arc<Core>, woken: &Receiver<()>, writer: &Desk) {
    let quiet = Quiet { published: 0, since: Instant::now(), rests: true };
    let mut looked = Instant::now();
    let mut keeper = Keeper { core, behind_since: None, prewrite: None, prewrite_after: Instant::now(), quiet };
    loop {
        match woken.recv_timeout(keeper.idle_for()) {
            // Told once until it syncs: what came to disk by another's sync meanwhile does no harm.
            Ok(()) => keeper.behind_since = keeper.behind_since.or_else(|| Some(Instant::now())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if keeper.sync_is_due() {
            keeper.sync(writer);
        }
        keeper.prepare_spare();
        keeper.look_for_quiet(writer);
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            // What was queued and told to nobody may have been forgotten.
            if writer.len() > 0 {
                writer.ring();
            }
        }
    }
}

/// Since when nothing was written.
struct Quiet {
    published: u64,
    since: Instant,
    /// The writer was told.
    rests: bool,
}

struct Keeper<'a> {
    core: &'a Core,
    behind_since: Option<Instant>,
    prewrite: Option<Prewrite>,
    prewrite_after: Instant,
    quiet: Quiet,
}

impl Keeper<'_> {
    fn interval(&self) -> Duration {
        Duration::from_millis(self.core.options.sync_interval_ms)
    }

    fn idle_for(&self) -> Duration {
        if self.prewrite.is_some() {
            return Duration::ZERO;
        }
        self.behind_since.map_or(LOOK_EVERY, |since| LOOK_EVERY.min(self.interval().saturating_sub(since.elapsed())))
    }

    fn sync_is_due(&self) -> bool {
        self.behind_since.is_some_and(|since| since.elapsed() >= self.interval())
    }

    fn sync(&mut self, writer: &Desk) {
        self.behind_since = None;
        // Before it is read how much there is: who writes after that tells again.
        self.core.keeper_knows.store(false, Ordering::SeqCst);
        sync_log(self.core, writer);
    }

    fn look_for_quiet(&mut self, writer: &Desk) {
        let published = self.core.published.load(Ordering::Relaxed);
        if published != self.quiet.published {
            self.quiet = Quiet { published, since: Instant::now(), rests: false };
        } else if !self.quiet.rests && self.quiet.since.elapsed() >= REST_AFTER {
            self.quiet.rests = writer.put(Command::Rest).is_ok();
            writer.ring();
        }
    }

    fn prepare_spare(&mut self) {
        let log = &self.core.log;
        if self.prewrite.is_none() {
            if !log.spares.lock().is_empty() || Instant::now() < self.prewrite_after {
                return;
            }
            let started = Prewrite::start(log.dir(), log.next_serial(), log.segment_bytes);
            self.prewrite = started.map_err(|error| self.postpone(&error)).ok();
        }
        match self.prewrite.as_mut().map(Prewrite::step) {
            None | Some(Ok(None)) => {}
            Some(Ok(Some(path))) => {
                self.core.log.spares.lock().push(path);
                self.prewrite = None;
            }
            Some(Err(error)) => {
                self.prewrite = None;
                self.postpone(&error);
            }
        }
    }

    fn postpone(&mut self, error: &std::io::Error) {
        tracing::warn!(%error, "no commit log file could be prepared");
        self.prewrite_after = Instant::now() + PREWRITE_RETRY;
    }
}
