//! Who holds the writer writes: gathers what is in the queue into a group, logs it as one record with at most one
//! `fdatasync`, puts it into the memtables, publishes it, answers. That is a thread of its own, and while the disk is busy
//! the next group gathers. Where nothing waits for the disk it may also be somebody who has queued something ([`desk`]).
//!
//! [`desk`]: super::desk

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::checkpoint;
use super::core::{Core, write_error};
use super::log::Log;
use super::memtable::Memtable;
use super::record;
use super::segment::fatal;
use crate::engine::{Batch, Done, Durability, EngineError, Keyspace, stale};

/// Batches in a group.
const GROUP_BATCHES_MAX: usize = 1_024;
/// Bytes of keys and values at which a group is full.
const GROUP_BYTES_MAX: u64 = 4 << 20;
/// A buffer that one large group made longer is given back.
const BUFFER_BYTES_KEPT: usize = 8 << 20;
/// Closed segments at opening from which on they are worked off at once.
const SEGMENTS_AT_OPEN_MAX: usize = 4;
const ERASE_RETRY: Duration = Duration::from_millis(50);
/// A memtable that is not worth a table of its own.
const REST_BYTES_MIN: u64 = 1 << 20;
/// Groups that somebody else than the writer's thread commits at a time, and the batches and bytes of one.
const QUICK_GROUPS_MAX: usize = 4;
const QUICK_BATCHES_MAX: usize = 256;
const QUICK_BYTES_MAX: u64 = 256 << 10;
/// More than the record of such a group takes, with the heads of its rows.
const QUICK_ROOM_BYTES: u64 = 1 << 20;

/// What goes through the queue.
pub(super) enum Command {
    Batch(Pending),
    /// Moves the published number on and looks after keyspaces that hold the log back.
    Tick,
    /// Nothing was written for a while: memtables of some size become tables, and their memory is free.
    Rest,
    Checkpoint(PathBuf, Sender<Result<(), EngineError>>),
    Close,
}

/// A batch in the queue.
pub(super) struct Pending {
    pub(super) batch: Batch,
    pub(super) generation: u64,
    pub(super) durability: Durability,
    pub(super) bytes: u64,
    pub(super) done: Done,
}

