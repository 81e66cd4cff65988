//! What a keyspace can say without waiting for the disk: its memtables, the filters of its tables, and the rows of them
//! that are [`within_reach`](super::within_reach).
//!
//! `lsm-tree` has the tables too, behind a lock that a change of its list of them holds during an fsync. Nobody who must
//! not wait for the disk may take that lock, so this is a picture of the tree beside it, changed after it. An older picture
//! is as right as a newer one: it holds on to the memtables and tables that it shows. Scans, which wait for the disk, read
//! from one picture too.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use lsm_tree::{AbstractTree, InternalValue, TableId, Tree, UserKey};
use smallvec::SmallVec;

use super::memtable::{Memtable, Version};
use super::merged::{Merged, Source};
use super::within_reach::{Blocks, KeyHash, NeedsDisk, Searchable};

/// See the module. Only the memtable that fills changes.
#[derive(Clone)]
pub(super) struct InMemory {
    /// Newest first: the one that fills, and those that wait to become tables.
    memtables: SmallVec<[Arc<Memtable>; 2]>,
    tables: Arc<Tables>,
}

/// The tables of a tree.
pub(super) struct Tables {
    /// Of each run, in which no two tables have a key in common, in the order of their keys.
    runs: Vec<Vec<Arc<Searchable>>>,
    bytes: u64,
}

/// How rows of tables are asked for, mostly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    OneByOne,
    /// One by one they need the disk.
    InRanges,
}

impl Tables {
    /// As they are now. Waits for whoever changes them, and for the disk where there is one that has no
    /// finder among `before`.
    pub(super) fn of(tree: &Tree, before: Option<&Self>, asked: Asked, blocks: &Arc<Blocks>) -> Arc<Self> {
        let known: HashMap<TableId, &Arc<Searchable>> =
            before.into_iter().flat_map(|tables| tables.runs.iter().flatten()).map(|it| (it.table_id(), it)).collect();
        let searchable = |table: &lsm_tree::Table| match (known.get(&table.id()), asked) {
            (Some(&known), Asked::InRanges) => Arc::clone(known),
            (None, Asked::InRanges) => Arc::new(Searchable::without_finder(table.clone())),
            (Some(&known), Asked::OneByOne) if known.has_finder() => Arc::clone(known),
            (_, Asked::OneByOne) => Arc::new(Searchable::new(tree, table.clone(), blocks)),
        };
        let version = tree.current_version();
        let runs = version.iter_levels().flat_map(|level| level.iter());
        let runs = runs.map(|run| run.iter().map(searchable).collect()).collect();
        Arc::new(Self { runs, bytes: version.iter_tables().map(|table| table.metadata.file_size).sum() })
    }

    /// The newest row of the key.
    fn get(&self, key: &[u8]) -> Result<Option<InternalValue>, NeedsDisk> {
        let hash = KeyHash::of(key);
        for table in self.runs.iter().filter_map(|run| covering(run, key)) {
            if let Some(row) = table.get(key, hash)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

/// The one table of a run that may have the key.
fn covering<'a>(run: &'a [Arc<Searchable>], key: &[u8]) -> Option<&'a Searchable> {
    let at = run.partition_point(|it| **it.table.metadata.key_range.max() < *key);
    run.get(at).map(|it| &**it).filter(|it| **it.table.metadata.key_range.min() <= *key)
}

/// The rows of a run from `from` on and before `to`.
fn source<'a>(run: &'a [Arc<Searchable>], from: &'a [u8], to: Option<&'a [u8]>) -> Source<'a> {
    let first = run.partition_point(|it| **it.table.metadata.key_range.max() < *from);
    let tables =
        run[first..].iter().take_while(move |it| to.is_none_or(|to| **it.table.metadata.key_range.min() < *to));
    let bounds = move || (Bound::Included(from.into()), to.map_or(Bound::Unbounded, |to| Bound::Excluded(to.into())));
    Box::new(tables.flat_map(move |it| it.table.range::<(Bound<UserKey>, Bound<UserKey>)>(bounds())))
}

impl InMemory {
    /// Newest first: the memtable that fills, and those that wait.
    pub(super) fn new(memtables: SmallVec<[Arc<Memtable>; 2]>, tables: Arc<Tables>) -> Self {
        Self { memtables, tables }
    }

    /// The memtable that fills.
    pub(super) fn active(&self) -> &Arc<Memtable> {
        &self.memtables[0]
    }

    pub(super) fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables)
    }

    /// The newest row of the key, which may be a removal.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Version>, NeedsDisk> {
        match self.get_untabled(key) {
            Some(row) => Ok(Some(row)),
            None => Ok(self.tables.get(key)?.map(Version::from)),
        }
    }

    /// The newest row of the key that is in no table yet, which may be a removal.
    pub(super) fn get_untabled(&self, key: &[u8]) -> Option<Version> {
        self.memtables.iter().find_map(|memtable| memtable.get(key))
    }

    /// What there was at `snapshot` from `from` on and before `to`, in order. The picture must have been taken when the
    /// number was chosen: tables that were made later may lack what was replaced after it. Waits for the disk.
    pub(super) fn scan<'a>(
        &'a self,
        from: &'a [u8],
        to: Option<&'a [u8]>,
        snapshot: u64,
    ) -> impl Iterator<Item = lsm_tree::Result<InternalValue>> + 'a {
        let memtables = self.memtables.iter().map(move |memtable| memtable.source(from, to, snapshot));
        let runs = self.tables.runs.iter().map(move |run| source(run, from, to));
        Merged::new(memtables.chain(runs)).filter(|row| !row.as_ref().is_ok_and(InternalValue::is_tombstone))
    }

    pub(super) fn memtable_bytes(&self) -> u64 {
        self.memtables.iter().map(|memtable| memtable.bytes()).sum()
    }

    pub(super) fn table_bytes(&self) -> u64 {
        self.tables.bytes
    }
}
