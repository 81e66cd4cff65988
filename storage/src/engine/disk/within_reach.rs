//! Rows of tables that can be had without waiting for the disk: from the block cache, or from the kernel's page cache
//! (`cached_file`). Where a system or a file system cannot say what that has, every row of a table needs the disk's threads.
//!
//! `lsm-tree` finds the block of a row as it is done here: the top of the index, which stays in memory, names a part of
//! the index, and that names the block. One of each is enough for the newest row of a key, because of the rows with one
//! key the newest comes first.

mod cached_file;

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lsm_tree::coding::Decode;
use lsm_tree::table::block::{BlockType, Header};
use lsm_tree::table::filter::standard_bloom::Builder;
use lsm_tree::table::{Block, BlockHandle, DataBlock, IndexBlock};
use lsm_tree::{
    AbstractTree, Cache, CompressionType, DescriptorTable, GlobalTableId, InternalValue, SeqNo, Table, TableId, Tree,
};

use cached_file::CachedFile;

/// Larger blocks, which large values make, are for the disk's threads, whether they are that large on disk or once they are
/// decompressed: one of them takes a worker as long as many others.
const BLOCK_BYTES_MAX: usize = 64 << 10;

/// Most finders: each maps a file, and Linux allows a process some 65,000 maps (`vm.max_map_count`), the allocator's included.
const FINDERS_MAX: usize = 16_384;

/// Only the disk can say it, or who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NeedsDisk;

/// What all tables share.
pub(super) struct Blocks {
    pub(super) cache: Arc<Cache>,
    pub(super) descriptors: Arc<DescriptorTable>,
    finders: AtomicUsize,
    finders_max: usize,
    /// For a test: nothing is in memory (`hang.rs`).
    hung: AtomicBool,
}

impl Blocks {
    /// Tables are opened twice, `open_tables` of them each time: by `lsm-tree`, and here.
    pub(super) fn new(cache_bytes: u64, open_tables: usize) -> Self {
        Self {
            cache: Arc::new(Cache::with_capacity_bytes(cache_bytes)),
            descriptors: Arc::new(DescriptorTable::new(open_tables)),
            finders: AtomicUsize::new(0),
            finders_max: open_tables.min(FINDERS_MAX),
            hung: AtomicBool::new(false),
        }
    }

    #[cfg(debug_assertions)]
    pub(super) fn hang(&self, hung: bool) {
        self.hung.store(hung, Ordering::Relaxed);
    }
}

/// The right to one of [`Blocks::finders_max`] finders.
struct Seat(Arc<Blocks>);

impl Seat {
    fn take(blocks: &Arc<Blocks>) -> io::Result<Self> {
        let seat = Self(Arc::clone(blocks));
        let taken = blocks.finders.fetch_add(1, Ordering::Relaxed);
        if taken < blocks.finders_max { Ok(seat) } else { Err(io::Error::other("as many tables are open as may be")) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.finders.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A table, and what finds its rows.
pub(super) struct Searchable {
    pub(super) table: Table,
    finder: Option<Finder>,
}

impl Searchable {
    /// Its rows need the disk.
    pub(super) fn without_finder(table: Table) -> Self {
        Self { table, finder: None }
    }

    /// Waits for the disk. Without a finder if that cannot be made, or there are as many as there may be.
    pub(super) fn new(tree: &Tree, table: Table, blocks: &Arc<Blocks>) -> Self {
        let finder = Finder::open(tree, &table, blocks);
        let finder = finder.inspect_err(|error| tracing::debug!(?table, "its rows need the disk's threads: {error}"));
        Self { table, finder: finder.ok() }
    }

    pub(super) fn table_id(&self) -> TableId {
        self.table.id()
    }

    pub(super) fn has_finder(&self) -> bool {
        self.finder.is_some()
    }

    /// The newest row of the key, which may be a removal.
    pub(super) fn get(&self, key: &[u8], hash: KeyHash) -> Result<Option<InternalValue>, NeedsDisk> {
        if self.lacks(hash) {
            return Ok(None);
        }
        let row = self.finder.as_ref().ok_or(NeedsDisk)?.find(&self.table, key)?;
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
}

/// What filters know a key by.
#[derive(Clone, Copy)]
pub(super) struct KeyHash(u64);

impl KeyHash {
    pub(super) fn of(key: &[u8]) -> Self {
        Self(Builder::get_hash(key))
    }
}

/// Finds rows of one table.
struct Finder {
    top: IndexBlock,
    table: GlobalTableId,
    file: CachedFile,
    seat: Seat,
}

impl Finder {
    fn open(tree: &Tree, table: &Table, blocks: &Arc<Blocks>) -> lsm_tree::Result<Self> {
        let seat = Seat::take(blocks)?;
        let file = CachedFile::open(&table.path)?;
        let top = Block::from_file(file.file(), table.regions.tli, table.metadata.index_block_compression)?;
        let table = (tree.id(), table.id()).into();
        Ok(Self { top: IndexBlock::new(top), table, file, seat })
    }

    fn find(&self, table: &Table, key: &[u8]) -> Result<Option<InternalValue>, NeedsDisk> {
        let mut found = first_reaching(&self.top, key);
        if let (Some(handle), true) = (found, table.regions.index.is_some()) {
            let compression = table.metadata.index_block_compression;
            let part = self.block(Place { handle, holds: BlockType::Index, compression })?;
            found = first_reaching(&IndexBlock::new(part), key);
        }
        let Some(handle) = found else { return Ok(None) };
        let compression = table.metadata.data_block_compression;
        let block = self.block(Place { handle, holds: BlockType::Data, compression })?;
        Ok(DataBlock::new(block).point_read(key, SeqNo::MAX))
    }

    fn block(&self, place: Place) -> Result<Block, NeedsDisk> {
        let Blocks { cache, hung, .. } = &*self.seat.0;
        if hung.load(Ordering::Relaxed) {
            return Err(NeedsDisk);
        }
        if let Some(block) = cache.get_block(self.table, place.handle.offset()) {
            return Ok(block);
        }
        let block = place.read(&self.file)?;
        // Of rows the kernel has kept what was read lately; there is no need for a second copy.
        if place.holds == BlockType::Index {
            cache.insert_block(self.table, place.handle.offset(), block.clone());
        }
        Ok(block)
    }
}

/// What the index says of the first block, or part of the index, that ends with this key or behind it.
fn first_reaching(index: &IndexBlock, key: &[u8]) -> Option<BlockHandle> {
    let mut entries = index.iter();
    let entry = if entries.seek(key, SeqNo::MAX) { entries.next() } else { None };
    entry.map(|entry| BlockHandle::new(entry.offset, entry.size))
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
    fn read(self, file: &CachedFile) -> Result<Block, NeedsDisk> {
        thread_local! {
            static READ: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let len = self.handle.size() as usize;
        if len > BLOCK_BYTES_MAX {
            return Err(NeedsDisk);
        }
        READ.with_borrow_mut(|read| {
            read.resize(BLOCK_BYTES_MAX, 0);
            let read = &mut read[..len];
            file.read(read, *self.handle.offset())?;
            let header = Header::decode_from(&mut &*read).map_err(|_| NeedsDisk)?;
            if header.block_type != self.holds || header.uncompressed_length as usize > BLOCK_BYTES_MAX {
                return Err(NeedsDisk);
            }
            Block::from_reader(&mut &*read, self.compression).map_err(|_| NeedsDisk)
        })
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
