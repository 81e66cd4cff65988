//! What is asked of the disk, and the right to answer: whoever waits may give up before the disk has said anything, and
//! then nothing is written.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rondo_storage::Key;
use rondo_storage::engine::{Durability, EngineError};
use rondo_storage::store::{Change, Store, StoreDone, StoreError, Stored, Updated};

/// Something to be done that may wait for the disk.
pub trait Job: Send + Sync + 'static {
    /// Does it, and answers, unless it has been refused.
    fn run(self: Arc<Self>, store: &Store);

    /// Answers that it is not done, unless it is or is about to be. Whether this was the answer.
    fn refuse(&self, why: StoreError) -> bool;
}

/// An answer that is given once, by whoever is first.
struct Once<R>(Mutex<Right<R>>);

enum Right<R> {
    Open(R),
    /// Nobody may refuse any more: it is being done.
    Claimed(R),
    Given,
}

impl<R> Once<R> {
    fn new(reply: R) -> Self {
        Self(Mutex::new(Right::Open(reply)))
    }

    /// The right to refuse.
    fn open(&self) -> Option<R> {
        let mut right = self.0.lock();
        match std::mem::replace(&mut *right, Right::Given) {
            Right::Open(reply) => Some(reply),
            other => {
                *right = other;
                None
            }
        }
    }

    /// Whether it may be done.
    fn claim(&self) -> bool {
        let mut right = self.0.lock();
        *right = match std::mem::replace(&mut *right, Right::Given) {
            Right::Open(reply) | Right::Claimed(reply) => Right::Claimed(reply),
            Right::Given => Right::Given,
        };
        matches!(*right, Right::Claimed(_))
    }

    /// The right to say what came of it.
    fn take(&self) -> Option<R> {
        match std::mem::replace(&mut *self.0.lock(), Right::Given) {
            Right::Open(reply) | Right::Claimed(reply) => Some(reply),
            Right::Given => None,
        }
    }
}

/// Reads a key.
pub struct Reading<F> {
    key: Key,
    reply: Once<F>,
}

impl<F: FnOnce(Result<Stored, StoreError>) + Send + 'static> Reading<F> {
    /// `reply` is called once.
    pub fn new(key: Key, reply: F) -> Self {
        Self { key, reply: Once::new(reply) }
    }
}

impl<F: FnOnce(Result<Stored, StoreError>) + Send + 'static> Job for Reading<F> {
    fn run(self: Arc<Self>, store: &Store) {
        let stored = store.read(&self.key);
        if let Some(reply) = self.reply.take() {
            reply(Ok(stored));
        }
    }

    fn refuse(&self, why: StoreError) -> bool {
        self.reply.open().map(|reply| reply(Err(why))).is_some()
    }
}

/// Merges an envelope.
pub struct Merging<F> {
    key: Key,
    object: Bytes,
    durability: Durability,
    reply: Once<F>,
}

impl<F: FnOnce(Result<(), StoreError>) + Send + 'static> Merging<F> {
    /// `reply` is called once, with `Ok` when the object is durable.
    pub fn new(key: Key, object: Bytes, durability: Durability, reply: F) -> Self {
        Self { key, object, durability, reply: Once::new(reply) }
    }

    fn answer(&self, result: Result<(), StoreError>) {
        if let Some(reply) = self.reply.take() {
            reply(result);
        }
    }
}

impl<F: FnOnce(Result<(), StoreError>) + Send + 'static> Job for Merging<F> {
    fn run(self: Arc<Self>, store: &Store) {
        let claim = || -> Option<StoreDone> {
            let later = self.clone();
            self.reply.claim().then(|| -> StoreDone {
                Box::new(move |result: Result<(), EngineError>| later.answer(result.map_err(StoreError::from)))
            })
        };
        if let Err(error) = store.merge_unless_given_up(&self.key, &self.object, self.durability, claim) {
            self.answer(Err(error));
        }
    }

    fn refuse(&self, why: StoreError) -> bool {
        self.reply.open().map(|reply| reply(Err(why))).is_some()
    }
}

/// Carries out a client's write.
pub struct Updating<F, D> {
    key: Key,
    change: Change,
    reply: Once<F>,
    durable: Mutex<Durable<D>>,
}

/// The second answer never comes before the first, however quick the engine's writer is.
enum Durable<D> {
    /// The first has not been given.
    Held(D),
    /// Nor was it when the second was there.
    Early(D, Result<(), EngineError>),
    /// The first has been given.
    Free(D),
    Given,
}

impl<F, D> Updating<F, D>
where
    F: FnOnce(Result<Updated, StoreError>) + Send + 'static,
    D: FnOnce(Result<(), EngineError>) + Send + 'static,
{
    /// `reply` is called once, and if that is with `Ok`, `durable` later.
    pub fn new(key: Key, change: Change, reply: F, durable: D) -> Self {
        Self { key, change, reply: Once::new(reply), durable: Mutex::new(Durable::Held(durable)) }
    }

    fn done(&self, result: Result<(), EngineError>) {
        let mut durable = self.durable.lock();
        match std::mem::replace(&mut *durable, Durable::Given) {
            Durable::Held(tell) => *durable = Durable::Early(tell, result),
            Durable::Free(tell) => {
                drop(durable);
                tell(result);
            }
            Durable::Early(..) | Durable::Given => {}
        }
    }

    fn answered(&self) {
        let mut durable = self.durable.lock();
        match std::mem::replace(&mut *durable, Durable::Given) {
            Durable::Held(tell) => *durable = Durable::Free(tell),
            Durable::Early(tell, result) => {
                drop(durable);
                tell(result);
            }
            Durable::Free(_) | Durable::Given => {}
        }
    }
}

impl<F, D> Job for Updating<F, D>
where
    F: FnOnce(Result<Updated, StoreError>) + Send + 'static,
    D: FnOnce(Result<(), EngineError>) + Send + 'static,
{
    fn run(self: Arc<Self>, store: &Store) {
        let claim = || -> Option<StoreDone> {
            let later = self.clone();
            self.reply.claim().then(|| -> StoreDone { Box::new(move |result| later.done(result)) })
        };
        let updated = store.update_unless_given_up(&self.key, &self.change, claim);
        if let Some(reply) = self.reply.take() {
            reply(updated);
            self.answered();
        }
    }

    fn refuse(&self, why: StoreError) -> bool {
        self.reply.open().map(|reply| reply(Err(why))).is_some()
    }
}
