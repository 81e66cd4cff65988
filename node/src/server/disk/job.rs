//! What is asked of the disk, and the right to answer: whoever waits may give up before the disk has said anything, and
//! then nothing is written.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rondo_ring::NodeId;
use rondo_storage::Key;
use rondo_storage::engine::{Durability, EngineError};
use rondo_storage::store::{Change, Hinted, Store, StoreDone, StoreError, Stored, Updated};
use smallvec::SmallVec;

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

/// Whose a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// This node's.
    Own,
    /// Kept for this one.
    Others(NodeId),
}

/// Reads a key.
pub struct Reading<F, R = Stored> {
    key: Key,
    read: fn(&Store, &Key) -> R,
    reply: Once<F>,
}

impl<F: FnOnce(Result<Stored, StoreError>) + Send + 'static> Reading<F> {
    /// `reply` is called once.
    pub fn new(key: Key, reply: F) -> Self {
        Self { key, read: Store::read, reply: Once::new(reply) }
    }
}

impl<F: FnOnce(Result<Hinted, StoreError>) + Send + 'static> Reading<F, Hinted> {
    /// What is kept of it for other nodes. `reply` is called once.
    pub fn hinted(key: Key, reply: F) -> Self {
        Self { key, read: Store::read_hinted, reply: Once::new(reply) }
    }
}

impl<R: 'static, F: FnOnce(Result<R, StoreError>) + Send + 'static> Job for Reading<F, R> {
    fn run(self: Arc<Self>, store: &Store) {
        let stored = (self.read)(store, &self.key);
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
    whose: Whose,
    reply: Once<F>,
}

impl<F: FnOnce(Result<(), StoreError>) + Send + 'static> Merging<F> {
    /// `reply` is called once, with `Ok` when the object is durable.
    pub fn new(key: Key, object: Bytes, durability: Durability, reply: F) -> Self {
        Self { key, object, durability, whose: Whose::Own, reply: Once::new(reply) }
    }

    /// Keeps it for another node.
    pub fn hint(target: NodeId, key: Key, object: Bytes, durability: Durability, reply: F) -> Self {
        Self { key, object, durability, whose: Whose::Others(target), reply: Once::new(reply) }
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
        let Self { key, object, durability, .. } = &*self;
        let merged = match self.whose {
            Whose::Own => store.merge_unless_given_up(key, object, *durability, claim).map(|_| ()),
            Whose::Others(target) => store.keep_hint(target, key, object, *durability, claim),
        };
        if let Err(error) = merged {
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
    hint_for: SmallVec<[NodeId; 1]>,
    /// Nothing but the hints is written.
    hints_only: bool,
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
    /// `reply` is called once, and if that is with `Ok`, `durable` later. The result is kept for `hint_for` too.
    pub fn new(key: Key, change: Change, hint_for: SmallVec<[NodeId; 1]>, reply: F, durable: D) -> Self {
        let durable = Mutex::new(Durable::Held(durable));
        Self { key, change, hint_for, hints_only: false, reply: Once::new(reply), durable }
    }

    /// On what is kept for the owners, and for `hint_for` only.
    pub fn hints(key: Key, change: Change, hint_for: SmallVec<[NodeId; 1]>, reply: F, durable: D) -> Self {
        Self { hints_only: true, ..Self::new(key, change, hint_for, reply, durable) }
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
        let updated = match self.hints_only {
            false => store.update_beside(&self.key, &self.change, &self.hint_for, claim),
            true => store.update_hinted(&self.key, &self.change, &self.hint_for, claim),
        };
        if let Some(reply) = self.reply.take() {
            reply(updated);
            self.answered();
        }
    }

    fn refuse(&self, why: StoreError) -> bool {
        self.reply.open().map(|reply| reply(Err(why))).is_some()
    }
}
