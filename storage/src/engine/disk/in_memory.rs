//! What a keyspace can say without the disk: its memtables, and the filters of its tables.
//!
//! `lsm-tree` has all of it too, behind a lock that a change of its list of tables holds during an fsync. Nobody who
//! must not wait for the disk may take that lock, so this is a picture of the tree beside it, changed after it. An older
//! picture is as right as a newer one: it holds on to the memtables and tables that it shows.

use std::sync::Arc;

use lsm_tree::table::filter::standard_bloom::Builder;
use lsm_tree::{AbstractTree, InternalValue, Memtable, SeqNo, Table, Tree};

/// See the module. Only its filling memtable changes.
pub(super) struct InMemory {
    active: Arc<Memtable>,
    /// Newest last.
    sealed: Vec<Arc<Memtable>>,
    tables: Arc<Tables>,
}

/// The tables of a tree.
pub(super) struct Tables {
    /// Of each run, in which no two tables have a key in common, in the order of their keys.
    runs: Vec<Vec<Table>>,
    bytes: u64,
}

impl Tables {
    /// As they are now. Waits for whoever changes them.
    pub(super) fn of(tree: &Tree) -> Arc<Self> {
        let version = tree.current_version();
        let runs = version.iter_levels().flat_map(|level| level.iter()).map(|run| run.to_vec()).collect();
        Arc::new(Self { runs, bytes: version.iter_tables().map(|table| table.metadata.file_size).sum() })
    }

    /// Whether the key is in none of them for certain.
    fn lack(&self, key: &[u8]) -> bool {
        let hash = Builder::get_hash(key);
        self.runs.iter().filter_map(|run| covering(run, key)).all(|table| {
            let filter = table.pinned_filter_block.as_ref();
            // A filter that cannot be understood is for whoever reads the table to complain of.
            filter.is_some_and(|filter| filter.maybe_contains_hash(hash).is_ok_and(|maybe| !maybe))
        })
    }
}

/// The one table of a run that may have the key.
fn covering<'a>(run: &'a [Table], key: &[u8]) -> Option<&'a Table> {
    let at = run.partition_point(|table| **table.metadata.key_range.max() < *key);
    run.get(at).filter(|table| **table.metadata.key_range.min() <= *key)
}

impl InMemory {
    /// Waits for whoever changes the tree; the caller is the one who has changed it.
    pub(super) fn of(tree: &Tree, sealed: Vec<Arc<Memtable>>, tables: Arc<Tables>) -> Self {
        Self { active: tree.active_memtable(), sealed, tables }
    }

    pub(super) fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables)
    }

    /// The newest row of the key, which may be a removal, or `Some(None)` where there is none for certain; `None`: the
    /// tables have to be read.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<InternalValue>> {
        let newest_first = std::iter::once(&self.active).chain(self.sealed.iter().rev());
        let row = newest_first.filter_map(|memtable| memtable.get(key, SeqNo::MAX)).next();
        if row.is_some() || self.tables.lack(key) { Some(row) } else { None }
    }

    pub(super) fn memtable_bytes(&self) -> u64 {
        self.active.size() + self.sealed.iter().map(|memtable| memtable.size()).sum::<u64>()
    }

    pub(super) fn table_bytes(&self) -> u64 {
        self.tables.bytes
    }
}
