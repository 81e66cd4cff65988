//! Why the store refused, and why a data directory would not open.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::engine::EngineError;
use crate::versions::{CausalContext, ETag};

/// Why the store refused. Nothing was written unless the text says otherwise.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum StoreError {
    #[error("{count} siblings would remain, {max} are allowed; write with the context to resolve them")]
    TooManySiblings { count: usize, max: u16, context: CausalContext },
    #[error("what is there is not what the write's condition says")]
    ConditionFailed { etag: Option<ETag>, context: CausalContext },
    #[error("the disk is nearly full: writes are refused, reads go on")]
    LowDisk,
    #[error("as many hints are kept for other nodes as may be: this one was not")]
    HintsFull,
    #[error("what this node holds of the key is damaged: another owner must coordinate")]
    Damaged,
    #[error("this node may lack writes of the key, so it cannot judge a condition: another owner must coordinate")]
    Distrusted,
    #[error("whoever asked has given up on this disk, which is slow to say what is there; nothing was written")]
    GivenUp,
    #[error("the bytes are no object: {0}")]
    Envelope(#[from] crate::versions::EnvelopeError),
    #[error("the node has not begun to serve: its start has not been judged; nothing was written")]
    NotBegun,
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What is wrong with a data directory. Nothing in it was changed unless the text says otherwise.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum DirectoryError {
    #[error("the data directory {0} is in use by another process")]
    InUse(PathBuf),
    #[error(
        "the data directory {0} holds other files and no FORMAT of Rondo's: give an empty directory or one of its own"
    )]
    NotOurs(PathBuf),
    #[error("the data directory {path} has format {found}; this release reads up to format {supported}")]
    Newer { path: PathBuf, found: u32, supported: u32 },
    #[error("the data directory {path} belongs to the cluster {here:032x}, not to {asked:032x}")]
    Foreign { path: PathBuf, here: u128, asked: u128 },
    #[error("{path} is damaged: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("cannot {action} {path}: {source}{}", whose(path, source))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} holds {count} engines moved aside already: look at them, move them away, then start again")]
    QuarantineFull { path: PathBuf, count: usize },
    #[error("no random numbers from the system: {0}")]
    Random(String),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl DirectoryError {
    /// For `map_err`: what was being done to which file.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.into(), source }
    }
}

/// Where permission was denied: who this process is, and whose the file is, or the nearest directory that is there.
/// Whoever gave a node a volume of another user's reads this in its log, and cannot look into its container.
fn whose(path: &Path, source: &io::Error) -> String {
    let there = path.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?)));
    let Some((path, metadata)) = there.filter(|_| source.kind() == io::ErrorKind::PermissionDenied) else {
        return String::new();
    };
    format!(
        "; this process is user {} and group {}, and {} belongs to user {} and group {} with mode {:04o}",
        rustix::process::geteuid(),
        rustix::process::getegid(),
        path.display(),
        metadata.uid(),
        metadata.gid(),
        metadata.mode() & 0o7777
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_denied_permission_says_whose_it_is() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let file = directory.path().join("LOCK");
        let denied = DirectoryError::io("open", &file)(io::ErrorKind::PermissionDenied.into()).to_string();
        let uid = rustix::process::geteuid();
        let owner = format!("; this process is user {uid} and group ");
        assert!(denied.contains(&owner), "{denied}");
        let whose = format!("and {} belongs to user {uid} and group ", directory.path().display());
        assert!(denied.contains(&whose) && denied.ends_with("with mode 0700"), "{denied}");
        let full = DirectoryError::io("open", &file)(io::ErrorKind::StorageFull.into()).to_string();
        assert!(!full.contains("belongs to"), "{full}");
    }
}
