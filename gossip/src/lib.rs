//! Who is in the cluster and who is alive. Machines without I/O: time, randomness and messages arrive as arguments.
//!
//! In this release the members that own data are those that founded the cluster, or came back in their places.
//! [`Bootstrap`] forms it; [`Gossip`] keeps its nodes informed of each other: push-pull gossip (Demers et al., 1987)
//! carried by the probes of SWIM (Das et al., 2002) with Lifeguard's local health (Dadgar et al., 2018), and the φ of
//! Hayashibara et al. (2004) over what arrives. `docs/gossip.md` describes it and has its figures.
//!
//! - **G1** A node accepts one founding at a time, durably, and is released from it only by the word of the node that
//!   proposed it: of two foundings that share a member at most one is ever committed.
//! - **G2** A founding is committed only with the acceptance of every one of its members.
//! - **G3** A node that has heard of a formed cluster never founds another.
//! - **G4** A node is who its id says, wherever it is: a record with a higher stamp replaces its address.
//! - **G5** The registry converges: the highest version of an entry wins everywhere, whatever the order of messages.
//! - **G6** Everything is bounded: candidates, members, entries, messages, probes.
//! - **G7** The table of members converges, whatever the order of messages; a node's own word on itself is the last.
//! - **G8** A node is called down only on the word of two that could not reach it, of two zones where the nodes that could
//!   tell are in several. One that nobody else can be asked about is down for the asking node alone.
//! - **G9** A pause of a node's own is no silence of the others: what passes while it is not looking is no time.
//! - **G10** An empty node takes the place of a member only with the word of a majority of the other members and of all of
//!   them that are not down, each of which holds that member to be down and lets nobody else have its place meanwhile.
//! - **G11** Of several processes with one node id the one with the newest start is the member; the others end.

pub mod arrivals;
pub mod bootstrap;
mod compact;
pub mod gossip;
pub mod health;
pub mod members;
pub mod message;
pub mod node_info;
pub mod options;
mod queue;
pub mod random;
pub mod registry;
pub mod rumour;
mod summary;

pub use bootstrap::{Bootstrap, Founding, FoundingState};
pub use gossip::Gossip;
pub use members::Members;
pub use message::{Exchange, Message, MessageError, Probed};
pub use node_info::{NodeInfo, Stamp};
pub use options::GossipOptions;
pub use random::Random;
pub use registry::{Entry, Registry, Version};
pub use rumour::Rumour;
