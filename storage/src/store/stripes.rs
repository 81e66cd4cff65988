//! One lock per stripe of keys, held from the read to the queueing of a write (S1), and the writes still in the queue.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use rondo_ring::Token;

use super::StoreDone;
use crate::Key;
use crate::engine::{Durability, EngineError};

/// Keys of different stripes never wait for each other; two of the same wait for at most one read of the disk.
const STRIPES: usize = 1_024;

/// A write that was queued and whose `done` has not been called.
struct Pending {
    id: u64,
    row: Bytes,
    generation: u64,
    durability: Durability,
    object: Bytes,
    /// Others who wait for the same write: merges of what it already holds.
    waiters: Vec<StoreDone>,
}

/// The writes of one stripe, oldest first. As many as the engine's queue takes, spread over all stripes.
#[derive(Default)]
struct Queue {
    /// Of the last write; none was queued since it was the same.
    next_id: u64,
    writes: VecDeque<Pending>,
}

/// The two locks are apart because the engine's writer takes `queue` when a write is done, and must not wait there for
/// somebody who reads the disk under `exclusive`.
#[derive(Default)]
struct Stripe {
    exclusive: Mutex<()>,
    queue: Mutex<Queue>,
}

/// All of them.
pub(super) struct Stripes {
    stripes: Box<[Stripe]>,
}

/// A moment in the life of a stripe.
#[derive(Clone, Copy)]
pub(super) struct Moment(u64);

/// What the last write still in the queue will have made of the key.
pub(super) struct Latest {
    pub(super) id: u64,
    pub(super) object: Bytes,
    pub(super) durability: Durability,
}

/// The right to read, change and queue the keys of one stripe.
pub(super) struct Exclusive<'a> {
    stripe: &'a Stripe,
    _held: MutexGuard<'a, ()>,
}

impl Stripes {
    pub(super) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Stripe::default()).collect() }
    }

    /// Waits for whoever changes a key of the same stripe.
    pub(super) fn lock(&self, key: &Key) -> Exclusive<'_> {
        let stripe = self.of(key.token());
        Exclusive { stripe, _held: stripe.exclusive.lock() }
    }

    /// `None` where somebody changes a key of the same stripe, who may be waiting for the disk.
    pub(super) fn try_lock(&self, key: &Key) -> Option<Exclusive<'_>> {
        let stripe = self.of(key.token());
        Some(Exclusive { stripe, _held: stripe.exclusive.try_lock()? })
    }

    /// What [`if_quiet`](Self::if_quiet) has to be given: from before the engine was asked.
    pub(super) fn moment(&self, token: Token) -> Moment {
        Moment(self.of(token).queue.lock().next_id)
    }

    /// Does something with what a reader found, unless a write that it may have missed was in the queue since. Writes
    /// of the stripe that are done meanwhile wait for it.
    pub(super) fn if_quiet(&self, token: Token, since: Moment, act: impl FnOnce()) {
        let queue = self.of(token).queue.lock();
        if queue.next_id == since.0 && queue.writes.is_empty() {
            act();
        }
    }

    /// A write leaves the queue: who else waited for it. `note` gets its row and envelope before anybody can see that
    /// it left.
    pub(super) fn finish(&self, token: Token, id: u64, note: impl FnOnce(Bytes, Bytes)) -> Vec<StoreDone> {
        let mut queue = self.of(token).queue.lock();
        let at = queue.writes.iter().position(|pending| pending.id == id);
        let Some(finished) = at.and_then(|at| queue.writes.remove(at)) else { return Vec::new() };
        note(finished.row, finished.object);
        finished.waiters
    }

    /// Writes in the queue, of all stripes.
    pub(super) fn pending(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.queue.lock().writes.len()).sum()
    }

    fn of(&self, token: Token) -> &Stripe {
        // The trailing bits: the leading ones are the partition, and a node holds few of those.
        &self.stripes[token.0 as usize % STRIPES]
    }
}

impl Exclusive<'_> {
    /// The last write of the key in the queue, if it was queued under the engine's current generation: an older one
    /// has failed or will (E6). The generation must have been read before.
    pub(super) fn latest(&self, key: &Key, generation: u64) -> Option<Latest> {
        self.latest_row(key.row(), generation)
    }

    /// The same of any row that changes under this stripe's lock: a hint has the stripe of the key it is about.
    pub(super) fn latest_row(&self, row: &Bytes, generation: u64) -> Option<Latest> {
        let queue = self.stripe.queue.lock();
        let pending = queue.writes.iter().rev().find(|pending| pending.row == row)?;
        (pending.generation == generation).then(|| Latest {
            id: pending.id,
            object: pending.object.clone(),
            durability: pending.durability,
        })
    }

    /// Notes a write that is about to be queued.
    pub(super) fn push(&self, row: Bytes, generation: u64, durability: Durability, object: Bytes) -> u64 {
        let mut queue = self.stripe.queue.lock();
        queue.next_id += 1;
        let id = queue.next_id;
        queue.writes.push_back(Pending { id, row, generation, durability, object, waiters: Vec::new() });
        id
    }

    /// Takes a note back: the queue was full.
    pub(super) fn withdraw(&self, id: u64) {
        self.stripe.queue.lock().writes.retain(|pending| pending.id != id);
    }

    /// Waits for a write with its writer. Gives `done` back where the write has left the queue meanwhile.
    pub(super) fn join(&self, id: u64, done: StoreDone) -> Result<(), StoreDone> {
        let mut queue = self.stripe.queue.lock();
        match queue.writes.iter_mut().find(|pending| pending.id == id) {
            Some(pending) => {
                pending.waiters.push(done);
                Ok(())
            }
            None => Err(done),
        }
    }
}

/// Tells everybody the same.
pub(super) fn tell(waiters: Vec<StoreDone>, result: &Result<(), EngineError>) {
    for done in waiters {
        done(result.clone());
    }
}
