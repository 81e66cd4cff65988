//! The commit log: one checksummed record per group, one `fdatasync` per group that asks for it.
//!
//! The writer thread owns [`Log`]; what other threads need of it (the part not yet on disk, the closed segments) is
//! in [`LogShared`].

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::faults::Faults;
use super::record::{self, HEADER_BYTES, Place};
use super::segment::{self, Header, PAGE_BYTES, RECORDS_START, Segment};
use crate::engine::EngineOptions;

/// A segment that takes no more records.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) id: u64,
    /// Highest sequence number in it or before it.
    pub(super) last_sequence: u64,
    pub(super) bytes: u64,
    /// Whether the file may be written again: not when it was never filled with zeros.
    pub(super) reusable: bool,
}

/// How much of the segment in use is on disk.
#[derive(Debug)]
struct Progress {
    file: Arc<File>,
    written: u64,
    durable: u64,
    /// A sync of it failed. The kernel says so once, and takes the pages for written from then on: no later sync counts.
    failed: bool,
}

impl Progress {
    /// Of a segment without records.
    fn new(segment: &Segment) -> Self {
        let (written, durable) = (RECORDS_START, RECORDS_START);
        Self { file: Arc::clone(&segment.file), written, durable, failed: false }
    }
}

/// What flushes, the log keeper and checkpoints need of the log.
#[derive(Debug)]
pub(super) struct LogShared {
    dir: PathBuf,
    spares_max: usize,
    pub(super) segment_bytes: u64,
    progress: Mutex<Progress>,
    pub(super) closed: Mutex<VecDeque<Closed>>,
    /// Of `closed`, which is locked while files are removed.
    closed_bytes: AtomicU64,
    pub(super) spares: Mutex<Vec<PathBuf>>,
    serial: AtomicU64,
    /// Held during a sync: of two at once one alone would hear of a failure.
    one_sync: Mutex<()>,
    syncing: AtomicBool,
    pub(super) fsyncs_total: AtomicU64,
    pub(super) bytes_total: AtomicU64,
    pub(super) faults: Faults,
}

impl LogShared {
    /// Where the segments are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory that has the log in it.
    pub(super) fn engine_dir(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    /// Bytes of all segments, spare ones not counted.
    pub(super) fn bytes(&self) -> u64 {
        self.closed_bytes.load(Ordering::Relaxed) + self.progress.lock().written
    }

    /// Whether something was written that is not on disk.
    #[cfg(test)]
    pub(super) fn is_behind(&self) -> bool {
        let progress = self.progress.lock();
        progress.durable < progress.written
    }

    /// Up to where the segment in use is on disk.
    #[cfg(test)]
    pub(super) fn durable(&self) -> u64 {
        self.progress.lock().durable
    }

    /// Brings everything written so far to disk.
    ///
    /// # Errors
    /// The disk failed, now or earlier with this segment; what was written since the last success may be lost.
    pub(super) fn sync(&self) -> io::Result<()> {
        // Who leaves a segment syncs it before: it is the same one until the end.
        let _one = self.one_sync.lock();
        let (file, written) = {
            let progress = self.progress.lock();
            if progress.failed {
                return Err(io::Error::other("an earlier sync of this file of the commit log failed"));
            }
            if progress.durable >= progress.written {
                return Ok(());
            }
            (Arc::clone(&progress.file), progress.written)
        };
        self.syncing.store(true, Ordering::Relaxed);
        let synced = self.sync_file(&file);
        self.syncing.store(false, Ordering::Relaxed);
        let mut progress = self.progress.lock();
        match synced {
            Ok(()) => progress.durable = written,
            Err(_) => progress.failed = true,
        }
        self.fsyncs_total.fetch_add(u64::from(synced.is_ok()), Ordering::Relaxed);
        synced
    }

    /// Whether a sync of the segment in use failed.
    pub(super) fn has_failed(&self) -> bool {
        self.progress.lock().failed
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        super::hang::wait(self.engine_dir());
        self.faults.before_sync()?;
        file.sync_data()
    }

    /// Whether a write may have to wait for a sync.
    pub(super) fn is_syncing(&self) -> bool {
        self.syncing.load(Ordering::Relaxed)
    }

    /// Gives up closed segments in which every row is older than what `needed_from` says: their rows are all in tables. It
    /// is asked while no segment can be closed: of one that is closed later some rows may be in no memtable yet.
    pub(super) fn release(&self, needed_from: impl FnOnce() -> u64) {
        let mut closed = self.closed.lock();
        let needed_from = needed_from();
        while closed.front().is_some_and(|segment| segment.last_sequence < needed_from) {
            let segment = closed.pop_front().expect("invariant: just looked at it");
            self.closed_bytes.fetch_sub(segment.bytes, Ordering::Relaxed);
            if let Err(error) = self.retire(&segment) {
                tracing::warn!(segment = segment.id, %error, "cannot remove a commit log file");
            }
        }
    }

    fn retire(&self, segment: &Closed) -> io::Result<()> {
        let path = segment::path(&self.dir, segment.id);
        // A checkpoint may share the file, also one that was made before this process started.
        let shared = fs::metadata(&path)?.nlink() > 1;
        let mut spares = self.spares.lock();
        if shared || !segment.reusable || segment.bytes != self.segment_bytes || spares.len() >= self.spares_max {
            return fs::remove_file(path);
        }
        let spare = self.dir.join(format!("{:016x}.spare", segment.id));
        fs::rename(path, &spare)?;
        spares.push(spare);
        Ok(())
    }

    /// A number for the next file's name.
    pub(super) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }
}

