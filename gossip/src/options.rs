//! Settings of the membership.

use serde::{Deserialize, Serialize};

/// Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GossipOptions {
    /// How often a node speaks to each other node, 50 to 10,000.
    pub heartbeat_ms: u64,
    /// Silence after which a node is routed around, at least two heartbeats.
    pub suspect_after_ms: u64,
    /// Silence after which a node is called down, above `suspect_after_ms`.
    pub down_after_ms: u64,
}

impl Default for GossipOptions {
    fn default() -> Self {
        Self { heartbeat_ms: 300, suspect_after_ms: 900, down_after_ms: 5_000 }
    }
}

impl GossipOptions {
    /// Says which value is out of range and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        if !(50..=10_000).contains(&self.heartbeat_ms) {
            return Err(format!("heartbeat_ms = {}: 50 to 10,000 are allowed", self.heartbeat_ms));
        }
        if self.suspect_after_ms < 2 * self.heartbeat_ms {
            return Err(format!("suspect_after_ms = {}: at least 2 × heartbeat_ms", self.suspect_after_ms));
        }
        if self.down_after_ms <= self.suspect_after_ms {
            return Err(format!("down_after_ms = {}: more than suspect_after_ms is needed", self.down_after_ms));
        }
        Ok(())
    }
}
