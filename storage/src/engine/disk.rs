//! The engine on disk: an own commit log, own memtables and scheduling over the tables of `lsm-tree`.
//!
//! Life of a batch: [`DiskEngine::submit`](Engine::submit) → `desk` → `writer` gathers a group → `log` writes one
//! `record` and syncs → `memtable`s → published → `done`. Full memtables become tables on the flush thread, tables are
//! merged on the compaction thread (`background`), and the log behind them is given up. `recovery` reads the log back.
//! Why it is built this way: `docs/decisions/0002-storage-engine.md`; every byte on disk: `docs/formats.md`.

mod background;
mod checkpoint;
mod core;
mod desk;
mod faults;
mod format;
mod hang;
mod in_memory;
mod keyspace;
mod log;
mod memtable;
mod merged;
mod record;
mod recovery;
mod segment;
mod signal;
#[cfg(test)]
mod tests;
mod within_reach;
mod writer;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use crossbeam_channel::bounded;
use lsm_tree::{AbstractTree, SequenceNumberCounter};
use parking_lot::Mutex;

use self::core::Core;
use self::desk::Desk;
use self::format::{Found, unopenable};
use self::keyspace::{KeyspaceTree, Shared};
use self::log::Log;
use self::recovery::Recovered;
use self::segment::PAGE_BYTES;
use self::within_reach::Blocks;
use self::writer::{Command, Pending, Writer};
use super::{Batch, Done, Durability, Engine, EngineError, EngineOptions, EngineStatus, Keyspace, Rows, Write};

/// See the module. One per directory: whoever opens it holds the directory's lock.
pub struct DiskEngine {
    core: Arc<Core>,
    desk: Arc<Desk>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for DiskEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskEngine").field("log", &self.core.log.dir()).finish_non_exhaustive()
    }
}

impl DiskEngine {
    /// Opens `dir`, which is created where it does not exist. Everything that was acknowledged is there afterwards.
    ///
    /// # Errors
    /// [`EngineError::Unopenable`]: an option is out of range, the format is newer than this program, files are
    /// damaged or missing, or the file system refuses. Of a directory with data nothing was changed.
    pub fn open(dir: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        options.validate()?;
        let found = format::check(dir)?;
        let sequence = SequenceNumberCounter::new(1);
        let shared = Shared {
            sequence: sequence.clone(),
            blocks: Arc::new(Blocks::new(options.cache_bytes, options.open_tables)),
        };
        let [a, b, c, d] = Keyspace::ALL.map(|keyspace| KeyspaceTree::open(dir, keyspace, &shared, options));
        let keyspaces = [a?, b?, c?, d?];
        let log_dir = format::log_dir(dir);
        if found == Found::Empty {
            fs::create_dir_all(&log_dir).map_err(|error| unopenable(&log_dir, &error))?;
            format::finish_creation(dir)?;
        }
        let recovered = Replay::run(&keyspaces, &sequence, &log_dir, options)?;
        let published = sequence.get() - 1;
        let log = Log::start(&log_dir, options, recovered.end, recovered.closed, recovered.spares)
            .map_err(|error| unopenable(&log_dir, &error))?;
        let core = Arc::new(Core::new(options.clone(), keyspaces, log.shared(), sequence, published));
        Self::start(core, log, dir).map_err(|error| unopenable(dir, &error))
    }

    fn start(core: Arc<Core>, log: Log, dir: &Path) -> std::io::Result<Self> {
        let (queue, commands) = bounded(core.options.queue_len);
        let (wake_keeper, woken) = bounded(1);
        let (bell, rings) = bounded(1);
        let writer = Writer::new(Arc::clone(&core), log, commands, wake_keeper);
        let desk = Arc::new(Desk::new(queue, bell, writer));
        let engine = Self { core: Arc::clone(&core), desk: Arc::clone(&desk), threads: Mutex::default() };
        let (last, served) = (StopsBackground(Arc::clone(&core)), Arc::clone(&desk));
        engine.spawn("engine-writer", move || {
            let _last = last;
            served.serve(&rings);
        })?;
        let (shared, to_writer) = (Arc::clone(&core), Arc::clone(&desk));
        engine.spawn("engine-flush", move || background::flush_loop(&shared, &to_writer))?;
        if cfg!(debug_assertions) {
            let (shared, dir) = (Arc::clone(&core), dir.to_owned());
            engine.spawn("engine-hang", move || hang::lock_tables(&shared, &dir))?;
        }
        let shared = Arc::clone(&core);
        engine.spawn("engine-compact", move || background::compaction_loop(&shared))?;
        engine.spawn("engine-log", move || background::keeper_loop(&core, &woken, &desk))?;
        engine.core.signal.request();
        Ok(engine)
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.lock().push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        Ok(())
    }

