//! What one node tells another of a third.

use rondo_ring::NodeId;
use serde::{Deserialize, Serialize};

use crate::compact;
use crate::node_info::{NodeInfo, Stamp};

/// A member's record, or what others say of the life in which it has this stamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rumour {
    /// Of whom.
    #[serde(with = "compact")]
    pub node: NodeId,
    /// Of the record that this is about: what is said against a node holds until it raises its stamp.
    pub stamp: Stamp,
    /// Nodes that could not reach it, in order of ids.
    #[serde(with = "compact::list")]
    pub accusers: Vec<NodeId>,
    /// Enough of them have said so for long enough.
    pub down: bool,
    /// The record, for whoever may not have it.
    pub info: Option<Box<NodeInfo>>,
}

impl Rumour {
    /// The record alone.
    pub fn of(info: NodeInfo) -> Self {
        let (node, stamp) = (info.id, info.stamp());
        Self { node, stamp, accusers: Vec::new(), down: false, info: Some(Box::new(info)) }
    }

    /// Something is said against the node.
    pub fn is_grave(&self) -> bool {
        self.down || !self.accusers.is_empty()
    }

    /// About what it takes on the wire.
    pub(crate) fn bytes(&self) -> usize {
        let texts = |info: &NodeInfo| {
            info.name.len() + info.zone.len() + info.peer_addr.len() + info.client_addr.len() + info.version.len()
        };
        28 + 19 * self.accusers.len() + self.info.as_ref().map_or(0, |info| 80 + texts(info))
    }
}

/// A row of the table of members, for comparing tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Whose.
    #[serde(with = "compact")]
    pub node: NodeId,
    /// Of its record.
    pub stamp: Stamp,
    /// It is called down.
    pub down: bool,
}
