//! Who is in the cluster and who is alive. Machines without I/O: time, randomness and messages arrive as arguments.
//!
//! In this release the members of a cluster are those that founded it.
//!
//! - **G1** A node accepts one founding at a time, durably, and is released from it only by the word of the node that
//!   proposed it: of two foundings that share a member at most one is ever committed.
//! - **G2** A founding is committed only with the acceptance of every one of its members.
//! - **G3** A node that has heard of a formed cluster never founds another.
//! - **G4** A node is who its id says, wherever it is: a record with a higher incarnation replaces its address.
//! - **G5** The registry converges: the highest version of an entry wins everywhere, whatever the order of messages.
//! - **G6** Everything is bounded: candidates, members, entries, messages.

pub mod bootstrap;
pub mod members;
pub mod message;
pub mod node_info;
pub mod options;
pub mod registry;

pub use bootstrap::{Bootstrap, Founding, FoundingState};
pub use members::Members;
pub use message::{Message, MessageError};
pub use node_info::NodeInfo;
pub use options::GossipOptions;
pub use registry::{Entry, Registry, Version};
