//! Where tests make the log's disk fail. Outside of tests this is nothing at all.

use std::fs::File;
use std::io;
#[cfg(test)]
use std::sync::atomic::{AtomicBool, Ordering};

/// The failures wanted at the moment.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// The disk takes half of a record and is full.
    #[cfg(test)]
    pub(super) full: AtomicBool,
    /// Syncs fail.
    #[cfg(test)]
    pub(super) syncs: AtomicBool,
}

#[cfg(not(test))]
#[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "the same calls as in tests")]
impl Faults {
    pub(super) fn before_write(&self, _file: &File, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn before_sync(&self) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn before_create(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
impl Faults {
    /// A write that fails half-way: the worst case is a record that is whole on disk, so all of it is written.
    pub(super) fn before_write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    pub(super) fn before_sync(&self) -> io::Result<()> {
        if self.syncs.load(Ordering::SeqCst) { Err(io::Error::other("injected")) } else { Ok(()) }
    }

    pub(super) fn before_create(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}
