//! What an operator may set.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of anti-entropy. All times are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AntiEntropyOptions {
    /// How often two nodes that share keys compare what they hold, 100 to 3,600,000. Sooner where they differed, or where
    /// one of them was away; later where the roots themselves would be more than 8 KiB a second.
    pub interval_ms: u32,
    /// How long a difference must last before anything is sent for it, 10 to 60,000. Above the time a write takes from
    /// its first owner's disk to its last one's.
    pub confirm_after_ms: u32,
}

impl Default for AntiEntropyOptions {
    fn default() -> Self {
        Self { interval_ms: 2_000, confirm_after_ms: 300 }
    }
}

/// A setting out of its range.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{setting} = {value}: {min} to {max} is allowed")]
pub struct OptionError {
    /// Its name.
    pub setting: &'static str,
    /// As it was set.
    pub value: u32,
    /// Least value allowed.
    pub min: u32,
    /// Greatest value allowed.
    pub max: u32,
}

impl AntiEntropyOptions {
    /// Refuses the first setting that is out of its range.
    pub fn validate(&self) -> Result<(), OptionError> {
        let ranges = [
            ("interval_ms", self.interval_ms, 100, 3_600_000),
            ("confirm_after_ms", self.confirm_after_ms, 10, 60_000),
        ];
        let bad = ranges.into_iter().find(|&(_, value, min, max)| !(min..=max).contains(&value));
        bad.map_or(Ok(()), |(setting, value, min, max)| Err(OptionError { setting, value, min, max }))
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.into())
    }

    pub(crate) fn confirm_after(&self) -> Duration {
        Duration::from_millis(self.confirm_after_ms.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_bad_setting_is_named() {
        AntiEntropyOptions::default().validate().unwrap();
        let bad = AntiEntropyOptions { interval_ms: 0, ..AntiEntropyOptions::default() };
        assert_eq!(bad.validate().unwrap_err().to_string(), "interval_ms = 0: 100 to 3600000 is allowed");
    }
}
