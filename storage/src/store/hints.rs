//! Hints: writes kept for owners that could not be reached (Dynamo, SOSP 2007, section 4.6).
//!
//! - **H1** A hint is as durable as the write it stands for when that is acknowledged with its help.
//! - **H2** Per target and key there is one: a newer one is merged into it.
//! - **H3** Hints take at most [`StoreOptions::hint_bytes`](super::StoreOptions::hint_bytes); beyond it, and on a disk
//!   that is nearly full, none is kept.
//! - **H4** One is removed only as the very version that its target has acknowledged.
//! - **H5** [`Store::oldest_hint`](super::Store::oldest_hint) is never younger than the oldest that may be there, a hint
//!   that is being removed included: whoever reaps a tombstone goes by it.
//!
//! They are apart from the objects: a node that stands in for an owner is none, so what it keeps is in no listing, no
//! Merkle tree and no read but one that asks for it.

mod ledger;
mod page;
mod row;
mod store;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use parking_lot::Mutex;
use rondo_ring::{NodeId, PartitionId};
use smallvec::SmallVec;

pub use ledger::HintCount;

use super::scan::Reach;
use super::status::add_one;
use super::stripes::{Exclusive, tell};
use super::{Change, Inner, Session, StoreDone, StoreError, Stored, Updated};
use crate::Key;
use crate::engine::{Batch, Durability, Engine, EngineError, Keyspace, Write};
use crate::versions::Object;
use ledger::{Entry, Ledger};
use row::Held;

/// Rows asked of the engine at once.
const ROWS_AT_ONCE: usize = 256;

/// What is kept of a key for each of some nodes.
pub(super) type Kept = SmallVec<[(NodeId, Option<Held>); 1]>;

/// One hint on its way to its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Of what.
    pub key: Key,
    /// The envelope.
    pub object: Bytes,
    /// Of the envelope: names the version for [`Store::forget_hint`](super::Store::forget_hint).
    pub digest: u64,
    /// When the oldest write in it was kept, µs since 1970.
    pub since_us: u64,
}

/// Hints for one node in the order of their rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintPage {
    /// Those whose checksums held.
    pub hints: Vec<Hint>,
    /// The row key behind which the next page begins.
    pub last: Option<Bytes>,
    /// Nothing follows.
    pub complete: bool,
}

/// What is kept of a key for other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hinted {
    /// All of it, merged; as a store's own value it is unknown where some of it cannot be read.
    pub stored: Stored,
    /// For whom.
    pub targets: Vec<NodeId>,
}

/// The hints of a store.
pub(super) struct Hints {
    bytes_max: u64,
    ledger: Mutex<Ledger>,
    pub(super) counters: HintCounters,
}

/// Totals since the start.
#[derive(Debug, Default)]
pub(super) struct HintCounters {
    /// Kept.
    pub(super) kept: AtomicU64,
    /// Not kept for want of room.
    pub(super) refused: AtomicU64,
    /// Removed after they were delivered.
    pub(super) forgotten: AtomicU64,
}

/// A row of hints about to be queued, and what that changes in the ledger.
pub(super) struct HintRow {
    row: Bytes,
    /// Empty: removed.
    value: Bytes,
    adds: Option<Entry>,
    removes: Option<Entry>,
}

/// The same, queued under this id of its stripe.
#[derive(Clone, Copy)]
pub(super) struct QueuedHint {
    id: u64,
    adds: Option<Entry>,
    removes: Option<Entry>,
    is_removal: bool,
}

impl Hints {
    /// Counts what an engine holds. Damage ends the count: what cannot be read cannot be delivered either.
    pub(super) fn open(engine: &dyn Engine, bytes_max: u64) -> Self {
        let mut ledger = Ledger::default();
        let mut from = Vec::new();
        loop {
            match engine.scan(Keyspace::Hints, &from, None, ROWS_AT_ONCE) {
                Ok(rows) if rows.is_empty() => break,
                Ok(rows) => {
                    from = rows.last().map_or(from, |(row, _)| [row, &[0][..]].concat());
                    rows.iter().filter_map(|(row, value)| entry_of(row, value)).for_each(|entry| ledger.add(entry));
                }
                Err(error) => {
                    tracing::error!(%error, "hints for other nodes cannot be read: anti-entropy has to do without");
                    break;
                }
            }
        }
        Self { bytes_max, ledger: Mutex::new(ledger), counters: HintCounters::default() }
    }

