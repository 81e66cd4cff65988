//! Where a key lives. Pure: no I/O, no clock, no randomness.
//!
//! The token space is cut into Q equal partitions; an explicit, epoch-numbered [`Layout`] names the ordered owners of
//! each (Dynamo, SOSP 2007, section 6.2, strategy 3). A [`View`] adds what is known of each member's liveness and is
//! all the coordinator ever sees of the membership. `docs/ring.md` explains the assignment function.
//!
//! # Invariants
//! Of every layout, founding or successor, for every N from 1 to 7:
//!
//! - **R1** Each partition has min(N, members) owners, all distinct nodes.
//! - **R2** Owners are in distinct zones whenever there are at least N zones (as many as owners, while members are
//!   fewer). With fewer zones they are spread as evenly as the zones' sizes allow: with the greatest k for which
//!   Σ min(size, k) ≤ min(N, members), a zone has min(size, k) or min(size, k + 1) of each partition's owners.
//! - **R3** Each node owns its share, rounded up or down to a whole number. Shares are proportional to weight, except
//!   that no node owns a partition twice and no zone leaves its bounds of R2; what such a limit cuts off is spread
//!   over the rest by weight.
//! - **R4** Each node comes first in 1/width of its partitions, rounded up or down, width being min(N, members). Of
//!   the owners of a partition the first are in as many zones as can be, whatever number of them a bucket uses.
//! - **R5** Little moves. Without a change nothing does. A join or leave among nodes of equal weight, in one zone or
//!   each in its own, moves the joiner's or leaver's share and nothing else. Otherwise what is copied is close to what
//!   the nodes gain by the change of their shares (tested: at most half as much again, plus one partition a member).
//! - **R6** A founding layout depends on the set of members, Q and N alone, a successor on its predecessor and the set
//!   of members: every node computes the same.
//! - **R7** Few pairs of nodes share a partition: in a founding layout of more than 4 N equal nodes, N being 3, none
//!   has more than 12 neighbours. Where R3 and R5 leave a choice, a successor takes what adds the fewest.
//! - **R8** A preference list begins with the owners and goes on with fallbacks, all distinct, min(members, 12) in
//!   all; each fallback is in a zone that the list so far has least of.

mod assign;
mod balance;
pub mod ids;
pub mod layout;
mod order;
mod partition_set;
mod preference;
mod share;
mod table;
pub mod view;

pub use ids::{Epoch, NodeId, PartitionCount, PartitionId, ReplicationFactor, Token};
pub use layout::{Layout, LayoutError, Member, Move};
pub use partition_set::PartitionSet;
pub use view::{Liveness, View};
