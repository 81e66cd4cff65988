//! Reading the commit log when a directory is opened.
//!
//! What may be missing is only what never was on disk for certain: the records after the last one that is whole, in
//! the last segment. Anything unreadable before that is damage, and damage is an error: rows were acknowledged and are
//! gone, so the caller must not go on as if nothing had happened. Two things tell the cases apart. A later segment
//! says where the one before it ends, and it is begun only after that one was on disk to its end; and every record
//! says up to where the segment was on disk when it was written.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::log::{Closed, LogEnd};
use super::record::{MAGIC, Place, Record};
use super::segment::{self, Header, RECORDS_START};
use crate::engine::{EngineError, Write};

/// What the log directory held.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) end: LogEnd,
    /// Segments to keep until their rows are in tables.
    pub(super) closed: VecDeque<Closed>,
    /// Files that can be used again.
    pub(super) spares: Vec<PathBuf>,
}

/// Hands every write of the log to `apply`, oldest first.
///
/// # Errors
/// [`EngineError::Unopenable`]: the log is damaged before its tail, of another format, or cannot be read. Nothing was
/// changed.
pub(super) fn recover(
    dir: &Path,
    segment_bytes: u64,
    mut apply: impl FnMut(u64, Write) -> Result<(), EngineError>,
) -> Result<Recovered, EngineError> {
    let (ids, spares) = segment::list(dir).map_err(|error| unreadable(dir, &error))?;
    let files = read_headers(dir, &ids)?;
    let mut closed = VecDeque::new();
    let mut end = LogEnd { next_id: 1, previous_end: 0, last_sequence: 0 };
    for (index, header) in files.iter().enumerate() {
        let path = segment::path(dir, header.id);
        let declared = files.get(index + 1).map(|next| next.previous_end);
        if declared.is_none() {
            sync(&path)?;
        }
        let bytes = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        let reader = SegmentReader { path: &path, bytes: &bytes, id: header.id };
        let (previous_end, highest) = reader.replay(declared, &mut apply)?;
        let last_sequence = end.last_sequence.max(header.floor).max(highest);
        end = LogEnd { next_id: header.id + 1, previous_end, last_sequence };
        closed.push_back(Closed {
            id: header.id,
            last_sequence,
            bytes: bytes.len() as u64,
            reusable: bytes.len() as u64 == segment_bytes,
        });
    }
    let spares = spares.into_iter().filter(|spare| is_whole_spare(spare, segment_bytes)).collect();
    Ok(Recovered { end, closed, spares })
}

/// What a process goes on from must be on disk: the next segment will say where the last one ends, and the process before
/// may have been killed between a write and its sync.
fn sync(path: &Path) -> Result<(), EngineError> {
    let synced = fs::File::open(path).and_then(|file| file.sync_data());
    synced.map_err(|error| EngineError::Unopenable(format!("cannot bring {} to disk: {error}", path.display())))
}

/// A spare file of another length is left from an interrupted preparation or from other options.
fn is_whole_spare(path: &Path, segment_bytes: u64) -> bool {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() == segment_bytes) {
        return true;
    }
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished commit log file");
    }
    false
}

fn read_headers(dir: &Path, ids: &[u64]) -> Result<Vec<Header>, EngineError> {
    let mut headers = Vec::with_capacity(ids.len());
    for (index, &id) in ids.iter().enumerate() {
        let path = segment::path(dir, id);
        let expected = ids[0] + index as u64;
        if id != expected {
            return Err(damaged(&segment::path(dir, expected), "it is missing, and later ones exist"));
        }
        let mut start = vec![0; usize::try_from(RECORDS_START).expect("invariant: a page fits into memory")];
        let read = fs::File::open(&path).and_then(|mut file| read_start(&mut file, &mut start));
        let len = read.map_err(|error| unreadable(&path, &error))?;
        headers.push(Header::decode(&start[..len], id).map_err(|reason| damaged(&path, &reason))?);
    }
    Ok(headers)
}

fn read_start(file: &mut impl io::Read, into: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < into.len() {
        match file.read(&mut into[len..])? {
            0 => break,
            read => len += read,
        }
    }
    Ok(len)
}

struct SegmentReader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    id: u64,
}

impl SegmentReader<'_> {
    /// Replays up to `declared`, or up to the torn tail of the last segment. Returns where the records end, and their
    /// highest sequence number.
    fn replay(
        &self,
        declared: Option<u64>,
        apply: &mut impl FnMut(u64, Write) -> Result<(), EngineError>,
    ) -> Result<(u64, u64), EngineError> {
        let (mut offset, mut highest) = (RECORDS_START, 0);
        while declared.is_none_or(|end| offset < end) {
            let Some(record) = self.record_at(offset, declared) else {
                self.check_tail(offset, declared)?;
                break;
            };
            let mut failure = None;
            let replayed = record.replay(|sequence, write| {
                apply(sequence, write).map_err(|error| {
                    let text = error.to_string();
                    failure = Some(error);
                    text
                })
            });
            if let Err(reason) = replayed {
                let damage = || damaged(self.path, &format!("the record at byte {offset}: {reason}"));
                return Err(failure.unwrap_or_else(damage));
            }
            highest = highest.max(record.last_sequence);
            offset += record.bytes() as u64;
        }
        Ok((offset, highest))
    }

    fn record_at(&self, offset: u64, end: Option<u64>) -> Option<Record<'_>> {
        let from = usize::try_from(offset).ok()?;
        let to = end.map_or(self.bytes.len(), |end| usize::try_from(end).unwrap_or(usize::MAX));
        Record::read(self.bytes.get(from..to)?, Place { segment: self.id, offset })
    }

    /// Nothing readable is at `offset`: is this the torn tail, or damage?
    fn check_tail(&self, offset: u64, declared: Option<u64>) -> Result<(), EngineError> {
        if let Some(end) = declared {
            let reason = format!("nothing readable at byte {offset}, and the next file says that it goes on to {end}");
            return Err(damaged(self.path, &reason));
        }
        let mut at = usize::try_from(offset).expect("invariant: within the file that was read into memory");
        while let Some(found) = self.bytes.get(at..).and_then(find_magic) {
            at += found;
            let later = self.record_at(at as u64, None);
            if let Some(record) = later.filter(|record| record.durable_to > offset) {
                let known = record.durable_to;
                let reason = format!("nothing readable at byte {offset}, and it was on disk up to {known}");
                return Err(damaged(self.path, &reason));
            }
            at += 1;
        }
        Ok(())
    }
}

fn find_magic(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MAGIC.len()).position(|window| window == MAGIC)
}

fn damaged(path: &Path, reason: &str) -> EngineError {
    EngineError::Unopenable(format!("commit log file {}: {reason}", path.display()))
}

fn unreadable(path: &Path, error: &io::Error) -> EngineError {
    EngineError::Unopenable(format!("cannot read {}: {error}", path.display()))
}
