//! Whole directories.

use std::fs;
use std::path::Path;

/// Copies a directory and all in it into one that may be there already. Nothing may be writing to it.
pub fn copy_directory(from: &Path, to: &Path) {
    const WORKS: &str = "a temporary directory can be read and written";
    fs::create_dir_all(to).expect(WORKS);
    for entry in fs::read_dir(from).expect(WORKS).map(|entry| entry.expect(WORKS)) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_directory(&source, &target);
        } else {
            fs::copy(&source, &target).expect(WORKS);
        }
    }
}