    fn check_open(&self) -> Result<(), EngineError> {
        if self.core.closed.load(Ordering::SeqCst) { Err(EngineError::Closed) } else { Ok(()) }
    }

    /// Announces a command, so that a close waits until it is in the queue.
    fn enter(&self) -> Result<Entry<'_>, EngineError> {
        self.core.entering.fetch_add(1, Ordering::SeqCst);
        let entry = Entry(&self.core);
        self.check_open().map(|()| entry)
    }

    /// Refuses a batch for which there is no room in the queue, and takes the room.
    fn reserve(&self, bytes: u64) -> Result<(), EngineError> {
        let before = self.core.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before + bytes > self.core.options.queue_bytes {
            self.core.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(EngineError::Busy);
        }
        Ok(())
    }

    /// Nobody is told.
    fn enqueue(&self, generation: u64, batch: Batch, durability: Durability, done: Done) -> Result<(), EngineError> {
        let _entry = self.enter()?;
        let bytes = super::check_batch(&batch)?;
        if generation != self.generation() {
            return Err(super::stale());
        }
        self.reserve(bytes)?;
        let pending = Pending { batch, generation, durability, bytes, done };
        self.desk.put(Command::Batch(pending)).inspect_err(|_| {
            self.core.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        })
    }
}

/// Somebody is putting a command into the queue.
struct Entry<'a>(&'a Core);

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.entering.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Puts what the log holds and no table does into the memtables.
struct Replay<'a> {
    keyspaces: &'a [KeyspaceTree; 4],
    persisted: [u64; 4],
    sequence: &'a SequenceNumberCounter,
    memtable_bytes: u64,
}

impl<'a> Replay<'a> {
    fn run(
        keyspaces: &'a [KeyspaceTree; 4],
        sequence: &'a SequenceNumberCounter,
        log_dir: &Path,
        options: &EngineOptions,
    ) -> Result<Recovered, EngineError> {
        let persisted = [0, 1, 2, 3].map(|at: usize| keyspaces[at].tree.get_highest_persisted_seqno().unwrap_or(0));
        sequence.fetch_max(persisted.iter().max().map_or(0, |highest| highest + 1));
        let replay = Self { keyspaces, persisted, sequence, memtable_bytes: options.memtable_bytes };
        let segment_bytes = options.log_segment_bytes.next_multiple_of(PAGE_BYTES);
        let recovered = recovery::recover(log_dir, segment_bytes, |at, write| replay.apply(at, write))?;
        sequence.fetch_max(recovered.end.last_sequence + 1);
        Ok(recovered)
    }

    /// Rows keep their numbers. A keyspace's tables hold every row up to the highest number in them, because
    /// memtables are written in order; what is skipped is therefore always the older part.
    fn apply(&self, sequence: u64, write: Write) -> Result<(), EngineError> {
        let at = write.keyspace as usize;
        if sequence <= self.persisted[at] {
            return Ok(());
        }
        self.sequence.fetch_max(sequence + 1);
        let keyspace = &self.keyspaces[at];
        self.make_room(keyspace, sequence)?;
        keyspace.insert(&keyspace.active(), sequence, write, &[]);
        Ok(())
    }

    /// A log longer than memory: tables are written on the way, with no reader to keep anything for. Never inside a
    /// batch: its rows share one number, and the next opening would take the half in the table for all of it.
    fn make_room(&self, keyspace: &KeyspaceTree, sequence: u64) -> Result<(), EngineError> {
        let memtable = keyspace.active();
        let between_batches = memtable.highest_sequence() < sequence;
        if memtable.bytes() >= self.memtable_bytes && between_batches && keyspace.rotate() && !keyspace.has_room() {
            keyspace.flush(&keyspace.waiting(), 0).map_err(|error| unopenable(&keyspace.dir, &error))?;
        }
        Ok(())
    }
}

