//! How long to wait before the next attempt.

use std::time::Duration;

/// Doubles from `min` to `max` with the number of failures so far (at least 1). `random` picks a point in the upper
/// half of that, so that the workers of many nodes do not come back to a restarted one in step.
pub(super) fn pause(min: Duration, max: Duration, failures: u32, random: u32) -> Duration {
    let doubled = min.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(max);
    let half = doubled / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_stay_within_half_of_the_bounds() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(1));
        assert_eq!(pause(min, max, 1, u32::MAX), min);
        assert_eq!(pause(min, max, 1, 0), min / 2);
        assert_eq!(pause(min, max, 2, u32::MAX), 2 * min);
        assert_eq!(pause(min, max, 1_000, u32::MAX), max);
        assert_eq!(pause(min, max, u32::MAX, 0), max / 2);
    }
}
