//! Which of a key's versions a reader is shown.

use serde::{Deserialize, Serialize};

/// What a bucket does with concurrent versions. Both keep and merge them alike: a change of mind changes what is shown
/// and what the next write replaces, and no state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conflict {
    /// All are shown, until a write whose context covers them.
    #[default]
    Siblings,
    /// The last one wins, by counter (a time) and actor, and a write replaces all that its coordinator holds: of
    /// concurrent writes, all acknowledged, one remains.
    Lww,
}
