//! What a node says of itself.

use rondo_ring::{Member, NodeId};
use serde::{Deserialize, Serialize};

/// Everything the others need to know of a node. Replaced whole by one with a higher incarnation (G4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its identity.
    pub id: NodeId,
    /// Unique in the cluster, 1 to 255 bytes.
    pub name: String,
    /// Failure domain.
    pub zone: String,
    /// Relative share.
    pub weight: u32,
    /// host:port of its peer HTTP, resolved anew at every connect.
    pub peer_addr: String,
    /// host:port of its client HTTP.
    pub client_addr: String,
    /// Release it runs.
    pub version: String,
    /// Raised at every start of the node, and whenever anything above changes.
    pub incarnation: u64,
    /// The storage instance it makes dots with; 0 until it has begun to serve.
    pub instance: u64,
    /// Number of the start it serves since; 0 until then. Who hears it remembers it, durably: that is how an old copy
    /// of a data directory is told from the directory.
    pub start: u64,
    /// Bytes its data takes, as of the last report.
    pub disk_used_bytes: u64,
    /// Bytes free for it.
    pub disk_available_bytes: u64,
}

impl NodeInfo {
    /// What the layout needs of it.
    pub fn member(&self) -> Member {
        Member { id: self.id, zone: self.zone.clone(), weight: self.weight }
    }
}
