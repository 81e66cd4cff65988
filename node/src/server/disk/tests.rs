//! The threads over an engine whose reads hang for as long as a test wants.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use rondo_ring::PartitionCount;
use rondo_storage::Key;
use rondo_storage::engine::{Batch, Done, Durability, Engine, EngineStatus, Keyspace, MemoryEngine, Rows};
use rondo_storage::store::{BlindPut, Change, Stored, Updated};
use rondo_storage::versions::{ActorId, Conflict, Metadata};
use smallvec::SmallVec;

use super::*;
use crate::server::time::SystemClock;

/// Far beyond what anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Looks again and again; the tests' own package has a better one, which cannot be had here.
fn until(holds: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "it does not come to that");
        std::thread::yield_now();
    }
}

/// A disk with a gate before its reads. Memory alone never knows anything.
#[derive(Default)]
struct Gated {
    engine: MemoryEngine,
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gated {
    fn open(&self) {
        *self.shut.lock() = false;
        self.opened.notify_all();
    }
}

impl Engine for Gated {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.opened.wait_while(&mut self.shut.lock(), |shut| *shut);
        self.engine.get(keyspace, key)
    }

    fn scan(&self, keyspace: Keyspace, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows, EngineError> {
        self.engine.scan(keyspace, from, to, limit)
    }

    fn generation(&self) -> u64 {
        self.engine.generation()
    }

    fn submit(&self, generation: u64, batch: Batch, durability: Durability, done: Done) -> Result<(), EngineError> {
        self.engine.submit(generation, batch, durability, done)
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), EngineError> {
        self.engine.checkpoint(dir)
    }

    fn status(&self) -> EngineStatus {
        self.engine.status()
    }

    fn close(&self) -> Result<(), EngineError> {
        self.engine.close()
    }
}

/// What a job said.
#[derive(Debug, PartialEq)]
enum Said {
    Read(usize, Result<Stored, StoreError>),
    Merged(Result<(), StoreError>),
    Updated(Result<(), StoreError>),
    Durable(Result<(), EngineError>),
}

struct Bench {
    engine: Arc<Gated>,
    store: Arc<Store>,
    disk: Arc<Disk>,
    said: (Sender<Said>, Receiver<Said>),
}

impl Bench {
    fn new(threads: usize, patience: Duration) -> Self {
        let (engine, partitions) = (Arc::new(Gated::default()), PartitionCount::new(8).unwrap());
        let store = Arc::new(Store::over(engine.clone(), Arc::new(SystemClock), ActorId(1), partitions));
        let disk = Disk::with(threads, patience, store.clone(), Clock::start(), Handle::current()).unwrap();
        Self { engine, store, disk, said: channel() }
    }

    /// Shuts the gate and waits until every thread stands before it.
    fn hang(&self) {
        *self.engine.shut.lock() = true;
        for number in 0..self.disk.shared.running.len() {
            self.read(number);
        }
        until(|| self.disk.waiting() == 0);
    }

    fn read(&self, number: usize) {
        let said = self.said.0.clone();
        self.disk.submit(Reading::new(key(), move |read| said.send(Said::Read(number, read)).unwrap()));
    }

    fn update(&self) {
        let (said, durable) = (self.said.0.clone(), self.said.0.clone());
        let updated = move |updated: Result<Updated, _>| said.send(Said::Updated(updated.map(drop))).unwrap();
        let durable = move |result| durable.send(Said::Durable(result)).unwrap();
        self.disk.submit(Updating::new(key(), change(), SmallVec::new(), updated, durable));
    }

    fn merge(&self, object: Bytes) {
        let said = self.said.0.clone();
        let merged = move |result| said.send(Said::Merged(result)).unwrap();
        self.disk.submit(Merging::new(key(), object, Durability::Fsync, merged));
    }

    fn next(&self) -> Said {
        self.said.1.recv_timeout(SOON).expect("a job has not been answered")
    }

