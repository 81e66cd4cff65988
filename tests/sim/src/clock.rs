//! The two clocks of a node: one that only goes forward, from an origin of its process's own, and one on the wall that
//! is off by as much as the seed says and may be set at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rondo_storage::store::WallClock;

/// Virtual time zero on the wall, µs since 1970: a day in 2025.
const EPOCH_US: u64 = 1_750_000_000_000_000;

/// The wall clock of one node.
#[derive(Debug, Default)]
pub struct Wall {
    virtual_us: AtomicU64,
    offset_us: AtomicI64,
}

impl Wall {
    /// Off by so many µs.
    #[must_use]
    pub fn off_by(offset_us: i64) -> Arc<Self> {
        Arc::new(Self { virtual_us: AtomicU64::new(0), offset_us: AtomicI64::new(offset_us) })
    }

    /// It is that time in the simulated world.
    pub fn advance(&self, now: Duration) {
        self.virtual_us.store(now.as_micros() as u64, Ordering::Relaxed);
    }

    /// Somebody sets it, by so many µs forward or back.
    pub fn jump(&self, by_us: i64) {
        self.offset_us.fetch_add(by_us, Ordering::Relaxed);
    }
}

impl WallClock for Wall {
    fn now_us(&self) -> u64 {
        let now = EPOCH_US + self.virtual_us.load(Ordering::Relaxed);
        now.saturating_add_signed(self.offset_us.load(Ordering::Relaxed))
    }
}
