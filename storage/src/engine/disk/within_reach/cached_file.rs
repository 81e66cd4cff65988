//! A file that is read only where that waits for nothing: the kernel's page cache has what is asked for.
//!
//! `RWF_NOWAIT` (preadv2(2), Linux 4.14) gives up where a page is missing. That alone would not do: it asks the disk for the
//! page before it gives up, and a disk that hangs takes only so many requests until whoever makes one more waits. So the
//! page cache is asked first what it has (mincore(2)), through a map of the file that nobody reads through: a disk that
//! fails would be a signal there. The two cases that are left are rare, and each of them is one request to the disk: a page
//! goes away in between, or is the one at which an earlier read in order had the kernel read ahead.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use memmap2::{MmapOptions, MmapRaw};

use super::NeedsDisk;

/// Most pages of one read.
const PAGES_MAX: usize = 32;
/// To note when a file was read is a write, which can wait for the file system's journal. Only the owner of a file may do
/// without; to others mincore(2) says of every page that it is there.
#[cfg(target_os = "linux")]
const FLAGS: i32 = libc::O_NOATIME;
#[cfg(not(target_os = "linux"))]
const FLAGS: i32 = 0;

/// See the module.
pub(super) struct CachedFile {
    file: File,
    map: MmapRaw,
    page_bytes: usize,
}

impl CachedFile {
    /// Waits for the disk.
    ///
    /// # Errors
    /// It cannot be opened, is another user's or empty, or the system or the file system has no such reads.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(FLAGS).open(path)?;
        let map = MmapOptions::new().map_raw_read_only(&file)?;
        file.read_exact_at(&mut [0], 0)?;
        read_without_waiting(&file, &mut [0], 0)?;
        Ok(Self { file, map, page_bytes: rustix::param::page_size() })
    }

    /// For those who may wait.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Reads what begins at `offset`, at most [`PAGES_MAX`] pages of what the file had when it was opened.
    pub(super) fn read(&self, into: &mut [u8], offset: u64) -> Result<(), NeedsDisk> {
        if !self.is_in_memory(offset, into.len()) {
            return Err(NeedsDisk);
        }
        read_without_waiting(&self.file, into, offset).map_err(|_| NeedsDisk)
    }

    fn is_in_memory(&self, offset: u64, len: usize) -> bool {
        let Some((start, count)) = self.pages_of(offset, len) else { return false };
        let mut pages = [0_u8; PAGES_MAX];
        // SAFETY: the address is within the map, and a multiple of the size of a page as that of the map is; `pages` has a
        // place for each page from there, and of `count` pages the last begins within the map.
        #[allow(unsafe_code, reason = "there is no safe way to ask")]
        let asked = unsafe {
            libc::mincore(self.map.as_mut_ptr().add(start).cast(), count * self.page_bytes, pages.as_mut_ptr().cast())
        };
        asked == 0 && pages[..count].iter().all(|page| page & 1 == 1)
    }

    /// Where the first of the pages begins in the map, and how many there are.
    fn pages_of(&self, offset: u64, len: usize) -> Option<(usize, usize)> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(len)?;
        let start = offset / self.page_bytes * self.page_bytes;
        let count = (end - start).div_ceil(self.page_bytes);
        (len > 0 && end <= self.map.len() && count <= PAGES_MAX).then_some((start, count))
    }
}

#[cfg(target_os = "linux")]
fn read_without_waiting(file: &File, into: &mut [u8], offset: u64) -> io::Result<()> {
    let wanted = into.len();
    let mut into = [io::IoSliceMut::new(into)];
    let read = rustix::io::preadv2(file, &mut into, offset, rustix::io::ReadWriteFlags::NOWAIT)?;
    if read == wanted { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

#[cfg(not(target_os = "linux"))]
fn read_without_waiting(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// A file of so many bytes. `None` where the file system has no such reads.
    fn file(bytes: usize) -> Option<(tempfile::NamedTempFile, CachedFile)> {
        let named = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(named.path(), vec![7; bytes]).unwrap();
        let cached = CachedFile::open(named.path()).inspect_err(|error| eprintln!("nothing was looked at: {error}"));
        Some((named, cached.ok()?))
    }

    fn read(file: &CachedFile, offset: u64, len: usize) -> Result<(), NeedsDisk> {
        let mut bytes = vec![0; len];
        file.read(&mut bytes, offset)?;
        assert!(bytes.iter().all(|&byte| byte == 7));
        Ok(())
    }

    #[test]
    fn what_was_written_can_be_read_until_the_kernel_forgets_it() {
        let page = rustix::param::page_size();
        let bytes = 5 * page + 100;
        let Some((named, cached)) = file(bytes) else { return };
        assert_eq!(read(&cached, 0, bytes), Ok(()));
        assert_eq!(read(&cached, page as u64 - 10, 20), Ok(()));
        if super::super::tests::forget(named.path()) {
            let each_page = || (0..6).map(|number| read(&cached, number * page as u64 + 50, 20));
            assert!(each_page().all(|read| read == Err(NeedsDisk)));
            assert!(each_page().all(|read| read == Err(NeedsDisk)), "to ask for them does not bring them");
            std::fs::read(named.path()).unwrap();
            assert!(each_page().all(|read| read == Ok(())));
        }
    }

    #[test]
    fn what_the_file_did_not_have_and_too_much_at_once_is_refused() {
        let page = rustix::param::page_size();
        let bytes = (PAGES_MAX + 1) * page;
        let Some((_named, cached)) = file(bytes) else { return };
        assert_eq!(read(&cached, page as u64, PAGES_MAX * page), Ok(()));
        for (offset, len) in [(0, 0), (0, bytes), (1, PAGES_MAX * page), (bytes as u64, 1), (u64::MAX, 1)] {
            assert_eq!(read(&cached, offset, len), Err(NeedsDisk), "{len} bytes from {offset}");
        }
    }

    #[test]
    fn an_empty_file_cannot_be_opened() {
        let named = tempfile::NamedTempFile::new().unwrap();
        assert!(CachedFile::open(named.path()).is_err());
    }
}
