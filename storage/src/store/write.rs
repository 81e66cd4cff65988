//! The two ways a row changes: a client's write that is coordinated here, and a replica's write.

use std::sync::Arc;

use bytes::Bytes;
use rondo_ring::NodeId;
use smallvec::{SmallVec, smallvec};

use super::hints::{HintRow, Kept, QueuedHint};
use super::merkle::{Before, Turn};
use super::queued::Caught;
use super::scan::Reach;
use super::status::add_one;
use super::stripes::{Exclusive, tell};
use super::trust::Distrust;
use super::{BlindPut, Change, Condition, DirectoryError, Inner, Merged, Session, StoreDone, StoreError, Updated};
use crate::Key;
use crate::engine::{Batch, Durability, EngineError, Keyspace, Write};
use crate::versions::{CausalContext, Conflict, Dot, EnvelopeError, Metadata, Object, Sibling};

/// Others' counters are followed at most this far ahead of the own wall clock (bounded drift): a write that follows
/// another has the later counter among clocks that agree to a minute, and one mad clock does not spread.
const DRIFT_US_MAX: u64 = 60_000_000;

/// What a write builds on.
#[allow(clippy::large_enum_variant, reason = "one lives on the stack of a write, and is taken apart at once")]
enum Basis {
    Nothing,
    /// An envelope and its object; with the name of the write that is to bring it, where that is still in the queue.
    Here {
        envelope: Bytes,
        object: Object,
        queued: Option<(u64, Durability)>,
    },
    Unreadable,
}

/// What a replica is sent.
struct Incoming<'a> {
    object: Object,
    envelope: &'a Bytes,
    durability: Durability,
    reach: Reach,
}

/// A row about to be queued.
struct Row {
    session: Session,
    before: Before,
    object: Bytes,
    durability: Durability,
    reach: Reach,
    hints: SmallVec<[HintRow; 1]>,
}

/// What is needed once the row is done.
struct Queueing {
    id: u64,
    token: rondo_ring::Token,
    row: Bytes,
    before: Before,
    after: u64,
    turn: Turn,
    /// With an fsync.
    caught: Option<Caught>,
    /// Kept for owners that are down, in the same batch.
    hints: SmallVec<[QueuedHint; 1]>,
}

/// All that is here of a key, for a write that is to go on from it.
struct Here {
    basis: Basis,
    kept: Kept,
    reach: Reach,
}

/// How an envelope is taken apart: with its checksum verified, or without where that has been done.
type Decode = fn(&Bytes) -> Result<Object, EnvelopeError>;

impl Inner {
    /// `claim` is called once what is here is known: from then on nothing waits for the disk. `Ok(None)`: nothing was
    /// done, since that is on the disk and the disk out of reach. `hint_for` are owners that are down: what they miss is
    /// kept for them in the same batch (H1).
    pub(super) fn update(
        self: &Arc<Self>,
        key: &Key,
        change: &Change,
        hint_for: &[NodeId],
        reach: Reach,
        claim: impl FnOnce() -> Option<StoreDone>,
    ) -> Result<Option<Updated>, StoreError> {
        self.check_writable()?;
        let Some(exclusive) = self.exclusive(key, reach) else { return Ok(None) };
        let session = self.session();
        let Some(basis) = self.basis(&exclusive, key, session, reach)? else { return Ok(None) };
        let Some(kept) = self.kept(&exclusive, session, key, hint_for, reach)? else { return Ok(None) };
        let Some(done) = claim() else { return Err(StoreError::GivenUp) };
        self.update_from(Here { basis, kept, reach }, &exclusive, session, key, change, done).map(Some)
    }

