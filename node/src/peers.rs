//! Node to node: batches of replica operations and control messages over HTTP/1.1 (`docs/peers.md` has the bytes).
//!
//! Each worker thread has its own [`Peers`]: per peer and [`Lane`] a queue and a few connections with one request in
//! flight each. An idle lane sends at once; what arrives while a request is in flight goes together in the next one,
//! so that under load a hundred replica operations cost one request (group commit for the network).
//!
//! - **P1** Each operation is answered exactly once, by its deadline; a reply is never called from within `send`.
//! - **P2** `NotSent` is said only where no byte of the operation left this node.
//! - **P3** Nothing but a handshake is read from a connection that has not proved the secret, and that is bounded in
//!   bytes and time. The secret never travels.
//! - **P4** A connection is to one node of one cluster: another node behind the address, or another cluster, is refused.
//! - **P5** Every queue is bounded, and a peer that is known not to answer costs its callers no waiting.

mod address;
mod backoff;
mod batch;
mod body;
mod client;
mod control;
mod error;
mod gather;
mod handshake;
mod identity;
mod lane;
mod latency;
mod link;
mod options;
mod recent;
mod refusal;
mod reply;
mod serve;
mod session;
mod slot;
mod stats;

pub use address::AddressBook;
pub use client::{Network, Peers};
pub use control::Control;
pub use error::PeerError;
pub use handshake::PROTOCOL_VERSION;
pub use identity::{Identity, Secret};
pub use lane::Lane;
pub use options::{LaneOptions, PeerOptions, ServerOptions};
pub use recent::{Recent, Times};
pub use refusal::{Cause, Refused};
pub use serve::{Arrival, PeerHandler, PeerServer};
pub use stats::{Evidence, Health, LaneCounters, PeerStats};

/// First request of a connection.
const ROUTE_HELLO: &str = "/peer/v1/hello";
/// Second request of a connection.
const ROUTE_PROOF: &str = "/peer/v1/proof";
/// A batch of replica operations.
const ROUTE_OPS: &str = "/peer/v1/ops";
/// One control message.
const ROUTE_CONTROL: &str = "/peer/v1/control";
