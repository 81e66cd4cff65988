//! What an operator may set.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of the coordinator. All times are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoordinatorOptions {
    /// How long a forwarded write waits for one owner before another is asked too, 10 to 5,000. Above a slow but
    /// healthy owner's answer time, and far enough below 1,000 that one hung owner is no visible stall.
    pub forward_patience_ms: u32,
    /// How long a read waits at most before it asks one owner more, 1 to 5,000. It asks sooner where the owners are known
    /// to answer faster.
    pub hedge_after_ms: u32,
    /// How long a listing waits for a page of one owner before others are asked for those keys too, 10 to 5,000. Above
    /// what a page from a busy disk takes, and far enough below 1,000 that one hung owner is no visible stall.
    pub page_patience_ms: u32,
    /// How long a read waits for an owner that is believed to be down, 1 to 5,000.
    pub down_patience_ms: u32,
    /// How long replicas beyond the quorum, and repairs, may take after the answer, 100 to 60,000.
    pub background_ms: u32,
}

impl Default for CoordinatorOptions {
    fn default() -> Self {
        Self {
            forward_patience_ms: 400,
            hedge_after_ms: 100,
            page_patience_ms: 400,
            down_patience_ms: 250,
            background_ms: 5_000,
        }
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

impl CoordinatorOptions {
    /// Refuses the first setting that is out of its range.
    pub fn validate(&self) -> Result<(), OptionError> {
        let ranges = [
            ("forward_patience_ms", self.forward_patience_ms, 10, 5_000),
            ("hedge_after_ms", self.hedge_after_ms, 1, 5_000),
            ("page_patience_ms", self.page_patience_ms, 10, 5_000),
            ("down_patience_ms", self.down_patience_ms, 1, 5_000),
            ("background_ms", self.background_ms, 100, 60_000),
        ];
        let bad = ranges.into_iter().find(|&(_, value, min, max)| !(min..=max).contains(&value));
        bad.map_or(Ok(()), |(setting, value, min, max)| Err(OptionError { setting, value, min, max }))
    }

    pub(crate) fn forward_patience(&self) -> Duration {
        Duration::from_millis(self.forward_patience_ms.into())
    }

    /// How long an owner with this p95 is waited for. Not less than a time slice of a busy machine: who lost its turn,
    /// the asking thread or the asked one, is late by that and not slow.
    pub(crate) fn patience(&self, read_p95: Option<Duration>) -> Duration {
        const FLOOR: Duration = Duration::from_millis(3);
        read_p95.map_or(self.hedge_after(), |p95| p95.max(FLOOR).min(self.hedge_after()))
    }

    pub(crate) fn hedge_after(&self) -> Duration {
        Duration::from_millis(self.hedge_after_ms.into())
    }

    pub(crate) fn page_patience(&self) -> Duration {
        Duration::from_millis(self.page_patience_ms.into())
    }

    pub(crate) fn down_patience(&self) -> Duration {
        Duration::from_millis(self.down_patience_ms.into())
    }

    pub(crate) fn background(&self) -> Duration {
        Duration::from_millis(self.background_ms.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_bad_setting_is_named() {
        CoordinatorOptions::default().validate().unwrap();
        let bad = CoordinatorOptions { hedge_after_ms: 0, ..CoordinatorOptions::default() };
        assert_eq!(bad.validate().unwrap_err().to_string(), "hedge_after_ms = 0: 1 to 5000 is allowed");
    }

    #[test]
    fn patience_is_the_p95_within_its_bounds() {
        let options = CoordinatorOptions { hedge_after_ms: 100, ..CoordinatorOptions::default() };
        let ms = Duration::from_millis;
        for (p95, patience) in [(None, 100), (Some(ms(0)), 3), (Some(ms(20)), 20), (Some(ms(900)), 100)] {
            assert_eq!(options.patience(p95), ms(patience));
        }
        let eager = CoordinatorOptions { hedge_after_ms: 1, ..options };
        assert_eq!(eager.patience(Some(ms(20))), ms(1));
    }

    #[test]
    fn unknown_settings_are_errors() {
        let unknown = serde_json::from_str::<CoordinatorOptions>(r#"{"hedge_after":1}"#).unwrap_err();
        assert!(unknown.to_string().contains("hedge_after"));
    }
}
