//! Reading hints: those of a target page by page, those of a key all at once.

use bytes::Bytes;
use rondo_ring::NodeId;

use super::{Hint, HintPage, Hinted, ROWS_AT_ONCE, row};
use crate::Key;
use crate::engine::Keyspace;
use crate::store::{Inner, StoreError, Stored};
use crate::versions::Object;

impl Inner {
    /// A page of what is kept for a node, as published. A damaged hint is passed over: it can never be delivered.
    pub(in crate::store) fn hint_page(
        &self,
        target: NodeId,
        after: Option<&[u8]>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<HintPage, StoreError> {
        let mut page = HintPage::default();
        let (mut from, to) = row::bounds(target, after);
        let mut bytes = 0;
        while page.hints.len() < rows_max && bytes < bytes_max {
            let wanted = (rows_max - page.hints.len()).min(ROWS_AT_ONCE);
            let rows = self.engine.scan(Keyspace::Hints, &from, to.as_deref(), wanted);
            let rows = rows.map_err(|error| self.damaged_or(error))?;
            if rows.is_empty() {
                page.complete = true;
                break;
            }
            for (row, value) in rows {
                if bytes >= bytes_max {
                    break;
                }
                page.last = Some(row.slice(size_of::<NodeId>()..));
                bytes += row.len() + value.len();
                from = [&row, &[0][..]].concat();
                match hint_of(&row, &value) {
                    Some(hint) => page.hints.push(hint),
                    None => self.counters.note_damage(),
                }
            }
        }
        Ok(page)
    }

    /// What is kept of a key for others, as published.
    pub(in crate::store) fn read_hinted(&self, key: &Key) -> Hinted {
        let mut hinted = Hinted { stored: Stored::Missing, targets: Vec::new() };
        let (mut merged, mut found, mut damaged) = (Object::default(), None, false);
        for (target, _) in self.hints.counts() {
            let value = match self.engine.get(Keyspace::Hints, &row::row_of(target, key.row())) {
                Ok(None) => continue,
                Ok(Some(value)) => row::decode(&value),
                Err(_) => None,
            };
            hinted.targets.push(target);
            match value {
                Some(held) => {
                    merged.merge(held.object);
                    found = Some(match found {
                        None => held.envelope,
                        Some(_) => merged.encode(),
                    });
                }
                None => {
                    self.counters.note_damage();
                    damaged = true;
                }
            }
        }
        hinted.stored = match (found, damaged) {
            (found, true) => Stored::Unknown(found),
            (Some(envelope), false) => Stored::Found(envelope),
            (None, false) => Stored::Missing,
        };
        hinted
    }
}

fn hint_of(row: &Bytes, value: &Bytes) -> Option<Hint> {
    let (_, key) = row::names(row)?;
    let held = row::decode(value)?;
    Some(Hint { key, digest: Object::digest(&held.envelope)?, object: held.envelope, since_us: held.since_us })
}
