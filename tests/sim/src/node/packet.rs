//! What travels between nodes: a call, or the reply to one.

use rondo_antientropy::{Answer, Page, PageRequest, Question};
use rondo_coordinator::{ReplicaReply, ReplicaRequest};
use rondo_gossip::Message;

/// One message.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The asking process's number of the call.
    pub call: u64,
    /// The asking process.
    pub life: u64,
    /// What is said.
    pub body: Body,
}

/// What is said.
#[derive(Clone, Debug)]
pub enum Body {
    /// A coordinator asks a replica.
    Replica(Box<ReplicaRequest>),
    /// The answer.
    Replied(Box<ReplicaReply>),
    /// The membership asks.
    Gossip(Box<Message>),
    /// The answer.
    Gossiped(Box<Message>),
    /// A refill asks.
    Page(PageRequest),
    /// The answer; `None`: there is none.
    Paged(Option<Box<Page>>),
    /// An exchange asks.
    Question(Box<Question>),
    /// The answer.
    Answer(Box<Answer>),
}
