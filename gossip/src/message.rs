//! What nodes say to each other about the cluster: these types are the wire types (postcard behind a version byte).
//! Every message is a request or the reply to one.

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Candidates, Founding, Outcome};
use crate::node_info::NodeInfo;
use crate::registry::Entry;

/// First byte of an encoded message.
const FORMAT: u8 = 1;

/// A request or a reply.
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
    /// "I am alive": answered in kind.
    Heartbeat {
        /// The sender.
        info: NodeInfo,
        /// Digest of its registry.
        registry: u64,
    },
    /// "These are my entries": answered with `Registry`, or `Ok` where the receiver had nothing newer.
    Registry(Vec<Entry>),
    /// "This is me, a member; where is everyone?": answered with `Members`. Asked while some member is silent.
    AskMembers(Box<NodeInfo>),
    /// The sender's record and those it has of the others.
    Members(Vec<NodeInfo>),
    /// "Which start of mine did you see last?": answered with `LastSeen`. Asked before this start is announced.
    AskStart,
    /// Storage instance and number of the last start seen of the asking node.
    LastSeen(Option<(u64, u64)>),
    /// Done; nothing to say.
    Ok,
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
        assert_eq!(Message::decode(&[]), Err(MessageError::Format(None)));
        assert_eq!(Message::decode(&[9, 1]), Err(MessageError::Format(Some(9))));
        assert_eq!(Message::decode(&[FORMAT, 200, 1]), Err(MessageError::Malformed));
    }
}
