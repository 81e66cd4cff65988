//! What a request comes to.

use std::time::Duration;

use rondo_storage::versions::{CausalContext, Dot, ETag, Object};

/// A write that has its W durable acknowledgements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteAnswer {
    /// The write's name.
    pub dot: Dot,
    /// For `Rondo-Context`.
    pub context: CausalContext,
    /// Versions that remain and are shown, this one included.
    pub siblings: u32,
    /// When the coordinator wrote it, µs since 1970.
    pub modified_us: u64,
    /// When it expires, µs since 1970; 0: never.
    pub expires_us: u64,
    /// Durable acknowledgements at the time of the answer.
    pub acks: u8,
    /// Of how many.
    pub n: u8,
    /// Hints durably kept for owners that could not be reached, here or elsewhere.
    pub hinted: u8,
    /// Among the acknowledgements is one of a node that is no owner.
    pub sloppy: bool,
}

/// A read that has its R votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadAnswer {
    /// Everything the votes hold, merged; tombstones and expired versions still in it (C5: `shown` filters).
    /// Default (no siblings, empty context) where nothing was ever written.
    pub object: Object,
    /// Votes at the time of the answer.
    pub acks: u8,
    /// Of how many.
    pub n: u8,
    /// Among the votes is one of a node that is no owner.
    pub sloppy: bool,
    /// From the beginning until this node's own store had answered, if it was asked and has.
    pub store: Option<Duration>,
}

/// Whether a failed write may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No replica took it, and none will.
    NotApplied,
    /// Some replica may have taken it: it may appear.
    Unknown,
}

/// Why a request has no success to report.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// Enough owners failed or are known to be down (503).
    Unavailable {
        /// Acknowledgements or votes needed.
        required: u8,
        /// Those there were.
        acked: u8,
        /// Owners.
        n: u8,
        /// Of a write; a read is `NotApplied`.
        outcome: Outcome,
    },
    /// The deadline passed while owners had not answered (504); same fields.
    TimedOut {
        /// Acknowledgements or votes needed.
        required: u8,
        /// Those there were.
        acked: u8,
        /// Owners.
        n: u8,
        /// Of a write; a read is `NotApplied`.
        outcome: Outcome,
    },
    /// The context names a write that no reachable owner has (503).
    ContextNotReached,
    /// More siblings than the bucket allows would remain (409); nothing was written.
    TooManySiblings {
        /// What would remain.
        count: u32,
        /// What is allowed.
        max: u16,
        /// The context that resolves them.
        context: CausalContext,
    },
    /// What is there is not what the write's condition says (412); nothing was written.
    ConditionFailed {
        /// Of what is there; `None`: nothing is.
        etag: Option<ETag>,
        /// Of what is there, and of what was.
        context: CausalContext,
    },
    /// This node's disk is nearly full (507); nothing was written.
    LowDisk,
    /// Too much in flight (429); nothing was begun.
    Busy,
}
