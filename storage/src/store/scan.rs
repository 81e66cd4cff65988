//! Reading: one key, the pages of a refill and of anti-entropy.

use bytes::Bytes;
use rondo_ring::Token;

use super::{Inner, StoreError, Stored};
use crate::Key;
use crate::engine::{EngineError, Keyspace};
use crate::versions::Object;

/// Rows asked of the engine at once.
const ROWS_AT_ONCE: usize = 256;

/// How far a call may go for what is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It comes back at once: without the disk, and without a lock that somebody may hold who waits for the disk.
    Memory,
    /// It may wait for the disk.
    Disk,
}

/// Rows in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// Row key ([`Key::row`](crate::Key::row)), envelope whose checksum held.
    pub rows: Vec<(Bytes, Bytes)>,
    /// Nothing follows the last of them.
    pub complete: bool,
    /// Continue after this row: the last one looked at, which may have been damaged and is then not in `rows`.
    pub last: Option<Bytes>,
}

/// The rows between two tokens, both inclusive, and behind `after`.
pub(super) fn bounds(first: Token, last: Token, after: Option<&[u8]>) -> (Vec<u8>, Option<Vec<u8>>) {
    let from = match after {
        Some(after) => [after, &[0]].concat(),
        None => first.0.to_be_bytes().to_vec(),
    };
    let to = last.0.checked_add(1).map(|next| next.to_be_bytes().to_vec());
    (from, to)
}

impl Inner {
    /// S3: what cannot be read, or may be older than what was acknowledged here, is unknown.
    pub(super) fn read(&self, key: &Key, reach: Reach) -> Option<Stored> {
        if let Some(envelope) = self.recent.get(key.row()) {
            return Some(self.counted(key, Stored::Found(envelope)));
        }
        let moment = self.recent.is_kept().then(|| self.stripes.moment(key.token()));
        let found = self.search(key, reach)?;
        if let (Some(moment), Stored::Found(envelope)) = (moment, &found) {
            // Copies: the row may be part of a network buffer, the envelope of a block of a table.
            let (row, copy) = (Bytes::copy_from_slice(key.row()), Bytes::copy_from_slice(envelope));
            self.stripes.if_quiet(key.token(), moment, || self.recent.put(row, copy));
        }
        Some(self.counted(key, found))
    }

    /// The same for whoever passes over many keys once: they must not drive out what is read again and again.
    pub(super) fn read_in_passing(&self, key: &Key) -> Stored {
        let found = self.search(key, Reach::Disk).unwrap_or(Stored::Unknown(None));
        self.counted(key, found)
    }

    /// Of a row that may have been named by a peer.
    pub(super) fn published_row(&self, row: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.engine.get(Keyspace::Objects, row) {
            Ok(Some(envelope)) if Object::decode(&envelope).is_err() => {
                self.counters.note_damage();
                Err(StoreError::Damaged)
            }
            Ok(found) => Ok(found),
            Err(error) => Err(self.damaged_or(error)),
        }
    }

    fn counted(&self, key: &Key, found: Stored) -> Stored {
        match found {
            counted if self.begun.get().is_some() && self.trust.covers(key.token()) => counted,
            Stored::Found(envelope) => Stored::Unknown(Some(envelope)),
            _ => Stored::Unknown(None),
        }
    }

    /// What the engine says.
    fn search(&self, key: &Key, reach: Reach) -> Option<Stored> {
        Some(match self.row(key, reach)? {
            Ok(None) => Stored::Missing,
            Ok(Some(envelope)) if Object::decode(&envelope).is_ok() => Stored::Found(envelope),
            Ok(Some(_)) | Err(EngineError::Damaged(_)) => {
                self.counters.note_damage();
                Stored::Unknown(None)
            }
            Err(_) => Stored::Unknown(None),
        })
    }

    /// `None` only where the disk is out of reach.
    pub(super) fn row(&self, key: &Key, reach: Reach) -> Option<Result<Option<Bytes>, EngineError>> {
        match reach {
            Reach::Memory => self.engine.get_from_memory(Keyspace::Objects, key.row()),
            Reach::Disk => Some(self.engine.get(Keyspace::Objects, key.row())),
        }
    }

    pub(super) fn scan(
        &self,
        (first, last): (Token, Token),
        after: Option<&[u8]>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<ScanPage, StoreError> {
        let mut page = ScanPage::default();
        let (mut from, to) = bounds(first, last, after);
        let mut bytes = 0;
        while page.rows.len() < rows_max && bytes < bytes_max {
            let wanted = (rows_max - page.rows.len()).min(ROWS_AT_ONCE);
            let rows = self.engine.scan(Keyspace::Objects, &from, to.as_deref(), wanted);
            let rows = rows.map_err(|error| self.damaged_or(error))?;
            if rows.is_empty() {
                page.complete = true;
                break;
            }
            for (row, envelope) in rows {
                if bytes >= bytes_max {
                    break;
                }
                page.last = Some(row.clone());
                match Object::decode(&envelope) {
                    Ok(_) => {
                        bytes += row.len() + envelope.len();
                        page.rows.push((row, envelope));
                    }
                    Err(_) => self.counters.note_damage(),
                }
            }
            from = page.last.as_ref().map_or(from, |last| [last, &[0][..]].concat());
        }
        Ok(page)
    }

    pub(super) fn damaged_or(&self, error: EngineError) -> StoreError {
        match error {
            EngineError::Damaged(_) => {
                self.counters.note_damage();
                StoreError::Damaged
            }
            other => StoreError::Engine(other),
        }
    }
}
