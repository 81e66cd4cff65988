//! The directory as a whole: its format version, and the checks on files of which `lsm-tree` trusts the content.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use super::segment::sync_dir;
use crate::engine::{EngineError, Keyspace};

const FORMAT_FILE: &str = "FORMAT";
const FORMAT_PREFIX: &str = "rondo-engine ";
const FORMAT_VERSION: u32 = 1;
/// Where a tree says which list of tables is the current one, and that list's checksum.
const CURRENT_FILE: &str = "current";
const CURRENT_BYTES: usize = 25;
const TABLES_DIR: &str = "tables";
const LOG_DIR: &str = "log";

/// Directory of the commit log.
pub(super) fn log_dir(dir: &Path) -> PathBuf {
    dir.join(LOG_DIR)
}

/// Directory of a keyspace's tables.
pub(super) fn keyspace_dir(dir: &Path, keyspace: Keyspace) -> PathBuf {
    dir.join(match keyspace {
        Keyspace::Objects => "objects",
        Keyspace::Names => "names",
        Keyspace::Hints => "hints",
        Keyspace::Meta => "meta",
    })
}

/// What [`check`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A directory of this format: open it.
    Existing,
    /// Nothing that was ever used.
    Empty,
}

/// Looks at a directory before anything is opened; whatever an interrupted creation left is removed.
///
/// # Errors
/// [`EngineError::Unopenable`]: a newer format, a list of tables whose checksum does not hold, or files missing.
pub(super) fn check(dir: &Path) -> Result<Found, EngineError> {
    fs::create_dir_all(dir).map_err(|error| unopenable(dir, &error))?;
    let path = dir.join(FORMAT_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => check_version(&path, &text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return clear_unfinished(dir),
        Err(error) => return Err(unopenable(&path, &error)),
    }
    let mut has_tables = false;
    for keyspace in Keyspace::ALL {
        let tree = keyspace_dir(dir, keyspace);
        read_manifest(&tree)?;
        has_tables |= has_files(&tree.join(TABLES_DIR))?;
    }
    if has_tables && !has_files(&log_dir(dir))? {
        return Err(EngineError::Unopenable(format!("{} holds no commit log", dir.display())));
    }
    Ok(Found::Existing)
}

fn check_version(path: &Path, text: &str) -> Result<(), EngineError> {
    let number = text.strip_prefix(FORMAT_PREFIX).and_then(|rest| rest.trim_end().parse::<u32>().ok());
    let reason = match number {
        Some(FORMAT_VERSION) => return Ok(()),
        Some(newer) if newer > FORMAT_VERSION => {
            format!("the directory has format {newer}, this program reads up to {FORMAT_VERSION}: use a newer program")
        }
        _ => "it does not name a format: damaged, or not a directory of this engine".to_owned(),
    };
    Err(EngineError::Unopenable(format!("{}: {reason}", path.display())))
}

/// Without the format file, which is written last, nothing was ever acknowledged here; unless it got lost, and then
/// the data must not be taken for leftovers.
fn clear_unfinished(dir: &Path) -> Result<Found, EngineError> {
    let parts: Vec<PathBuf> =
        Keyspace::ALL.iter().map(|&keyspace| keyspace_dir(dir, keyspace)).chain([log_dir(dir)]).collect();
    for part in &parts {
        let data = if *part == log_dir(dir) { part.clone() } else { part.join(TABLES_DIR) };
        if has_files(&data)? {
            let text = format!("{} is missing, but {} holds data", dir.join(FORMAT_FILE).display(), data.display());
            return Err(EngineError::Unopenable(text));
        }
    }
    for part in parts {
        match fs::remove_dir_all(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unopenable(&part, &error)),
            _ => {}
        }
    }
    Ok(Found::Empty)
}

/// Marks the directory as one of this format, durably. The trees and an empty log directory exist by now.
///
/// # Errors
/// The directory cannot be written.
pub(super) fn finish_creation(dir: &Path) -> Result<(), EngineError> {
    let finish = || -> io::Result<()> {
        let new = dir.join("FORMAT.new");
        fs::write(&new, format!("{FORMAT_PREFIX}{FORMAT_VERSION}\n"))?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, dir.join(FORMAT_FILE))?;
        sync_dir(dir)?;
        // The directory's own name, where it was made by this call.
        dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)
    };
    finish().map_err(|error| unopenable(dir, &error))
}

/// A tree's list of tables, whose checksum holds.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

impl Manifest {
    /// Content of the file that makes this list the current one.
    pub(super) fn current(&self) -> Vec<u8> {
        let id: u64 = self.name[1..].parse().expect("invariant: the name was made from a number");
        let mut current = id.to_le_bytes().to_vec();
        current.extend_from_slice(&xxh3_128(&self.bytes).to_le_bytes());
        current.push(0);
        current
    }
}

/// Reads the list of tables that a tree would open. `lsm-tree` writes its checksum but does not compare it.
///
/// # Errors
/// [`EngineError::Unopenable`]: missing or damaged.
pub(super) fn read_manifest(tree: &Path) -> Result<Manifest, EngineError> {
    let path = tree.join(CURRENT_FILE);
    let current = fs::read(&path).map_err(|error| unopenable(&path, &error))?;
    let Ok(current) = <[u8; CURRENT_BYTES]>::try_from(current) else {
        return Err(EngineError::Unopenable(format!("{} is damaged: its length is wrong", path.display())));
    };
    let id = u64::from_le_bytes(current[..8].try_into().expect("invariant: eight bytes"));
    let expected = u128::from_le_bytes(current[8..24].try_into().expect("invariant: sixteen bytes"));
    let name = format!("v{id}");
    let path = tree.join(&name);
    let bytes = fs::read(&path).map_err(|error| unopenable(&path, &error))?;
    if xxh3_128(&bytes) != expected || current[24] != 0 {
        return Err(EngineError::Unopenable(format!("{} is damaged: its checksum does not hold", path.display())));
    }
    Ok(Manifest { name, bytes })
}

fn has_files(dir: &Path) -> Result<bool, EngineError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unopenable(dir, &error)),
    }
}

/// An error of the file system that keeps the directory from being opened.
pub(super) fn unopenable(path: &Path, error: &dyn std::fmt::Display) -> EngineError {
    EngineError::Unopenable(format!("{}: {error}", path.display()))
}
