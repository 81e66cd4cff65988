//! Open loop: requests fall due at times that were fixed in advance, whether or not the nodes keep up.
//!
//! A closed loop waits for a slow answer before it asks again, and so leaves out just those requests that would have
//! been slow as well (Tene, "How NOT to Measure Latency": coordinated omission). Here the n-th request is due n/rate
//! seconds after the beginning; it goes over whichever connection is free, and its latency counts from when it was due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Between two looks at the requests that are due and not begun, once no more fall due.
const LOOK: Duration = Duration::from_millis(1);

/// When each request is due.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: f64,
    count: u64,
    /// One permit for each request that fell due and is not begun.
    due: Semaphore,
    begun: AtomicU64,
}

impl Pace {
    pub(crate) fn new(per_second: u32, count: u64) -> Arc<Self> {
        Arc::new(Self { per_second: per_second.into(), count, due: Semaphore::new(0), begun: AtomicU64::new(0) })
    }

    /// From the beginning to when a request is due.
    pub(crate) fn offset(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.per_second)
    }

    /// Waits for the next request to fall due, which is then begun: its number, or `None` when there is none any more.
    pub(crate) async fn next(&self) -> Option<u64> {
        self.due.acquire().await.ok()?.forget();
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        (number < self.count).then_some(number)
    }

    /// Lets them fall due, on a thread of its own: a runtime's timers know milliseconds, and a thread sleeps to some
    /// 60 µs. Those that nobody has begun `patience` after the last fell due are given up; says how many.
    pub(crate) fn keep(&self, begin: Instant, patience: Duration) -> u64 {
        let mut number = 0;
        while number < self.count {
            let now = begin.elapsed();
            let before = number;
            while number < self.count && self.offset(number) <= now {
                number += 1;
            }
            self.due.add_permits((number - before) as usize);
            if number < self.count {
                std::thread::sleep(self.offset(number).saturating_sub(begin.elapsed()));
            }
        }
        let end = Instant::now() + patience;
        // Not by the permits that are left: one may be on its way to a connection, which a closed semaphore would refuse.
        while self.begun.load(Ordering::Relaxed) < self.count && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
        self.due.close();
        // From here on none is begun, so that each is either begun or counted here.
        self.count.saturating_sub(self.begun.swap(self.count, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_fall_due_at_their_times_and_not_before() {
        let (pace, begin) = (Pace::new(1_000, 20), Instant::now());
        let keeping = std::thread::spawn({
            let pace = pace.clone();
            move || pace.keep(begin, Duration::from_secs(20))
        });
        let mut begun = 0;
        while let Some(number) = pace.next().await {
            assert_eq!(number, begun);
            assert!(begin.elapsed() >= pace.offset(begun), "request {begun} was begun early");
            begun += 1;
        }
        assert_eq!((begun, keeping.join().unwrap()), (20, 0));
    }

    #[tokio::test]
    async fn what_nobody_begins_is_counted() {
        let pace = Pace::new(1_000_000, 10);
        assert_eq!(pace.keep(Instant::now(), Duration::ZERO), 10);
        assert_eq!(pace.next().await, None, "it is over");
        assert_eq!(pace.offset(500_000), Duration::from_millis(500));
    }
}
