//! What the store's tests share: a clock one can set, writes in one line, and acknowledgements one can look at.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rondo_ring::PartitionCount;
use rondo_storage::Key;
use rondo_storage::engine::memory::CrashLoss;
use rondo_storage::engine::{Durability, Engine, EngineError, MemoryEngine};
use rondo_storage::store::{
    BlindPut, Change, DataDirectory, DirectoryError, Merged, StartVerdict, Store, StoreDone, StoreError, StoreOptions,
    Updated, WallClock,
};
use rondo_storage::versions::{ActorId, CausalContext, Conflict, Metadata, Object};

/// 2025, in µs.
pub(crate) const NOW_US: u64 = 1_750_000_000_000_000;

pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn at(now_us: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(now_us)))
    }

    pub(crate) fn set(&self, now_us: u64) {
        self.0.store(now_us, Ordering::SeqCst);
    }
}

impl WallClock for TestClock {
    fn now_us(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// The same random numbers in every run.
pub(crate) fn rng() -> TestRng {
    TestRng::deterministic_rng(RngAlgorithm::ChaCha)
}

pub(crate) fn q(partitions: u16) -> PartitionCount {
    PartitionCount::new(partitions).unwrap()
}

pub(crate) fn key(name: &str) -> Key {
    Key::new("fruit", name).unwrap()
}

pub(crate) fn store_over(engine: &Arc<MemoryEngine>, actor: u64) -> Store {
    store_at(engine, &TestClock::at(NOW_US), actor)
}

pub(crate) fn store_at(engine: &Arc<MemoryEngine>, clock: &Arc<TestClock>, actor: u64) -> Store {
    Store::over(engine.clone(), clock.clone(), ActorId(actor), q(8))
}

/// A blind overwrite; the functions below change one thing each.
pub(crate) fn put(value: &str) -> Change {
    Change {
        context: None,
        blind: BlindPut::Overwrite,
        conflict: Conflict::Siblings,
        condition: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        metadata: Metadata::default(),
        ttl: None,
        siblings_max: 100,
        durability: Durability::Fsync,
    }
}

pub(crate) fn sibling(value: &str) -> Change {
    Change { blind: BlindPut::Sibling, ..put(value) }
}

pub(crate) fn after(context: &CausalContext, value: &str) -> Change {
    Change { context: Some(context.clone()), ..put(value) }
}

pub(crate) fn delete() -> Change {
    Change { value: None, ..put("") }
}

/// The acknowledgements of several writes.
#[derive(Clone, Default)]
pub(crate) struct Acks(Arc<Mutex<Vec<Result<(), EngineError>>>>);

impl Acks {
    pub(crate) fn done(&self) -> StoreDone {
        let acks = self.clone();
        Box::new(move |result| acks.0.lock().push(result))
    }

    pub(crate) fn take(&self) -> Vec<Result<(), EngineError>> {
        std::mem::take(&mut self.0.lock())
    }
}

/// A write that must be acknowledged before the call returns.
pub(crate) fn write(store: &Store, key: &Key, change: Change) -> Updated {
    let acks = Acks::default();
    let updated = store.update(key, change, acks.done()).unwrap();
    assert_eq!(acks.take(), [Ok(())]);
    updated
}

pub(crate) fn refused(store: &Store, key: &Key, change: Change) -> StoreError {
    let acks = Acks::default();
    let error = store.update(key, change, acks.done()).unwrap_err();
    assert_eq!(acks.take(), [], "done must not be called on an error");
    error
}

/// A replica write that must be acknowledged before the call returns.
pub(crate) fn merge(store: &Store, key: &Key, object: &Bytes) -> Merged {
    let acks = Acks::default();
    let merged = store.merge(key, object, Durability::Fsync, acks.done()).unwrap();
    assert_eq!(acks.take(), [Ok(())]);
    merged
}

pub(crate) fn object(store: &Store, key: &Key) -> Object {
    Store::decode(&store.read(key)).unwrap_or_default()
}

/// The live values, sorted.
pub(crate) fn values(store: &Store, key: &Key) -> Vec<String> {
    values_of(&object(store, key))
}

pub(crate) fn values_of(object: &Object) -> Vec<String> {
    let text = |value: &Bytes| String::from_utf8(value.to_vec()).unwrap();
    let mut values: Vec<_> = object.siblings.iter().filter_map(|s| s.value.as_ref().map(text)).collect();
    values.sort();
    values
}

/// A directory with an engine in memory beside it, which outlives the store as files would.
pub(crate) struct Machine {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) engine: Mutex<Arc<MemoryEngine>>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) partitions: PartitionCount,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            engine: Mutex::default(),
            clock: TestClock::at(NOW_US),
            partitions: q(8),
        }
    }

    pub(crate) fn directory(&self) -> Result<Arc<DataDirectory>, DirectoryError> {
        DataDirectory::open(&self.dir.path().join("data")).map(Arc::new)
    }

    /// Opened, not begun.
    pub(crate) fn open(&self) -> Store {
        let options = StoreOptions { reserve_bytes: Some(0), ..Default::default() };
        Store::open_with(self.directory().unwrap(), &options, self.clock.clone(), |path| {
            fs::create_dir_all(path).unwrap();
            Ok(self.engine.lock().clone() as Arc<dyn Engine>)
        })
        .unwrap()
    }

    pub(crate) fn start(&self, verdict: StartVerdict) -> Store {
        let store = self.open();
        store.begin(verdict, self.partitions).unwrap();
        store
    }

    /// The engine as the next process finds it; the store is dropped as a killed process would.
    pub(crate) fn crash(&self, store: Store, loss: CrashLoss) {
        let mut engine = self.engine.lock();
        let next = engine.crash(loss);
        *engine = Arc::new(next);
        drop(store);
        // Writes that never finish keep the store alive, and with it the lock that a killed process would lose.
        fs::remove_file(self.dir.path().join("data/LOCK")).unwrap();
    }

    /// A clean end.
    pub(crate) fn stop(&self, store: Store) {
        store.close().unwrap();
        self.crash(store, CrashLoss::Power);
    }
}
