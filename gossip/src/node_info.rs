//! What a node says of itself.

use rondo_ring::{Member, NodeId};
use serde::{Deserialize, Serialize};

/// How new a record is: the higher one replaces the other, whole (G4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Raised at every start of the node.
    pub incarnation: u64,
    /// Raised by the node itself, and by nobody else, whenever it has something to say: a change of its record, or that
    /// it is alive although others accuse it.
    pub heartbeat: u64,
}

/// Everything the others need to know of a node. Replaced whole by one with a higher stamp (G4).
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
    /// Raised at every start of the node.
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
    /// Raised by the node with every change of its record within one life, and to refute those who accuse it.
    #[serde(default)]
    pub heartbeat: u64,
}

impl NodeInfo {
    /// How new this record is.
    pub fn stamp(&self) -> Stamp {
        Stamp { incarnation: self.incarnation, heartbeat: self.heartbeat }
    }

    /// It takes requests: it has begun to serve in this life.
    pub fn serves(&self) -> bool {
        self.start > 0
    }

    /// Whether this is the record of a process that began to serve as the node after the one whose record that is. Two
    /// that began at the same time with the same directory differ by where they are: then one of them is the newer.
    pub fn is_newer_start(&self, than: &Self) -> bool {
        let order = |info: &Self| (info.start, info.instance, info.peer_addr.clone());
        self.serves() && order(self) > order(than)
    }

    /// What the layout needs of it.
    pub fn member(&self) -> Member {
        Member { id: self.id, zone: self.zone.clone(), weight: self.weight }
    }
}
