//! Merkle trees of a start after an unclean end: built by a scan, page by page, while the store serves.

use super::merkle::{ScannedPage, Turn};
use super::{Inner, scan};
use crate::engine::Keyspace;
use crate::versions::Object;

/// Rows of one page; the engine ends it earlier by bytes.
const PAGE_ROWS: usize = 1_024;

/// What [`Store::rebuild_digests`](super::Store::rebuild_digests) came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuild {
    /// Every tree is as complete as it can be.
    Finished,
    /// A page was counted: call again.
    Advanced,
    /// Writes that were queued before the page was read are not done yet: call again a little later.
    Waiting,
}

/// A page that waits for the writes before it.
#[derive(Debug)]
pub(super) struct Waiting {
    page: ScannedPage,
    turn: Turn,
}

impl Inner {
    /// One step. Reads at most one page.
    pub(super) fn rebuild_step(&self) -> Rebuild {
        let (Some(begun), Some(mut waiting)) = (self.begun.get(), self.rebuild.try_lock()) else {
            return Rebuild::Waiting;
        };
        if waiting.is_none() {
            let Some((partition, after)) = begun.trees.begin_page() else { return Rebuild::Finished };
            let Some(page) = self.read_page(begun.trees.partitions(), partition, &after) else {
                begun.trees.unreadable(partition);
                return Rebuild::Advanced;
            };
            *waiting = Some(Waiting { page, turn: self.in_flight.next_turn() });
        }
        match waiting.take() {
            Some(ready) if self.in_flight.is_over(ready.turn) => {
                begun.trees.count_page(ready.page);
                Rebuild::Advanced
            }
            unready => {
                *waiting = unready;
                Rebuild::Waiting
            }
        }
    }

    /// `None` where the engine cannot read it. An envelope that is damaged is left out: the tree then differs from the
    /// other owners', and the difference is what gets it repaired.
    fn read_page(
        &self,
        partitions: rondo_ring::PartitionCount,
        partition: rondo_ring::PartitionId,
        after: &[u8],
    ) -> Option<ScannedPage> {
        let (first, last) = partitions.tokens(partition);
        let (from, to) = scan::bounds(first, last, Some(after).filter(|after| !after.is_empty()));
        let rows = match self.engine.scan(Keyspace::Objects, &from, to.as_deref(), PAGE_ROWS) {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(partition = partition.0, %error, "no digest of this partition: its scan failed");
                return None;
            }
        };
        let upto = rows.last().map(|(row, _)| row.clone());
        let digest = |(row, envelope): (_, _)| match Object::decode(&envelope) {
            Ok(_) => Object::digest(&envelope).map(|digest| (row, digest)),
            Err(_) => {
                self.counters.note_damage();
                None
            }
        };
        Some(ScannedPage { partition, rows: rows.into_iter().filter_map(digest).collect(), upto })
    }
}
