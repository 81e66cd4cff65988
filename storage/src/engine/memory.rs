//! The engine for simulation and models: ordered maps with the contract of the disk engine, in which a test decides
//! when a commit finishes, when one fails, what is damaged, and what a crash takes with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Batch, Done, Durability, Engine, EngineError, EngineStatus, Keyspace, Rows, Write};

/// Values of one page of a scan, as on disk.
const SCAN_BYTES_MAX: usize = 4 << 20;
/// Batches that may wait while the engine is held.
const QUEUE_LEN_MAX: usize = 65_536;

/// What a crash takes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashLoss {
    /// The process only: every finished write is there.
    Process,
    /// The machine's power: writes with [`Durability::Interval`] after the last one with [`Durability::Fsync`] too.
    Power,
}

/// See the module. Without [`MemoryEngine::hold`] every batch finishes inside its `submit`.
#[derive(Default)]
pub struct MemoryEngine {
    state: Mutex<State>,
    generation: AtomicU64,
}

#[derive(Default)]
struct State {
    maps: [BTreeMap<Bytes, Bytes>; 4],
    queue: VecDeque<Pending>,
    held: bool,
    failures: VecDeque<EngineError>,
    last_failure: Option<EngineError>,
    damaged: BTreeSet<(Keyspace, Bytes)>,
    /// What each row was before the writes that a power cut would take, latest last.
    unsynced: Vec<Undo>,
    status: EngineStatus,
    closed: bool,
}

type Undo = (Keyspace, Bytes, Option<Bytes>);

struct Pending {
    generation: u64,
    batch: Batch,
    durability: Durability,
    done: Done,
}

impl std::fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryEngine").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl MemoryEngine {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on batches wait for [`MemoryEngine::step`] or [`MemoryEngine::release`].
    pub fn hold(&self) {
        self.state.lock().held = true;
    }

    /// Finishes what waits, and from now on every batch at once.
    pub fn release(&self) {
        self.state.lock().held = false;
        while self.step() {}
    }

    /// Finishes the oldest batch that waits; whether there was one.
    pub fn step(&self) -> bool {
        let mut state = self.state.lock();
        let Some(pending) = state.queue.pop_front() else {
            return false;
        };
        let result = self.finish(&mut state, pending.generation, pending.batch, pending.durability);
        // A `done` may submit again.
        drop(state);
        (pending.done)(result);
        true
    }

    /// Batches that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// The next batch to finish fails with `error`; called several times, the next several.
    pub fn fail_next(&self, error: EngineError) {
        self.state.lock().failures.push_back(error);
    }

    /// Makes a row unreadable until it is written again.
    pub fn damage(&self, keyspace: Keyspace, key: &[u8]) {
        self.state.lock().damaged.insert((keyspace, Bytes::copy_from_slice(key)));
    }

    /// As if the disk were gone: nothing is left.
    pub fn wipe(&self) {
        self.state.lock().maps = Default::default();
    }

    /// What the next process finds after a crash. Batches that waited never finish and their `done` is never called;
    /// this engine is closed.
    #[must_use]
    pub fn crash(&self, loss: CrashLoss) -> Self {
        let mut state = self.state.lock();
        state.closed = true;
        // Forgotten, not dropped: a `done` that notices its end would be an answer from a process that is gone.
        state.queue.drain(..).for_each(|pending| std::mem::forget(pending.done));
        let mut maps = state.maps.clone();
        if loss == CrashLoss::Power {
            for (keyspace, key, before) in state.unsynced.iter().rev() {
                restore(&mut maps[*keyspace as usize], key, before.clone());
            }
        }
        let status = EngineStatus { published: state.status.published, ..EngineStatus::default() };
        let next = State { maps, damaged: state.damaged.clone(), status, ..State::default() };
        Self { state: Mutex::new(next), generation: AtomicU64::new(0) }
    }

    fn finish(
        &self,
        state: &mut State,
        generation: u64,
        batch: Batch,
        durability: Durability,
    ) -> Result<(), EngineError> {
        if generation != self.generation() {
            return Err(state.last_failure.clone().unwrap_or_else(super::stale));
        }
        if let Some(error) = state.failures.pop_front() {
            self.generation.fetch_add(1, Ordering::SeqCst);
            state.last_failure = Some(error.clone());
            state.status.failing = true;
            return Err(error);
        }
        for write in batch {
            state.apply(write);
        }
        if durability == Durability::Fsync {
            state.unsynced.clear();
            state.status.fsyncs_total += 1;
        }
        state.status.failing = false;
        state.status.batches_total += 1;
        state.status.groups_total += 1;
        state.status.published += 1;
        Ok(())
    }
}

