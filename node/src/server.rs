//! A running node: one worker thread per core drives the machines, one control thread keeps house.

mod again;
pub mod buckets;
pub mod control;
mod descriptors;
pub mod disk;
pub mod drive;
pub mod exchange;
pub mod files;
mod handoff;
mod house;
mod join;
pub mod list;
pub mod log;
pub mod mailbox;
pub mod membership;
mod merge;
pub mod metrics;
pub mod pages;
pub mod refill;
pub mod replica;
pub mod staleness;
pub mod start;
mod stop;
pub mod time;
pub mod workers;

pub use start::{ServerError, run};
