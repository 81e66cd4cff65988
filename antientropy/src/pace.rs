//! How much of the node background work may take: less when clients have to wait longer than they used to.
//!
//! Dynamo's admission controller (section 6.5 of the paper) does the same: it watches the foreground's latency over a
//! trailing window and changes the slices of the background tasks by feedback.

use std::time::Duration;

/// Fewer requests in a window say nothing.
const REQUESTS_MIN: u64 = 20;
/// The longest pause between two batches.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The shortest that is not none.
const PAUSE_MIN: Duration = Duration::from_millis(8);
/// What is normal is the best of the recent past: it may grow by a twentieth a window.
const DRIFT: f64 = 1.05;
/// Differences below this are noise.
const SLACK: Duration = Duration::from_millis(2);

/// The machine. Told once a window, of a second or so, how the foreground's requests are distributed.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    counts: Vec<u64>,
    normal: Option<Duration>,
    pause: Duration,
}

impl Pace {
    /// Requests so far in each class of a histogram whose upper bounds are these; one class more has no bound.
    pub fn observe(&mut self, bounds: &[Duration], counts: &[u64]) {
        let window: Vec<u64> = match self.counts.len() == counts.len() {
            true => counts.iter().zip(&self.counts).map(|(now, before)| now.saturating_sub(*before)).collect(),
            false => vec![0; counts.len()],
        };
        self.counts = counts.to_vec();
        match p99(bounds, &window) {
            None => self.pause /= 2,
            Some(p99) => self.judge(p99),
        }
        if self.pause < PAUSE_MIN {
            self.pause = Duration::ZERO;
        }
    }

    /// How long to wait before the next batch.
    pub fn pause(&self) -> Duration {
        self.pause
    }

    fn judge(&mut self, p99: Duration) {
        let normal = self.normal.map_or(p99, |normal| normal.mul_f64(DRIFT).min(p99));
        self.normal = Some(normal);
        self.pause = match p99 > 2 * normal + SLACK {
            true => (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX),
            false => self.pause / 2,
        };
    }
}

/// The bound of the class that the slowest hundredth begins in.
fn p99(bounds: &[Duration], counts: &[u64]) -> Option<Duration> {
    let total: u64 = counts.iter().sum();
    if total < REQUESTS_MIN {
        return None;
    }
    let mut seen = 0;
    let class = counts.iter().position(|count| {
        seen += count;
        seen * 100 >= total * 99
    })?;
    bounds.get(class).or(bounds.last()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A hundred requests a window, all in one class.
    fn windows(pace: &mut Pace, class: usize, count: usize) {
        let bounds = [MS, 10 * MS, 100 * MS];
        for _ in 0..count {
            let mut counts = if pace.counts.is_empty() { vec![0; 4] } else { pace.counts.clone() };
            counts[class] += 100;
            pace.observe(&bounds, &counts);
        }
    }

    #[test]
    fn it_waits_longer_while_requests_take_longer_than_they_used_to() {
        let mut pace = Pace::default();
        windows(&mut pace, 0, 5);
        assert_eq!(pace.pause(), Duration::ZERO);
        windows(&mut pace, 2, 3);
        assert_eq!(pace.pause(), PAUSE_MIN * 4);
        windows(&mut pace, 2, 20);
        assert!(pace.pause() <= PAUSE_MAX && pace.pause() > 100 * MS);
        windows(&mut pace, 0, 20);
        assert_eq!(pace.pause(), Duration::ZERO);
    }

    #[test]
    fn what_lasts_becomes_normal_and_few_requests_say_nothing() {
        let mut pace = Pace::default();
        windows(&mut pace, 0, 5);
        windows(&mut pace, 2, 200);
        assert_eq!(pace.pause(), Duration::ZERO);
        let mut quiet = Pace::default();
        quiet.observe(&[MS], &[0, 0]);
        quiet.observe(&[MS], &[0, REQUESTS_MIN - 1]);
        assert_eq!(quiet.pause(), Duration::ZERO);
    }
}