    fn update_from(
        self: &Arc<Self>,
        here: Here,
        exclusive: &Exclusive<'_>,
        session: Session,
        key: &Key,
        change: &Change,
        done: StoreDone,
    ) -> Result<Updated, StoreError> {
        let (before, object) = match here.basis {
            Basis::Nothing => (Before::Nothing, Object::default()),
            Basis::Here { envelope, object, .. } => (digest_of(&envelope), object),
            Basis::Unreadable => return Err(StoreError::Damaged),
        };
        let now_us = self.clock.now_us();
        let mut updated = match self.judge(key, &object, change, now_us)? {
            Verdict::Write => self.change(session, object, change, now_us)?,
            Verdict::Written(own) => again(&object, own, change, now_us),
        };
        let hints = self.hints_beside(key, &updated.object, here.kept);
        updated.hinted = u8::try_from(hints.len()).unwrap_or(u8::MAX);
        let (object, durability, reach) = (updated.object.clone(), change.durability, here.reach);
        self.commit(exclusive, key, Row { session, before, object, durability, reach, hints }, done)?;
        add_one(&self.counters.updates);
        Ok(updated)
    }

    /// Whether the write's condition holds. Nobody can judge one who may lack what it is about.
    fn judge<'a>(&self, key: &Key, held: &'a Object, change: &Change, now_us: u64) -> Result<Verdict<'a>, StoreError> {
        let Some(condition) = &change.condition else { return Ok(Verdict::Write) };
        if !self.trust.covers(key.token()) {
            return Err(StoreError::Distrusted);
        }
        if condition.holds(held, now_us, change.conflict) {
            return Ok(Verdict::Write);
        }
        let own = held.written_as(change.metadata.write_id);
        if let Some(own) = own.filter(|own| is_same(own, change)) {
            return Ok(Verdict::Written(own));
        }
        add_one(&self.counters.conditions_failed);
        let (etag, context) = (held.etag(now_us, change.conflict), held.context.clone());
        Err(StoreError::ConditionFailed { etag, context })
    }

    /// The object after the change, and what to tell the coordinator.
    pub(super) fn change(
        &self,
        session: Session,
        held: Object,
        change: &Change,
        now_us: u64,
    ) -> Result<Updated, StoreError> {
        let seen = seen_by(&held, change);
        let mut covered = seen.clone();
        if held.siblings.len() >= usize::from(change.siblings_max) || change.condition == Some(Condition::Absent) {
            // Expired versions do not count against the limit, so they give way there, or they would pile up.
            let expired = |s: &&Sibling| s.value.is_some() && !s.is_live(now_us);
            held.siblings.iter().filter(expired).for_each(|s| covered.insert(s.dot));
        }
        let dot = self.fresh_dot(session, &held, &seen, now_us)?;
        let expires_us = match &change.value {
            Some(_) => change.ttl.map_or(0, |ttl| ttl.after(now_us)),
            None => 0,
        };
        let metadata = Metadata { modified_us: now_us, expires_us, ..change.metadata.clone() };
        let mut object = held.clone();
        object.update(&covered, Sibling { dot, value: change.value.clone(), metadata });
        let count = |object: &Object| object.shown(now_us, change.conflict).count();
        let (siblings, siblings_before) = (count(&object), count(&held));
        if siblings > usize::from(change.siblings_max) && siblings > siblings_before {
            add_one(&self.counters.too_many_siblings);
            let (count, max, context) = (siblings, change.siblings_max, held.context);
            return Err(StoreError::TooManySiblings { count, max, context });
        }
        let context = object.answer_context(&seen, dot);
        Ok(Updated { object: object.encode(), dot, context, siblings, modified_us: now_us, expires_us, hinted: 0 })
    }

    /// Never used before for this key (S2): above everything this instance ever gave out, and above what the client's
    /// context says of it.
    fn fresh_dot(&self, session: Session, held: &Object, seen: &CausalContext, now_us: u64) -> Result<Dot, StoreError> {
        let actor = session.actor;
        let own = held.context.highest(actor).max(seen.highest(actor));
        let others = held.context.actors().chain(seen.actors()).map(|(_, counter)| counter).max().unwrap_or(0);
        let above = own.max(others.min(now_us.saturating_add(DRIFT_US_MAX)));
        let counter = self.dots.next(above, now_us).ok_or(StoreError::Damaged)?;
        Ok(Dot { actor, counter })
    }

    /// As [`update`](Self::update).
    pub(super) fn merge(
        self: &Arc<Self>,
        key: &Key,
        incoming: &Bytes,
        durability: Durability,
        reach: Reach,
        claim: impl FnOnce() -> Option<StoreDone>,
    ) -> Result<Option<Merged>, StoreError> {
        self.check_writable()?;
        let object = Object::decode(incoming)?;
        let Some(exclusive) = self.exclusive(key, reach) else { return Ok(None) };
        let session = self.session();
        let Some(basis) = self.basis(&exclusive, key, session, reach)? else { return Ok(None) };
        let Some(done) = claim() else { return Err(StoreError::GivenUp) };
        let incoming = Incoming { object, envelope: incoming, durability, reach };
        self.merge_into(basis, &exclusive, session, key, &incoming, done).map(Some)
    }

    fn merge_into(
        self: &Arc<Self>,
        basis: Basis,
        exclusive: &Exclusive<'_>,
        session: Session,
        key: &Key,
        incoming: &Incoming<'_>,
        done: StoreDone,
    ) -> Result<Merged, StoreError> {
        let Incoming { object, envelope: came, durability, reach } = incoming;
        let (done, before, merged) = match basis {
            Basis::Here { envelope, object: held, queued } if held.dominates(object) => {
                match self.wait_for(exclusive, session, queued, *durability, done) {
                    Ok(merged) => {
                        add_one(&self.counters.unchanged);
                        return Ok(merged);
                    }
                    // Written once more, with an fsync this time.
                    Err(done) => (done, digest_of(&envelope), envelope),
                }
            }
            other => {
                if matches!(other, Basis::Unreadable) {
                    // What arrives may lack a write that was acknowledged here: readable again, the row would be
                    // a vote. It is none until the partition has been refilled.
                    self.distrust(key)?;
                    self.forget_instance();
                }
                let (before, merged) = joined(other, object, came);
                (done, before, merged)
            }
        };
        let (durability, reach, hints) = (*durability, *reach, SmallVec::new());
        self.commit(exclusive, key, Row { session, before, object: merged, durability, reach, hints }, done)?;
        add_one(&self.counters.merges);
        Ok(Merged::Queued)
    }

    /// An acknowledgement of what is here already waits for the write that brings it, if that is still in the queue.
    /// Gives `done` back where what is here may not be on disk, or not stay.
    fn wait_for(
        &self,
        exclusive: &Exclusive<'_>,
        session: Session,
        queued: Option<(u64, Durability)>,
        durability: Durability,
        done: StoreDone,
    ) -> Result<Merged, StoreDone> {
        let needs_fsync = durability == Durability::Fsync;
        match queued {
            Some((_, Durability::Interval)) if needs_fsync => Err(done),
            Some((id, _)) => match exclusive.join(id, done) {
                Ok(()) => Ok(Merged::Queued),
                // It has left the queue, and has not failed (E6).
                Err(done) if self.engine.generation() == session.generation => {
                    self.wait_for(exclusive, session, None, durability, done)
                }
                Err(done) => Err(done),
            },
            None if needs_fsync && !self.queued.all_synced() => Err(done),
            None => {
                done(Ok(()));
                Ok(Merged::Unchanged)
            }
        }
    }

    fn distrust(&self, key: &Key) -> Result<(), StoreError> {
        let partitions = self.begun.get().ok_or(StoreError::NotBegun)?.trees.partitions();
        let kept = self
            .trust
            .remove(partitions, partitions.partition_of(key.token()), |distrust| self.keep_distrust(distrust));
        kept.map_err(|error| EngineError::Write(error.to_string()).into())
    }

    pub(super) fn keep_distrust(&self, distrust: &Distrust) -> Result<(), DirectoryError> {
        match &self.home {
            Some(home) => home.directory.change(|identity| identity.distrust = distrust.clone()),
            None => Ok(()),
        }
    }

    pub(super) fn check_writable(&self) -> Result<(), StoreError> {
        if self.begun.get().is_none() {
            return Err(StoreError::NotBegun);
        }
        if self.guard.is_low() { Err(StoreError::LowDisk) } else { Ok(()) }
    }

    pub(super) fn exclusive(&self, key: &Key, reach: Reach) -> Option<Exclusive<'_>> {
        match reach {
            Reach::Memory => self.stripes.try_lock(key),
            Reach::Disk => Some(self.stripes.lock(key)),
        }
    }

    /// The last write in the queue, or what the engine has published. The queue is looked at first: what left it in
    /// between is published. `None` where that is out of reach.
    fn basis(
        &self,
        exclusive: &Exclusive<'_>,
        key: &Key,
        session: Session,
        reach: Reach,
    ) -> Result<Option<Basis>, StoreError> {
        // What is queued or was written lately was encoded or decoded here.
        let (verified, unverified): (Decode, Decode) = (Object::decode_verified, Object::decode);
        let (envelope, queued, decode) = match exclusive.latest(key, session.generation) {
            Some(latest) => (latest.object, Some((latest.id, latest.durability)), verified),
            None => match self.recent.get(key.row()) {
                Some(envelope) => (envelope, None, verified),
                None => match self.row(key, reach) {
                    None => return Ok(None),
                    Some(Ok(Some(envelope))) => (envelope, None, unverified),
                    Some(Ok(None)) => return Ok(Some(Basis::Nothing)),
                    Some(Err(EngineError::Damaged(_))) => return Ok(self.unreadable(reach)),
                    Some(Err(error)) => return Err(error.into()),
                },
            },
        };
        Ok(match decode(&envelope) {
            Ok(object) => Some(Basis::Here { envelope, object, queued }),
            Err(_) => self.unreadable(reach),
        })
    }

    /// What follows from it is written to the disk.
    fn unreadable(&self, reach: Reach) -> Option<Basis> {
        if reach == Reach::Memory {
            return None;
        }
        self.counters.note_damage();
        Some(Basis::Unreadable)
    }

    /// Queues a row. On `Err` nothing is queued and `done` is not called.
    fn commit(
        self: &Arc<Self>,
        exclusive: &Exclusive<'_>,
        key: &Key,
        row: Row,
        done: StoreDone,
    ) -> Result<(), StoreError> {
        let Row { session, before, object, durability, reach, hints } = row;
        let interval = durability == Durability::Interval;
        // A copy: a key that came from a peer is part of a large network buffer.
        let row = Bytes::copy_from_slice(key.row());
        let id = exclusive.push(row.clone(), session.generation, durability, object.clone());
        let after = Object::digest(&object).expect("an envelope just encoded or decoded has a digest");
        let turn = self.in_flight.enter();
        self.queued.begin(interval);
        let caught = (!interval).then(|| self.queued.catch());
        let mut batch = batch_of(row.clone(), object, before != Before::Nothing && before != Before::Unreadable);
        let hints = self.push_hints(exclusive, session, hints, durability, &mut batch);
        let undo = hints.clone();
        let queueing = Queueing { id, token: key.token(), row, before, after, turn, caught, hints };
        let inner = self.clone();
        let finish = Box::new(move |result| inner.finish(queueing, &result, done));
        let submitted = match (durability, reach) {
            (Durability::Interval, Reach::Memory) => self.engine.submit_for_later(session.generation, batch, finish),
            _ => self.engine.submit(session.generation, batch, durability, finish),
        };
        self.queued.end(interval);
        if let Err(error) = submitted {
            exclusive.withdraw(id);
            self.withdraw_hints(exclusive, &undo);
            self.in_flight.leave(turn);
            return Err(error.into());
        }
        Ok(())
    }

    /// On the writer's thread, in the order of publication.
    fn finish(&self, queueing: Queueing, result: &Result<(), EngineError>, done: StoreDone) {
        match (result, self.begun.get()) {
            (Ok(()), Some(begun)) => {
                let Queueing { id, token, row, before, after, .. } = &queueing;
                begun.trees.written(*token, row, *id, *before, *after);
                if let Some(caught) = queueing.caught {
                    self.queued.synced(caught);
                }
                if queueing.before == Before::Unreadable {
                    add_one(&self.counters.repaired);
                }
            }
            (Err(EngineError::DiskFull), _) => {
                self.guard.full();
                add_one(&self.counters.failures);
            }
            _ => add_one(&self.counters.failures),
        }
        let waiters = self.stripes.finish(queueing.token, queueing.id, |row, envelope| {
            if result.is_ok() {
                self.recent.put(row, envelope);
            }
        });
        self.finish_hints(queueing.token, &queueing.hints, result);
        self.in_flight.leave(queueing.turn);
        done(result.clone());
        tell(waiters, result);
    }
}

