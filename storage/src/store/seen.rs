//! What this node remembers of the starts of others (`starts.json`), so that it can tell them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use parking_lot::Mutex;
use rondo_ring::NodeId;

use super::starts::Start;
use super::{DirectoryError, files};

/// Durable where there is a directory.
#[derive(Debug, Default)]
pub(super) struct SeenStarts {
    file: Option<PathBuf>,
    seen: Mutex<BTreeMap<NodeId, Start>>,
}

impl SeenStarts {
    /// A damaged file is forgotten, loudly: the worst it leads to is a start that nobody here can confirm.
    pub(super) fn open(file: PathBuf) -> Result<Self, DirectoryError> {
        let seen = match files::read_sealed(&file) {
            Ok(seen) => seen.unwrap_or_default(),
            Err(error @ DirectoryError::Damaged { .. }) => {
                tracing::error!(%error, "the starts seen of other nodes are forgotten");
                BTreeMap::new()
            }
            Err(other) => return Err(other),
        };
        Ok(Self { file: Some(file), seen: Mutex::new(seen) })
    }

    pub(super) fn last(&self, node: NodeId) -> Option<Start> {
        self.seen.lock().get(&node).copied()
    }

    /// Remembers a start that is not older than the one known, and returns that one.
    pub(super) fn record(&self, node: NodeId, start: Start) -> Result<Option<Start>, DirectoryError> {
        let mut seen = self.seen.lock();
        let previous = seen.get(&node).copied();
        if previous.is_some_and(|previous| previous == start || previous.counter > start.counter) {
            return Ok(previous);
        }
        let mut next = seen.clone();
        next.insert(node, start);
        if let Some(file) = &self.file {
            files::replace_sealed(file, &next)?;
        }
        *seen = next;
        Ok(previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versions::ActorId;

    fn start(counter: u64) -> Start {
        Start { counter, instance: ActorId(counter) }
    }

    #[test]
    fn starts_are_remembered_across_a_restart_and_never_go_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("starts.json");
        let seen = SeenStarts::open(file.clone()).unwrap();
        assert_eq!(seen.record(NodeId(1), start(3)).unwrap(), None);
        assert_eq!(seen.record(NodeId(1), start(4)).unwrap(), Some(start(3)));
        assert_eq!(seen.record(NodeId(1), start(2)).unwrap(), Some(start(4)));

        let again = SeenStarts::open(file.clone()).unwrap();
        assert_eq!(again.last(NodeId(1)), Some(start(4)));
        assert_eq!(again.last(NodeId(2)), None);

        std::fs::write(&file, b"{}").unwrap();
        assert_eq!(SeenStarts::open(file).unwrap().last(NodeId(1)), None);
    }
}
