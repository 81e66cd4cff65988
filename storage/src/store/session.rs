//! Under which instance dots are made.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::merkle::Trees;
use super::{Begun, Inner};
use crate::engine::Keyspace;
use crate::versions::ActorId;

/// The instance under which dots are made, for one generation of the engine: a write that failed after its object had
/// left for other replicas is forgotten here, and no later dot of the same instance may cover it (S2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub(super) generation: u64,
    pub(super) actor: ActorId,
}

impl Inner {
    pub(super) fn set_begun(&self, actor: ActorId, trees: Trees) {
        *self.session.lock() = Session { generation: self.engine.generation(), actor };
        // Of two calls at once the first wins, and both began with the same directory.
        let _ = self.begun.set(Begun { trees });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.engine.scan(Keyspace::Objects, &[], None, 1).is_ok_and(|rows| rows.is_empty())
    }

    /// The engine's generation and the instance for it. Read before anything a write is built on (E6).
    pub(super) fn session(&self) -> Session {
        let mut session = self.session.lock();
        // Read under the lock: an instance never makes dots under two generations.
        let generation = self.engine.generation();
        if generation != session.generation {
            let before = session.actor;
            *session = Session { generation, actor: successor(before, generation) };
            tracing::warn!(%before, now = %session.actor, "a write failed: dots have a new storage instance");
        }
        *session
    }

    /// A row that could not be read is being replaced: it may have held writes of this instance that the replacement
    /// lacks and a third replica has, which a later dot of the same instance would cover.
    pub(super) fn forget_instance(&self) {
        let mut session = self.session.lock();
        session.actor = successor(session.actor, session.generation);
    }
}

/// As random as the instance before, and the same in every run of a simulation.
fn successor(actor: ActorId, generation: u64) -> ActorId {
    ActorId(xxh3_64_with_seed(b"the storage instance after", actor.0 ^ generation.rotate_left(32)))
}
