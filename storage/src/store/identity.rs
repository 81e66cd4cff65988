//! `node.json`: who this node is, and what its directory is to be trusted for.

use rondo_ring::NodeId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::DirectoryError;
use super::starts::{Start, StartHistory};
use super::trust::Distrust;
use crate::versions::ActorId;

/// Everything here changes rarely (a start, a partition trusted again) and is replaced whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    pub(super) node: NodeId,
    #[serde(serialize_with = "cluster_to_hex", deserialize_with = "cluster_from_hex")]
    pub(super) cluster: Option<u128>,
    pub(super) starts: StartHistory,
    pub(super) distrust: Distrust,
}

impl Identity {
    /// A node that has never been.
    pub(super) fn new() -> Result<Self, DirectoryError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| DirectoryError::Random(error.to_string()))?;
        Ok(Self {
            node: NodeId(u128::from_le_bytes(id)),
            cluster: None,
            starts: StartHistory::default(),
            distrust: Distrust::Nothing,
        })
    }

    /// One more start, of the same instance; the first makes one.
    pub(super) fn count_start(&mut self) -> Result<(), DirectoryError> {
        let instance = self.starts.instance().map_or_else(new_instance, Ok)?;
        self.starts.push(Start { counter: self.starts.counter() + 1, instance }, false);
        Ok(())
    }

    /// This start goes on under another instance.
    pub(super) fn set_instance(&mut self, instance: ActorId, served: bool) {
        self.starts.push(Start { counter: self.starts.counter(), instance }, served);
    }
}

/// 64 random bits.
pub(super) fn new_instance() -> Result<ActorId, DirectoryError> {
    getrandom::u64().map(ActorId).map_err(|error| DirectoryError::Random(error.to_string()))
}

fn cluster_to_hex<S: Serializer>(cluster: &Option<u128>, serializer: S) -> Result<S::Ok, S::Error> {
    cluster.map(NodeId).serialize(serializer)
}

/// A cluster's id has the form of a node's: 32 hex digits.
fn cluster_from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u128>, D::Error> {
    Ok(Option::<NodeId>::deserialize(deserializer)?.map(|id| id.0))
}
