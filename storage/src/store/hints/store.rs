//! What a node does with hints, as its store offers it.

use bytes::Bytes;
use rondo_ring::{NodeId, PartitionId};

use super::{HintCount, HintPage, Hinted};
use crate::Key;
use crate::engine::Durability;
use crate::store::scan::Reach;
use crate::store::{Change, Store, StoreDone, StoreError, Updated};

impl Store {
    /// [`Store::try_update`] while these owners are down: what they miss is kept for them, in the same batch as the write
    /// (H1). Where there is no room for a hint the write goes on without; [`Updated::hinted`] says for how many there was.
    pub fn try_update_beside(
        &self,
        key: &Key,
        change: &Change,
        hint_for: &[NodeId],
        done: impl FnOnce() -> StoreDone,
    ) -> Option<Result<Updated, StoreError>> {
        self.inner.update(key, change, hint_for, Reach::Memory, || Some(done())).transpose()
    }

    /// As [`Store::update_unless_given_up`], for the same.
    pub fn update_beside(
        &self,
        key: &Key,
        change: &Change,
        hint_for: &[NodeId],
        claim: impl FnOnce() -> Option<StoreDone>,
    ) -> Result<Updated, StoreError> {
        self.inner.update(key, change, hint_for, Reach::Disk, claim)?.ok_or(StoreError::GivenUp)
    }

    /// A read-modify-write for owners none of which can be reached, at a node that is none: nothing is written but what
    /// is kept for each of `hint_for`. A condition is refused: what it is about is at the owners. As to `claim`:
    /// [`Store::update_unless_given_up`].
    pub fn update_hinted(
        &self,
        key: &Key,
        change: &Change,
        hint_for: &[NodeId],
        claim: impl FnOnce() -> Option<StoreDone>,
    ) -> Result<Updated, StoreError> {
        self.inner.update_hinted(key, change, hint_for, claim)
    }

    /// Keeps an envelope for a node that could not be reached, merged with what is kept for it of the key already (H2).
    /// [`StoreError::HintsFull`] where there is no room (H3). As to `claim`: [`Store::update_unless_given_up`].
    pub fn keep_hint(
        &self,
        target: NodeId,
        key: &Key,
        object: &Bytes,
        durability: Durability,
        claim: impl FnOnce() -> Option<StoreDone>,
    ) -> Result<(), StoreError> {
        self.inner.keep_hint(target, key, object, durability, claim)
    }

    /// Removes a hint if it still is the version with this digest (H4); whether it was. `done` when that is on disk.
    pub fn forget_hint(&self, target: NodeId, key: &Key, digest: u64, done: StoreDone) -> Result<bool, StoreError> {
        self.inner.forget_hint(target, key, digest, done)
    }

    /// What is kept for a node behind the row key `after`: at most `rows_max`, and no more once they are `bytes_max`
    /// bytes.
    pub fn hint_page(
        &self,
        target: NodeId,
        after: Option<&[u8]>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<HintPage, StoreError> {
        self.inner.hint_page(target, after, rows_max, bytes_max)
    }

    /// What is kept of a key for other nodes, durably. One look-up for each node there are hints for.
    pub fn read_hinted(&self, key: &Key) -> Hinted {
        self.inner.read_hinted(key)
    }

    /// For whom there are hints, and how many.
    pub fn hint_counts(&self) -> Vec<(NodeId, HintCount)> {
        self.inner.hints.counts()
    }

    /// When the oldest hint of the partition, or of any, was kept, µs since 1970: never later than it was (H5).
    pub fn oldest_hint(&self, partition: Option<PartitionId>) -> Option<u64> {
        self.inner.oldest_hint(partition)
    }

    /// Writes that wait for the engine: what is not urgent gives way while there are many.
    pub fn backlog(&self) -> usize {
        self.inner.engine.backlog()
    }
}
