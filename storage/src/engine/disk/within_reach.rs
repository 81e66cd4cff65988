//! Rows of tables that can be had without waiting for the disk: from the block cache, or from the kernel's page cache.
//!
//! A plain read waits where the page cache lacks something, so it is asked first what it has (`pages`). What it has is read
//! with `RWF_NOWAIT` (preadv2(2), Linux 4.14, on ext4, XFS and Btrfs among others), which gives up where a page went away
//! in between. That alone would not do: it asks the disk for what is missing before it gives up, and a disk that hangs takes
//! only so many requests until whoever makes one more waits. Where a system or a file system has no such reads, every row
//! of a table needs the disk's threads.
//!
//! `lsm-tree` finds the block of a row as it is done here: the top of the index, which stays in memory, names a part of
//! the index, and that names the block. One of each is enough for the newest row of a key, because of the rows with one
//! key the newest comes first.

mod pages;

use std::cell::RefCell;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lsm_tree::table::block::BlockType;
use lsm_tree::table::filter::standard_bloom::Builder;
use lsm_tree::table::{Block, BlockHandle, DataBlock, IndexBlock};
use lsm_tree::{
    AbstractTree, Cache, CompressionType, DescriptorTable, GlobalTableId, InternalValue, SeqNo, Table, TableId, Tree,
};
use pages::Pages;

/// Larger blocks, which large values make, are for the disk's threads: to copy one takes a worker as long as many others.
const BLOCK_BYTES_MAX: usize = 64 << 10;

/// Only the disk can say it, or who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NeedsDisk;

/// Where the blocks of all tables come from.
pub(super) struct Blocks {
    pub(super) cache: Arc<Cache>,
    pub(super) descriptors: Arc<DescriptorTable>,
    /// For a test: nothing is in memory (`hang.rs`).
    hung: AtomicBool,
}

impl Blocks {
    pub(super) fn new(cache_bytes: u64, open_tables: usize) -> Self {
        Self {
            cache: Arc::new(Cache::with_capacity_bytes(cache_bytes)),
            descriptors: Arc::new(DescriptorTable::new(open_tables)),
            hung: AtomicBool::new(false),
        }
    }

    #[cfg(debug_assertions)]
    pub(super) fn hang(&self, hung: bool) {
        self.hung.store(hung, Ordering::Relaxed);
    }

    fn get(&self, table: GlobalTableId, pages: &Pages, place: Place) -> Result<Block, NeedsDisk> {
        if self.hung.load(Ordering::Relaxed) {
            return Err(NeedsDisk);
        }
        if let Some(block) = self.cache.get_block(table, place.handle.offset()) {
            return Ok(block);
        }
        // The file of a table is opened by who may wait.
        let file = self.descriptors.access_for_table(&table).ok_or(NeedsDisk)?;
        let block = place.read_at_once(&file, pages)?;
        // Of rows the kernel has kept what was read lately; there is no need for a second copy.
        if place.holds == BlockType::Index {
            self.cache.insert_block(table, place.handle.offset(), block.clone());
        }
        Ok(block)
    }
}

/// Where a block is, and what it is to be.
#[derive(Clone, Copy)]
struct Place {
    handle: BlockHandle,
    holds: BlockType,
    compression: CompressionType,
}

impl Place {
    /// A block that does not hold what it should is for whoever reads the table with the disk to complain of.
    fn read_at_once(self, file: &File, pages: &Pages) -> Result<Block, NeedsDisk> {
        thread_local! {
            static READ: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let (offset, len) = (*self.handle.offset(), self.handle.size() as usize);
        if len > BLOCK_BYTES_MAX || !pages.are_in_memory(offset, len) {
            return Err(NeedsDisk);
        }
        READ.with_borrow_mut(|read| {
            read.resize(BLOCK_BYTES_MAX, 0);
            let read = &mut read[..len];
            read_at_once(file, read, offset)?;
            let block = Block::from_reader(&mut &*read, self.compression).map_err(|_| NeedsDisk)?;
            if block.header.block_type == self.holds { Ok(block) } else { Err(NeedsDisk) }
        })
    }
}

#[cfg(target_os = "linux")]
fn read_at_once(file: &File, into: &mut [u8], offset: u64) -> Result<(), NeedsDisk> {
    let len = into.len();
    let read =
        rustix::io::preadv2(file, &mut [std::io::IoSliceMut::new(into)], offset, rustix::io::ReadWriteFlags::NOWAIT);
    if read == Ok(len) { Ok(()) } else { Err(NeedsDisk) }
}

#[cfg(not(target_os = "linux"))]
fn read_at_once(_: &File, _: &mut [u8], _: u64) -> Result<(), NeedsDisk> {
    Err(NeedsDisk)
}

/// A table, and what finds its rows.
pub(super) struct Searchable {
    pub(super) table: Table,
    id: GlobalTableId,
    /// `None`: it could not be read, or nobody asks for rows of this table one by one.
    finder: Option<Finder>,
    blocks: Arc<Blocks>,
}

struct Finder {
    top: IndexBlock,
    pages: Pages,
}

impl Searchable {
    /// Its rows need the disk.
    pub(super) fn unindexed(tree: &Tree, table: Table, blocks: Arc<Blocks>) -> Self {
        Self { id: (tree.id(), table.id()).into(), table, finder: None, blocks }
    }

