//! What nodes say to each other about the cluster: these types are the wire types (postcard behind a version byte).
//! Every message is a request or the reply to one.

use rondo_ring::NodeId;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{Candidates, Claim, ClaimAnswer, Founding, Outcome};
use crate::compact;
use crate::node_info::{NodeInfo, Stamp};
use crate::registry::{Entry, EntryDigest};
use crate::rumour::{Digest, Rumour};

/// First byte of an encoded message.
const FORMAT: u8 = 2;

/// What a node says whenever it speaks to another, in both directions: a heartbeat with news.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// Of the sender's record.
    pub stamp: Stamp,
    /// Bytes the sender's data takes.
    pub disk_used_bytes: u64,
    /// Bytes free for it.
    pub disk_available_bytes: u64,
    /// Hash of the sender's table of members.
    pub members: u64,
    /// Hash of its registry.
    pub registry: u64,
    /// News of members.
    pub rumours: Vec<Rumour>,
    /// News of the registry.
    pub entries: Vec<Entry>,
    /// Members whose records the sender lacks.
    #[serde(with = "compact::list")]
    pub wants: Vec<NodeId>,
}

/// A helper's word on a node it was asked to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Which.
    #[serde(with = "compact")]
    pub node: NodeId,
    /// It answered.
    pub reached: bool,
    /// The helper finds nothing wrong with itself: where it did not reach the node, that counts.
    pub well: bool,
}

/// A request or a reply.
#[allow(clippy::large_enum_variant, reason = "a few messages a second, moved a few times")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// "This is me, and these I know": answered in kind, or with `Formed`.
    Introduce(Candidates),
    /// The sender is a member of a formed cluster.
    Formed(Box<Founding>),
    /// "Will you found this cluster?": answered with `Accepted` or `Declined`.
    Propose(Box<Founding>),
    /// Durably: the sender takes part in no other founding until this one is decided.
    Accepted,
    /// It does not, and why.
    Declined(String),
    /// "Every member accepted": answered with `Ok`.
    Commit(Box<Founding>),
    /// "What became of your proposal of the cluster with this id?": answered with `Outcome`.
    AskOutcome(u128),
    /// The proposer's word.
    Outcome(Outcome),
    /// "I am alive, and have you heard?": answered in kind.
    Exchange(Box<Exchange>),
    /// "Is that node alive? It does not answer me": answered with `Ok`, and later with `Probed`.
    AskProbe(#[serde(with = "compact")] NodeId),
    /// What became of a probe that was asked for: answered with `Ok`.
    Probed(Probed),
    /// Hashes of the table of members: answered with `Digests`.
    Summary(Vec<u64>),
    /// The rows of those parts that differ: what each lacks of the other's follows in exchanges.
    Digests {
        /// The parts.
        buckets: Vec<u8>,
        /// All their rows.
        digests: Vec<Digest>,
    },
    /// Hashes of the registry: answered with `RegistryDigests`.
    RegistrySummary(Vec<u64>),
    /// The rows of some of those parts that differ.
    RegistryDigests {
        /// The parts.
        buckets: Vec<u8>,
        /// All their rows.
        digests: Vec<EntryDigest>,
    },
    /// "These are entries that you may lack, and these I lack": answered with `Registry`.
    Registry {
        /// Newer than the receiver's.
        entries: Vec<Entry>,
        /// Names.
        wants: Vec<String>,
    },
    /// "This is me, a member; where is everyone?": answered with `Members`. Asked by a node that hears of nobody.
    AskMembers(Box<NodeInfo>),
    /// The sender's record and those it has of the others.
    Members(Vec<NodeInfo>),
    /// "Which start of mine did you see last?": answered with `LastSeen`. Asked before this start is announced.
    AskStart,
    /// Storage instance and number of the last start seen of the asking node.
    LastSeen(Option<(u64, u64)>),
    /// Done; nothing to say.
    Ok,
    /// "May I be that member of yours?": answered with `ClaimAnswer` (G10).
    Claim(Box<Claim>),
    /// A member's word on it.
    ClaimAnswer(Box<ClaimAnswer>),
}

/// Bytes that are no message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MessageError {
    /// Another release speaks another format.
    #[error("membership message of format {0:?}; this release speaks {FORMAT}")]
    Format(Option<u8>),
    /// Not what it should be.
    #[error("malformed membership message")]
    Malformed,
}

impl Message {
    /// For the wire.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![FORMAT]).expect("writing to a vector cannot fail")
    }

    /// From the wire.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(|_| MessageError::Malformed),
            other => Err(MessageError::Format(other.map(|(first, _)| *first))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_garbage_does_not() {
        let message = Message::LastSeen(Some((7, 3)));
        assert_eq!(Message::decode(&message.encode()), Ok(message));
        let node = NodeId(u128::MAX);
        let rumour = Rumour { node, stamp: Stamp::default(), accusers: vec![node, NodeId(1)], down: true, info: None };
        let exchange = Exchange {
            stamp: Stamp { incarnation: 1, heartbeat: 2 },
            disk_used_bytes: 3,
            disk_available_bytes: 4,
            members: 5,
            registry: 6,
            rumours: vec![rumour],
            entries: Vec::new(),
            wants: vec![node],
        };
        let message = Message::Exchange(Box::new(exchange));
        assert_eq!(Message::decode(&message.encode()), Ok(message));
        let probed = Message::Probed(Probed { node, reached: true, well: false });
        assert_eq!(Message::decode(&probed.encode()), Ok(probed));
        assert_eq!(Message::decode(&[]), Err(MessageError::Format(None)));
        assert_eq!(Message::decode(&[9, 1]), Err(MessageError::Format(Some(9))));
        assert_eq!(Message::decode(&[FORMAT, 200, 1]), Err(MessageError::Malformed));
    }
}
