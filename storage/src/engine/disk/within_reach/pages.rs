//! Which pages of a file are in memory.

use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};

/// Pages that can be asked for at once.
const PAGES_MAX: usize = 32;

/// A file, mapped for no other purpose than to ask which of its pages are in memory (mincore(2)). Nobody reads through it,
/// so it takes addresses and no memory.
pub(super) struct Pages {
    map: MmapRaw,
    page_bytes: usize,
}

impl Pages {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self { map: MmapOptions::new().map_raw_read_only(file)?, page_bytes: rustix::param::page_size() })
    }

    /// Whether all of these bytes are, as of now. Those of more than [`PAGES_MAX`] pages, and bytes that the file did not have
    /// when it was mapped, count as not.
    pub(super) fn are_in_memory(&self, offset: u64, len: usize) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Advice, fadvise};

    #[test]
    fn pages_that_were_written_are_in_memory_until_the_kernel_forgets_them() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes = 5 * rustix::param::page_size() + 100;
        io::Write::write_all(&mut file, &vec![7; bytes]).unwrap();
        let pages = Pages::of(&file).unwrap();
        assert!(pages.are_in_memory(0, bytes));
        for (offset, len) in [(0, 0), (0, bytes + 1), (bytes as u64, 1), (u64::MAX, 1), (1, usize::MAX)] {
            assert!(!pages.are_in_memory(offset, len), "{len} bytes from {offset}");
        }
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        // tmpfs keeps what has no other place.
        if !pages.are_in_memory(0, bytes) {
            assert!((0..6).all(|page| !pages.are_in_memory(page * rustix::param::page_size() as u64 + 50, 20)));
            io::Seek::rewind(&mut file).unwrap();
            io::Read::read_exact(&mut file, &mut [0]).unwrap();
            assert!(pages.are_in_memory(0, 1));
        }
    }

    #[test]
    fn more_pages_than_can_be_asked_for_count_as_not_there() {
        let mut file = tempfile::tempfile().unwrap();
        let page = rustix::param::page_size();
        io::Write::write_all(&mut file, &vec![7; (PAGES_MAX + 1) * page]).unwrap();
        let pages = Pages::of(&file).unwrap();
        assert!(pages.are_in_memory(0, PAGES_MAX * page) && pages.are_in_memory(page as u64, PAGES_MAX * page));
        assert!(!pages.are_in_memory(1, PAGES_MAX * page));
    }
}
