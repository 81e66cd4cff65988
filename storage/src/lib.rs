//! What this disk holds: versions of objects, durable and damage-aware.
//!
//! - [`versions`]: dots, causal contexts, objects with siblings, their canonical encoding, context tokens. Pure.
//! - [`engine`]: ordered durable bytes, on disk or in memory.
//! - [`store`]: what a node does with the two: atomic read-modify-write per key, instance ids, digests, quarantine.

pub mod engine;
pub mod key;
pub mod store;
pub mod versions;

pub use key::Key;
