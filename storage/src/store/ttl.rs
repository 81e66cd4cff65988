//! How long a value lives.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A lifetime in whole seconds, 1 to [`SECONDS_MAX`](Self::SECONDS_MAX). Only the coordinating owner turns it into a
/// time, once: replicas that each counted from their own clock would differ for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Ttl(NonZeroU32);

/// No lifetime. Nothing was written.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("1 to {} seconds, plain or as in 90s, 15m, 1h or 7d", Ttl::SECONDS_MAX)]
pub struct TtlError;

impl Ttl {
    /// Ten years of 365 days: what is to live longer has no lifetime.
    pub const SECONDS_MAX: u32 = 3_650 * 24 * 60 * 60;

    /// So many seconds.
    pub fn new(seconds: u64) -> Result<Self, TtlError> {
        let seconds = u32::try_from(seconds).ok().filter(|seconds| *seconds <= Self::SECONDS_MAX);
        seconds.and_then(NonZeroU32::new).map(Self).ok_or(TtlError)
    }

    /// In seconds.
    pub fn seconds(self) -> u32 {
        self.0.get()
    }

    /// When a value written at `now_us` ends; both in µs since 1970.
    pub fn after(self, now_us: u64) -> u64 {
        now_us.saturating_add(u64::from(self.0.get()) * 1_000_000)
    }
}

/// Digits, and `s`, `m`, `h` or `d`, or no unit for seconds. No sign, no fraction, no white space.
impl FromStr for Ttl {
    type Err = TtlError;

    fn from_str(text: &str) -> Result<Self, TtlError> {
        let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let unit_s = match unit {
            "" | "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            _ => return Err(TtlError),
        };
        let seconds = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit_s));
        Self::new(seconds.ok_or(TtlError)?)
    }
}

impl TryFrom<u64> for Ttl {
    type Error = TtlError;

    fn try_from(seconds: u64) -> Result<Self, TtlError> {
        Self::new(seconds)
    }
}

impl From<Ttl> for u64 {
    fn from(ttl: Ttl) -> Self {
        ttl.seconds().into()
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_units_are_read() {
        for (text, seconds) in [("1", 1), ("90s", 90), ("15m", 900), ("1h", 3_600), ("7d", 604_800), ("007", 7)] {
            assert_eq!(text.parse::<Ttl>().map(Ttl::seconds), Ok(seconds), "{text}");
        }
        assert_eq!("3650d".parse::<Ttl>().map(Ttl::seconds), Ok(Ttl::SECONDS_MAX));
    }

    #[test]
    fn what_is_no_lifetime_is_refused() {
        for text in
            ["", "0", "0s", "s", "+1", "-1", "1.5h", "1 h", "1H", "250ms", "1w", "3651d", "99999999999999999999d"]
        {
            assert_eq!(text.parse::<Ttl>(), Err(TtlError), "{text}");
        }
        assert_eq!((Ttl::new(0), Ttl::new(u64::MAX)), (Err(TtlError), Err(TtlError)));
    }

    #[test]
    fn a_lifetime_becomes_a_time_in_microseconds() {
        let hour: Ttl = "1h".parse().unwrap();
        assert_eq!((hour.after(5), hour.after(u64::MAX)), (3_600_000_005, u64::MAX));
    }
}
