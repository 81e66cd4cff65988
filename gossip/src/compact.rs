//! Node ids on the wire of gossip: numbers of at most 19 bytes instead of their 32 digits.

use rondo_ring::NodeId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) fn serialize<S: Serializer>(node: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
    node.0.serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NodeId, D::Error> {
    u128::deserialize(deserializer).map(NodeId)
}

/// The same for lists.
pub(crate) mod list {
    use super::{Deserialize, Deserializer, NodeId, Serializer};

    pub(crate) fn serialize<S: Serializer>(nodes: &[NodeId], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(nodes.iter().map(|node| node.0))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NodeId>, D::Error> {
        Ok(Vec::<u128>::deserialize(deserializer)?.into_iter().map(NodeId).collect())
    }
}
