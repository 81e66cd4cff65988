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
