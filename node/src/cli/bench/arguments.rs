//! The arguments of `rondo bench`.

use std::time::Duration;

use clap::Args;

use super::keys::Popularity;
use super::mix::Mix;
use super::values::Sizes;
use crate::cli::arguments::Target;

const DURATION_ALLOWED: &str = "a whole number and ms, s, m or h is allowed, up to 24h";
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// `rondo bench`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// Connections, spread evenly over the endpoints
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) connections: u16,
    /// Generator threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// How long to measure
    #[arg(long, default_value = "10s", value_parser = duration, conflicts_with = "requests")]
    pub(crate) duration: Duration,
    /// Measure so many requests instead
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// Requests a second that fall due whether or not earlier ones were answered; latency counts from then on
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: Option<u32>,
    /// How long to send requests before measuring; 0s: not at all
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) warmup: Duration,
    /// get, put, or shares: get=80,put=20
    #[arg(long, default_value = "get=80,put=20")]
    pub(crate) mix: Mix,
    /// How many different keys
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) keys: u64,
    /// Bytes of a key
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) key_size: u16,
    /// How often each key is asked for: uniform, zipf:0.99, sequential
    #[arg(long, default_value = "uniform")]
    pub(crate) distribution: Popularity,
    /// Bytes of a value: 1KiB, 100, uniform:100-2000, zipf:100-2000
    #[arg(long, default_value = "1KiB")]
    pub(crate) value_size: Sizes,
    /// Store every key once before anything else, so that no GET misses
    #[arg(long)]
    pub(crate) preload: bool,
    /// The keys' bucket
    #[arg(long, default_value = "bench")]
    pub(crate) bucket: String,
    /// Replicas that must answer a GET [default: the bucket's]
    #[arg(long)]
    pub(crate) r: Option<String>,
    /// Replicas that must have a PUT on disk [default: the bucket's]
    #[arg(long)]
    pub(crate) w: Option<String>,
    /// Give a request up after this time
    #[arg(long, default_value = "10s", value_parser = timeout)]
    pub(crate) timeout: Duration,
    /// The same seed makes the same keys, values and order of operations
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) target: Target,
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: u64 = text[..digits].parse().map_err(|_| DURATION_ALLOWED)?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(DURATION_ALLOWED.into()),
    };
    let duration = count.checked_mul(unit_ms).map(Duration::from_millis);
    duration.filter(|duration| *duration <= DURATION_MAX).ok_or_else(|| DURATION_ALLOWED.into())
}

fn timeout(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| if time.is_zero() { Err("more than 0 is needed".into()) } else { Ok(time) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        for (text, ms) in [("0s", 0), ("250ms", 250), ("10s", 10_000), ("2m", 120_000), ("24h", 86_400_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
        }
        for bad in ["", "10", "s", "1.5s", "-1s", "25h", "99999999999999999999s", "9999999999999999999h", "1 s"] {
            assert!(duration(bad).unwrap_err().contains("is allowed"), "{bad}");
        }
        assert!(timeout("0ms").is_err());
    }
}
