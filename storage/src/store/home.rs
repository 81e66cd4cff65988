//! A store's life in its directory: opened, begun, marked once a second, closed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rondo_ring::PartitionCount;
use smallvec::smallvec;

use super::mark::{Mark, MarkFile, Sync};
use super::merkle::Trees;
use super::starts::{Start, StartVerdict};
use super::trust::Distrust;
use super::{Begun, DataDirectory, DirectoryError, Inner, WallClock, digests, identity};
use crate::engine::{Durability, Engine, EngineError, Keyspace, Write};
use crate::versions::ActorId;

const MARK_FILE: &str = "mark";
const DIGESTS_FILE: &str = "digests";
/// The row whose write makes everything before it durable.
const BARRIER_ROW: &[u8] = b"store/mark";

/// What a store with a directory has beyond one over an engine.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) directory: Arc<DataDirectory>,
    pub(super) quarantined: usize,
    mark: Mutex<MarkFile>,
    /// What the mark said when the directory was opened; `None`: it is no longer to be believed.
    opened: Option<Mark>,
    /// The instance is younger than anything a peer can have seen.
    instance_is_new: bool,
    /// The engine's number up to which everything is known to be durable.
    durable: AtomicU64,
    barrier: Barrier,
}

/// The write that finds out what is durable: one a second at most, and none without another write before it.
#[derive(Debug, Default)]
struct Barrier {
    running: AtomicBool,
    /// Writes queued when the last one was.
    writes: AtomicU64,
}

impl Home {
    /// Opens the engine, moves one aside that will not open, and compares it with the mark.
    pub(super) fn open(
        directory: Arc<DataDirectory>,
        clock: &dyn WallClock,
        open_engine: impl Fn(&Path) -> Result<Arc<dyn Engine>, EngineError>,
    ) -> Result<(Self, Arc<dyn Engine>), DirectoryError> {
        let path = directory.engine_path();
        let had_engine = path.exists();
        let (engine, quarantined) = match open_engine(&path) {
            Ok(engine) => (engine, false),
            Err(EngineError::Unopenable(reason)) if had_engine => {
                directory.check_fault_is_the_engines(&open_engine)?;
                let aside = directory.quarantine(clock.now_us())?;
                tracing::error!(
                    %reason, aside = %aside.display(),
                    "the storage engine will not open: it was moved aside, and this node is refilled by the others"
                );
                (open_engine(&path)?, true)
            }
            Err(error) => return Err(error.into()),
        };
        let (mark_file, mark) = MarkFile::open(&directory.file(MARK_FILE))?;
        let published = engine.status().published;
        let behind = mark.is_none_or(|mark| mark.published > published);
        let lost = directory.starts().has_served() && (quarantined || !had_engine || behind);
        if lost {
            tracing::error!(
                published,
                marked = mark.map(|mark| mark.published),
                "the storage engine may lack acknowledged writes: reads here count only after a refill"
            );
            directory.declare_lost()?;
        }
        let home = Self {
            quarantined: directory.quarantined()?,
            instance_is_new: lost || directory.instance_is_new(),
            directory,
            mark: Mutex::new(mark_file),
            opened: mark.filter(|_| !lost),
            durable: AtomicU64::new(published),
            barrier: Barrier::default(),
        };
        Ok((home, engine))
    }

    /// Where the dots go on: exact after a clean end; after any other the instance is new, and it hardly matters.
    pub(super) fn counter(&self) -> u64 {
        self.opened.map_or(0, |mark| mark.counter)
    }

