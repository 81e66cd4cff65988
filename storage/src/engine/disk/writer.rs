//! The one thread that writes: gathers what is in the queue into a group, logs it as one record with at most one
//! `fdatasync`, puts it into the memtables, publishes it, answers. While the disk is busy the next group gathers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};
use lsm_tree::{AbstractTree, InternalValue, Memtable, ValueType};

use super::checkpoint;
use super::core::{Core, write_error};
use super::log::Log;
use super::record;
use super::segment::fatal;
use crate::engine::{Batch, Done, Durability, EngineError, Keyspace, Write};

/// Batches in a group.
const GROUP_BATCHES_MAX: usize = 1_024;
/// Bytes of keys and values at which a group is full.
const GROUP_BYTES_MAX: u64 = 4 << 20;
/// A buffer that one large group made longer is given back.
const BUFFER_BYTES_KEPT: usize = 8 << 20;
/// Closed segments at opening from which on they are worked off at once.
const SEGMENTS_AT_OPEN_MAX: usize = 4;
const ERASE_RETRY: Duration = Duration::from_millis(50);

/// What goes through the queue.
pub(super) enum Command {
    Batch(Pending),
    /// Moves the published number on and looks after keyspaces that hold the log back.
    Tick,
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
        let active = Keyspace::ALL.map(|keyspace| core.keyspace(keyspace).tree.active_memtable());
        Self {
            core,
            log,
            receiver,
            keeper,
            active,
            group: Vec::with_capacity(GROUP_BATCHES_MAX),
            sequences: Vec::with_capacity(GROUP_BATCHES_MAX),
            buffer: Vec::new(),
            last_failure: EngineError::Closed,
        }
    }

    /// Runs until the engine is closed.
    pub(super) fn run(mut self) {
        if self.core.log.closed.lock().len() > SEGMENTS_AT_OPEN_MAX {
            self.rotate_all();
        }
        while let Ok(command) = self.receiver.recv() {
            let mut next = Some(command);
            while let Some(command) = next.take() {
                match command {
                    Command::Batch(first) => {
                        next = self.gather(first);
                        self.commit();
                    }
                    Command::Tick => self.tick(),
                    Command::Checkpoint(dir, reply) => {
                        // Whoever asked may have given up.
                        let _ = reply.send(self.checkpoint(&dir));
                    }
                    Command::Close => return self.close(),
                }
            }
        }
    }

    /// Fills the group from the queue; what is not a batch ends it and comes next.
    fn gather(&mut self, first: Pending) -> Option<Command> {
        let mut bytes = first.bytes;
        self.group.push(first);
        let mut next = None;
        while next.is_none() && self.group.len() < GROUP_BATCHES_MAX && bytes < GROUP_BYTES_MAX {
            match self.receiver.try_recv() {
                Ok(Command::Batch(pending)) => {
                    bytes += pending.bytes;
                    self.group.push(pending);
                }
                Ok(other) => next = Some(other),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        self.core.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        next
    }

    fn commit(&mut self) {
        self.fail_stale();
        if self.group.is_empty() {
            return;
        }
        if let Err(error) = self.make_room() {
            return self.fail(&error);
        }
        if let Err(error) = self.write_record() {
            // Nobody may be told of the failure before it is certain that the record is not there.
            self.erase_record();
            return self.fail(&error);
        }
        self.apply();
        self.core.failing.store(false, Ordering::Relaxed);
        self.core.counters.groups.fetch_add(1, Ordering::Relaxed);
        self.core.counters.batches.fetch_add(self.group.len() as u64, Ordering::Relaxed);
        for pending in self.group.drain(..) {
            (pending.done)(Ok(()));
        }
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
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
        if core.log_suspect.swap(false, Ordering::SeqCst) {
            log.suspect();
        }
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
        if !durable {
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
            // Of two writes of a batch to one key the later counts.
            for write in pending.batch.drain(..) {
                insert(&self.core, &self.active, sequence, write);
            }
            self.core.visible.store(sequence, Ordering::Release);
        }
        let last = self.sequences.last().copied().unwrap_or_default();
        self.core.published.fetch_max(last, Ordering::Relaxed);
    }

    /// Rotates full memtables, after a wait where the background is behind.
    fn make_room(&mut self) -> Result<(), EngineError> {
        if self.log.is_suspect() {
            self.rotate_all();
        }
        for keyspace in Keyspace::ALL {
            if self.active[keyspace as usize].size() < self.core.options.memtable_bytes {
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
            self.active[keyspace as usize] = tree.tree.active_memtable();
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

    /// The trees number their lists of tables from the shared counter. Without writes the published number would
    /// stay below theirs and scans would go on in the lists before, which keeps those alive.
    fn tick(&mut self) {
        self.core.visible.store(self.core.sequence.next(), Ordering::Release);
        if self.log.is_suspect() || self.core.log_suspect.load(Ordering::SeqCst) {
            self.rotate_all();
        }
        self.rotate_holding_log();
    }

    fn checkpoint(&mut self, dir: &std::path::Path) -> Result<(), EngineError> {
        self.log.rotate().map_err(|error| write_error(&error))?;
        checkpoint::link(&self.core, dir)
    }

    fn close(self) {
        if let Err(error) = self.core.log.sync() {
            tracing::warn!(%error, "the last writes could not be brought to disk");
        }
    }
}

/// Adds a row to its memtable. The value is kept as it was given, without a copy.
pub(super) fn insert(core: &Core, active: &[Arc<Memtable>; 4], sequence: u64, write: Write) {
    let tree = core.keyspace(write.keyspace);
    tree.note_insert(sequence);
    let row = match write.value {
        Some(value) => InternalValue::from_components(write.key, value, sequence, ValueType::Value),
        None => {
            tree.removing.store(sequence, Ordering::Release);
            InternalValue::new_tombstone(write.key, sequence)
        }
    };
    active[write.keyspace as usize].insert(row);
}

/// Wakes the writer for a [`Command::Tick`]. A writer whose queue is full needs no waking.
pub(super) fn send_tick(sender: &Sender<Command>) {
    match sender.try_send(Command::Tick) {
        Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
    }
}
