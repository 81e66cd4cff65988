//! Hints are drained: once everybody is back, none is left.

use rondo_ring::NodeId;

use crate::history::{At, History};

const NAME: &str = "hints are drained";

/// In the end. How many each node keeps for which other.
pub fn in_the_end(history: &mut History, kept: &[(usize, NodeId, u64)], at: At) {
    for (node, target, count) in kept {
        history.violated(NAME, at, format!("node {node} still keeps {count} for {target:?}"));
    }
}
