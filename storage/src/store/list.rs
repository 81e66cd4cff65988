//! What this disk has for a listing: a bucket's keys in order, each with the outline of its object.

use rondo_ring::{PartitionId, PartitionSet, Token};

use super::{Inner, StoreError, Stored};
use crate::Key;
use crate::engine::Keyspace;
use crate::key::check_bucket;
use crate::versions::Object;

/// Names asked of the engine at once.
const NAMES_AT_ONCE: usize = 1_024;
/// Names looked at for one page, those of other partitions included.
const NAMES_MAX: usize = 16 << 10;

/// About what the outline of one version takes.
const OUTLINE_BYTES: usize = 80;

/// Which keys of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRange {
    /// The bucket.
    pub bucket: String,
    /// What the keys begin with; may be empty.
    pub prefix: String,
    /// Only keys behind this one.
    pub after: Option<String>,
    /// Only keys of these partitions.
    pub partitions: PartitionSet,
}

/// One key of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// [`Object::outline`]; `None`: damaged here, which is no vote.
    pub outline: Option<Object>,
}

/// A page of keys, in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    /// Keys of the partitions asked for, without those of `untrusted`.
    pub rows: Vec<Listed>,
    /// The page says everything about the range up to this key, which need not be in `rows`; `None`: to its end.
    pub through: Option<String>,
    /// Partitions asked for of which this disk may lack writes: the page says nothing about them.
    pub untrusted: PartitionSet,
}

impl ListRange {
    /// Where it begins and ends in the index of names.
    fn bounds(&self) -> (Vec<u8>, Vec<u8>) {
        let name = |key: &str| [self.bucket.as_bytes(), &[0], key.as_bytes()].concat();
        let from = match &self.after {
            Some(after) if after.as_str() >= self.prefix.as_str() => [name(after), vec![0]].concat(),
            _ => name(&self.prefix),
        };
        // No UTF-8 has a byte of 255: everything with the prefix is below the prefix and one.
        (from, [name(&self.prefix), vec![0xff]].concat())
    }
}

impl Inner {
    pub(super) fn list(&self, range: &ListRange, rows_max: usize, bytes_max: usize) -> Result<ListPage, StoreError> {
        if self.begun.get().is_none() {
            return Err(StoreError::NotBegun);
        }
        let before = self.distrusted(&range.partitions);
        let mut page = ListPage { rows: Vec::new(), through: None, untrusted: before };
        if check_bucket(&range.bucket).is_ok() {
            self.fill(&mut page, range, rows_max, bytes_max)?;
        }
        // What was distrusted meanwhile has lost rows that may have been looked for already.
        self.distrusted(&range.partitions).iter().for_each(|partition| page.untrusted.insert(partition));
        let ListPage { rows, untrusted, .. } = &mut page;
        rows.retain(|row| !untrusted.covers(token_of(range, &row.key)));
        Ok(page)
    }

    fn fill(
        &self,
        page: &mut ListPage,
        range: &ListRange,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<(), StoreError> {
        let (mut from, to) = range.bounds();
        let (mut looked_at, mut bytes) = (0, 0);
        while from < to {
            let names = self.engine.scan(Keyspace::Names, &from, Some(&to), NAMES_AT_ONCE);
            let names = names.map_err(|error| self.damaged_or(error))?;
            let Some((last, _)) = names.last() else { break };
            from = [last, &[0][..]].concat();
            for (name, _) in &names {
                let Ok(key) = std::str::from_utf8(&name[range.bucket.len() + 1..]) else { continue };
                looked_at += 1;
                if let Some(row) = self.listed(range, key) {
                    bytes += key.len() + OUTLINE_BYTES * row.outline.as_ref().map_or(1, |object| object.siblings.len());
                    page.rows.push(row);
                }
                if page.rows.len() >= rows_max || bytes >= bytes_max || looked_at >= NAMES_MAX {
                    page.through = Some(key.to_owned());
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// `None` where the key is not asked for, or nothing is left of it.
    fn listed(&self, range: &ListRange, key: &str) -> Option<Listed> {
        if !range.partitions.covers(token_of(range, key)) {
            return None;
        }
        let object = match self.read_in_passing(&Key::new(&range.bucket, key).ok()?) {
            Stored::Missing => return None,
            Stored::Found(envelope) => Object::decode(&envelope).ok(),
            Stored::Unknown(_) => None,
        };
        Some(Listed { key: key.to_owned(), outline: object.map(Object::outline) })
    }

    /// Which of these partitions' reads do not count.
    fn distrusted(&self, partitions: &PartitionSet) -> PartitionSet {
        let mut distrusted = PartitionSet::empty(partitions.of());
        if !self.trust.is_whole() {
            let first = |partition: PartitionId| partitions.of().tokens(partition).0;
            let lost = partitions.iter().filter(|&partition| !self.trust.covers(first(partition)));
            lost.for_each(|partition| distrusted.insert(partition));
        }
        distrusted
    }
}

fn token_of(range: &ListRange, key: &str) -> Token {
    Token::of(range.bucket.as_bytes(), key.as_bytes())
}
