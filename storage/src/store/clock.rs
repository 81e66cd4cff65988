//! Counters for dots: a hybrid of the wall clock and a plain count (after Kulkarni et al., "Logical Physical Clocks",
//! 2014).

use std::sync::atomic::{AtomicU64, Ordering};

/// No wall clock is believed beyond the year 2255, so that none can use up the counters.
const WALL_US_MAX: u64 = 1 << 53;

/// Strictly rising for the whole instance, hence for each key; near the wall clock in µs where that behaves. A clock
/// set back makes it count on by ones; one set ahead is followed, since nothing but age limits takes it for a time.
#[derive(Debug)]
pub(super) struct DotClock {
    last: AtomicU64,
}

impl DotClock {
    /// Goes on above `last`.
    pub(super) fn new(last: u64) -> Self {
        Self { last: AtomicU64::new(last) }
    }

    /// A counter above every one before and above `above`. `None` where there is none left: somebody else's counters
    /// are absurd.
    pub(super) fn next(&self, above: u64, wall_us: u64) -> Option<u64> {
        let floor = above.checked_add(1)?.max(wall_us.min(WALL_US_MAX));
        let next = |last: u64| last.checked_add(1).map(|next| next.max(floor));
        let before = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        next(before)
    }

    /// The highest counter given out.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_wall_and_never_goes_back() {
        let clock = DotClock::new(0);
        assert_eq!(clock.next(0, 1_000), Some(1_000));
        assert_eq!(clock.next(0, 1_000), Some(1_001));
        assert_eq!(clock.next(0, 5), Some(1_002), "the wall clock was set back");
        assert_eq!(clock.next(5_000, 1_100), Some(5_001), "the key has seen more");
        assert_eq!(clock.next(0, 1_200), Some(5_002));
        assert_eq!(DotClock::new(clock.last()).next(0, 7), Some(5_003), "a start after a clean end");
    }

    #[test]
    fn absurd_clocks_do_not_use_it_up() {
        let clock = DotClock::new(0);
        assert_eq!(clock.next(0, u64::MAX), Some(WALL_US_MAX));
        assert_eq!(clock.next(u64::MAX, 1), None);
        assert_eq!(clock.next(0, 1), Some(WALL_US_MAX + 1));
    }
}
