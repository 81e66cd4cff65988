//! One node's store under virtual time: the promises of `rondo_storage::store` (S1 to S3, E4, E6) in a map, with a
//! commit that takes time and can fail.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rondo_storage::Key;
use rondo_storage::store::{BlindPut, Change, StoreError, Stored, Updated};
use rondo_storage::versions::{ActorId, CausalContext, Dot, Object, Sibling};

/// A write on its way to the disk.
#[derive(Clone, Debug)]
pub struct Commit {
    pub key: Key,
    pub object: Object,
    generation: u64,
}

#[derive(Debug)]
pub struct SimStore {
    actor: ActorId,
    issued: u64,
    generation: u64,
    pub durable: BTreeMap<Key, Object>,
    pending: BTreeMap<Key, Object>,
    /// What was here cannot be read any more: no vote until a refill, which is not simulated.
    damaged: BTreeSet<Key>,
}

impl SimStore {
    pub fn new(actor: u64) -> Self {
        Self {
            actor: ActorId(actor),
            issued: 0,
            generation: 0,
            durable: BTreeMap::new(),
            pending: BTreeMap::new(),
            damaged: BTreeSet::new(),
        }
    }

    fn newest(&self, key: &Key) -> Object {
        self.pending.get(key).or_else(|| self.durable.get(key)).cloned().unwrap_or_default()
    }

    /// The write, its commit, and the context it replaces.
    pub fn update(
        &mut self,
        key: &Key,
        change: Change,
        now_us: u64,
    ) -> Result<(Updated, Commit, CausalContext), StoreError> {
        if self.damaged.contains(key) {
            return Err(StoreError::Damaged);
        }
        let mut object = self.newest(key);
        match &change.condition {
            Some(condition) if !condition.holds(&object, now_us, change.conflict) => {
                return self.written_before(key, object, &change, now_us);
            }
            _ => {}
        }
        let blind = match (change.blind, &change.value) {
            (BlindPut::Sibling, Some(_)) => CausalContext::default(),
            (BlindPut::Overwrite, _) | (_, None) => object.context.clone(),
        };
        let seen = change.context.unwrap_or(blind);
        self.issued = now_us.max(self.issued + 1).max(object.context.highest(self.actor) + 1);
        let dot = Dot { actor: self.actor, counter: self.issued };
        object.update(&seen, Sibling { dot, value: change.value, metadata: change.metadata });
        let siblings = object.live(now_us).count();
        if siblings > usize::from(change.siblings_max) {
            let context = object.context.clone();
            return Err(StoreError::TooManySiblings { count: siblings, max: change.siblings_max, context });
        }
        let context = object.answer_context(&seen, dot);
        let (object_bytes, modified_us) = (object.encode(), now_us);
        let updated = Updated { object: object_bytes, dot, context, siblings, modified_us, expires_us: 0, hinted: 0 };
        Ok((updated, self.queue(key, object), seen))
    }

    /// A condition that failed: on what the same request wrote, or on something else.
    fn written_before(
        &mut self,
        key: &Key,
        object: Object,
        change: &Change,
        now_us: u64,
    ) -> Result<(Updated, Commit, CausalContext), StoreError> {
        let seen = change.context.clone().unwrap_or_default();
        let Some(own) = object.written_as(change.metadata.write_id) else {
            let (etag, context) = (object.etag(now_us, change.conflict), object.context.clone());
            return Err(StoreError::ConditionFailed { etag, context });
        };
        let updated = Updated {
            object: object.encode(),
            dot: own.dot,
            context: object.answer_context(&seen, own.dot),
            siblings: object.live(now_us).count(),
            modified_us: own.metadata.modified_us,
            expires_us: own.metadata.expires_us,
            hinted: 0,
        };
        Ok((updated, self.queue(key, object), seen))
    }

    pub fn merge(&mut self, key: &Key, envelope: &Bytes) -> Commit {
        let mut object = self.newest(key);
        object.merge(Object::decode(envelope).expect("the simulated network changes no bytes"));
        self.queue(key, object)
    }

    fn queue(&mut self, key: &Key, object: Object) -> Commit {
        self.pending.insert(key.clone(), object.clone());
        Commit { key: key.clone(), object, generation: self.generation }
    }

    /// Whether it is durable now. What was built on a failed write fails too (E6).
    pub fn commit(&mut self, commit: &Commit, disk_works: bool) -> bool {
        if commit.generation < self.generation {
            return false;
        }
        if !disk_works {
            self.forget_pending();
            return false;
        }
        if self.pending.get(&commit.key) == Some(&commit.object) {
            self.pending.remove(&commit.key);
        }
        self.durable.insert(commit.key.clone(), commit.object.clone());
        true
    }

    /// A crash, or a failed write. Owners that were sent it may have it: its dot is one of this actor's that is not
    /// here, so a later dot of the same actor could not stand for all before it. Hence a new actor.
    pub fn forget_pending(&mut self) {
        self.generation += 1;
        self.actor.0 += 1_000;
        self.pending.clear();
    }

    pub fn damage(&mut self, key: &Key) {
        self.durable.remove(key);
        self.forget_pending();
        self.damaged.insert(key.clone());
    }

    pub fn read(&self, key: &Key) -> Stored {
        match (self.durable.get(key), self.damaged.contains(key)) {
            (found, true) => Stored::Unknown(found.map(Object::encode)),
            (Some(object), false) => Stored::Found(object.encode()),
            (None, false) => Stored::Missing,
        }
    }
}
