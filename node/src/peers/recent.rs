//! How long things took in the last minutes: what the estimate of staleness draws from.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use rondo_coordinator::Now;

/// Bins per doubling: a time is known to within an eighth of its value.
const PER_DOUBLING: usize = 8;
/// Up to 16.8 s; what took longer counts as that.
const BINS: usize = 22 * PER_DOUBLING;
/// Times are kept for one period to two.
const PERIOD: Duration = Duration::from_secs(120);

/// Lock-free. Recording costs one addition to a counter that is seldom shared.
#[derive(Debug)]
pub struct Recent {
    /// This period and the one before, in turns.
    periods: [Period; 2],
}

#[derive(Debug)]
struct Period {
    /// Plus one; 0: never used.
    number: AtomicU32,
    bins: [AtomicU32; BINS],
}

impl Default for Recent {
    fn default() -> Self {
        let period = || Period { number: AtomicU32::new(0), bins: [const { AtomicU32::new(0) }; BINS] };
        Self { periods: [period(), period()] }
    }
}

impl Recent {
    /// So many operations took that long each, the last of them until now.
    pub fn record(&self, now: Now, took: Duration, operations: u32) {
        let number = number_of(now);
        let period = &self.periods[number as usize % 2];
        if period.number.load(Relaxed) != number + 1 {
            period.begin(number);
        }
        period.bins[bin_of(took)].fetch_add(operations, Relaxed);
    }

    /// How far back the times of now go.
    pub fn window(now: Now) -> Duration {
        now - PERIOD * number_of(now).saturating_sub(1)
    }
}

impl Period {
    /// One of the threads that come first clears it. What another records meanwhile may be lost: they are samples.
    fn begin(&self, number: u32) {
        let held = self.number.load(Relaxed);
        let first = self.number.compare_exchange(held, number + 1, Relaxed, Relaxed).is_ok();
        if held != number + 1 && first {
            self.bins.iter().for_each(|bin| bin.store(0, Relaxed));
        }
    }
}

fn number_of(now: Now) -> u32 {
    (now.as_secs() / PERIOD.as_secs()) as u32
}

/// Below 8 µs one bin per µs; from there on eight per doubling, equally wide.
fn bin_of(took: Duration) -> usize {
    let micros = took.as_micros().min(u128::from(u32::MAX)) as usize;
    let doubling = micros.checked_ilog2().unwrap_or(0).saturating_sub(3) as usize;
    ((micros >> doubling) + doubling * PER_DOUBLING).min(BINS - 1)
}

/// Where a bin begins, µs.
fn begin_us(bin: usize) -> f64 {
    let doubling = (bin / PER_DOUBLING).saturating_sub(1);
    ((bin - doubling * PER_DOUBLING) << doubling) as f64
}

/// What one or several of them hold at one moment.
#[derive(Clone, Debug)]
pub struct Times {
    /// Operations in this bin and those before it.
    up_to: [u64; BINS],
}

impl Times {
    /// Of nothing.
    pub fn none() -> Self {
        Self { up_to: [0; BINS] }
    }

    /// Of all of these together.
    pub fn of<'a>(recents: impl IntoIterator<Item = &'a Recent>, now: Now) -> Self {
        let current = number_of(now) + 1;
        let mut up_to = Self::none().up_to;
        let is_recent = |period: &&Period| (current - 1..=current).contains(&period.number.load(Relaxed));
        for period in recents.into_iter().flat_map(|recent| &recent.periods).filter(is_recent) {
            up_to.iter_mut().zip(&period.bins).for_each(|(count, bin)| *count += u64::from(bin.load(Relaxed)));
        }
        (1..BINS).for_each(|bin| up_to[bin] += up_to[bin - 1]);
        Self { up_to }
    }

    /// How many operations.
    pub fn count(&self) -> u64 {
        self.up_to[BINS - 1]
    }

    /// The time that this share (0 to 1) of them did not exceed, ms; 0 if there are none.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let rank = share * self.count() as f64;
        let bin = self.up_to.partition_point(|&count| (count as f64) < rank).min(BINS - 1);
        let before = bin.checked_sub(1).map_or(0, |before| self.up_to[before]);
        let inside = (self.up_to[bin] - before) as f64;
        if inside == 0.0 {
            return 0.0;
        }
        let (begin, end) = (begin_us(bin), begin_us(bin + 1));
        (begin + (end - begin) * (rank - before as f64).max(0.0) / inside) / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1e3)
    }

    #[test]
    fn every_time_has_its_bin() {
        for micros in (0..100_000).chain((100_000..16_700_000).step_by(997)) {
            let bin = bin_of(Duration::from_micros(micros));
            assert!((begin_us(bin)..begin_us(bin + 1)).contains(&(micros as f64)), "{micros} µs in {bin}");
            assert!(begin_us(bin + 1) - begin_us(bin) <= (micros as f64 / 8.0).max(1.0));
        }
        assert_eq!(bin_of(Duration::from_secs(1 << 40)), BINS - 1);
    }

    /// The last bin of an even distribution ends before its bound: there, an eighth is all that can be said.
    #[test]
    fn quantiles_are_right_within_a_hundredth_and_the_last_within_an_eighth() {
        let recent = Recent::default();
        (1..=10_000).for_each(|i| recent.record(Now::ZERO, ms(f64::from(i) / 100.0), 3));
        let times = Times::of([&recent], Now::ZERO);
        assert_eq!(times.count(), 30_000);
        for (share, within) in [(0.01, 0.01), (0.1, 0.01), (0.5, 0.01), (0.9, 0.01), (0.999, 0.125)] {
            let (found, right) = (times.quantile_ms(share), 100.0 * share);
            assert!((found - right).abs() < within * right + 0.01, "{share}: {found} ms, not {right}");
        }
    }

    #[test]
    fn of_nothing_there_is_nothing() {
        let times = Times::none();
        assert_eq!((times.count(), times.quantile_ms(0.5)), (0, 0.0));
    }

    #[test]
    fn several_are_added_up() {
        let (one, other) = (Recent::default(), Recent::default());
        one.record(Now::ZERO, ms(1.0), 10);
        other.record(Now::ZERO, ms(8.0), 30);
        let times = Times::of([&one, &other], Now::ZERO);
        assert_eq!(times.count(), 40);
        assert!(times.quantile_ms(0.24) < 1.2 && times.quantile_ms(0.26) > 7.6);
    }

    #[test]
    fn old_times_are_forgotten_with_and_without_new_ones() {
        let recent = Recent::default();
        let count = |now| Times::of([&recent], now).count();
        recent.record(Now::ZERO, ms(900.0), 5);
        recent.record(PERIOD, ms(1.0), 7);
        assert_eq!((count(PERIOD), Recent::window(PERIOD)), (12, PERIOD));
        assert_eq!(count(PERIOD * 2), 7);
        assert_eq!(count(PERIOD * 3), 0, "without anything new");
        recent.record(PERIOD * 4, ms(1.0), 2);
        assert_eq!(count(PERIOD * 4), 2, "the first period's place was cleared");
        assert_eq!(Recent::window(PERIOD * 4 + ms(5.0)), PERIOD + ms(5.0));
    }
}
