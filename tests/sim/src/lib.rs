//! Whole clusters of the real machines in one thread, under virtual time.
//!
//! Three to nine [`node`]s drive the machines of the coordinator, the membership and anti-entropy and a store over the
//! engine in memory, with the actions in the order in which the server carries them out. [`client`]s ask them; the
//! [`network`], the disks and the [`faults`] fail as often as the seed has drawn. Then everything heals, and the
//! [`invariants`] are judged from the [`history`] and from what the disks hold. The same seed is the same run, to the
//! last event: [`trace`].
//!
//! [`mutant`]s are defects of the driver on purpose: each is found by the invariant that it breaks.

pub mod client;
pub mod clock;
pub mod faults;
pub mod history;
pub mod invariants;
pub mod kept;
pub mod mutant;
pub mod network;
pub mod node;
pub mod random;
pub mod run;
pub mod setup;
pub mod trace;
pub mod troubles;
pub mod world;

pub use mutant::Mutant;
pub use run::{Report, run};
