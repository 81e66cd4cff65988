//! What one client, and all of them together, may ask of the client port: everything a client can make the node hold
//! or wait for has a bound.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The settings of section `limits`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpLimits {
    /// Client connections open at the same time, 1 to 1,000,000.
    pub connections: u64,
    /// Time from the first byte of a request (or from the connect) to the end of its head, 10 to 600,000 ms.
    pub head_timeout_ms: u64,
    /// Bytes of a request line and its header fields, 1 KiB to 48 KiB.
    pub head_bytes: u64,
    /// Header fields of a request, 8 to 100.
    pub header_fields: u64,
    /// Longest pause in sending a body or in taking an answer, 10 to 600,000 ms.
    pub body_stall_ms: u64,
    /// How long a connection may wait for its next request, 10 to 3,600,000 ms.
    pub idle_ms: u64,
    /// Largest value, 1 byte to 32 MiB.
    pub value_bytes: u64,
    /// Deadline of a request that names none, 1 ms to `timeout_max_ms`.
    pub timeout_default_ms: u64,
    /// Longest deadline a request may name, 1 to 600,000 ms.
    pub timeout_max_ms: u64,
    /// Object requests in work at the same time, 1 to 1,000,000.
    pub requests_in_flight: u64,
    /// Bytes of uploads held at the same time, `value_bytes` to 64 GiB.
    pub body_bytes_in_flight: u64,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            head_timeout_ms: 10_000,
            head_bytes: 16 << 10,
            header_fields: 100,
            body_stall_ms: 30_000,
            idle_ms: 75_000,
            value_bytes: 4 << 20,
            timeout_default_ms: 5_000,
            timeout_max_ms: 60_000,
            requests_in_flight: 8_192,
            body_bytes_in_flight: 256 << 20,
        }
    }
}

/// A limit out of its range.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("limits.{setting} = {value}: {min} to {max} is allowed")]
pub struct LimitError {
    /// Its name.
    pub setting: &'static str,
    /// As it was set.
    pub value: u64,
    /// Least value allowed.
    pub min: u64,
    /// Greatest value allowed.
    pub max: u64,
}

impl HttpLimits {
    /// Refuses the first setting that is out of its range.
    pub fn validate(&self) -> Result<(), LimitError> {
        let ranges = [
            ("connections", self.connections, 1, 1_000_000),
            ("head_timeout_ms", self.head_timeout_ms, 10, 600_000),
            ("head_bytes", self.head_bytes, 1 << 10, 48 << 10),
            ("header_fields", self.header_fields, 8, 100),
            ("body_stall_ms", self.body_stall_ms, 10, 600_000),
            ("idle_ms", self.idle_ms, 10, 3_600_000),
            ("value_bytes", self.value_bytes, 1, 32 << 20),
            ("timeout_max_ms", self.timeout_max_ms, 1, 600_000),
            ("timeout_default_ms", self.timeout_default_ms, 1, self.timeout_max_ms),
            ("requests_in_flight", self.requests_in_flight, 1, 1_000_000),
            ("body_bytes_in_flight", self.body_bytes_in_flight, self.value_bytes, 64 << 30),
        ];
        let bad = ranges.into_iter().find(|&(_, value, min, max)| !(min..=max).contains(&value));
        bad.map_or(Ok(()), |(setting, value, min, max)| Err(LimitError { setting, value, min, max }))
    }

    /// `head_timeout_ms`.
    pub fn head_timeout(&self) -> Duration {
        Duration::from_millis(self.head_timeout_ms)
    }

    /// `body_stall_ms`.
    pub fn body_stall(&self) -> Duration {
        Duration::from_millis(self.body_stall_ms)
    }

    /// `idle_ms`.
    pub fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_contract_and_valid() {
        let limits = HttpLimits::default();
        limits.validate().unwrap();
        assert_eq!((limits.connections, limits.value_bytes, limits.idle_ms), (10_000, 4_194_304, 75_000));
    }

    #[test]
    fn a_bad_limit_is_named_with_what_is_allowed() {
        let bad = HttpLimits { header_fields: 101, ..HttpLimits::default() };
        assert_eq!(bad.validate().unwrap_err().to_string(), "limits.header_fields = 101: 8 to 100 is allowed");
        let bad = HttpLimits { timeout_max_ms: 100, ..HttpLimits::default() };
        assert_eq!(bad.validate().unwrap_err().setting, "timeout_default_ms");
        assert!(serde_json::from_str::<HttpLimits>(r#"{"value_byte":1}"#).is_err());
    }
}
