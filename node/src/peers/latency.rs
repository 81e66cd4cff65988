//! Answer times of a lane: what a hedge waits for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Four buckets per doubling, from 16 µs to about 16 s.
const BUCKETS: usize = 80;
/// Samples after which older ones lose half their weight: a peer that gets slow shows after some twenty of them.
const HALVE_AT: u32 = 512;
/// Samples after which the percentile is looked at again.
const LOOK_EVERY: u32 = 16;
/// Fewer samples say nothing.
const SAMPLES_MIN: u32 = 20;

/// Lock-free histogram that forgets: a quantile is right within a fifth of its value.
#[derive(Debug)]
pub(super) struct Latency {
    buckets: [AtomicU32; BUCKETS],
    total: AtomicU32,
    /// µs; 0: not known.
    p95_us: AtomicU32,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: [const { AtomicU32::new(0) }; BUCKETS], total: AtomicU32::new(0), p95_us: AtomicU32::new(0) }
    }
}

impl Latency {
    pub(super) fn record(&self, round_trip: Duration) {
        self.buckets[bucket_of(round_trip)].fetch_add(1, Ordering::Relaxed);
        let total = self.total.fetch_add(1, Ordering::Relaxed);
        if total >= HALVE_AT {
            self.halve();
        }
        if total.is_multiple_of(LOOK_EVERY) {
            let p95 = self.quantile(0.95).map_or(0, |p95| p95.as_micros() as u32);
            self.p95_us.store(p95, Ordering::Relaxed);
        }
    }

    /// The 95th percentile as it was at most so many samples ago; `None` while there are too few.
    pub(super) fn p95(&self) -> Option<Duration> {
        let micros = self.p95_us.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }

    /// Concurrent recordings may be lost here: they are samples.
    fn halve(&self) {
        let mut total = 0;
        for bucket in &self.buckets {
            let half = bucket.load(Ordering::Relaxed) / 2;
            bucket.store(half, Ordering::Relaxed);
            total += half;
        }
        self.total.store(total, Ordering::Relaxed);
    }

    fn quantile(&self, quantile: f64) -> Option<Duration> {
        let counts: [u32; BUCKETS] = std::array::from_fn(|index| self.buckets[index].load(Ordering::Relaxed));
        let total: u32 = counts.iter().sum();
        if total < SAMPLES_MIN {
            return None;
        }
        let rank = (f64::from(total) * quantile).ceil() as u32;
        let mut seen = 0;
        let index = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        index.map(upper_bound)
    }
}

/// Bucket i ends at 16 µs · 2^((i+1)/4), the quarters in between taken linearly.
fn bucket_of(round_trip: Duration) -> usize {
    let sixteenths = (round_trip.as_micros() / 16).clamp(1, 1 << 40) as u64;
    let octave = sixteenths.ilog2() as usize;
    let micros = round_trip.as_micros().min(1 << 44) as u64;
    let quarter = (micros.saturating_sub(16 << octave) * 4 / (16 << octave)) as usize;
    (octave * 4 + quarter.min(3)).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    let octave = bucket / 4;
    Duration::from_micros((16_u64 << octave) * (5 + bucket as u64 % 4) / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_a_quarter() {
        let latency = Latency::default();
        assert_eq!(latency.quantile(0.5), None);
        for ms in 1..=100 {
            latency.record(Duration::from_millis(ms));
        }
        for (quantile, ms) in [(0.5, 50.0), (0.95, 95.0), (0.01, 1.0)] {
            let found = latency.quantile(quantile).unwrap().as_secs_f64() * 1e3;
            assert!((ms..ms * 1.26).contains(&found), "{quantile}: {found} ms");
        }
    }

    #[test]
    fn every_time_has_a_bucket_that_ends_after_it() {
        for micros in (0..200_000).step_by(7) {
            let time = Duration::from_micros(micros);
            assert!(upper_bound(bucket_of(time)) > time);
        }
        assert_eq!(bucket_of(Duration::from_secs(1 << 40)), BUCKETS - 1);
    }

    #[test]
    fn old_samples_fade() {
        let latency = Latency::default();
        (0..4_000).for_each(|_| latency.record(Duration::from_secs(1)));
        (0..40_000).for_each(|_| latency.record(Duration::from_millis(1)));
        assert!(latency.quantile(0.95).unwrap() < Duration::from_millis(2));
    }

    #[test]
    fn a_peer_that_gets_slow_shows_soon() {
        let latency = Latency::default();
        assert_eq!(latency.p95(), None);
        (0..10_000).for_each(|_| latency.record(Duration::from_millis(1)));
        assert!(latency.p95().unwrap() < Duration::from_millis(2));
        (0..64).for_each(|_| latency.record(Duration::from_millis(80)));
        assert!(latency.p95().unwrap() > Duration::from_millis(79));
    }
}
