//! Settings of the membership.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Members a node speaks to in one heartbeat interval, whatever the size of the cluster.
pub const FAN_OUT: u32 = 3;

/// Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GossipOptions {
    /// How often a node speaks to each other node in a cluster of up to four, and to three others, in turn, in a larger
    /// one; 50 to 10,000.
    pub heartbeat_ms: u64,
    /// How long a node may take to answer before others are asked to reach it; at least `heartbeat_ms` / 2, at most
    /// 60,000.
    pub probe_timeout_ms: u64,
    /// φ at which a silent node is routed around, 1 to 16: the silence is one of 10^φ.
    pub suspect_phi: u8,
    /// How long a node stays under suspicion before it is called down when several accuse it; at least
    /// `probe_timeout_ms`.
    pub suspicion_min_ms: u64,
    /// The same when as few accuse it as may, and the time of a lone accuser where there is nobody else to ask; at
    /// least `suspicion_min_ms`.
    pub suspicion_max_ms: u64,
}

impl Default for GossipOptions {
    fn default() -> Self {
        Self {
            heartbeat_ms: 300,
            probe_timeout_ms: 400,
            suspect_phi: 8,
            suspicion_min_ms: 2_000,
            suspicion_max_ms: 6_000,
        }
    }
}

impl GossipOptions {
    /// Says which value is out of range and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        if !(50..=10_000).contains(&self.heartbeat_ms) {
            return Err(format!("heartbeat_ms = {}: 50 to 10,000 are allowed", self.heartbeat_ms));
        }
        if self.probe_timeout_ms < self.heartbeat_ms / 2 || self.probe_timeout_ms > 60_000 {
            return Err(format!(
                "probe_timeout_ms = {}: heartbeat_ms / 2 to 60,000 are allowed",
                self.probe_timeout_ms
            ));
        }
        if !(1..=16).contains(&self.suspect_phi) {
            return Err(format!("suspect_phi = {}: 1 to 16 are allowed", self.suspect_phi));
        }
        if self.suspicion_min_ms < self.probe_timeout_ms {
            return Err(format!("suspicion_min_ms = {}: at least probe_timeout_ms", self.suspicion_min_ms));
        }
        if self.suspicion_max_ms < self.suspicion_min_ms {
            return Err(format!("suspicion_max_ms = {}: at least suspicion_min_ms", self.suspicion_max_ms));
        }
        Ok(())
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    /// Between two members spoken to.
    pub(crate) fn round(&self) -> Duration {
        self.heartbeat() / FAN_OUT
    }

    pub(crate) fn probe_timeout(&self) -> Duration {
        Duration::from_millis(self.probe_timeout_ms)
    }

    pub(crate) fn suspicion_max(&self) -> Duration {
        Duration::from_millis(self.suspicion_max_ms)
    }

    /// How long suspicion lasts with `confirmations` beside the first accuser, of `expected` that may come: Lifeguard's
    /// max − ln(c+1)/ln(k+1) · (max − min).
    pub(crate) fn suspicion(&self, confirmations: usize, expected: usize) -> Duration {
        let (min, max) = (self.suspicion_min_ms as f64, self.suspicion_max_ms as f64);
        let part = ((confirmations.min(expected) + 1) as f64).ln() / ((expected.max(1) + 1) as f64).ln();
        Duration::from_secs_f64((max - part * (max - min)) / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_is_shorter_the_more_accuse() {
        let options = GossipOptions::default();
        let secs = |c, k| options.suspicion(c, k).as_secs_f64();
        assert_eq!((secs(0, 2), secs(2, 2), secs(1, 1), secs(5, 2)), (6.0, 2.0, 2.0, 2.0));
        assert!((secs(1, 2) - 3.476).abs() < 0.01);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let with = |change: fn(&mut GossipOptions)| {
            let mut options = GossipOptions::default();
            change(&mut options);
            options.validate().unwrap_err()
        };
        assert!(GossipOptions::default().validate().is_ok());
        assert!(with(|o| o.heartbeat_ms = 49).starts_with("heartbeat_ms = 49"));
        assert!(with(|o| o.probe_timeout_ms = 100).starts_with("probe_timeout_ms = 100"));
        assert!(with(|o| o.suspect_phi = 0).starts_with("suspect_phi = 0"));
        assert!(with(|o| o.suspicion_min_ms = 399).starts_with("suspicion_min_ms = 399"));
        assert!(with(|o| o.suspicion_max_ms = 1_999).starts_with("suspicion_max_ms = 1999"));
    }
}