    /// Counts a row as kept, if there is room for what it takes more than before.
    fn admit(&self, change: &HintRow) -> Result<(), StoreError> {
        let bytes = |entry: &Option<Entry>| entry.map_or(0, |entry| entry.bytes);
        let more = bytes(&change.adds).saturating_sub(bytes(&change.removes));
        let mut ledger = self.ledger.lock();
        if more > 0 && ledger.bytes() + more > self.bytes_max {
            add_one(&self.counters.refused);
            return Err(StoreError::HintsFull);
        }
        change.removes.into_iter().for_each(|entry| ledger.remove(entry));
        change.adds.into_iter().for_each(|entry| ledger.add(entry));
        add_one(&self.counters.kept);
        Ok(())
    }

    fn take_back(&self, hint: &QueuedHint) {
        let mut ledger = self.ledger.lock();
        hint.adds.into_iter().for_each(|entry| ledger.remove(entry));
        hint.removes.into_iter().for_each(|entry| ledger.add(entry));
    }

    pub(super) fn counts(&self) -> Vec<(NodeId, HintCount)> {
        self.ledger.lock().targets()
    }
}

fn entry_of(row: &Bytes, value: &[u8]) -> Option<Entry> {
    let target = row.get(..16)?.try_into().ok().map(u128::from_be_bytes)?;
    let (token, since_us) = (row::token_of(row)?, row::since(value)?);
    Some(Entry { target: NodeId(target), token, bytes: (row.len() + value.len()) as u64, since_us })
}

impl Inner {
    /// Keeps a write for a node that could not be reached; waits for the disk. `claim` is called when that is over; the
    /// callback it gives, when the hint is durable. On `Err` that is not called.
    pub(super) fn keep_hint(
        self: &Arc<Self>,
        target: NodeId,
        key: &Key,
        incoming: &Bytes,
        durability: Durability,
        claim: impl FnOnce() -> Option<StoreDone>,
    ) -> Result<(), StoreError> {
        self.check_writable()?;
        let object = Object::decode(incoming)?;
        let exclusive = self.stripes.lock(key);
        let session = self.session();
        let kept = self.kept(&exclusive, session, key, &[target], Reach::Disk)?.unwrap_or_default();
        let Some(done) = claim() else { return Err(StoreError::GivenUp) };
        let held = kept.into_iter().next().and_then(|(_, held)| held);
        let row = self.hint(target, key, incoming, Some(&object), held)?;
        self.queue_hints(&exclusive, session, key, smallvec::smallvec![row], durability, done)
    }

    /// The hints that are to be queued together with a write of this node's own (H1). Where there is no room for one the
    /// write goes on without it.
    pub(super) fn hints_beside(&self, key: &Key, envelope: &Bytes, kept: Kept) -> SmallVec<[HintRow; 1]> {
        kept.into_iter().filter_map(|(target, held)| self.hint(target, key, envelope, None, held).ok()).collect()
    }

    /// What is kept of the key for each of these. `None` where the disk would have to say it and is out of reach.
    pub(super) fn kept(
        &self,
        exclusive: &Exclusive<'_>,
        session: Session,
        key: &Key,
        targets: &[NodeId],
        reach: Reach,
    ) -> Result<Option<Kept>, StoreError> {
        let mut kept = Kept::new();
        for &target in targets {
            let known = self.hints.ledger.lock().has(target);
            let held =
                if known { self.held(exclusive, session, &row::row_of(target, key.row()), reach)? } else { Some(None) };
            let Some(held) = held else { return Ok(None) };
            kept.push((target, held));
        }
        Ok(Some(kept))
    }

