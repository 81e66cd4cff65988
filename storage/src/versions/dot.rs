//! The name of one client write.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A storage instance: 64 random bits made with a data directory, and made anew whenever that directory may be older
/// than what its node once acknowledged. Shown as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActorId(pub u64);

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One write: the instance that coordinated it and that instance's counter for the key, which is never used twice:
/// max(the key's highest + 1, hybrid clock in µs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Who.
    pub actor: ActorId,
    /// Which of its writes; above 0.
    pub counter: u64,
}
