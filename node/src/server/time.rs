//! The only clocks of the process.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rondo_coordinator::Now;
use rondo_storage::store::WallClock;

/// Monotonic time since the process began: what the machines are told.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Begins at zero.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Now.
    pub fn now(self) -> Now {
        self.origin.elapsed()
    }

    /// The zero of [`Now`].
    pub fn origin(self) -> Instant {
        self.origin
    }

    /// For timers of the runtime.
    pub fn instant(self, at: Now) -> tokio::time::Instant {
        (self.origin + at).into()
    }
}

/// The system's wall clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now_us(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros() as u64
    }
}