/// What is to be done for a client's write.
enum Verdict<'a> {
    Write,
    /// Its condition failed on what this very request wrote when it was sent first.
    Written(&'a Sibling),
}

/// Whether a version is what this request would write: the name alone could be one that a client used twice.
fn is_same(own: &Sibling, change: &Change) -> bool {
    let (written, sent) = (&own.metadata, &change.metadata);
    own.value == change.value
        && written.content_type == sent.content_type
        && written.content_encoding == sent.content_encoding
        && written.user == sent.user
}

/// The answer to a request that was carried out before: what is here is written once more as it is, for the sake of an
/// acknowledgement, and goes to the other owners, which may lack it.
fn again(held: &Object, own: &Sibling, change: &Change, now_us: u64) -> Updated {
    // What the first attempt replaced is gone; of what stands beside it its client has seen only what it names.
    let seen = change.context.clone().unwrap_or_default();
    Updated {
        object: held.encode(),
        dot: own.dot,
        context: held.answer_context(&seen, own.dot),
        siblings: held.shown(now_us, change.conflict).count(),
        modified_us: own.metadata.modified_us,
        expires_us: own.metadata.expires_us,
        hinted: 0,
    }
}

/// What the client of a write counts as having seen. A blind one has seen what is held, unless its bucket says that it
/// is concurrent with everything and it does not say itself what it replaces.
fn seen_by(held: &Object, change: &Change) -> CausalContext {
    let names_versions = change.condition.as_ref().is_some_and(Condition::names_versions);
    match (&change.context, change.conflict, change.blind) {
        (Some(context), Conflict::Siblings, _) => context.clone(),
        (Some(context), Conflict::Lww, _) => {
            let mut all = held.context.clone();
            all.join(context);
            all
        }
        (None, Conflict::Siblings, BlindPut::Sibling) if change.value.is_some() && !names_versions => {
            CausalContext::default()
        }
        (None, _, _) => held.context.clone(),
    }
}