    /// Waits for the disk.
    pub(super) fn indexed(tree: &Tree, table: Table, blocks: Arc<Blocks>) -> Self {
        let unindexed = Self::unindexed(tree, table, blocks);
        Self { finder: unindexed.finder().ok(), ..unindexed }
    }

    pub(super) fn table_id(&self) -> TableId {
        self.id.table_id()
    }

    fn finder(&self) -> lsm_tree::Result<Finder> {
        let descriptors = &self.blocks.descriptors;
        let file = match descriptors.access_for_table(&self.id) {
            Some(file) => file,
            None => Arc::new(File::open(&*self.table.path)?),
        };
        let top = Block::from_file(&file, self.table.regions.tli, self.table.metadata.index_block_compression)?;
        let pages = Pages::of(&file)?;
        descriptors.insert_for_table(self.id, file);
        Ok(Finder { top: IndexBlock::new(top), pages })
    }

    /// The newest row of the key, which may be a removal.
    pub(super) fn get(&self, key: &[u8], hash: KeyHash) -> Result<Option<InternalValue>, NeedsDisk> {
        if self.lacks(hash) {
            return Ok(None);
        }
        let finder = self.finder.as_ref().ok_or(NeedsDisk)?;
        let Some(handle) = self.block_of(finder, key)? else { return Ok(None) };
        let compression = self.table.metadata.data_block_compression;
        let place = Place { handle, holds: BlockType::Data, compression };
        let block = DataBlock::new(self.blocks.get(self.id, &finder.pages, place)?);
        let row = block.point_read(key, SeqNo::MAX);
        Ok(row.map(|mut row| {
            row.key.seqno += self.table.global_seqno();
            row
        }))
    }

    /// Whether its filter says that the key is not in it, for certain.
    fn lacks(&self, hash: KeyHash) -> bool {
        let filter = self.table.pinned_filter_block.as_ref();
        // A filter that cannot be understood is for whoever reads the table to complain of.
        filter.is_some_and(|filter| filter.maybe_contains_hash(hash.0).is_ok_and(|maybe| !maybe))
    }

    fn block_of(&self, finder: &Finder, key: &[u8]) -> Result<Option<BlockHandle>, NeedsDisk> {
        let found = first_reaching(&finder.top, key);
        let (Some(handle), true) = (found, self.table.regions.index.is_some()) else { return Ok(found) };
        let compression = self.table.metadata.index_block_compression;
        let place = Place { handle, holds: BlockType::Index, compression };
        let part = IndexBlock::new(self.blocks.get(self.id, &finder.pages, place)?);
        Ok(first_reaching(&part, key))
    }
}

/// What filters know a key by.
#[derive(Clone, Copy)]
pub(super) struct KeyHash(u64);

impl KeyHash {
    pub(super) fn of(key: &[u8]) -> Self {
        Self(Builder::get_hash(key))
    }
}

/// What the index says of the first block, or part of the index, that ends with this key or behind it.
fn first_reaching(index: &IndexBlock, key: &[u8]) -> Option<BlockHandle> {
    let mut entries = index.iter();
    let entry = if entries.seek(key, SeqNo::MAX) { entries.next() } else { None };
    entry.map(|entry| BlockHandle::new(entry.offset, entry.size))
}

#[cfg(test)]
mod tests;
