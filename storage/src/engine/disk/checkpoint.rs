//! A consistent copy of the directory that shares its files by hard links: tables never change, and closed files of
//! the log are not used again while they have a second name.
//!
//! Runs on the writer's thread right after the log's rotation, so that no batch is written meanwhile. The list of
//! closed segments stays locked: every row that is in none of the linked tables is in one of the linked segments,
//! because segments are given up only after their rows are in tables, and tables are looked at later.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use lsm_tree::AbstractTree;

use super::core::{Core, write_error};
use super::format::{self, Manifest};
use super::keyspace::KeyspaceTree;
use super::segment::{self, sync_dir};
use crate::engine::{EngineError, Keyspace};

/// A list of tables can be replaced between looking at it and linking what it names.
const ATTEMPTS: u32 = 100;

/// Makes the copy in `dir`.
///
/// # Errors
/// `dir` exists or cannot be written; what was made of it is left for the caller to remove.
pub(super) fn link(core: &Core, dir: &Path) -> Result<(), EngineError> {
    fs::create_dir(dir).map_err(|error| write_error(&error))?;
    let closed = core.log.closed.lock();
    for keyspace in Keyspace::ALL {
        link_tables(core.keyspace(keyspace), &format::keyspace_dir(dir, keyspace))?;
    }
    let link_log = || -> io::Result<()> {
        let to = format::log_dir(dir);
        fs::create_dir(&to)?;
        for segment in closed.iter() {
            fs::hard_link(segment::path(core.log.dir(), segment.id), segment::path(&to, segment.id))?;
        }
        sync_dir(&to)
    };
    link_log().map_err(|error| write_error(&error))?;
    format::finish_creation(dir)
}

fn link_tables(tree: &KeyspaceTree, to: &Path) -> Result<(), EngineError> {
    for _ in 0..ATTEMPTS {
        // Held until the links are made: a table's file is removed only when nobody holds its list any more.
        let version = tree.tree.current_version();
        let Ok(manifest) = format::read_manifest(&tree.dir) else {
            continue;
        };
        if manifest.name == format!("v{}", version.id()) {
            let ids: Vec<u64> = version.iter_tables().map(lsm_tree::Table::id).collect();
            return link_files(tree, to, &manifest, &ids).map_err(|error| write_error(&error));
        }
    }
    Err(EngineError::Write(format!("the list of tables of {} does not hold still", tree.dir.display())))
}

fn link_files(tree: &KeyspaceTree, to: &Path, manifest: &Manifest, ids: &[u64]) -> io::Result<()> {
    let tables = to.join("tables");
    fs::create_dir_all(&tables)?;
    for id in ids {
        fs::hard_link(tree.dir.join("tables").join(id.to_string()), tables.join(id.to_string()))?;
    }
    write_synced(&to.join(&manifest.name), &manifest.bytes)?;
    write_synced(&to.join("current"), &manifest.current())?;
    sync_dir(&tables)?;
    sync_dir(to)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
