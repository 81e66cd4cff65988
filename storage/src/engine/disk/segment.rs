//! Files of the commit log: their header, their names, and how they come into being and are used again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::record::{u32_at, u64_at};

/// Writes end on multiples of this, so that the kernel never has to read a page before it changes part of it.
pub(super) const PAGE_BYTES: u64 = 4_096;
/// The header has the first page for itself.
pub(super) const RECORDS_START: u64 = PAGE_BYTES;

const MAGIC: [u8; 8] = *b"RONDOLOG";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 48;
const ZEROS_BYTES: usize = 1 << 20;

/// What the first page of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Counts up by one; never used twice in a directory.
    pub(super) id: u64,
    /// No batch before this segment has a higher sequence number.
    pub(super) floor: u64,
    /// Where the records of segment `id - 1` end. What that file holds beyond is not part of the log; anything
    /// unreadable before is damage.
    pub(super) previous_end: u64,
}

impl Header {
    fn encode(self) -> Vec<u8> {
        let mut page = vec![0; usize::try_from(PAGE_BYTES).expect("invariant: a page fits into memory")];
        page[..8].copy_from_slice(&MAGIC);
        page[8..12].copy_from_slice(&VERSION.to_le_bytes());
        page[16..24].copy_from_slice(&self.id.to_le_bytes());
        page[24..32].copy_from_slice(&self.floor.to_le_bytes());
        page[32..40].copy_from_slice(&self.previous_end.to_le_bytes());
        let checksum = xxh3_64(&page[..40]);
        page[40..48].copy_from_slice(&checksum.to_le_bytes());
        page
    }

    /// Reads the header of the segment that the file's name says is `id`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn decode(bytes: &[u8], id: u64) -> Result<Self, String> {
        let header = bytes.get(..HEADER_BYTES).ok_or("the header is cut off")?;
        if header[..8] != MAGIC || xxh3_64(&header[..40]) != u64_at(header, 40) {
            return Err("the header is damaged".to_owned());
        }
        let version = u32_at(header, 8);
        if version != VERSION {
            return Err(format!("its format is {version}, this program reads {VERSION}"));
        }
        let found = Self { id: u64_at(header, 16), floor: u64_at(header, 24), previous_end: u64_at(header, 32) };
        if found.id == id { Ok(found) } else { Err(format!("the header is that of segment {}", found.id)) }
    }
}

/// Path of a segment in the log directory.
pub(super) fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:016x}.log"))
}

/// The segments in `dir` in the order of their ids, and the files kept for use again.
///
/// # Errors
/// The directory cannot be read, or holds something that is neither.
pub(super) fn list(dir: &Path) -> io::Result<(Vec<u64>, Vec<PathBuf>)> {
    let (mut ids, mut spares) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("log") => ids.push(u64::from_str_radix(stem, 16).map_err(|_| unknown_file(&path))?),
            Some("spare") => spares.push(path),
            _ => return Err(unknown_file(&path)),
        }
    }
    ids.sort_unstable();
    Ok((ids, spares))
}

fn unknown_file(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} is not a file of the commit log", path.display()))
}

/// A segment that is written to.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: u64,
    pub(super) file: std::sync::Arc<File>,
    /// Bytes the file was made for.
    pub(super) capacity: u64,
    /// Whether all of it was written before: overwriting changes no metadata, which makes `fdatasync` cheaper.
    pub(super) prewritten: bool,
}

impl Segment {
    /// Makes `spare` (or a new file, where there is none) the segment that `header` describes, durably.
    ///
    /// # Errors
    /// The file could not be written. Whatever was left is a spare file or none.
    pub(super) fn activate(dir: &Path, spare: Option<&Path>, capacity: u64, header: Header) -> io::Result<Self> {
        let unnamed = spare.map_or_else(|| dir.join(format!("{:016x}.spare", header.id)), Path::to_owned);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&unnamed)?;
        if spare.is_none() {
            file.set_len(capacity)?;
        }
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        fs::rename(&unnamed, path(dir, header.id))?;
        // The rename has happened: going on in the older segment would write behind the end this header declares.
        if let Err(error) = sync_dir(dir) {
            fatal(&format!("cannot make a rename in the commit log durable: {error}"));
        }
        Ok(Self { id: header.id, file: std::sync::Arc::new(file), capacity, prewritten: spare.is_some() })
    }
}

/// A spare file on the way to its full length.
#[derive(Debug)]
pub(super) struct Prewrite {
    file: File,
    path: PathBuf,
    written: u64,
    capacity: u64,
}

impl Prewrite {
    /// Starts one under a name that no other has.
    ///
    /// # Errors
    /// The file could not be made.
    pub(super) fn start(dir: &Path, serial: u64, capacity: u64) -> io::Result<Self> {
        let path = dir.join(format!("new-{serial:x}.spare"));
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        Ok(Self { file, path, written: 0, capacity })
    }

    /// Writes the next part; the path once it is complete and on disk.
    ///
    /// # Errors
    /// The file could not be written and was removed.
    pub(super) fn step(&mut self) -> io::Result<Option<PathBuf>> {
        let result = self.write_next();
        if result.is_err() {
            let _ = fs::remove_file(&self.path);
        }
        result
    }

    fn write_next(&mut self) -> io::Result<Option<PathBuf>> {
        let len = usize::try_from(self.capacity - self.written).unwrap_or(usize::MAX).min(ZEROS_BYTES);
        self.file.write_all_at(&vec![0; len], self.written)?;
        self.written += len as u64;
        // Part by part: a sync of the log may have to wait for whatever else the file system holds back.
        self.file.sync_all()?;
        Ok((self.written == self.capacity).then(|| self.path.clone()))
    }
}

/// Makes new names in a directory durable.
///
/// # Errors
/// The directory could not be opened or synced.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Ends the process: going on could lose acknowledged writes or hang for ever, and a node that is gone is healed
/// around.
#[allow(clippy::print_stderr, reason = "the last words must not depend on a subscriber")]
pub(super) fn fatal(reason: &str) -> ! {
    tracing::error!(reason, "the storage engine ends the process");
    eprintln!("rondo: the storage engine ends the process: {reason}");
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_damage_is_named() {
        let header = Header { id: 7, floor: 99, previous_end: 4_096 };
        let page = header.encode();
        assert_eq!(Header::decode(&page, 7), Ok(header));
        assert_eq!(Header::decode(&page, 8), Err("the header is that of segment 7".to_owned()));
        for at in 0..HEADER_BYTES {
            let mut damaged = page.clone();
            damaged[at] ^= 1;
            assert_eq!(Header::decode(&damaged, 7), Err("the header is damaged".to_owned()), "byte {at}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let mut page = Header { id: 1, floor: 0, previous_end: 0 }.encode();
        page[8] = 2;
        let checksum = xxh3_64(&page[..40]);
        page[40..48].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Header::decode(&page, 1), Err("its format is 2, this program reads 1".to_owned()));
    }
}