/// The log as its one writer sees it.
#[derive(Debug)]
pub(super) struct Log {
    shared: Arc<LogShared>,
    current: Segment,
    /// Where the next record goes.
    offset: u64,
    /// Highest sequence number handed to [`Log::append`] so far, failed groups included.
    last_sequence: u64,
    /// The segment may have lost pages in a failed sync: nothing more goes into it.
    suspect: bool,
}

/// Where the log ended when it was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogEnd {
    pub(super) next_id: u64,
    pub(super) previous_end: u64,
    pub(super) last_sequence: u64,
}

impl Log {
    /// Starts a new segment after what recovery found; `closed` is what still has to be kept.
    ///
    /// # Errors
    /// The segment could not be made.
    pub(super) fn start(
        dir: &Path,
        options: &EngineOptions,
        end: LogEnd,
        closed: VecDeque<Closed>,
        mut spares: Vec<PathBuf>,
    ) -> io::Result<Self> {
        let segment_bytes = options.log_segment_bytes.next_multiple_of(PAGE_BYTES);
        let header = Header { id: end.next_id, floor: end.last_sequence, previous_end: end.previous_end };
        let spare = spares.pop();
        let current = Segment::activate(dir, spare.as_deref(), segment_bytes, header)?;
        let shared = LogShared {
            dir: dir.to_owned(),
            spares_max: options.spare_segments_max(),
            segment_bytes,
            progress: Mutex::new(Progress::new(&current)),
            closed_bytes: AtomicU64::new(closed.iter().map(|segment| segment.bytes).sum()),
            closed: Mutex::new(closed),
            spares: Mutex::new(spares),
            serial: AtomicU64::new(0),
            one_sync: Mutex::default(),
            syncing: AtomicBool::new(false),
            fsyncs_total: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            faults: Faults::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            current,
            offset: RECORDS_START,
            last_sequence: end.last_sequence,
            suspect: false,
        })
    }

    /// What other threads need.
    pub(super) fn shared(&self) -> Arc<LogShared> {
        Arc::clone(&self.shared)
    }

    /// Writes the record begun in `buffer` and, with `durable`, brings it to disk.
    ///
    /// # Errors
    /// It is not known what is on disk: the caller must [`Log::erase_tail`] before it tells anyone.
    pub(super) fn append(
        &mut self,
        buffer: &mut Vec<u8>,
        last_sequence: u64,
        batches: u32,
        durable: bool,
    ) -> io::Result<()> {
        let len = buffer.len() as u64;
        self.make_room(len)?;
        self.last_sequence = self.last_sequence.max(last_sequence);
        let place = Place { segment: self.current.id, offset: self.offset };
        let durable_to = self.shared.progress.lock().durable;
        record::seal(buffer, place, durable_to, last_sequence, batches);
        let end = (self.offset + len).next_multiple_of(PAGE_BYTES);
        buffer.resize(usize::try_from(end - self.offset).expect("invariant: a group fits into memory"), 0);
        self.shared.faults.before_write(&self.current.file, buffer, self.offset)?;
        self.current.file.write_all_at(buffer, self.offset)?;
        self.shared.progress.lock().written = self.offset + len;
        if durable && let Err(error) = self.shared.sync() {
            self.suspect = true;
            return Err(error);
        }
        self.offset += len;
        self.shared.bytes_total.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    /// Makes sure that a record whose write failed can never be read: neither by this process, which goes on at the
    /// same place, nor by the next.
    ///
    /// # Errors
    /// The disk takes neither zeros nor a shorter file.
    pub(super) fn erase_tail(&mut self) -> io::Result<()> {
        self.shared.progress.lock().written = self.offset;
        let zeroed = self.current.file.write_all_at(&[0; HEADER_BYTES], self.offset);
        if zeroed.and_then(|()| self.current.file.sync_data()).is_ok() {
            return Ok(());
        }
        // What the kernel could not write may be older than this record.
        self.shared.progress.lock().failed = true;
        self.suspect = true;
        self.current.file.set_len(self.offset)?;
        self.current.file.sync_all()?;
        self.current.capacity = self.offset;
        self.current.prewritten = false;
        Ok(())
    }

    /// Whether a sync failed on this segment: its rows must be brought into tables.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Refuses the segment for further records, after a sync in the background failed.
    pub(super) fn suspect(&mut self) {
        self.suspect = true;
    }

    /// Whether records of that length together go into the segment in use, and nothing that comes meanwhile can change it.
    pub(super) fn is_ready_for(&self, len: u64) -> bool {
        self.current.prewritten && self.fits(len) && !self.suspect
    }

    fn fits(&self, len: u64) -> bool {
        (self.offset + len).next_multiple_of(PAGE_BYTES) <= self.current.capacity
    }

    fn make_room(&mut self, len: u64) -> io::Result<()> {
        // A file that was not written before use is left as soon as a better one is there.
        let better = !self.current.prewritten && self.offset > RECORDS_START && !self.shared.spares.lock().is_empty();
        if self.fits(len) && !better && !self.suspect {
            return Ok(());
        }
        self.rotate_for(len)
    }

    /// Closes the segment and starts the next.
    ///
    /// # Errors
    /// The next could not be made; the log is as it was.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        self.rotate_for(0)
    }

    fn rotate_for(&mut self, len: u64) -> io::Result<()> {
        // A later segment says that everything in this one is on disk.
        if let Err(error) = self.shared.sync()
            && !self.suspect
        {
            self.suspect = true;
            return Err(error);
        }
        let needed = (RECORDS_START + len).next_multiple_of(PAGE_BYTES);
        let header = Header { id: self.current.id + 1, floor: self.last_sequence, previous_end: self.offset };
        let next = self.activate(header, needed)?;
        self.shared.closed_bytes.fetch_add(self.current.capacity, Ordering::Relaxed);
        self.shared.closed.lock().push_back(Closed {
            id: self.current.id,
            last_sequence: self.last_sequence,
            bytes: self.current.capacity,
            reusable: self.current.prewritten,
        });
        *self.shared.progress.lock() = Progress::new(&next);
        self.current = next;
        self.offset = RECORDS_START;
        self.suspect = false;
        Ok(())
    }

    fn activate(&self, header: Header, needed: u64) -> io::Result<Segment> {
        self.shared.faults.before_create()?;
        let dir = &self.shared.dir;
        if needed > self.shared.segment_bytes {
            return Segment::activate(dir, None, needed, header);
        }
        let spare = self.shared.spares.lock().pop();
        let result = Segment::activate(dir, spare.as_deref(), self.shared.segment_bytes, header);
        if let (Err(_), Some(spare)) = (&result, spare) {
            self.shared.spares.lock().push(spare);
        }
        result
    }
}
