//! The cluster secret: what lets a node speak to the others.

use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The secret's text without the white space around it. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret(String);

/// Why a secret file was not taken.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum SecretError {
    #[error("{}: the cluster secret file cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{}: others may use the cluster secret file (mode {mode:04o}); allowed are 0600, and 0640 where it belongs to root: chmod 600 {}",
        path.display(), path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{}: the cluster secret has {bytes} bytes, at least {} are needed", path.display(), ClusterSecret::BYTES_MIN)]
    TooShort { path: PathBuf, bytes: usize },
    #[error("{}: the cluster secret file has {bytes} bytes, at most {} are allowed", path.display(), ClusterSecret::BYTES_MAX)]
    TooLong { path: PathBuf, bytes: u64 },
    #[error("{}: the cluster secret is not UTF-8 text", path.display())]
    NotText { path: PathBuf },
    #[error("{}: the cluster secret file cannot be made: {source}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

impl ClusterSecret {
    /// Least length in bytes, without the white space around it.
    pub const BYTES_MIN: usize = 16;
    /// Largest file in bytes.
    pub const BYTES_MAX: u64 = 4_096;

    /// Reads and checks a secret file: text of at least 16 bytes, not open to others than its owner.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let unreadable = |source| SecretError::Unreadable { path: path.into(), source };
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unreadable(io::Error::other("not a file")));
        }
        // A secret that an orchestrator mounts for a process without privileges belongs to root and is read through
        // the group; a file of one's own needs no group.
        let mode = metadata.mode() & 0o7777;
        let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
        if mode & forbidden != 0 {
            return Err(SecretError::Exposed { path: path.into(), mode });
        }
        if metadata.len() > Self::BYTES_MAX {
            return Err(SecretError::TooLong { path: path.into(), bytes: metadata.len() });
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let text = String::from_utf8(bytes).map_err(|_| SecretError::NotText { path: path.into() })?;
        let text = text.trim();
        if text.len() < Self::BYTES_MIN {
            return Err(SecretError::TooShort { path: path.into(), bytes: text.len() });
        }
        Ok(Self(text.into()))
    }

    /// Makes a file with these random bytes for a secret, readable by its owner only. A file that is there stays as it
    /// is, and is read and checked. Whether it was made.
    pub fn make(path: &Path, random: &[u8; 32]) -> Result<bool, SecretError> {
        let unwritable = |source| SecretError::Unwritable { path: path.into(), source };
        if !path.exists() {
            match write_new(path, random) {
                Ok(()) => return Ok(true),
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(unwritable(error)),
            }
        }
        Self::read(path).map(|_| false)
    }

    /// The bytes both ends of a connection prove to know.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Whole and durable, or not there at all. The name beside it is taken by one process at a time.
fn write_new(path: &Path, random: &[u8; 32]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let text = random.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all());
    // A link does not take the place of a file that is there.
    let linked = written.and_then(|()| fs::hard_link(&beside, path));
    fs::remove_file(&beside)?;
    linked?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(text: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn white_space_around_the_secret_is_ignored_and_debug_hides_it() {
        let secret = ClusterSecret::read(file(b"\n 0123456789abcdef \n", 0o600).path()).unwrap();
        assert_eq!(secret.as_bytes(), b"0123456789abcdef");
        assert!(!format!("{secret:?}").contains("0123"));
        assert!(ClusterSecret::read(file(b"0123456789abcdef", 0o400).path()).is_ok());
    }

    #[test]
    fn a_secret_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        assert!(ClusterSecret::make(&path, &[0xab; 32]).unwrap());
        assert_eq!(ClusterSecret::read(&path).unwrap().as_bytes(), "ab".repeat(32).as_bytes());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(!ClusterSecret::make(&path, &[0xcd; 32]).unwrap());
        assert_eq!(ClusterSecret::read(&path).unwrap().as_bytes(), "ab".repeat(32).as_bytes());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);

        std::fs::write(&path, "short").unwrap();
        let bad = ClusterSecret::make(&path, &[0xcd; 32]).unwrap_err().to_string();
        assert!(bad.contains("has 5 bytes"), "{bad}");
        let nowhere = ClusterSecret::make(Path::new("/nowhere/secret"), &[0; 32]).unwrap_err().to_string();
        assert!(nowhere.starts_with("/nowhere/secret: the cluster secret file cannot be made"), "{nowhere}");
    }

    #[test]
    fn a_bad_secret_file_is_refused_by_name() {
        let read = |text: &[u8], mode| ClusterSecret::read(file(text, mode).path()).unwrap_err().to_string();
        assert!(read(b"   0123456789abcde   ", 0o600).contains("has 15 bytes, at least 16"));
        assert!(read(b"", 0o600).contains("has 0 bytes"));
        assert!(read(b"0123456789abcdef", 0o660).contains("mode 0660"));
        assert!(read(b"0123456789abcdef", 0o604).contains("chmod 600"));
        assert!(read(&[0xff; 32], 0o600).contains("not UTF-8"));
        assert!(read(&[b'a'; 5_000], 0o600).contains("at most 4096"));
        let missing = ClusterSecret::read(Path::new("/nowhere/secret")).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/secret: the cluster secret file cannot be read"));
        assert!(ClusterSecret::read(Path::new("/")).unwrap_err().to_string().contains("not a file"));
    }
}