impl Engine for DiskEngine {
    fn get_from_memory(&self, keyspace: Keyspace, key: &[u8]) -> Option<Result<Option<Bytes>, EngineError>> {
        if let Err(closed) = self.check_open() {
            return Some(Err(closed));
        }
        if key.is_empty() || key.len() > super::KEY_BYTES_MAX {
            return Some(Ok(None));
        }
        self.core.get_from_memory(keyspace, key).map(Ok)
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.check_open()?;
        if key.is_empty() || key.len() > super::KEY_BYTES_MAX {
            return Ok(None);
        }
        self.core.get(keyspace, key)
    }

    fn scan(&self, keyspace: Keyspace, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows, EngineError> {
        self.check_open()?;
        self.core.scan(keyspace, from, to, limit)
    }

    fn generation(&self) -> u64 {
        self.core.generation.load(Ordering::SeqCst)
    }

    fn submit(&self, generation: u64, batch: Batch, durability: Durability, done: Done) -> Result<(), EngineError> {
        self.enqueue(generation, batch, durability, done)?;
        self.desk.ring();
        Ok(())
    }

    fn submit_for_later(&self, generation: u64, batch: Batch, done: Done) -> Result<(), EngineError> {
        self.enqueue(generation, batch, Durability::Interval, done)
    }

    fn commit_queued(&self) {
        self.desk.work_quickly();
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), EngineError> {
        let entry = self.enter()?;
        let (reply, answer) = bounded(1);
        let command = Command::Checkpoint(dir.to_owned(), reply);
        self.desk.put_and_wait(command)?;
        drop(entry);
        answer.recv().map_err(|_| EngineError::Closed)?
    }

    fn status(&self) -> EngineStatus {
        let counters = &self.core.counters;
        let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        EngineStatus {
            batches_total: of(&counters.batches),
            groups_total: of(&counters.groups),
            log_bytes_total: of(&self.core.log.bytes_total),
            fsyncs_total: of(&self.core.log.fsyncs_total),
            flushes_total: of(&counters.flushes),
            compactions_total: of(&counters.compactions),
            stall_ms_total: of(&counters.stall_ms),
            memtable_bytes: self.core.keyspaces.iter().map(|keyspace| keyspace.in_memory().memtable_bytes()).sum(),
            log_bytes: self.core.log.bytes(),
            table_bytes: self.core.keyspaces.iter().map(|keyspace| keyspace.in_memory().table_bytes()).sum(),
            queue_len: self.desk.len(),
            failing: self.core.failing.load(Ordering::Relaxed) || self.core.signal.failure().is_some(),
            published: of(&self.core.published),
        }
    }

    fn backlog(&self) -> usize {
        self.desk.len()
    }

    fn close(&self) -> Result<(), EngineError> {
        if self.core.closed.swap(true, Ordering::SeqCst) {
            return Err(EngineError::Closed);
        }
        // Nothing may come into the queue behind the last command: nobody would answer it.
        while self.core.entering.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        let _ = self.desk.put_and_wait(Command::Close);
        let threads = std::mem::take(&mut *self.threads.lock());
        for handle in threads {
            // The last handle on an engine may be let go of in a `done`, on the writer's own thread.
            if handle.thread().id() != thread::current().id() && handle.join().is_err() {
                return Err(EngineError::Write("a thread of the engine ended with a panic".to_owned()));
            }
        }
        self.core.log.sync().map_err(|error| self::core::write_error(&error))
    }
}

/// The writer goes last: what is still in its queue when the engine is closed may have to wait for a flush, which
/// must not have ended before.
struct StopsBackground(Arc<Core>);

impl Drop for StopsBackground {
    fn drop(&mut self) {
        self.0.signal.stop();
    }
}

impl Drop for DiskEngine {
    fn drop(&mut self) {
        // Closed before, or closed now: in neither case is there anybody to tell.
        let _ = self.close();
    }
}
