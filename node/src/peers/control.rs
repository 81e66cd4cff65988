//! Control messages: gossip, formation of the cluster, the registry. Few and small, each a request of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rondo_ring::NodeId;
use tokio::time::{Instant, timeout_at};

use super::ROUTE_CONTROL;
use super::client::Network;
use super::error::PeerError;
use super::handshake::Purpose;
use super::link::Link;
use super::options::CONTROL_BYTES_MAX;

/// Idle connections kept per address.
const IDLE_PER_ADDRESS_MAX: usize = 2;
/// Addresses with idle connections; beyond it they are not kept.
const ADDRESSES_MAX: usize = 1_024;

/// Sends control messages, over connections that are kept while they work.
pub struct Control {
    network: Arc<Network>,
    idle: Mutex<BTreeMap<String, Vec<Link>>>,
}

impl Control {
    /// Calls must be made on one runtime: the connections live there.
    pub fn new(network: &Arc<Network>) -> Self {
        Self { network: Arc::clone(network), idle: Mutex::default() }
    }

    /// Asks whoever is at an address ("host:port"): also before this node or that one is in a cluster. Returns who
    /// answered; it may be this node itself. At most `CONTROL_BYTES_MAX` each way.
    pub async fn call_address(
        &self,
        address: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<(NodeId, Bytes), PeerError> {
        self.call(address, None, body, limit).await
    }

    /// Asks a node at the address it advertised.
    pub async fn call_node(&self, node: NodeId, body: Bytes, limit: Duration) -> Result<Bytes, PeerError> {
        let address = self.network.addresses().get(node).ok_or(PeerError::NoAddress(node))?;
        let answer = self.call(&address, Some(node), body, limit).await;
        if answer.is_err() {
            self.network.health().entry(node).failed();
        }
        answer.map(|(_, body)| body)
    }

    async fn call(
        &self,
        address: &str,
        expects: Option<NodeId>,
        body: Bytes,
        limit: Duration,
    ) -> Result<(NodeId, Bytes), PeerError> {
        if body.len() > CONTROL_BYTES_MAX {
            return Err(PeerError::TooLarge(CONTROL_BYTES_MAX));
        }
        let deadline = Instant::now() + limit;
        while let Some(link) = self.take(address) {
            if expects.is_some_and(|node| node != link.node) {
                // Another node has replaced that one at this address, or the other way round: see who is there now.
                continue;
            }
            match self.post(address, link, expects, body.clone(), deadline).await {
                Err(PeerError::NotSent) => {}
                answer => return answer,
            }
        }
        let opening = Link::open(&self.network, address, Purpose::Control, expects);
        let link = timeout_at(deadline, opening).await.unwrap_or(Err(PeerError::HandshakeTimedOut))?;
        self.post(address, link, expects, body, deadline).await
    }

    async fn post(
        &self,
        address: &str,
        mut link: Link,
        expects: Option<NodeId>,
        body: Bytes,
        deadline: Instant,
    ) -> Result<(NodeId, Bytes), PeerError> {
        let posting = link.post(ROUTE_CONTROL, body, CONTROL_BYTES_MAX);
        let answer = timeout_at(deadline, posting).await.unwrap_or(Err(PeerError::TimedOut))?;
        let node = link.node;
        self.network.note_success(address, node, expects);
        self.keep(address, link);
        Ok((node, answer))
    }

    fn take(&self, address: &str) -> Option<Link> {
        let mut idle = self.idle.lock();
        let links = idle.get_mut(address)?;
        links.retain(|link| !link.is_closed());
        let link = links.pop();
        if links.is_empty() {
            idle.remove(address);
        }
        link
    }

    fn keep(&self, address: &str, link: Link) {
        let mut idle = self.idle.lock();
        if idle.len() >= ADDRESSES_MAX && !idle.contains_key(address) {
            idle.retain(|_, links| links.iter().any(|link| !link.is_closed()));
            if idle.len() >= ADDRESSES_MAX {
                return;
            }
        }
        let links = idle.entry(address.into()).or_default();
        if links.len() < IDLE_PER_ADDRESS_MAX {
            links.push(link);
        }
    }
}
