//! What a client may ask to be so before its write is carried out.

use crate::versions::{Conflict, ETag, Object};

/// Judged under the key's lock, in one step with the write, against what a reader would be shown: what was deleted or
/// has expired is not there. Atomic among the writes of one coordinating owner, and no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `If-None-Match: *`: nothing is there.
    Absent,
    /// `If-Match: *`: something is there.
    Present,
    /// `If-Match: "…", "…"`: the versions that are there are exactly one of these sets. Of none at all: never so.
    AnyOf(Box<[ETag]>),
}

impl Condition {
    /// Most ETags of one condition.
    pub const ETAGS_MAX: usize = 32;

    /// Whether it is so of the object at this time (µs since 1970).
    pub fn holds(&self, object: &Object, now_us: u64, conflict: Conflict) -> bool {
        let is_there = || object.shown(now_us, conflict).next().is_some();
        match self {
            Self::Absent => !is_there(),
            Self::Present => is_there(),
            Self::AnyOf(etags) => object.etag(now_us, conflict).is_some_and(|current| etags.contains(&current)),
        }
    }

    /// Whether a client whose condition held has thereby said exactly what its write replaces.
    pub(super) fn names_versions(&self) -> bool {
        match self {
            Self::Absent | Self::AnyOf(_) => true,
            Self::Present => false,
        }
    }
}