/// What is here and what comes in, as one, where that is more than what is here.
fn joined(basis: Basis, object: &Object, incoming: &Bytes) -> (Before, Bytes) {
    // A copy: the bytes are part of a large network buffer, which they would keep in memory.
    let as_it_came = || Bytes::copy_from_slice(incoming);
    match basis {
        Basis::Nothing => (Before::Nothing, as_it_came()),
        Basis::Unreadable => (Before::Unreadable, as_it_came()),
        Basis::Here { envelope, object: held, .. } if object.dominates(&held) => (digest_of(&envelope), as_it_came()),
        Basis::Here { envelope, object: mut held, .. } => {
            held.merge(object.clone());
            (digest_of(&envelope), held.encode())
        }
    }
}

fn digest_of(envelope: &[u8]) -> Before {
    Object::digest(envelope).map_or(Before::Unreadable, Before::Digest)
}

/// The object, and its name for the listings where there was no row.
fn batch_of(row: Bytes, object: Bytes, named: bool) -> Batch {
    let name = row.slice(size_of::<rondo_ring::Token>()..);
    let object = Write { keyspace: Keyspace::Objects, key: row, value: Some(object) };
    if named {
        return smallvec![object];
    }
    smallvec![object, Write { keyspace: Keyspace::Names, key: name, value: Some(Bytes::new()) }]
}
