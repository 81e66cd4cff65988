//! The Merkle trees of a clean end, for the next start.
//!
//! The file names the mark it belongs to. It counts only while that mark still says that the end was clean: nothing has
//! been written since. Otherwise the trees are built again by a scan, which is slower and never wrong.

use std::path::Path;

use rondo_ring::PartitionCount;
use xxhash_rust::xxh3::xxh3_64;

use super::mark::Mark;
use super::merkle::Trees;
use super::{DirectoryError, files};

const MAGIC: &[u8; 8] = b"RONDODG1";
const HEADER_BYTES: usize = 8 + 8 + 8 + 4 + 4;

/// Magic, the mark's published number and counter, Q, leaves per partition; for each partition 0 (not ready), 1 (ready,
/// all zero) or 2 and its leaves; xxh3-64 of all that. Little-endian.
pub(super) fn save(path: &Path, trees: &Trees, mark: Mark) -> Result<(), DirectoryError> {
    let mut content = header(trees, mark);
    for leaves in trees.export() {
        match leaves {
            None => content.push(0),
            Some(leaves) if leaves.is_empty() => content.push(1),
            Some(leaves) => {
                content.push(2);
                content.extend(leaves.iter().flat_map(|leaf| leaf.to_le_bytes()));
            }
        }
    }
    content.extend(xxh3_64(&content).to_le_bytes());
    files::replace(path, &content)
}

/// Trees ready where the file says so; `None` where it does not belong to this mark or is damaged.
pub(super) fn load(path: &Path, partitions: PartitionCount, mark: Mark) -> Option<Trees> {
    let content = files::read(path).ok()??;
    let (content, checksum) = content.split_last_chunk::<8>()?;
    if u64::from_le_bytes(*checksum) != xxh3_64(content) {
        return None;
    }
    let trees = Trees::new(partitions, false);
    let mut rest = content.strip_prefix(header(&trees, mark).as_slice())?;
    let mut imported = Vec::new();
    for _ in 0..partitions.get() {
        let (tag, after) = rest.split_first()?;
        rest = after;
        imported.push(match tag {
            0 => None,
            1 => Some(Vec::new()),
            _ => {
                let (leaves, after) = rest.split_at_checked(trees.leaf_count() * 8)?;
                rest = after;
                Some(leaves.as_chunks::<8>().0.iter().map(|leaf| u64::from_le_bytes(*leaf)).collect())
            }
        });
    }
    trees.import(imported);
    Some(trees)
}

fn header(trees: &Trees, mark: Mark) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend(MAGIC);
    header.extend(mark.published.to_le_bytes());
    header.extend(mark.counter.to_le_bytes());
    header.extend(u32::from(trees.partitions().get()).to_le_bytes());
    header.extend((trees.leaf_count() as u32).to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rondo_ring::{PartitionId, Token};

    use super::super::merkle::Before;
    use super::*;

    #[test]
    fn trees_come_back_for_their_mark_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("digests");
        let q = PartitionCount::new(4).unwrap();
        let trees = Trees::new(q, true);
        trees.written(Token(7), &Bytes::from_static(b"\0\0\0\0\0\0\0\x07a\0b"), 1, Before::Nothing, 9);
        trees.unreadable(PartitionId(3));
        let mark = Mark { published: 5, counter: 6, clean: true };
        save(&path, &trees, mark).unwrap();

        let again = load(&path, q, mark).unwrap();
        for partition in 0..4 {
            assert_eq!(again.leaves(PartitionId(partition)), trees.leaves(PartitionId(partition)));
            assert_eq!(again.root(PartitionId(partition)), trees.root(PartitionId(partition)));
        }
        assert!(again.root(PartitionId(0)).is_some_and(|root| root != 0));
        assert_eq!(again.root(PartitionId(3)), None);

        assert!(load(&path, q, Mark { published: 4, ..mark }).is_none());
        assert!(load(&path, PartitionCount::new(2).unwrap(), mark).is_none());
        let mut content = std::fs::read(&path).unwrap();
        content[HEADER_BYTES + 3] ^= 1;
        std::fs::write(&path, content).unwrap();
        assert!(load(&path, q, mark).is_none());
    }
}
