//! The narrow door to ordered, durable bytes. Two implementations, one conformance test: `disk` (own commit log,
//! memtables and scheduling over the tables of `lsm-tree`) and `memory` (simulation and models).
//!
//! What every implementation promises:
//! - **E1** A batch is applied whole or not at all, also across a crash.
//! - **E2** `done` is called exactly once per accepted batch, after the batch is readable and, with
//!   [`Durability::Fsync`], on disk. Batches become visible in the order of `submit`.
//! - **E3** Readers see only what was published; they never see half a batch and never go back in time.
//! - **E4** After `done(Err(_))` the batch is not there and never comes back.
//! - **E5** `submit` never blocks: a full queue is [`EngineError::Busy`] at once.
//! - **E6** Every write failure raises [`Engine::generation`] before any `done(Err(_))` of it is called, and a batch
//!   submitted under an older generation fails and is never written: whoever builds a write on one that is still in
//!   the queue can never commit on top of one that failed.

pub mod disk;
pub mod memory;
mod options;

use std::path::Path;

use bytes::Bytes;
use smallvec::SmallVec;

pub use disk::DiskEngine;
pub use memory::MemoryEngine;
pub use options::EngineOptions;

/// Longest key, in bytes. The shortest has one.
pub const KEY_BYTES_MAX: usize = 4_096;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 20;
/// Most bytes of keys and values in one batch.
pub const BATCH_BYTES_MAX: u64 = 256 << 20;

/// The few ordered maps in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Keyspace {
    /// Row key (token ‖ bucket ‖ 0 ‖ key) → object envelope.
    Objects = 0,
    /// bucket ‖ 0 ‖ key → nothing: ordered listings. Written on create and reap only.
    Names = 1,
    /// Writes kept for unreachable owners.
    Hints = 2,
    /// Everything the node remembers about itself.
    Meta = 3,
}

impl Keyspace {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Objects, Self::Names, Self::Hints, Self::Meta];
}

/// One row to set, or to remove where `value` is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub keyspace: Keyspace,
    /// 1 to 4,096 bytes.
    pub key: Bytes,
    /// At most 64 MiB.
    pub value: Option<Bytes>,
}

/// Applied whole or not at all (E1).
pub type Batch = SmallVec<[Write; 2]>;

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// On disk before `done`.
    #[default]
    Fsync,
    /// In the log file before `done`, on disk within the engine's `sync_interval_ms`.
    Interval,
}

/// Called exactly once per accepted batch, on the writer's thread or that of a caller of [`Engine::commit_queued`]: it must
/// not block.
pub type Done = Box<dyn FnOnce(Result<(), EngineError>) + Send>;

/// What happened to the data is in each text.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EngineError {
    /// Nothing was written.
    #[error("the write queue is full; nothing was written")]
    Busy,
    /// Nothing was written; reads go on, and writes work again when there is space.
    #[error("the disk is full; nothing was written")]
    DiskFull,
    /// The batch is not there. Reads go on.
    #[error("the batch could not be written and is not there: {0}")]
    Write(String),
    /// This row or block cannot be read: it is unknown here, and nothing was lost by asking.
    #[error("damaged data: {0}")]
    Damaged(String),
    /// The files as a whole cannot be trusted: nothing was changed.
    #[error("the data directory cannot be opened and was left as it is: {0}")]
    Unopenable(String),
    /// The engine is shutting down; nothing was written.
    #[error("the engine is closed; nothing was written")]
    Closed,
}

/// Counters for metrics and tests. Totals count since open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it; units are last in them")]
pub struct EngineStatus {
    pub batches_total: u64,
    pub groups_total: u64,
    pub log_bytes_total: u64,
    pub fsyncs_total: u64,
    pub flushes_total: u64,
    pub compactions_total: u64,
    pub stall_ms_total: u64,
    pub memtable_bytes: u64,
    pub log_bytes: u64,
    pub table_bytes: u64,
    pub queue_len: usize,
    /// Writes fail at the moment (disk full); reads go on.
    pub failing: bool,
    /// Highest published sequence number: never goes down, survives restarts.
    pub published: u64,
}

/// Rows of one page of a scan, in byte order of their keys.
pub type Rows = Vec<(Bytes, Bytes)>;

/// Ordered, durable maps. Reads are synchronous and may touch the disk, but for those that say otherwise; writes never
/// block.
pub trait Engine: Send + Sync + 'static {
    /// What memory alone, the system's page cache included, can say of a key: as [`get`](Self::get), without waiting for
    /// the disk or for anybody who does. `None`: the tables have to be read.
    fn get_from_memory(&self, keyspace: Keyspace, key: &[u8]) -> Option<Result<Option<Bytes>, EngineError>> {
        let _ = (keyspace, key);
        None
    }

    /// The value of a key as last published.
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Up to `limit` rows with `from <= key < to` (no `to`: to the end), of one published state, in order. Bounded by
    /// about 4 MiB of values too; the caller continues after the last key (a long scan never pins a snapshot).
    fn scan(&self, keyspace: Keyspace, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows, EngineError>;

    /// Raised by every write failure (E6).
    fn generation(&self) -> u64;

    /// Queues a batch built under `generation`. On `Err` the batch was not accepted and `done` is never called.
    fn submit(&self, generation: u64, batch: Batch, durability: Durability, done: Done) -> Result<(), EngineError>;

    /// As [`submit`](Self::submit) with [`Durability::Interval`], and the caller promises to call
    /// [`commit_queued`](Self::commit_queued) soon: until then, or a second, it may be that nothing happens.
    fn submit_for_later(&self, generation: u64, batch: Batch, done: Done) -> Result<(), EngineError> {
        self.submit(generation, batch, Durability::Interval, done)
    }

    /// Commits what is queued on the calling thread, calling each `done`, as far as that waits for nobody; and has the
    /// rest committed elsewhere. Not to be called in a `done`.
    fn commit_queued(&self) {}

    /// Hard-links a consistent copy of everything published so far into `dir`, which must not exist.
    fn checkpoint(&self, dir: &Path) -> Result<(), EngineError>;

    /// Counters.
    fn status(&self) -> EngineStatus;

    /// Batches that wait for the writer. Cheap: for whoever gives way to others.
    fn backlog(&self) -> usize {
        self.status().queue_len
    }

    /// Everything accepted is written and on disk, threads are joined, later calls are [`EngineError::Closed`].
    fn close(&self) -> Result<(), EngineError>;
}

/// Bytes of keys and values of a batch that may be written.
fn check_batch(batch: &Batch) -> Result<u64, EngineError> {
    let mut bytes = 0;
    for write in batch {
        let (key, value) = (write.key.len(), write.value.as_ref().map_or(0, Bytes::len));
        if key == 0 || key > KEY_BYTES_MAX {
            return Err(EngineError::Write(format!("a key has {key} bytes; allowed are 1 to {KEY_BYTES_MAX}")));
        }
        if value > VALUE_BYTES_MAX {
            return Err(EngineError::Write(format!("a value has {value} bytes; allowed are {VALUE_BYTES_MAX}")));
        }
        bytes += (key + value) as u64;
    }
    if bytes > BATCH_BYTES_MAX {
        return Err(EngineError::Write(format!("a batch has {bytes} bytes; allowed are {BATCH_BYTES_MAX}")));
    }
    Ok(bytes)
}

/// The answer to a batch that was built before a failure it may depend on.
fn stale() -> EngineError {
    EngineError::Write("a write before it failed; read again and repeat".to_owned())
}
