//! Whole clusters of real processes, in trouble under load: what clients asked and were told is recorded and judged by the
//! checkers of the simulation (docs/decisions/0022-histories-of-real-processes.md). `RONDO_CLUSTER_SECONDS` (2) says how
//! long each trouble lasts, `RONDO_CLUSTER_SEED` draws what clients ask.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test helpers")]

mod client;
mod crashes;
mod disks;
mod network;
mod partitions;
mod pauses;
mod restarts;
mod seen;
mod stage;
mod tongue;
mod world;