impl State {
    fn apply(&mut self, write: Write) {
        let before = restore(&mut self.maps[write.keyspace as usize], &write.key, write.value);
        self.damaged.remove(&(write.keyspace, write.key.clone()));
        self.unsynced.push((write.keyspace, write.key, before));
    }

    fn check_open(&self) -> Result<(), EngineError> {
        if self.closed { Err(EngineError::Closed) } else { Ok(()) }
    }

    fn check_readable(&self, keyspace: Keyspace, key: &Bytes) -> Result<(), EngineError> {
        if self.damaged.contains(&(keyspace, key.clone())) {
            return Err(EngineError::Damaged("injected".to_owned()));
        }
        Ok(())
    }
}

fn restore(map: &mut BTreeMap<Bytes, Bytes>, key: &Bytes, value: Option<Bytes>) -> Option<Bytes> {
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    }
}

impl Engine for MemoryEngine {
    fn get_from_memory(&self, keyspace: Keyspace, key: &[u8]) -> Option<Result<Option<Bytes>, EngineError>> {
        Some(self.get(keyspace, key))
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let state = self.state.lock();
        state.check_open()?;
        if !state.damaged.is_empty() {
            state.check_readable(keyspace, &Bytes::copy_from_slice(key))?;
        }
        Ok(state.maps[keyspace as usize].get(key).cloned())
    }

