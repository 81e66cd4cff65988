//! How old may a request be that this node has only just read?
//!
//! A node that was stopped (SIGSTOP, a suspended machine, a starved core) wakes with requests in its socket buffers
//! that were sent before. A forwarded write begun then could replace a write that was acknowledged in the meantime, so
//! it must be refused as too old; its sender's clock is of no use here. The worker's own pulse is: a gap in it is how
//! long the worker may have read nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rondo_coordinator::Now;

use crate::server::time::Clock;

/// How often a worker beats.
const BEAT: Duration = Duration::from_millis(20);
/// A gap longer than this is a stall; below it lies the scheduler's ordinary jitter.
const STALL: Duration = Duration::from_millis(100);
/// How long after a stall what is read may still have been sent before its end, at most: what came in during a short
/// one is worked off in as short a time, and a node that is merely starved must not turn everything away.
const AFTERMATH_MAX: Duration = Duration::from_millis(500);

/// The pulse of one worker.
#[derive(Debug)]
pub struct Pulse {
    clock: Clock,
    /// Time of the last beat, µs.
    beat_us: AtomicU64,
    /// When the last stall began and ended, µs.
    stall_began_us: AtomicU64,
    stall_ended_us: AtomicU64,
}

impl Pulse {
    /// Begins to beat on the current runtime.
    pub fn start(clock: Clock) -> Arc<Self> {
        let pulse = Arc::new(Self::new(clock));
        let beating = pulse.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                beating.beat(beating.clock.now());
            }
        });
        pulse
    }

    fn new(clock: Clock) -> Self {
        let beat_us = AtomicU64::new(micros(clock.now()));
        Self { clock, beat_us, stall_began_us: AtomicU64::new(0), stall_ended_us: AtomicU64::new(0) }
    }

    fn beat(&self, now: Now) {
        let now = micros(now);
        let last = self.beat_us.swap(now, Ordering::Relaxed);
        if now.saturating_sub(last) > micros(STALL) {
            self.stall_began_us.store(last, Ordering::Relaxed);
            self.stall_ended_us.store(now, Ordering::Relaxed);
        }
    }

    /// The longest a request that is read now may have waited to be read, as far as this worker can tell.
    pub fn age(&self) -> Duration {
        self.age_at(self.clock.now())
    }

    fn age_at(&self, now: Now) -> Duration {
        let now = micros(now);
        let silent = now.saturating_sub(self.beat_us.load(Ordering::Relaxed));
        let (began, ended) = (self.stall_began_us.load(Ordering::Relaxed), self.stall_ended_us.load(Ordering::Relaxed));
        let aftermath = ended.saturating_sub(began).min(micros(AFTERMATH_MAX));
        let since_stall = if now.saturating_sub(ended) < aftermath { now.saturating_sub(began) } else { 0 };
        let age = silent.max(since_stall);
        if age > micros(STALL) { Duration::from_micros(age) } else { Duration::ZERO }
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_gap_in_the_pulse_ages_what_is_read_during_and_just_after_it() {
        let pulse = Pulse::new(Clock::start());
        let start = Duration::from_micros(pulse.beat_us.load(Ordering::Relaxed));
        pulse.beat(start + ms(20));
        assert_eq!(pulse.age_at(start + ms(60)), Duration::ZERO, "jitter");
        assert_eq!(pulse.age_at(start + ms(3_020)), ms(3_000), "before the beat that ends the stall");
        pulse.beat(start + ms(3_020));
        pulse.beat(start + ms(3_040));
        assert_eq!(pulse.age_at(start + ms(3_040)), ms(3_020), "what it finds in its buffers afterwards");
        pulse.beat(start + ms(3_080));
        pulse.beat(start + ms(3_160));
        (0..10).for_each(|i| pulse.beat(start + ms(3_200 + 60 * i)));
        assert_eq!(pulse.age_at(start + ms(3_750)), Duration::ZERO, "long enough after it");
    }

    #[test]
    fn a_short_gap_is_soon_forgotten() {
        let pulse = Pulse::new(Clock::start());
        let start = Duration::from_micros(pulse.beat_us.load(Ordering::Relaxed));
        pulse.beat(start + ms(150));
        assert_eq!(pulse.age_at(start + ms(200)), ms(200));
        (0..4).for_each(|i| pulse.beat(start + ms(210 + 40 * i)));
        assert_eq!(pulse.age_at(start + ms(330)), Duration::ZERO);
    }
}
