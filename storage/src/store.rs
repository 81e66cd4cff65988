//! What a node does with versions and an engine.
//!
//! - **S1** Read-modify-write is atomic per key: a striped lock is held from the read to the queueing of the write,
//!   and a write still in the queue is what the next one builds on.
//! - **S2** A dot is never used twice for a key, whatever happened to the directory or the clock, and a new dot covers
//!   no write that this instance made and forgot: where it may have forgotten one, it is another instance
//!   (`docs/decisions/0004-storage-instances.md`).
//! - **S3** What is damaged is *unknown*: never a value, never "missing".
//! - **S4** No call blocks on the writer. Those that are only tried ([`Store::try_read`], [`Store::try_update`],
//!   [`Store::try_merge`]) wait neither for the disk nor for anybody who does; the others may.
//!
//! A node's way: [`DataDirectory::open`], [`Store::open`], ask the peers what they saw of this node
//! ([`Store::last_start`] there), [`judge_start`], [`DataDirectory::join`], [`Store::begin`], tell the peers
//! ([`Store::record_start`] there), serve. [`Store::tick`] once a second, [`Store::close`] at the end.

mod clock;
mod condition;
mod digests;
mod directory;
mod error;
mod files;
mod hints;
mod home;
mod identity;
mod list;
mod mark;
mod merkle;
mod options;
mod queued;
mod rebuild;
mod recent;
mod scan;
mod seen;
mod session;
mod space;
mod starts;
mod status;
mod stripes;
mod trust;
mod ttl;
mod write;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use rondo_ring::{NodeId, PartitionCount, PartitionId, Token};
use smallvec::smallvec;

pub use condition::Condition;
pub use directory::{DataDirectory, FORMAT};
pub use error::{DirectoryError, StoreError};
pub use hints::{Hint, HintCount, HintPage, Hinted};
pub use list::{ListPage, ListRange, Listed};
pub use options::StoreOptions;
pub use rebuild::Rebuild;
pub use scan::ScanPage;
pub use starts::{Start, StartHistory, StartVerdict, judge_start};
pub use status::StoreStatus;
pub use ttl::{Ttl, TtlError};

use crate::Key;
use crate::engine::{DiskEngine, Durability, Engine, EngineError, EngineOptions, Keyspace, Write};
use crate::versions::{ActorId, CausalContext, Conflict, Dot, Metadata, Object};
use home::Home;
use merkle::{InFlight, Trees};
use scan::Reach;
use session::Session;
use trust::{Distrust, Trust};

/// Wall clock in µs since 1970, handed in so that tests and the simulator own time.
pub trait WallClock: Send + Sync + 'static {
    /// Now.
    fn now_us(&self) -> u64;
}

/// What a bucket says of writes without a context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlindPut {
    /// Replaces what the coordinating owner holds.
    #[default]
    Overwrite,
    /// Concurrent with everything.
    Sibling,
}

/// A client's write as the coordinating owner carries it out.
#[derive(Clone, Debug)]
pub struct Change {
    /// What the client had seen; `None`: a blind write.
    pub context: Option<CausalContext>,
    /// For a blind write.
    pub blind: BlindPut,
    /// Of the bucket. The last writer replaces what the coordinating owner holds, whatever its context.
    pub conflict: Conflict,
    /// What must be so, or nothing is written.
    pub condition: Option<Condition>,
    /// `None`: a delete. A blind delete removes what the coordinating owner holds whatever `blind` says.
    pub value: Option<Bytes>,
    /// `modified_us` and `expires_us` are set by the store.
    pub metadata: Metadata,
    /// How long a value lives; `None`: for ever. A delete is remembered whatever it says.
    pub ttl: Option<Ttl>,
    /// A write that would leave more is refused.
    pub siblings_max: u16,
    /// What the acknowledgement means.
    pub durability: Durability,
}

/// What a [`Change`] came to: queued, readable by the next read-modify-write, durable when `done` says so.
#[derive(Clone, Debug)]
pub struct Updated {
    /// The envelope to send to the other owners.
    pub object: Bytes,
    /// The write's name.
    pub dot: Dot,
    /// For the answer (V6).
    pub context: CausalContext,
    /// Versions shown after the write, this one included (tombstones and expired ones do not count).
    pub siblings: usize,
    /// When it was written, µs since 1970.
    pub modified_us: u64,
    /// When it expires, µs since 1970; 0: never.
    pub expires_us: u64,
    /// For how many other nodes it is kept here: as durable as the write itself.
    pub hinted: u8,
}

