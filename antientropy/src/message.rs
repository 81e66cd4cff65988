//! What a node being refilled and its sources say to each other: these types are the wire types (postcard).

use bytes::Bytes;
use rondo_ring::PartitionId;
use serde::{Deserialize, Serialize};

/// "What do you hold of this partition, after this row?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRequest {
    /// Which partition.
    pub partition: PartitionId,
    /// The last row key already received; `None`: from the start.
    pub after: Option<Bytes>,
    /// The page may stop once it has this many bytes.
    pub bytes_max: u32,
}

/// Rows in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The request's partition.
    pub partition: PartitionId,
    /// Row key, envelope.
    pub rows: Vec<(Bytes, Bytes)>,
    /// The last row the source looked at: one that it cannot read is not among `rows`, and is passed over.
    pub last: Option<Bytes>,
    /// Nothing follows it.
    pub complete: bool,
}

/// "How old is the oldest hint you keep?" A tombstone is reaped only where no older hint exists anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldestHint {
    /// Of this partition; `None`: of any.
    pub partition: Option<PartitionId>,
}

/// The answer: an age and not a time, since clocks differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldestHintAge {
    /// In ms, never too small; `None`: there is no hint.
    pub age_ms: Option<u64>,
}
