//! A disk that hangs, for tests of the whole program: builds without debug assertions have nothing of it.
//!
//! While a file of the name [`FILE`] is in the engine's directory, nothing is brought to disk, scans wait, and the lists of
//! tables are locked as they are during an fsync of theirs: whoever reads a table waits. The kernel's page cache is as if
//! empty.

use std::path::Path;

#[cfg(debug_assertions)]
use std::time::Duration;

#[cfg(debug_assertions)]
use lsm_tree::AbstractTree;

use super::core::Core;

/// What makes the disk hang.
#[cfg(debug_assertions)]
const FILE: &str = "hang-for-a-test";
#[cfg(debug_assertions)]
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[cfg(debug_assertions)]
fn hangs(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

/// Comes back once the disk of this engine's directory does not hang.
#[cfg(debug_assertions)]
pub(super) fn wait(dir: &Path) {
    while hangs(dir) {
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(not(debug_assertions))]
pub(super) fn wait(_: &Path) {}

/// Locks the lists of tables while the disk hangs, until the engine is closed.
#[cfg(debug_assertions)]
pub(super) fn lock_tables(core: &Core, dir: &Path) {
    while !core.signal.is_stopping() {
        if hangs(dir) {
            let blocks = &core.keyspaces[0].blocks;
            blocks.hang(true);
            let _locked = core.keyspaces.each_ref().map(|keyspace| keyspace.tree.get_version_history_lock());
            wait(dir);
            blocks.hang(false);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(not(debug_assertions))]
pub(super) fn lock_tables(_: &Core, _: &Path) {}
