//! Both ends of the control lane: membership messages, the pages of a refill, questions about hints and those of
//! anti-entropy, told apart by their first byte.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rondo_antientropy::{OldestHint, OldestHintAge, Page, PageRequest};
use rondo_coordinator::{ReplicaRequest, ReplyTo};
use rondo_gossip::{Message, NodeInfo};
use rondo_ring::NodeId;
use rondo_storage::store::Store;
use tokio::task::spawn_blocking;

use crate::peers::{self, Arrival, Cause, Control, Lane, PeerError, PeerHandler, Refused};
use crate::server::drive::Driver;
use crate::server::exchange::Exchange;
use crate::server::membership::{Membership, Network, OnReply};
use crate::server::{handoff, refill, replica};

/// A membership message or its answer follows.
const MEMBERSHIP: u8 = 1;
/// A refill's question or page follows.
const REFILL: u8 = 2;
/// A question about hints, or its answer, follows.
const HINTS: u8 = 8;
/// A question of anti-entropy or its answer follows.
const REPAIR: u8 = 3;
/// How long a membership message may take.
const CALL_LIMIT: Duration = Duration::from_secs(1);
/// How long a page, or an answer of anti-entropy, may take: it may have to be read from disk.
const PAGE_LIMIT: Duration = Duration::from_secs(10);

fn framed(channel: u8, message: &[u8]) -> Bytes {
    [&[channel], message].concat().into()
}

/// Who answers what arrives on the peer port of one worker.
pub struct Handler {
    /// Replica operations are carried out with it.
    pub driver: Arc<Driver>,
    /// Membership messages go there.
    pub membership: Membership,
    /// Answers the questions of anti-entropy.
    pub exchange: Arc<Exchange>,
}

impl PeerHandler for Handler {
    fn replica(&self, from: NodeId, request: ReplicaRequest, arrival: Arrival, reply: ReplyTo) {
        let age = replica::queued(&request, arrival.remaining) + arrival.travelled;
        if let Some(trace) = &arrival.trace {
            let (operation, request_id, (_, key)) = (Lane::of(&request).name(), &trace.request_id, request.subject());
            tracing::debug!(%request_id, %trace, %from, operation, key, "replica operation");
        }
        replica::serve(&self.driver, self.membership.now().view.clone(), request, age, arrival.trace, reply);
    }

    fn control(
        &self,
        from: NodeId,
        _from_addr: SocketAddr,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Bytes> + Send>> {
        let (membership, store, exchange) = (self.membership.clone(), self.driver.store.clone(), self.exchange.clone());
        Box::pin(async move { answer(membership, store, &exchange, from, &body).await })
    }
}

async fn answer(membership: Membership, store: Arc<Store>, exchange: &Exchange, from: NodeId, body: &Bytes) -> Bytes {
    match body.first() {
        Some(&MEMBERSHIP) => {
            let answer = match Message::decode(&body[1..]) {
                Ok(message) => membership.handle(from, message).await,
                Err(error) => Message::Declined(error.to_string()),
            };
            framed(MEMBERSHIP, &answer.encode())
        }
        Some(&REFILL) => {
            let page = match postcard::from_bytes(&body[1..]) {
                Ok(request) => spawn_blocking(move || refill::page(&store, &request)).await.ok().flatten(),
                Err(_) => None,
            };
            framed(REFILL, &page.map(|page| encode(&page)).unwrap_or_default())
        }
        Some(&HINTS) => {
            let age = postcard::from_bytes(&body[1..]).ok().map(|asked| handoff::oldest(&store, asked));
            framed(HINTS, &age.map(|age| encode(&age)).unwrap_or_default())
        }
        Some(&REPAIR) => framed(REPAIR, &exchange.answer(from, &body[1..]).await),
        _ => Bytes::new(),
    }
}

fn encode<T: serde::Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).expect("writing to a vector cannot fail")
}

/// The asking end, for the control thread.
pub struct PeerControl {
    /// Kept connections.
    pub control: Arc<Control>,
    /// What is known of the peers.
    pub network: Arc<peers::Network>,
    /// Whether anybody takes this node for one of the cluster.
    pub standing: Arc<Mutex<Standing>>,
}