    /// Exactly so many answers are given.
    fn all(self, count: usize) -> Vec<Said> {
        let answers: Vec<_> = (0..count).map(|_| self.next()).collect();
        until(|| self.disk.shared.is_idle());
        drop(self.disk);
        assert_eq!(self.said.1.try_iter().next(), None, "a job was answered twice");
        answers
    }
}

fn key() -> Key {
    Key::new("fruit", "apple").unwrap()
}

fn change() -> Change {
    Change {
        context: None,
        blind: BlindPut::Overwrite,
        conflict: Conflict::Siblings,
        condition: None,
        value: Some("red".into()),
        metadata: Metadata::default(),
        ttl: None,
        siblings_max: 100,
        durability: Durability::Fsync,
    }
}

fn given_up(said: &Said) -> bool {
    let why = match said {
        Said::Read(_, Err(why)) | Said::Merged(Err(why)) | Said::Updated(Err(why)) => why,
        _ => return false,
    };
    *why == StoreError::GivenUp
}

/// Nothing is given up in a test that takes less.
const AGES: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_job_is_answered_once() {
    let bench = Bench::new(3, AGES);
    bench.update();
    assert_eq!((bench.next(), bench.next()), (Said::Updated(Ok(())), Said::Durable(Ok(()))));
    (0..500).for_each(|number| bench.read(number));
    let read = |said| match said {
        Said::Read(number, Ok(Stored::Found(_))) => number,
        other => panic!("{other:?}"),
    };
    let mut numbers: Vec<_> = bench.all(500).into_iter().map(read).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_does_not_fit_is_refused_at_once() {
    let bench = Bench::new(2, AGES);
    bench.hang();
    (0..WAITING_MAX).for_each(|_| bench.read(7));
    assert!(bench.said.1.try_recv().is_err(), "so many may wait");
    bench.read(8);
    assert_eq!(bench.said.1.try_recv(), Ok(Said::Read(8, Err(EngineError::Busy.into()))));
    bench.engine.open();
    assert!(bench.all(2 + WAITING_MAX).iter().all(|said| matches!(said, Said::Read(_, Ok(Stored::Missing)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_the_disk_does_not_answer_is_given_up_and_writes_nothing() {
    let bench = Bench::new(3, Duration::from_millis(20));
    *bench.engine.shut.lock() = true;
    let object = object_of_another();
    bench.read(0);
    bench.update();
    bench.merge(object);
    let answers = [bench.next(), bench.next(), bench.next()];
    assert!(answers.iter().all(given_up), "{answers:?}");

    bench.read(1);
    let at_once = bench.said.1.try_recv();
    assert!(at_once.as_ref().is_ok_and(given_up), "while every thread is held up, nothing waits: {at_once:?}");
    bench.engine.open();
    until(|| bench.disk.shared.is_idle());
    assert_eq!(bench.store.read(&key()), Stored::Missing);
    assert_eq!(bench.disk.refused_total(), 4);
    bench.all(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn at_the_end_what_waits_is_refused_and_what_is_being_done_is_answered() {
    let bench = Bench::new(1, AGES);
    bench.hang();
    (1..4).for_each(|number| bench.read(number));
    bench.disk.shared.close();
    bench.read(4);
    let closed = |number| Said::Read(number, Err(EngineError::Closed.into()));
    let refused = [bench.next(), bench.next(), bench.next(), bench.next()];
    assert_eq!(refused, [1, 2, 3, 4].map(closed));
    bench.engine.open();
    assert_eq!(bench.all(1), [Said::Read(0, Ok(Stored::Missing))]);
}

/// An envelope that another store made.
fn object_of_another() -> Bytes {
    let (engine, partitions) = (Arc::new(MemoryEngine::new()), PartitionCount::new(8).unwrap());
    let other = Store::over(engine, Arc::new(SystemClock), ActorId(2), partitions);
    other.update(&key(), change(), Box::new(|_| ())).unwrap().object
}
