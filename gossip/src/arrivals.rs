//! How likely it is that a peer is merely late: the φ of Hayashibara et al. (2004), over the arrivals of its messages.
//!
//! φ = −log10 of the probability that an interval between two arrivals is longer than the present silence, the intervals
//! being taken as normally distributed. Their mean and variance are kept as exponentially weighted averages instead of
//! the paper's window of samples: two numbers a peer.

use std::time::Duration;

/// Weight of a new interval: what was 30 arrivals ago has an eighth of it.
const WEIGHT: f64 = 1.0 / 15.0;
/// An interval counts as at most so many usual ones: one long silence must not make the next one look usual.
const STRETCH_MAX: f64 = 3.0;

/// Arrivals from one peer.
#[derive(Clone, Copy, Debug)]
pub struct Arrivals {
    last: Duration,
    mean_ms: f64,
    variance: f64,
}

impl Arrivals {
    /// Nothing has arrived since `now`; an arrival is expected every `interval_ms`.
    pub fn new(interval_ms: f64, now: Duration) -> Self {
        Self { last: now, mean_ms: interval_ms, variance: (interval_ms / 2.0).powi(2) }
    }

    /// Something arrived.
    pub fn arrived(&mut self, now: Duration) {
        let interval = now.saturating_sub(self.last).as_secs_f64() * 1e3;
        let interval = interval.min(STRETCH_MAX * self.mean_ms.max(1.0));
        let off = interval - self.mean_ms;
        self.mean_ms += WEIGHT * off;
        self.variance = (1.0 - WEIGHT) * (self.variance + WEIGHT * off * off);
        self.last = self.last.max(now);
    }

    /// φ at `now`. The deviation is taken as at least `deviation_min_ms`: arrivals as regular as a clock would otherwise
    /// make the first hiccup a failure.
    pub fn phi(&self, now: Duration, deviation_min_ms: f64) -> f64 {
        let silence = now.saturating_sub(self.last).as_secs_f64() * 1e3;
        let deviation = self.variance.sqrt().max(deviation_min_ms).max(1.0);
        tail((silence - self.mean_ms) / deviation)
    }
}

/// −log10 of the normal distribution's tail beyond `y` deviations, by the logistic approximation (Bowling et al., 2009),
/// whose exponent is used as it is where the tail is too small for a number.
fn tail(y: f64) -> f64 {
    let exponent = y * (1.5976 + 0.070_566 * y * y);
    if exponent > 30.0 { exponent / std::f64::consts::LN_10 } else { (1.0 + exponent.exp()).log10() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn steady(interval: u64, arrivals: u64) -> Arrivals {
        let mut all = Arrivals::new(150.0, ms(0));
        (1..=arrivals).for_each(|i| all.arrived(ms(i * interval)));
        all
    }

    #[test]
    fn phi_is_the_tail_of_the_normal_distribution() {
        // One in two, and the tails of 1.2816 and 3.0902 deviations: one in ten, one in a thousand.
        for (y, phi) in [(0.0, 0.301), (1.2816, 1.0), (3.0902, 3.0)] {
            assert!((tail(y) - phi).abs() < 0.06, "{y}: {}", tail(y));
        }
        assert!(tail(50.0) > tail(40.0), "it goes on rising where the tail is no number any more");
    }

    #[test]
    fn silence_of_a_peer_that_is_heard_seven_times_a_second_is_suspicious_within_a_second() {
        let arrivals = steady(150, 100);
        assert!(arrivals.phi(ms(15_000 + 600), 120.0) < 8.0);
        assert!(arrivals.phi(ms(15_000 + 900), 120.0) > 8.0);
    }

    #[test]
    fn a_peer_that_is_heard_rarely_is_given_longer() {
        let arrivals = steady(5_000, 200);
        assert!(arrivals.phi(ms(1_000_000 + 5_500), 120.0) < 8.0);
        assert!(arrivals.phi(ms(1_000_000 + 6_000), 120.0) > 8.0);
    }

    #[test]
    fn one_long_silence_does_not_make_silence_usual() {
        let mut arrivals = steady(150, 100);
        arrivals.arrived(ms(15_000 + 3_600_000));
        assert!(arrivals.phi(ms(3_615_000 + 2_000), 120.0) > 8.0);
    }
}