    /// A write that is coordinated here although this node does not own the key: what is kept of it for the owners is
    /// what it builds on, and what comes of it is kept for each of `targets`.
    pub(super) fn update_hinted(
        self: &Arc<Self>,
        key: &Key,
        change: &Change,
        targets: &[NodeId],
        claim: impl FnOnce() -> Option<StoreDone>,
    ) -> Result<Updated, StoreError> {
        self.check_writable()?;
        if change.condition.is_some() {
            // It is about what the owners hold.
            return Err(StoreError::Distrusted);
        }
        let exclusive = self.stripes.lock(key);
        let session = self.session();
        let kept = self.kept(&exclusive, session, key, &self.candidates(targets), Reach::Disk)?.unwrap_or_default();
        let Some(done) = claim() else { return Err(StoreError::GivenUp) };
        let mut held = Object::default();
        kept.iter().filter_map(|(_, hint)| hint.as_ref()).for_each(|hint| held.merge(hint.object.clone()));
        let mut updated = self.change(session, held, change, self.clock.now_us())?;
        let mut rows: SmallVec<[HintRow; 1]> = SmallVec::new();
        for (target, hint) in kept.into_iter().filter(|(target, _)| targets.contains(target)) {
            match self.hint(target, key, &updated.object, None, hint) {
                Ok(row) => rows.push(row),
                Err(error) => {
                    self.withdraw(&rows);
                    return Err(error);
                }
            }
        }
        updated.hinted = u8::try_from(rows.len()).unwrap_or(u8::MAX);
        self.queue_hints(&exclusive, session, key, rows, change.durability, done)?;
        add_one(&self.counters.updates);
        Ok(updated)
    }

    /// Everybody for whom something may be kept.
    fn candidates(&self, targets: &[NodeId]) -> Vec<NodeId> {
        let mut all: Vec<NodeId> = self.hints.counts().into_iter().map(|(node, _)| node).collect();
        all.extend(targets.iter().filter(|target| !all.contains(target)).copied().collect::<Vec<_>>());
        all
    }

    /// The row of a hint, merged with what is kept already (H2) and admitted (H3). Without `object` the envelope is known
    /// to hold everything that was kept here before: it is what this node's own write has left.
    fn hint(
        &self,
        target: NodeId,
        key: &Key,
        envelope: &Bytes,
        object: Option<&Object>,
        held: Option<Held>,
    ) -> Result<HintRow, StoreError> {
        let row = row::row_of(target, key.row());
        let entry = |since_us, value_bytes: usize| Entry {
            target,
            token: key.token(),
            bytes: (row.len() + value_bytes) as u64,
            since_us,
        };
        let now_us = self.clock.now_us();
        let (since_us, value) = match &held {
            Some(held) if !dominates(envelope, object, held) => {
                let mut merged = held.object.clone();
                let incoming = object.cloned().or_else(|| Object::decode(envelope).ok());
                incoming.into_iter().for_each(|object| merged.merge(object));
                (held.since_us.min(now_us), row::encode(held.since_us.min(now_us), &merged.encode()))
            }
            _ => (now_us, row::encode(now_us, envelope)),
        };
        let removes = held.map(|held| entry(held.since_us, row::HEADER + held.envelope.len()));
        let change = HintRow { adds: Some(entry(since_us, value.len())), removes, row, value };
        self.hints.admit(&change)?;
        Ok(change)
    }

    /// What is kept at a row, a write in the queue included. A row that cannot be read is as good as none: it could never
    /// be delivered.
    /// The outer `None`: the disk would have to say it, and is out of reach.
    fn held(
        &self,
        exclusive: &Exclusive<'_>,
        session: Session,
        row: &Bytes,
        reach: Reach,
    ) -> Result<Option<Option<Held>>, StoreError> {
        let found = match (exclusive.latest_row(row, session.generation), reach) {
            (Some(latest), _) => Some(Ok(Some(latest.object))),
            (None, Reach::Memory) => self.engine.get_from_memory(Keyspace::Hints, row),
            (None, Reach::Disk) => Some(self.engine.get(Keyspace::Hints, row)),
        };
        let value = match found {
            None => return Ok(None),
            Some(Ok(value)) => value,
            Some(Err(EngineError::Damaged(_))) => {
                self.counters.note_damage();
                None
            }
            Some(Err(error)) => return Err(error.into()),
        };
        Ok(Some(value.filter(|value| !value.is_empty()).and_then(|value| row::decode(&value))))
    }

    fn withdraw(&self, rows: &[HintRow]) {
        for row in rows {
            self.hints.take_back(&QueuedHint { id: 0, adds: row.adds, removes: row.removes, is_removal: false });
        }
    }