/// What the others' answers have said so far of this node's membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has answered.
    #[default]
    Unknown,
    /// Whoever answered turned it away.
    Refused(Refusal),
    /// Somebody took it. One who turns it away later is the stranger, not this node.
    Taken,
}

/// A peer's word that this node is none of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused by the node at {address}: {cause}")]
pub struct Refusal {
    /// Where it was asked.
    pub address: String,
    /// The secret or the cluster.
    pub cause: Cause,
}

impl Standing {
    fn note(&mut self, this: NodeId, address: &str, answered: &Result<(NodeId, Bytes), PeerError>) {
        match answered {
            // A seed may be this node's own address.
            Ok((from, _)) if *from != this => *self = Self::Taken,
            Err(PeerError::Refused(Refused { cause: cause @ (Cause::Secret | Cause::OtherCluster), .. }))
                if *self != Self::Taken =>
            {
                *self = Self::Refused(Refusal { address: address.into(), cause: *cause });
            }
            _ => {}
        }
    }
}

impl PeerControl {
    /// A page of a refill; `None` where the source gave none.
    pub async fn page(&self, source: NodeId, request: &PageRequest) -> Option<Page> {
        let body = framed(REFILL, &encode(request));
        let answer = self.control.call_node(source, body, PAGE_LIMIT).await.ok()?;
        answer.strip_prefix(&[REFILL]).and_then(|page| postcard::from_bytes(page).ok())
    }

    /// How old the oldest hint is that a node keeps, of a partition or of any; `None` where it did not say.
    pub async fn oldest_hint(&self, node: NodeId, asked: OldestHint) -> Option<OldestHintAge> {
        let answer = self.control.call_node(node, framed(HINTS, &encode(&asked)), CALL_LIMIT).await.ok()?;
        answer.strip_prefix(&[HINTS]).and_then(|age| postcard::from_bytes(age).ok())
    }

    /// The answer to a question of anti-entropy; `None` where there is none.
    pub async fn repair(&self, node: NodeId, question: &[u8]) -> Option<Bytes> {
        let answer = self.control.call_node(node, framed(REPAIR, question), PAGE_LIMIT).await.ok()?;
        (answer.first() == Some(&REPAIR)).then(|| answer.slice(1..))
    }
}

impl Network for PeerControl {
    fn call(&self, address: String, expected: Option<NodeId>, message: Message, reply: OnReply) {
        let (control, addresses) = (self.control.clone(), self.network.addresses().clone());
        let (this, standing) = (self.network.identity().node(), self.standing.clone());
        tokio::spawn(async move {
            let body = framed(MEMBERSHIP, &message.encode());
            let known = expected.filter(|&node| addresses.get(node).as_deref() == Some(address.as_str()));
            let answered = match known {
                Some(node) => control.call_node(node, body, CALL_LIMIT).await.map(|answer| (node, answer)),
                None => control.call_address(&address, body, CALL_LIMIT).await,
            };
            standing.lock().note(this, &address, &answered);
            let answered = answered.inspect_err(|error| tracing::debug!(address, %error, "no answer"));
            let Ok((from, answer)) = answered else { return };
            let message = answer.strip_prefix(&[MEMBERSHIP]).and_then(|answer| Message::decode(answer).ok());
            if let Some(message) = message
                && expected.is_none_or(|node| node == from)
            {
                reply(from, message);
            }
        });
    }

    fn is_suspect(&self, node: NodeId) -> bool {
        self.network.evidence(node).suspect()
    }

    fn addresses(&self, members: &[NodeInfo]) {
        for member in members {
            self.network.addresses().set(member.id, &member.peer_addr);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_somebody_took_is_not_the_stranger() {
        let (this, other) = (NodeId(1), NodeId(2));
        let refused = || Err(PeerError::Refused(Refused { cause: Cause::Secret, node: None }));
        let mut standing = Standing::default();
        standing.note(this, "a:1", &Err(PeerError::TimedOut));
        standing.note(this, "me:1", &Ok((this, Bytes::new())));
        assert_eq!(standing, Standing::Unknown);
        standing.note(this, "b:1", &refused());
        assert_eq!(standing, Standing::Refused(Refusal { address: "b:1".into(), cause: Cause::Secret }));
        standing.note(this, "c:1", &Ok((other, Bytes::new())));
        standing.note(this, "b:1", &refused());
        assert_eq!(standing, Standing::Taken);
    }
}
