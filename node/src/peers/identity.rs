//! Who this node is, to its peers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use rondo_ring::{Epoch, NodeId};

/// The cluster's shared secret. It is hashed into a key at once and never shown, sent or kept.
#[derive(Clone)]
pub struct Secret {
    key: [u8; blake3::KEY_LEN],
}

impl Secret {
    /// A secret of any length. The empty one is that of a node without configured secret.
    pub fn new(secret: &[u8]) -> Self {
        Self { key: blake3::derive_key("rondo 2026-11 peer handshake v1", secret) }
    }

    pub(super) fn key(&self) -> &[u8; blake3::KEY_LEN] {
        &self.key
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// What the handshake says of this node. Shared by all workers; cluster and epoch change while it runs.
#[derive(Debug)]
pub struct Identity {
    node: NodeId,
    secret: Secret,
    cluster: ArcSwapOption<u128>,
    epoch: AtomicU64,
}

impl Identity {
    /// A node that is in no cluster yet.
    pub fn new(node: NodeId, secret: Secret) -> Self {
        Self { node, secret, cluster: ArcSwapOption::empty(), epoch: AtomicU64::new(0) }
    }

    /// This node's id.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The cluster it belongs to; `None` until one is formed or joined.
    pub fn cluster(&self) -> Option<u128> {
        self.cluster.load().as_deref().copied()
    }

    /// It belongs to this cluster from now on: replica operations are allowed on new connections.
    pub fn set_cluster(&self, cluster: u128) {
        self.cluster.store(Some(Arc::new(cluster)));
    }

    /// The layout in force here, as batches announce it. Epoch 0: none yet.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Relaxed))
    }

    /// A layout came into force.
    pub fn set_epoch(&self, epoch: Epoch) {
        self.epoch.store(epoch.0, Ordering::Relaxed);
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_the_secret_nor_its_key() {
        let secret = Secret::new(b"correct horse");
        let identity = Identity::new(NodeId(1), secret.clone());
        let shown = format!("{identity:?}");
        assert!(shown.contains("Secret(hidden)"));
        assert!(!shown.contains("horse"));
        assert!(!shown.contains(&format!("{:?}", secret.key())));
    }
}
