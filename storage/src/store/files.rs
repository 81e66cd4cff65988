//! Small files that are whole or not there: written beside, fsynced, renamed, the directory fsynced.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::DirectoryError;

/// Replaces a file, durably: after a crash it has the old content or the new one.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), DirectoryError> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside).map_err(DirectoryError::io("create", &beside))?;
    file.write_all(content).map_err(DirectoryError::io("write", &beside))?;
    file.sync_all().map_err(DirectoryError::io("fsync", &beside))?;
    fs::rename(&beside, path).map_err(DirectoryError::io("replace", path))?;
    sync_parent(path)
}

/// Makes a rename or a creation in the directory of `path` durable.
pub(super) fn sync_parent(path: &Path) -> Result<(), DirectoryError> {
    let parent = path.parent().expect("every file of the store is inside the data directory");
    let directory = File::open(parent).map_err(DirectoryError::io("open", parent))?;
    directory.sync_all().map_err(DirectoryError::io("fsync", parent))
}

/// The content, `None` where there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, DirectoryError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DirectoryError::io("read", path)(error)),
    }
}

/// JSON that carries the hash of its content, for people to read and for damage to be seen.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<T> {
    /// xxh3-64, in hex, of the content as compact JSON.
    xxh3: String,
    content: T,
}

fn seal_of(content: &impl Serialize) -> String {
    let compact = serde_json::to_vec(content).expect("the store's own records always have a JSON form");
    format!("{:016x}", xxh3_64(&compact))
}

/// Replaces a sealed JSON file, durably.
pub(super) fn replace_sealed<T: Serialize>(path: &Path, content: &T) -> Result<(), DirectoryError> {
    let sealed = Sealed { xxh3: seal_of(content), content };
    let mut text = serde_json::to_vec_pretty(&sealed).expect("the store's own records always have a JSON form");
    text.push(b'\n');
    replace(path, &text)
}

/// Reads a sealed JSON file, `None` where there is none.
pub(super) fn read_sealed<T: Serialize + DeserializeOwned>(path: &Path) -> Result<Option<T>, DirectoryError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let damaged = |reason: String| DirectoryError::Damaged { path: path.into(), reason };
    let sealed: Sealed<T> = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if sealed.xxh3 != seal_of(&sealed.content) {
        return Err(damaged("its checksum does not match".into()));
    }
    Ok(Some(sealed.content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_comes_back_and_any_changed_letter_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        assert!(read_sealed::<Vec<u64>>(&path).unwrap().is_none());
        replace_sealed(&path, &vec![1_u64, 2, 34]).unwrap();
        assert_eq!(read_sealed::<Vec<u64>>(&path).unwrap(), Some(vec![1, 2, 34]));

        let text = fs::read_to_string(&path).unwrap();
        for at in (0..text.len()).filter(|&at| text.as_bytes()[at].is_ascii_alphanumeric()) {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
            fs::write(&path, bytes).unwrap();
            let error = read_sealed::<Vec<u64>>(&path).unwrap_err();
            assert!(matches!(error, DirectoryError::Damaged { .. }), "position {at}: {error}");
        }
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        replace(&path, b"old").unwrap();
        fs::create_dir(dir.path().join("x.new")).unwrap();
        assert!(replace(&path, b"new").is_err());
        assert_eq!(read(&path).unwrap().unwrap(), b"old");
    }
}