/// See the module.
pub(super) struct Writer {
    core: Arc<Core>,
    log: Log,
    receiver: Receiver<Command>,
    /// Taken from the queue, and not part of the group before it.
    next: Option<Command>,
    /// Why the group could not be logged: its record is to be erased before anybody is told.
    failed: Option<EngineError>,
    keeper: Sender<()>,
    active: [Arc<Memtable>; 4],
    group: Vec<Pending>,
    sequences: Vec<u64>,
    buffer: Vec<u8>,
    /// Why batches of an earlier generation fail.
    last_failure: EngineError,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, log: Log, receiver: Receiver<Command>, keeper: Sender<()>) -> Self {
        let active = Keyspace::ALL.map(|keyspace| core.keyspace(keyspace).active());
        Self {
            core,
            log,
            receiver,
            next: None,
            failed: None,
            keeper,
            active,
            group: Vec::with_capacity(GROUP_BATCHES_MAX),
            sequences: Vec::with_capacity(GROUP_BATCHES_MAX),
            buffer: Vec::new(),
            last_failure: stale(),
        }
    }

    /// What the log of an earlier run makes necessary.
    pub(super) fn start(&mut self) {
        if self.core.log.closed.lock().len() > SEGMENTS_AT_OPEN_MAX {
            self.rotate_all();
        }
    }

    /// Carries out all that is queued; whether the engine goes on.
    pub(super) fn work(&mut self) -> bool {
        self.settle_failure();
        self.leave_suspect_segment();
        while let Some(command) = self.take() {
            match command {
                Command::Batch(first) => {
                    self.gather(first, |_, batches, bytes| batches < GROUP_BATCHES_MAX && bytes < GROUP_BYTES_MAX);
                    self.commit();
                }
                Command::Tick => self.tick(),
                Command::Rest => self.rest(),
                Command::Checkpoint(dir, reply) => {
                    // Whoever asked may have given up.
                    let _ = reply.send(self.checkpoint(&dir));
                }
                Command::Close => {
                    self.close();
                    return false;
                }
            }
        }
        true
    }

    /// Commits what is queued without an fsync, from the front, on the calling thread; whether nothing is left. Waits for
    /// nobody: no rotation, no sync, and no write beside one.
    pub(super) fn work_quickly(&mut self) -> bool {
        for _ in 0..QUICK_GROUPS_MAX {
            if !self.is_quick() {
                return false;
            }
            match self.take() {
                None => return true,
                Some(Command::Batch(first)) if is_quick(&first) => {
                    self.gather(first, |pending, batches, bytes| {
                        is_quick(pending) && batches < QUICK_BATCHES_MAX && bytes + pending.bytes <= QUICK_BYTES_MAX
                    });
                    if !self.log_and_apply() {
                        return false;
                    }
                }
                other => {
                    self.next = other;
                    return false;
                }
            }
        }
        false
    }

    fn is_quick(&self) -> bool {
        let is_full = |keyspace: &Keyspace| self.active[*keyspace as usize].bytes() >= self.core.options.memtable_bytes;
        self.failed.is_none()
            && !self.core.log_suspect.load(Ordering::SeqCst)
            && self.log.is_ready_for(QUICK_ROOM_BYTES)
            && !self.core.log.is_syncing()
            && self.core.log.bytes() <= self.core.options.log_bytes_max
            && !Keyspace::ALL.iter().any(is_full)
    }

    fn take(&mut self) -> Option<Command> {
        self.next.take().or_else(|| self.receiver.try_recv().ok())
    }

    /// Fills the group from the queue; what does not belong to it ends it and comes next. `takes` is told of a batch, how
    /// many are there and how many bytes they have.
    fn gather(&mut self, first: Pending, takes: impl Fn(&Pending, usize, u64) -> bool) {
        let mut bytes = first.bytes;
        self.group.push(first);
        while self.next.is_none() {
            match self.receiver.try_recv() {
                Ok(Command::Batch(pending)) if takes(&pending, self.group.len(), bytes) => {
                    bytes += pending.bytes;
                    self.group.push(pending);
                }
                Ok(other) => self.next = Some(other),
                Err(_) => break,
            }
        }
        self.core.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn commit(&mut self) {
        if let Err(error) = self.make_room() {
            return self.fail(&error);
        }
        self.log_and_apply();
        self.settle_failure();
    }

    /// Whether the group is done: answered, or stale.
    fn log_and_apply(&mut self) -> bool {
        self.fail_stale();
        if self.group.is_empty() {
            return true;
        }
        if let Err(error) = self.write_record() {
            self.failed = Some(error);
            return false;
        }
        self.apply();
        self.core.failing.store(false, Ordering::Relaxed);
        self.core.counters.groups.fetch_add(1, Ordering::Relaxed);
        self.core.counters.batches.fetch_add(self.group.len() as u64, Ordering::Relaxed);
        for pending in self.group.drain(..) {
            (pending.done)(Ok(()));
        }
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        true
    }

    /// Nobody may be told of the failure before it is certain that the record is not there.
    fn settle_failure(&mut self) {
        if let Some(error) = self.failed.take() {
            self.erase_record();
            self.fail(&error);
        }
    }

    /// A batch built on one that failed must not be written.
    fn fail_stale(&mut self) {
        let generation = self.core.generation.load(Ordering::SeqCst);
        if self.group.iter().all(|pending| pending.generation == generation) {
            return;
        }
        let group = std::mem::take(&mut self.group);
        let (current, stale): (Vec<_>, Vec<_>) = group.into_iter().partition(|it| it.generation == generation);
        self.group = current;
        for pending in stale {
            (pending.done)(Err(self.last_failure.clone()));
        }
    }

    fn fail(&mut self, error: &EngineError) {
        self.core.generation.fetch_add(1, Ordering::SeqCst);
        self.core.failing.store(true, Ordering::Relaxed);
        tracing::warn!(%error, batches = self.group.len(), "writes failed");
        self.last_failure = error.clone();
        for pending in self.group.drain(..) {
            (pending.done)(Err(error.clone()));
        }
    }

    fn write_record(&mut self) -> Result<(), EngineError> {
        let Self { group, sequences, buffer, log, core, .. } = self;
        sequences.clear();
        record::begin(buffer);
        for pending in group.iter() {
            let sequence = core.sequence.next();
            sequences.push(sequence);
            record::push_batch(buffer, sequence, &pending.batch);
        }
        let last = *sequences.last().expect("invariant: the group is not empty");
        let batches = u32::try_from(group.len()).expect("invariant: a group is bounded");
        let durable = group.iter().any(|pending| pending.durability == Durability::Fsync);
        log.append(buffer, last, batches, durable).map_err(|error| write_error(&error))?;
        if !durable && !core.keeper_knows.swap(true, Ordering::SeqCst) {
            // A keeper that has not taken the last word yet will see this write too.
            let _ = self.keeper.try_send(());
        }
        Ok(())
    }

    /// Tries until it has worked, within bounds: a record that may be read again by the next process is one whose
    /// failure nobody may hear of, so the end of the process is the only other honest answer.
    fn erase_record(&mut self) {
        let started = Instant::now();
        while let Err(error) = self.log.erase_tail() {
            if started.elapsed() > Duration::from_millis(self.core.options.stall_limit_ms) {
                fatal(&format!("a commit log record that failed cannot be removed: {error}"));
            }
            std::thread::sleep(ERASE_RETRY);
        }
    }

    /// Puts the group into the memtables and publishes it, batch by batch: a reader waits for one batch at most.
    fn apply(&mut self) {
        for (pending, &sequence) in self.group.iter_mut().zip(&self.sequences) {
            let snapshots = self.core.snapshots.lock();
            // Of two writes of a batch to one key the later counts.
            for write in pending.batch.drain(..) {
                let at = write.keyspace as usize;
                self.core.keyspaces[at].insert(&self.active[at], sequence, write, &snapshots[at]);
            }
            self.core.visible.store(sequence, Ordering::Release);
        }
        let last = self.sequences.last().copied().unwrap_or_default();
        self.core.published.fetch_max(last, Ordering::Relaxed);
    }

    /// Where a sync has failed nothing more goes into the segment, and what it holds goes into tables.
    fn leave_suspect_segment(&mut self) {
        if self.core.log_suspect.swap(false, Ordering::SeqCst) {
            self.log.suspect();
        }
        if self.log.is_suspect() {
            self.rotate_all();
        }
    }

    /// Rotates full memtables, after a wait where the background is behind.
    fn make_room(&mut self) -> Result<(), EngineError> {
        self.leave_suspect_segment();
        for keyspace in Keyspace::ALL {
            if self.active[keyspace as usize].bytes() < self.core.options.memtable_bytes {
                continue;
            }
            let limit = Duration::from_millis(self.core.options.stall_limit_ms);
            let tree = self.core.keyspace(keyspace);
            let waited = self.core.signal.wait_for_room(limit, || tree.has_room())?;
            let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            self.core.counters.stall_ms.fetch_add(waited_ms, Ordering::Relaxed);
            self.rotate(keyspace);
        }
        self.rotate_holding_log();
        Ok(())
    }

    fn rotate(&mut self, keyspace: Keyspace) {
        let tree = self.core.keyspace(keyspace);
        if tree.rotate() {
            self.active[keyspace as usize] = tree.active();
            self.core.signal.request();
        }
    }

    fn rotate_all(&mut self) {
        for keyspace in Keyspace::ALL {
            self.rotate(keyspace);
        }
    }

    /// A keyspace with few writes would keep the whole log alive: its memtable is written early.
    fn rotate_holding_log(&mut self) {
        let oldest = self.core.log.closed.lock().front().map(|segment| segment.last_sequence);
        let Some(oldest) = oldest.filter(|_| self.core.log.bytes() > self.core.options.log_bytes_max) else {
            return;
        };
        for keyspace in Keyspace::ALL {
            if self.core.keyspace(keyspace).active_reaches(oldest) {
                self.rotate(keyspace);
            }
        }
    }

    /// The trees number their lists of tables from the shared counter, and let go of those before what is published. Without
    /// writes the published number would stay below theirs.
    fn tick(&mut self) {
        self.core.visible.store(self.core.sequence.next(), Ordering::Release);
        self.leave_suspect_segment();
        self.rotate_holding_log();
    }

    fn rest(&mut self) {
        for keyspace in Keyspace::ALL {
            if self.active[keyspace as usize].bytes() >= REST_BYTES_MIN && self.core.keyspace(keyspace).has_room() {
                self.rotate(keyspace);
            }
        }
    }

    fn checkpoint(&mut self, dir: &std::path::Path) -> Result<(), EngineError> {
        self.log.rotate().map_err(|error| write_error(&error))?;
        checkpoint::link(&self.core, dir)
    }

    fn close(&self) {
        if let Err(error) = self.core.log.sync() {
            tracing::warn!(%error, "the last writes could not be brought to disk");
        }
    }
}

/// Whether a batch needs no fsync and fits into the group of somebody who may not wait.
fn is_quick(pending: &Pending) -> bool {
    pending.durability == Durability::Interval && pending.bytes <= QUICK_BYTES_MAX
}
