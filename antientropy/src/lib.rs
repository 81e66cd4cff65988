//! The background: replicas become equal without traffic.
//!
//! [`refill`]: a node whose disk may lack writes it once acknowledged (restored, quarantined, an old copy) takes
//! everything the other owners hold before its reads count again. [`handoff`]: writes kept for a node that was away are
//! delivered to it.
//!
//! - **A1** A partition is trusted again only after a complete pass over every other node that may own keys of it.
//! - **A2** Nothing is deleted here: a pass only merges.
//! - **A3** Bounded: one page is asked for at a time, of at most [`refill::PAGE_BYTES_MAX`] and one object more.

pub mod handoff;
pub mod message;
pub mod refill;

pub use handoff::Handoff;
pub use message::{OldestHint, OldestHintAge, Page, PageRequest};
pub use refill::{Action, Refill};
