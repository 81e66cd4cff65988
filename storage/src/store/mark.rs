//! The high-water mark: what the engine had made durable, kept outside of it, so that an engine that lost
//! acknowledged writes (an older copy put back, a disk that lied) is found out at the next start.
//!
//! Three slots of one file, each in a 4 KiB block of its own. Slot 2 is written about once a second and not fsynced: it
//! may lag, which only makes the comparison more lenient. Slots 0 and 1 take turns and are fsynced: at a clean end, and
//! at the start that follows. A write cut short by a power loss spoils one slot at most. The slot written last
//! counts; numbers may only be written here that are durable in the engine, or a plain power loss would look like one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::{DirectoryError, files};

const MAGIC: u64 = u64::from_le_bytes(*b"RONDOMK1");
const SLOT_BYTES: u64 = 4_096;
const SLOTS: u64 = 3;
const LAGGING_SLOT: u64 = 2;
/// Magic, turn, published, counter, clean, checksum.
const RECORD_BYTES: usize = 6 * 8;

/// What one slot says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The engine's published number: everything up to it was durable.
    pub(super) published: u64,
    /// The highest counter a dot had.
    pub(super) counter: u64,
    /// The last process ended in order: every accepted write is in the engine, and `counter` is exact.
    pub(super) clean: bool,
}

/// Whether the disk is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// It may lag.
    Later,
    /// It is there when the call returns.
    Now,
}

/// The open file.
#[derive(Debug)]
pub(super) struct MarkFile {
    path: PathBuf,
    file: File,
    turn: u64,
}

impl MarkFile {
    /// Opens it, or makes an empty one; `None` where no slot can be read.
    pub(super) fn open(path: &Path) -> Result<(Self, Option<Mark>), DirectoryError> {
        if files::read(path)?.is_none_or(|content| content.len() as u64 != SLOTS * SLOT_BYTES) {
            // Written out in full so that later writes need no space: a full disk must not stop them.
            files::replace(path, &vec![0; (SLOTS * SLOT_BYTES) as usize])?;
        }
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let file = opened.map_err(DirectoryError::io("open", path))?;
        let mut slots = Vec::new();
        for slot in 0..SLOTS {
            let mut record = [0; RECORD_BYTES];
            file.read_exact_at(&mut record, slot * SLOT_BYTES).map_err(DirectoryError::io("read", path))?;
            slots.extend(decode(&record));
        }
        let newest = slots.iter().max_by_key(|(turn, _)| *turn);
        let mark = newest.map(|(_, newest)| *newest);
        let turn = newest.map_or(0, |(turn, _)| *turn);
        Ok((Self { path: path.into(), file, turn }, mark))
    }

    pub(super) fn write(&mut self, mark: Mark, sync: Sync) -> Result<(), DirectoryError> {
        self.turn += 1;
        let slot = match sync {
            Sync::Later => LAGGING_SLOT,
            Sync::Now => self.turn % 2,
        };
        let written = self.file.write_all_at(&encode(self.turn, mark), slot * SLOT_BYTES);
        written.map_err(DirectoryError::io("write", &self.path))?;
        match sync {
            Sync::Later => Ok(()),
            Sync::Now => self.file.sync_data().map_err(DirectoryError::io("fsync", &self.path)),
        }
    }
}

fn encode(turn: u64, mark: Mark) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let fields = [MAGIC, turn, mark.published, mark.counter, u64::from(mark.clean)];
    for (at, field) in fields.iter().enumerate() {
        record[at * 8..at * 8 + 8].copy_from_slice(&field.to_le_bytes());
    }
    let checksum = xxh3_64(&record[..RECORD_BYTES - 8]);
    record[RECORD_BYTES - 8..].copy_from_slice(&checksum.to_le_bytes());
    record
}

fn decode(record: &[u8; RECORD_BYTES]) -> Option<(u64, Mark)> {
    let (fields, _) = record.as_chunks::<8>();
    let field = |at: usize| u64::from_le_bytes(fields[at]);
    let whole = field(0) == MAGIC && field(5) == xxh3_64(&record[..RECORD_BYTES - 8]) && field(4) <= 1;
    whole.then(|| (field(1), Mark { published: field(2), counter: field(3), clean: field(4) == 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(published: u64) -> Mark {
        Mark { published, counter: published * 10, clean: published % 2 == 1 }
    }

    #[test]
    fn the_latest_mark_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        let (mut file, read) = MarkFile::open(&path).unwrap();
        assert_eq!(read, None);
        for (n, sync) in [(1, Sync::Now), (2, Sync::Later), (3, Sync::Later), (4, Sync::Now), (5, Sync::Now)] {
            file.write(mark(n), sync).unwrap();
            let (again, read) = MarkFile::open(&path).unwrap();
            assert_eq!(read, Some(mark(n)));
            file = again;
        }
    }

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        let (mut file, _) = MarkFile::open(&path).unwrap();
        file.write(mark(1), Sync::Now).unwrap();
        file.write(mark(2), Sync::Now).unwrap();
        file.write(mark(3), Sync::Later).unwrap();
        for at in 0..RECORD_BYTES as u64 {
            let mut whole = std::fs::read(&path).unwrap();
            let place = (LAGGING_SLOT * SLOT_BYTES + at) as usize;
            whole[place] ^= 0x10;
            let torn = dir.path().join("torn");
            std::fs::write(&torn, whole).unwrap();
            assert_eq!(MarkFile::open(&torn).unwrap().1, Some(mark(2)), "byte {at}");
        }
    }

    #[test]
    fn a_file_of_another_size_is_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        std::fs::write(&path, b"RONDOMK1").unwrap();
        assert_eq!(MarkFile::open(&path).unwrap().1, None);
    }
}
