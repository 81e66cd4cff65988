//! What two nodes that compare themselves say to each other: these types are the wire types (postcard).

use bytes::Bytes;
use rondo_ring::PartitionId;
use serde::{Deserialize, Serialize};

/// Digests of one answer; a question that asks for more is refused.
pub(crate) const DIGESTS_MAX: usize = 1 << 16;
/// Rows of one listing of versions, and of one question for values.
pub(crate) const ROWS_MAX: usize = 1_024;
/// Values of one message stop at this size; one object may exceed it.
pub(crate) const VALUES_BYTES_MAX: usize = 512 << 10;
/// Spans of one listing of versions.
pub(crate) const SPANS_MAX: usize = 1_024;

/// What the node that began an exchange asks of the other. The other keeps nothing between two questions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// "Here is one hash over all roots I could compare with you."
    Compare {
        /// See [`crate::Roots::hash`].
        hash: u64,
        /// What the last exchange of the two came to: the other side shows it too.
        in_sync: bool,
    },
    /// Digests of nodes of Merkle trees, in the order asked for.
    Digests(Vec<Group>),
    /// Row keys and digests in some leaves, up to a row.
    Versions {
        /// Where.
        spans: Vec<Span>,
        /// After this row; `None`: from the start.
        after: Option<Bytes>,
        /// Up to this row, inclusive; `None`: to the end.
        upto: Option<Bytes>,
    },
    /// The objects in these rows, as far as they have anything that the asking node lacks.
    Values(Vec<Wanted>),
    /// "Merge these": row key, envelope.
    Take(Vec<(Bytes, Bytes)>),
    /// "Begin an exchange with me now": where it is the other's turn to begin them.
    Hurry,
}

/// The answers, in the order of the questions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The hashes are equal.
    Same,
    /// They are not: all roots that this side could compare.
    Roots {
        /// The partitions as bits, from partition 0 on, 64 to a number.
        partitions: Vec<u64>,
        /// Their roots in order, 8 bytes each, little-endian.
        roots: Bytes,
    },
    /// For each group its digests, 8 bytes each, little-endian; `None` where there is no tree to compare.
    Digests(Vec<Option<Bytes>>),
    /// Rows in order.
    Versions {
        /// Row key, digest of its object.
        rows: Vec<(Bytes, u64)>,
        /// Everything asked for up to this row is among them; `None`: everything asked for.
        upto: Option<Bytes>,
    },
    /// The objects of the first so many rows asked for.
    Values {
        /// Row key, envelope: only of rows that have something the other side lacks.
        rows: Vec<(Bytes, Bytes)>,
        /// How many of the rows asked for have been looked at: at least one.
        looked_at: u32,
    },
    /// All of them are durable here, or were before.
    Taken,
    /// It will.
    Hurried,
    /// Not now, or not understood. Nothing was changed.
    Refused,
}

/// Nodes of a partition's tree and how far below them the digests are that are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Whose tree.
    pub partition: PartitionId,
    /// The nodes are so many levels below the root: each level halves the tokens.
    pub depth: u8,
    /// The digests are so many levels below the nodes.
    pub below: u8,
    /// The nodes, from 0 to 2^depth − 1.
    pub nodes: Vec<u32>,
}

/// Leaves next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Of which tree.
    pub partition: PartitionId,
    /// The first.
    pub first: u32,
    /// The last, inclusive.
    pub last: u32,
}

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its key.
    pub row: Bytes,
    /// What the asking node holds of it, without the values: an envelope. Empty: nothing.
    pub outline: Bytes,
}

impl Question {
    /// For the wire.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// `None` where the bytes are no question of this release.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    /// Whether it moves data, and waits for its turn where the foreground is busy.
    pub fn is_bulk(&self) -> bool {
        matches!(self, Self::Versions { .. } | Self::Values(_) | Self::Take(_))
    }
}

impl Answer {
    /// For the wire.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// `None` where the bytes are no answer of this release.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

fn encode(message: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(message).expect("writing to a vector cannot fail")
}

/// Digests as they travel.
pub(crate) fn packed(digests: &[u64]) -> Bytes {
    digests.iter().flat_map(|digest| digest.to_le_bytes()).collect::<Vec<_>>().into()
}

/// And back; what is left over is ignored.
pub(crate) fn unpacked(digests: &[u8]) -> impl Iterator<Item = u64> + '_ {
    digests.as_chunks::<8>().0.iter().map(|digest| u64::from_le_bytes(*digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let group = Group { partition: PartitionId(300), depth: 6, below: 6, nodes: vec![0, 63] };
        let question = Question::Digests(vec![group]);
        assert_eq!(Question::decode(&question.encode()), Some(question));
        let answer = Answer::Digests(vec![None, Some(packed(&[1, u64::MAX]))]);
        assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        assert_eq!(unpacked(&packed(&[1, u64::MAX])).collect::<Vec<_>>(), [1, u64::MAX]);
        assert_eq!(Answer::decode(&[200]), None);
    }
}