    /// Carries out the verdict, durably, and says which trees there are already.
    pub(super) fn begin(
        &self,
        verdict: StartVerdict,
        partitions: PartitionCount,
        engine: &dyn Engine,
    ) -> Result<Option<Trees>, DirectoryError> {
        let clean = self.opened.filter(|mark| mark.clean);
        let never_served = !self.directory.starts().has_served();
        let keeps = verdict == StartVerdict::Confirmed && (clean.is_some() || never_served);
        let current = self.directory.start().instance;
        let instance = if keeps || self.instance_is_new { current } else { identity::new_instance()? };
        self.directory.change(|identity| {
            let counter = identity.starts.counter();
            match verdict {
                StartVerdict::Stale { highest_seen } => {
                    // Above what the peers saw, so that the next start of this directory can be confirmed.
                    let counter = counter.max(highest_seen.saturating_add(1));
                    identity.starts.push(Start { counter, instance }, true);
                    identity.distrust = Distrust::Everything;
                }
                _ if instance == current => identity.starts.set_served(),
                _ => identity.set_instance(instance, true),
            }
            identity.distrust = std::mem::take(&mut identity.distrust).in_partitions(partitions);
        })?;
        let barrier = engine.get(Keyspace::Meta, BARRIER_ROW);
        let same_engine = |mark: &Mark| matches!(&barrier, Ok(Some(row)) if row[..] == mark.published.to_le_bytes());
        let trees = clean
            .filter(same_engine)
            .and_then(|mark| digests::load(&self.directory.file(DIGESTS_FILE), partitions, mark));
        let mark = Mark { published: self.durable.load(Ordering::Acquire), counter: self.counter(), clean: false };
        self.mark.lock().write(mark, Sync::Now)?;
        Ok(trees)
    }

    /// After the engine is closed: everything accepted is in it.
    fn end(&self, begun: &Begun, actor: ActorId, counter: u64) -> Result<(), DirectoryError> {
        if actor != self.directory.start().instance {
            self.directory.change(|identity| identity.set_instance(actor, true))?;
        }
        let mark = Mark { published: self.durable.load(Ordering::Acquire), counter, clean: true };
        digests::save(&self.directory.file(DIGESTS_FILE), &begun.trees, mark)?;
        self.mark.lock().write(mark, Sync::Now)
    }
}

impl Inner {
    /// Once a second: looks at the disk, and brings the mark up to what is durable.
    pub(super) fn tick(self: &Arc<Self>) {
        if self.guard.check() {
            let (low, available_bytes) = (self.guard.is_low(), self.guard.available_bytes());
            tracing::warn!(low, available_bytes, "the disk guard changed its mind about writes");
        }
        if let (Some(home), Some(_)) = (&self.home, self.begun.get()) {
            self.mark_durable(home);
        }
    }

    /// The number of the last barrier that is through goes into the mark, and if there were writes since, the next one
    /// is sent. Only a barrier knows: what is published may still be on its way to the disk.
    fn mark_durable(self: &Arc<Self>, home: &Home) {
        let mark = Mark { published: home.durable.load(Ordering::Acquire), counter: self.dots.last(), clean: false };
        if let Err(error) = home.mark.lock().write(mark, Sync::Later) {
            tracing::warn!(%error, "the high-water mark could not be written");
        }
        let writes = self.queued.total();
        if writes != home.barrier.writes.load(Ordering::Acquire) {
            self.send_barrier(home, writes);
        }
    }

    fn send_barrier(self: &Arc<Self>, home: &Home, writes: u64) {
        if home.barrier.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let (inner, published, caught) = (self.clone(), self.engine.status().published, self.queued.catch());
        let done = Box::new(move |result: Result<(), EngineError>| {
            let Some(home) = &inner.home else { return };
            if result.is_ok() {
                home.durable.fetch_max(published, Ordering::AcqRel);
                home.barrier.writes.store(writes, Ordering::Release);
                inner.queued.synced(caught);
            }
            home.barrier.running.store(false, Ordering::Release);
        });
        let row = Write {
            keyspace: Keyspace::Meta,
            key: Bytes::from_static(BARRIER_ROW),
            value: Some(Bytes::copy_from_slice(&published.to_le_bytes())),
        };
        let generation = self.engine.generation();
        if self.engine.submit(generation, smallvec![row], Durability::Fsync, done).is_err() {
            home.barrier.running.store(false, Ordering::Release);
        }
    }

    /// The last number in the mark is that of the last barrier, as always: a number that no log record has would be
    /// missed at the next start.
    pub(super) fn close(self: &Arc<Self>) -> Result<(), DirectoryError> {
        if let Some(home) = &self.home {
            self.send_barrier(home, self.queued.total());
        }
        self.engine.close()?;
        match (&self.home, self.begun.get()) {
            (Some(home), Some(begun)) => home.end(begun, self.session().actor, self.dots.last()),
            _ => Ok(()),
        }
    }
}