    fn queue_hints(
        self: &Arc<Self>,
        exclusive: &Exclusive<'_>,
        session: Session,
        key: &Key,
        rows: SmallVec<[HintRow; 1]>,
        durability: Durability,
        done: StoreDone,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let queued = self.push_hints(exclusive, session, rows, durability, &mut batch);
        let (inner, token, undo) = (self.clone(), key.token(), queued.clone());
        let finish = Box::new(move |result: Result<(), EngineError>| {
            inner.finish_hints(token, &queued, &result);
            done(result);
        });
        let interval = durability == Durability::Interval;
        self.queued.begin(interval);
        let submitted = self.engine.submit(session.generation, batch, durability, finish);
        self.queued.end(interval);
        if let Err(error) = submitted {
            self.withdraw_hints(exclusive, &undo);
            return Err(error.into());
        }
        Ok(())
    }

    /// Notes the rows in the stripe and puts them into the batch.
    pub(super) fn push_hints(
        &self,
        exclusive: &Exclusive<'_>,
        session: Session,
        rows: SmallVec<[HintRow; 1]>,
        durability: Durability,
        batch: &mut Batch,
    ) -> SmallVec<[QueuedHint; 1]> {
        let push = |hint: HintRow| {
            let HintRow { row, value, adds, removes } = hint;
            let is_removal = value.is_empty();
            let id = exclusive.push(row.clone(), session.generation, durability, value.clone());
            let value = (!is_removal).then_some(value);
            batch.push(Write { keyspace: Keyspace::Hints, key: row, value });
            QueuedHint { id, adds, removes, is_removal }
        };
        rows.into_iter().map(push).collect()
    }

    /// They were not queued after all.
    pub(super) fn withdraw_hints(&self, exclusive: &Exclusive<'_>, hints: &[QueuedHint]) {
        for hint in hints {
            exclusive.withdraw(hint.id);
            if !hint.is_removal {
                self.hints.take_back(hint);
            }
        }
    }

    /// On the writer's thread. A removal leaves the ledger only now: until it is durable the hint may come back (H5).
    pub(super) fn finish_hints(
        &self,
        token: rondo_ring::Token,
        hints: &[QueuedHint],
        result: &Result<(), EngineError>,
    ) {
        for hint in hints {
            match (result, hint.is_removal) {
                (Ok(()), true) => {
                    hint.removes.into_iter().for_each(|entry| self.hints.ledger.lock().remove(entry));
                    add_one(&self.hints.counters.forgotten);
                }
                (Ok(()), false) | (Err(_), true) => {}
                (Err(_), false) => self.hints.take_back(hint),
            }
            tell(self.stripes.finish(token, hint.id, |_, _| ()), result);
        }
        if matches!(result, Err(EngineError::DiskFull)) {
            self.guard.full();
        }
    }

    /// Removes a hint if it still is this version (H4), on disk before `done`; whether it was.
    pub(super) fn forget_hint(
        self: &Arc<Self>,
        target: NodeId,
        key: &Key,
        digest: u64,
        done: StoreDone,
    ) -> Result<bool, StoreError> {
        let row = row::row_of(target, key.row());
        let exclusive = self.stripes.lock(key);
        let session = self.session();
        let held = self.held(&exclusive, session, &row, Reach::Disk)?.flatten();
        let Some(held) = held.filter(|held| Object::digest(&held.envelope) == Some(digest)) else {
            done(Ok(()));
            return Ok(false);
        };
        let bytes = (row.len() + row::HEADER + held.envelope.len()) as u64;
        let removes = Some(Entry { target, token: key.token(), bytes, since_us: held.since_us });
        let removal = HintRow { row, value: Bytes::new(), adds: None, removes };
        self.queue_hints(&exclusive, session, key, smallvec::smallvec![removal], Durability::Fsync, done)?;
        Ok(true)
    }

    pub(super) fn oldest_hint(&self, partition: Option<PartitionId>) -> Option<u64> {
        let partitions = self.begun.get()?.trees.partitions();
        self.hints.ledger.lock().oldest(partitions, partition)
    }
}

/// Whether what comes replaces what is kept.
fn dominates(envelope: &Bytes, object: Option<&Object>, held: &Held) -> bool {
    match object {
        Some(object) => object.dominates(&held.object),
        None => Object::decode(envelope).is_ok_and(|object| object.dominates(&held.object)),
    }
}