/// What this disk knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Nothing was ever here.
    Missing,
    /// An envelope whose checksum held.
    Found(Bytes),
    /// Something is or may have been here and cannot be read, or this instance may lack writes it once acknowledged:
    /// never a vote. Carries what could be read, if anything.
    Unknown(Option<Bytes>),
}

/// What became of a replica write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// Queued; `done` will be called.
    Queued,
    /// Everything was here already, durably; `done` was called.
    Unchanged,
}

/// Called once, on the writer's thread or before the call returns. It must not block and must not call the store.
pub type StoreDone = Box<dyn FnOnce(Result<(), EngineError>) + Send>;

/// What is known once the start has been judged.
struct Begun {
    trees: Trees,
}

struct Inner {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn WallClock>,
    begun: OnceLock<Begun>,
    session: Mutex<Session>,
    dots: clock::DotClock,
    stripes: stripes::Stripes,
    recent: recent::Recent,
    queued: queued::Queued,
    in_flight: InFlight,
    rebuild: Mutex<Option<rebuild::Waiting>>,
    trust: Trust,
    guard: space::DiskGuard,
    hints: hints::Hints,
    counters: status::Counters,
    seen: seen::SeenStarts,
    home: Option<Home>,
}

/// What bounds what may be written.
struct Room {
    guard: space::DiskGuard,
    hints: hints::Hints,
}

/// One node's storage. Cheap to clone through `Arc`.
pub struct Store {
    inner: Arc<Inner>,
}

impl Store {
    /// Opens the disk engine in the directory. One that will not open is moved aside (never deleted), and the node is
    /// refilled by the others. Serves nothing until [`begin`](Self::begin).
    pub fn open(
        directory: Arc<DataDirectory>,
        options: &StoreOptions,
        engine: &EngineOptions,
        clock: Arc<dyn WallClock>,
    ) -> Result<Self, DirectoryError> {
        engine.validate()?;
        Self::open_with(directory, options, clock, |path| Ok(Arc::new(DiskEngine::open(path, engine)?)))
    }

    /// Opens the engine in the directory with `open_engine`, which is called again after an engine that will not open
    /// was moved aside. Serves nothing until [`begin`](Self::begin).
    pub fn open_with(
        directory: Arc<DataDirectory>,
        options: &StoreOptions,
        clock: Arc<dyn WallClock>,
        open_engine: impl Fn(&Path) -> Result<Arc<dyn Engine>, EngineError>,
    ) -> Result<Self, DirectoryError> {
        let seen = seen::SeenStarts::open(directory.file("starts.json"))?;
        let guard = space::DiskGuard::new(Some(directory.path().into()), options.reserve_bytes);
        let actor = directory.start().instance;
        let (home, engine) = Home::open(directory, &*clock, open_engine)?;
        let recent = recent::Recent::new(options.recent_bytes);
        let hints = hints::Hints::open(&*engine, options.hint_bytes.unwrap_or(guard.share_bytes()));
        Ok(Self::new(engine, clock, actor, seen, Room { guard, hints }, recent, Some(home)))
    }

    /// Over an engine without a directory, begun and trusted: for simulations and tests. A simulated restart passes an
    /// actor that was never used.
    pub fn over(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn WallClock>,
        actor: ActorId,
        partitions: PartitionCount,
    ) -> Self {
        let guard = space::DiskGuard::new(None, None);
        let (seen, recent) = (seen::SeenStarts::default(), recent::Recent::new(0));
        let hints = hints::Hints::open(&*engine, guard.share_bytes());
        let store = Self::new(engine, clock, actor, seen, Room { guard, hints }, recent, None);
        store.inner.set_begun(actor, Trees::new(partitions, store.inner.is_empty()));
        store
    }

    /// The same over an engine that may lack writes of these partitions, in order: their reads count after a refill.
    pub fn over_distrusting(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn WallClock>,
        actor: ActorId,
        partitions: PartitionCount,
        distrusted: &[PartitionId],
    ) -> Self {
        let store = Self::over(engine, clock, actor, partitions);
        if !distrusted.is_empty() {
            store.inner.trust.set(Distrust::Partitions { of: partitions, list: distrusted.to_vec() });
        }
        store
    }

    fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn WallClock>,
        actor: ActorId,
        seen: seen::SeenStarts,
        Room { guard, hints }: Room,
        recent: recent::Recent,
        home: Option<Home>,
    ) -> Self {
        let distrust = home.as_ref().map_or(Distrust::Nothing, |home| home.directory.distrust());
        let inner = Inner {
            session: Mutex::new(Session { generation: engine.generation(), actor }),
            dots: clock::DotClock::new(home.as_ref().map_or(0, Home::counter)),
            engine,
            clock,
            begun: OnceLock::new(),
            stripes: stripes::Stripes::new(),
            recent,
            queued: queued::Queued::new(),
            in_flight: InFlight::default(),
            rebuild: Mutex::new(None),
            trust: Trust::new(distrust),
            guard,
            hints,
            counters: status::Counters::default(),
            seen,
            home,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Begins to serve: carries out the verdict on this start, durably. Once; a second call changes nothing.
    pub fn begin(&self, verdict: StartVerdict, partitions: PartitionCount) -> Result<(), DirectoryError> {
        let (Some(home), None) = (&self.inner.home, self.inner.begun.get()) else { return Ok(()) };
        let trees = home.begin(verdict, partitions, &*self.inner.engine)?;
        let trees = trees.unwrap_or_else(|| Trees::new(partitions, self.inner.is_empty()));
        self.inner.trust.set(home.directory.distrust());
        self.inner.set_begun(home.directory.start().instance, trees);
        Ok(())
    }

    /// The directory; `None` for a store over an engine.
    pub fn directory(&self) -> Option<&Arc<DataDirectory>> {
        self.inner.home.as_ref().map(|home| &home.directory)
    }

    /// The coordinating owner's read-modify-write (S1, S2). May wait for the disk. On `Err`, `done` is not called.
    pub fn update(&self, key: &Key, change: Change, done: StoreDone) -> Result<Updated, StoreError> {
        self.update_unless_given_up(key, &change, || Some(done))
    }

    /// The same if it can be done without waiting for the disk (S4). `None`: nothing was done, and `done` was not called.
    /// A write without an fsync waits for [`commit_queued`](Self::commit_queued).
    pub fn try_update(
        &self,
        key: &Key,
        change: &Change,
        done: impl FnOnce() -> StoreDone,
    ) -> Option<Result<Updated, StoreError>> {
        self.try_update_beside(key, change, &[], done)
    }

    /// [`update`](Self::update) for somebody who may give up while it waits for the disk: `claim` is called when that is
    /// over, and unless it gives a callback then, nothing is written.
    pub fn update_unless_given_up(
        &self,
        key: &Key,
        change: &Change,
        claim: impl FnOnce() -> Option<StoreDone>,
    ) -> Result<Updated, StoreError> {
        self.update_beside(key, change, &[], claim)
    }

    /// A replica's write: merges an envelope into what is here. Damaged rows are replaced by the incoming object. May
    /// wait for the disk. On `Err`, `done` is not called.
    pub fn merge(
        &self,
        key: &Key,
        object: &Bytes,
        durability: Durability,
        done: StoreDone,
    ) -> Result<Merged, StoreError> {
        self.merge_unless_given_up(key, object, durability, || Some(done))
    }

    /// As [`try_update`](Self::try_update).
    pub fn try_merge(
        &self,
        key: &Key,
        object: &Bytes,
        durability: Durability,
        done: impl FnOnce() -> StoreDone,
    ) -> Option<Result<Merged, StoreError>> {
        self.inner.merge(key, object, durability, Reach::Memory, || Some(done())).transpose()
    }

    /// As [`update_unless_given_up`](Self::update_unless_given_up).
    pub fn merge_unless_given_up(
        &self,
        key: &Key,
        object: &Bytes,
        durability: Durability,
        claim: impl FnOnce() -> Option<StoreDone>,
    ) -> Result<Merged, StoreError> {
        self.inner.merge(key, object, durability, Reach::Disk, claim)?.ok_or(StoreError::GivenUp)
    }

    /// What is durably published here. May wait for the disk.
    pub fn read(&self, key: &Key) -> Stored {
        self.inner.read(key, Reach::Disk).unwrap_or(Stored::Unknown(None))
    }

    /// The same if memory alone can say it (S4).
    pub fn try_read(&self, key: &Key) -> Option<Stored> {
        self.inner.read(key, Reach::Memory)
    }

    /// The instance whose dots this store makes at the moment; a failed write changes it.
    pub fn actor(&self) -> ActorId {
        self.inner.session().actor
    }

    /// Decodes with the store's rule that a bad envelope is unknown.
    pub fn decode(stored: &Stored) -> Option<Object> {
        match stored {
            Stored::Found(envelope) | Stored::Unknown(Some(envelope)) => Object::decode(envelope).ok(),
            Stored::Missing | Stored::Unknown(None) => None,
        }
    }

    /// What this node last saw of another's starts: the answer to a node that is starting.
    pub fn last_start(&self, node: NodeId) -> Option<Start> {
        self.inner.seen.last(node)
    }

    /// Remembers another's start, durably, before its announcement is answered. Returns what was known before. Never
    /// goes back. Touches the disk.
    pub fn record_start(&self, node: NodeId, start: Start) -> Result<Option<Start>, DirectoryError> {
        self.inner.seen.record(node, start)
    }

    /// Partitions whose reads do not count, in order.
    pub fn untrusted(&self) -> Vec<PartitionId> {
        self.inner.trust.untrusted()
    }

    /// After a pass over every other owner of the partition has been merged here, durably: its reads count again.
    pub fn trust(&self, partition: PartitionId) -> Result<(), DirectoryError> {
        self.inner.trust.add(partition, |distrust| self.inner.keep_distrust(distrust))
    }

    /// Rows of a partition in token order behind the row key `after`: at most `rows_max`, and no more once they are
    /// `bytes_max` bytes. For a refill and for anti-entropy.
    pub fn scan_partition(
        &self,
        partition: PartitionId,
        after: Option<&[u8]>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<ScanPage, StoreError> {
        let begun = self.inner.begun.get().ok_or(StoreError::NotBegun)?;
        self.inner.scan(begun.trees.partitions().tokens(partition), after, rows_max, bytes_max)
    }

    /// As [`scan_partition`](Self::scan_partition), between two tokens, both inclusive: a leaf, say.
    pub fn scan_tokens(
        &self,
        tokens: (Token, Token),
        after: Option<&[u8]>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<ScanPage, StoreError> {
        self.inner.scan(tokens, after, rows_max, bytes_max)
    }

    /// The envelope in a row as it is published, whether or not this node's reads count: for anti-entropy, which only
    /// merges. Leaves the recent values alone.
    pub fn row(&self, row: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.inner.published_row(row)
    }

    /// A page of a bucket's keys in byte order, with the outline of each object: those of the partitions asked for,
    /// deleted and expired ones included. At most `rows_max`, and no more once they are `bytes_max` bytes or enough
    /// other keys have been passed over.
    pub fn list(&self, range: &ListRange, rows_max: usize, bytes_max: usize) -> Result<ListPage, StoreError> {
        self.inner.list(range, rows_max, bytes_max)
    }

    /// The root of a partition's Merkle tree; `None` until it is built, or where a scan met damage. Equal roots mean
    /// equal rows but for a chance of 2⁻⁶⁴.
    pub fn digest(&self, partition: PartitionId) -> Option<u64> {
        self.inner.begun.get()?.trees.root(partition)
    }

    /// The leaves of a partition's tree, all of one width in tokens; their number depends on Q alone. Any node above
    /// some of them is their exclusive-or.
    pub fn leaves(&self, partition: PartitionId) -> Option<Vec<u64>> {
        self.inner.begun.get()?.trees.leaves(partition)
    }

    /// How many leaves each tree has, a power of two; `None` before [`begin`](Self::begin).
    pub fn leaf_count(&self) -> Option<usize> {
        Some(self.inner.begun.get()?.trees.leaf_count())
    }

    /// First and last token of a leaf, both inclusive.
    pub fn leaf_tokens(&self, partition: PartitionId, leaf: usize) -> Option<(Token, Token)> {
        let trees = &self.inner.begun.get()?.trees;
        (leaf < trees.leaf_count()).then(|| trees.leaf_tokens(partition, leaf))
    }

    /// One step towards the trees that are not built, on a thread that may touch the disk. To be called until it is
    /// finished after [`begin`](Self::begin), and now and then later: a repair of damage makes a tree be built anew.
    pub fn rebuild_digests(&self) -> Rebuild {
        self.inner.rebuild_step()
    }

    /// A small durable record of the node's own, by name; also before [`begin`](Self::begin).
    pub fn recall(&self, name: &str) -> Result<Option<Bytes>, EngineError> {
        self.inner.engine.get(Keyspace::Meta, &note_row(name))
    }

    /// Writes such a record, with fsync.
    pub fn remember(&self, name: &str, value: Bytes, done: StoreDone) -> Result<(), EngineError> {
        let row = Write { keyspace: Keyspace::Meta, key: note_row(name), value: Some(value) };
        self.inner.engine.submit(self.inner.engine.generation(), smallvec![row], Durability::Fsync, done)
    }

    /// To be called about once a second, on a thread that may touch the disk: disk guard and high-water mark.
    pub fn tick(&self) {
        self.inner.tick();
    }

    /// Counters.
    pub fn status(&self) -> StoreStatus {
        self.inner.status()
    }

    /// Everything accepted is written, the trees are saved, and the next start knows that this was a clean end. Later
    /// writes are refused.
    pub fn close(&self) -> Result<(), DirectoryError> {
        self.inner.close()
    }
}

fn note_row(name: &str) -> Bytes {
    Bytes::from([b"node/", name.as_bytes()].concat())
}
