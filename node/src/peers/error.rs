//! Why a peer could not be asked.

use std::io;

use rondo_ring::NodeId;

use super::refusal::Refused;

/// A connection or a control message that failed.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The address book does not have it; nothing was sent.
    #[error("no address is known for node {0}")]
    NoAddress(NodeId),
    /// The name could not be looked up; nothing was sent.
    #[error("{address} could not be resolved: {source}")]
    Resolve {
        /// What was looked up.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// None of the addresses took a connection; nothing was sent. The last one's reason.
    #[error("{address} took no connection: {source}")]
    Connect {
        /// What was connected to.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The other side refused the handshake, or this one did; nothing was sent.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No connection with a completed handshake in time; nothing was sent.
    #[error("no handshake in time")]
    HandshakeTimedOut,
    /// The message left and no answer came in time: it may have been acted on.
    #[error("no answer in time")]
    TimedOut,
    /// The connection closed before the request left; nothing was sent.
    #[error("the connection was closed before the request left")]
    NotSent,
    /// The connection broke after the message left: it may have been acted on.
    #[error("the connection broke: {0}")]
    Lost(#[from] hyper::Error),
    /// The answer, or the message, is longer than allowed.
    #[error("a peer message of more than {0} bytes")]
    TooLarge(usize),
    /// The peer answered with this status: it did not act on it.
    #[error("the peer answered with status {0}")]
    Status(u16),
}
