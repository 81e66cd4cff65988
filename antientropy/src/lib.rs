//! The background: replicas become equal without traffic.
//!
//! Three machines. [`refill`]: a node whose disk may lack writes it once acknowledged (restored, quarantined, an old copy)
//! takes everything the other owners hold before its reads count again. [`handoff`]: writes kept for a node that was away
//! are delivered to it. [`round`]: every two nodes that share keys compare their Merkle trees again and again, and send
//! each other what differs (Dynamo, section 4.7); [`answer`] is the other side of it, [`schedule`] says whose turn it is
//! and [`pace`] how much the foreground leaves for it.
//!
//! - **A1** A partition is trusted again only after a complete pass over every other node that may own keys of it.
//! - **A2** Nothing is deleted here: what arrives is merged.
//! - **A3** Bounded: one question is outstanding, and its answer is at most [`refill::PAGE_BYTES_MAX`] and one object
//!   more; a pair of nodes has one exchange at a time.
//! - **A4** Nothing is sent for a difference that does not last: a write under way is no reason for a repair.
//! - **A5** A value travels only to a node that lacks it; versions are compared first.
//! - **A6** A tree that is not complete is compared with nothing, and neither is a partition without trust.

pub mod answer;
mod compare;
pub mod handoff;
mod listing;
mod mend;
pub mod message;
mod options;
pub mod pace;
mod question;
pub mod refill;
pub mod round;
pub mod schedule;

pub use compare::{Pair, Roots};
pub use handoff::Handoff;
pub use message::{OldestHint, OldestHintAge, Page, PageRequest};
pub use options::{AntiEntropyOptions, OptionError};
pub use pace::Pace;
pub use question::{Answer, Group, Question, Span, Wanted};
pub use refill::{Action, Refill};
pub use round::{Memory, Outcome, Round};
pub use schedule::{Schedule, Standing};