    fn scan(&self, keyspace: Keyspace, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows, EngineError> {
        let state = self.state.lock();
        state.check_open()?;
        if limit == 0 || to.is_some_and(|to| to <= from) {
            return Ok(Rows::new());
        }
        let bounds = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        let (mut page, mut bytes) = (Rows::new(), 0);
        for (key, value) in state.maps[keyspace as usize].range::<[u8], _>(bounds) {
            state.check_readable(keyspace, key)?;
            bytes += value.len();
            page.push((key.clone(), value.clone()));
            if page.len() == limit || bytes >= SCAN_BYTES_MAX {
                break;
            }
        }
        Ok(page)
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn submit(&self, generation: u64, batch: Batch, durability: Durability, done: Done) -> Result<(), EngineError> {
        super::check_batch(&batch)?;
        let held = {
            let mut state = self.state.lock();
            state.check_open()?;
            if generation != self.generation() {
                return Err(super::stale());
            }
            if state.queue.len() >= QUEUE_LEN_MAX {
                return Err(EngineError::Busy);
            }
            state.queue.push_back(Pending { generation, batch, durability, done });
            state.held
        };
        while !held && self.step() {}
        Ok(())
    }

    /// There are no files to link.
    fn checkpoint(&self, _dir: &Path) -> Result<(), EngineError> {
        Err(EngineError::Write("the engine in memory has no files to copy".to_owned()))
    }

    fn status(&self) -> EngineStatus {
        let state = self.state.lock();
        let memtable_bytes: usize = state.maps.iter().flatten().map(|(key, value)| key.len() + value.len()).sum();
        EngineStatus { memtable_bytes: memtable_bytes as u64, queue_len: state.queue.len(), ..state.status.clone() }
    }

    fn close(&self) -> Result<(), EngineError> {
        self.release();
        let mut state = self.state.lock();
        state.check_open()?;
        state.closed = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn put(key: &'static str, value: &'static str) -> Batch {
        Batch::from_vec(vec![Write {
            keyspace: Keyspace::Objects,
            key: Bytes::from_static(key.as_bytes()),
            value: Some(Bytes::from_static(value.as_bytes())),
        }])
    }

    type Outcomes = Arc<Mutex<Vec<Result<(), EngineError>>>>;

    fn results() -> (Outcomes, impl Fn() -> Done) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&seen);
        (seen, move || {
            let to = Arc::clone(&to);
            Box::new(move |result| to.lock().push(result))
        })
    }

    fn value(engine: &MemoryEngine, key: &str) -> Option<Bytes> {
        engine.get(Keyspace::Objects, key.as_bytes()).unwrap()
    }

    #[test]
    fn a_held_batch_is_not_there_until_its_step() {
        let engine = MemoryEngine::new();
        let (seen, done) = results();
        engine.hold();
        engine.submit(0, put("a", "1"), Durability::Fsync, done()).unwrap();
        engine.submit(0, put("b", "2"), Durability::Fsync, done()).unwrap();
        assert_eq!((value(&engine, "a"), engine.waiting()), (None, 2));
        assert!(engine.step());
        assert_eq!((value(&engine, "a").is_some(), value(&engine, "b")), (true, None));
        engine.release();
        assert!(value(&engine, "b").is_some());
        assert_eq!(*seen.lock(), [Ok(()), Ok(())]);
    }

    #[test]
    fn e6_a_batch_queued_behind_a_failure_fails_with_it() {
        let engine = MemoryEngine::new();
        let (seen, done) = results();
        engine.hold();
        engine.fail_next(EngineError::DiskFull);
        engine.submit(0, put("a", "1"), Durability::Fsync, done()).unwrap();
        engine.submit(0, put("b", "2"), Durability::Fsync, done()).unwrap();
        engine.release();
        assert_eq!(*seen.lock(), [Err(EngineError::DiskFull), Err(EngineError::DiskFull)]);
        assert_eq!((engine.generation(), engine.status().failing), (1, true));
        assert_eq!(engine.submit(0, put("c", "3"), Durability::Fsync, done()), Err(super::super::stale()));
        engine.submit(1, put("c", "3"), Durability::Fsync, done()).unwrap();
        assert_eq!((value(&engine, "a"), value(&engine, "b")), (None, None));
        assert!(value(&engine, "c").is_some() && !engine.status().failing);
    }

    #[test]
    fn a_power_cut_takes_what_no_sync_followed() {
        let engine = MemoryEngine::new();
        let (_, done) = results();
        engine.submit(0, put("a", "old"), Durability::Fsync, done()).unwrap();
        engine.submit(0, put("a", "new"), Durability::Interval, done()).unwrap();
        engine.submit(0, put("b", "new"), Durability::Interval, done()).unwrap();
        assert_eq!(value(&engine.crash(CrashLoss::Process), "a").unwrap(), "new");
        let after = engine.crash(CrashLoss::Power);
        assert_eq!((value(&after, "a").unwrap(), value(&after, "b")), (Bytes::from_static(b"old"), None));
        assert_eq!(engine.get(Keyspace::Objects, b"a"), Err(EngineError::Closed));
    }

    #[test]
    fn damage_is_unknown_until_it_is_written_over() {
        let engine = MemoryEngine::new();
        let (_, done) = results();
        engine.submit(0, put("a", "1"), Durability::Fsync, done()).unwrap();
        engine.damage(Keyspace::Objects, b"a");
        assert!(matches!(engine.get(Keyspace::Objects, b"a"), Err(EngineError::Damaged(_))));
        assert!(matches!(engine.scan(Keyspace::Objects, b"", None, 9), Err(EngineError::Damaged(_))));
        engine.submit(0, put("a", "2"), Durability::Fsync, done()).unwrap();
        assert_eq!(value(&engine, "a").unwrap(), "2");
    }
}
