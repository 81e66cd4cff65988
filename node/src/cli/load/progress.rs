//! How far a load is: a bar on a terminal, otherwise a line every few seconds.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use super::lines::Totals;
use crate::cli::output::{bytes, say};

/// Between two lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(5);
const TEMPLATE: &str = "{bar:30} {pos}/{len} records, {msg}, {per_sec}, ETA {eta}";

/// Progress of one load, on stderr.
pub(super) struct Progress {
    expected: Totals,
    started: Instant,
    bar: ProgressBar,
    so_far: Mutex<SoFar>,
}

struct SoFar {
    totals: Totals,
    said: Instant,
}

impl Progress {
    pub(super) fn new(expected: Totals) -> Self {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is valid: a test draws with it");
        let bar = ProgressBar::with_draw_target(Some(expected.records), target).with_style(style);
        let started = Instant::now();
        Self { expected, started, bar, so_far: Mutex::new(SoFar { totals: Totals::default(), said: started }) }
    }

    /// One more record was acknowledged.
    pub(super) fn add(&self, value_bytes: u64) {
        let mut so_far = self.so_far.lock();
        so_far.totals.records += 1;
        so_far.totals.bytes += value_bytes;
        self.bar.set_message(bytes(so_far.totals.bytes));
        self.bar.inc(1);
        if self.bar.is_hidden() && so_far.said.elapsed() >= INTERVAL {
            so_far.said = Instant::now();
            say(&line(so_far.totals, self.expected, self.started.elapsed()));
        }
    }

    /// What was acknowledged so far.
    pub(super) fn totals(&self) -> Totals {
        self.so_far.lock().totals
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn line(done: Totals, expected: Totals, elapsed: Duration) -> String {
    let rate = done.records as f64 / elapsed.as_secs_f64().max(1e-6);
    let left = (expected.records - done.records) as f64 / rate.max(1e-6);
    let (records, all) = (done.records, expected.records);
    format!("{records}/{all} records, {}, {rate:.0}/s, ETA {left:.0} s", bytes(done.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_items_bytes_rate_and_the_time_left() {
        let (done, expected) = (Totals { records: 500, bytes: 2 << 20 }, Totals { records: 2_000, bytes: 8 << 20 });
        let text = line(done, expected, Duration::from_secs(5));
        assert_eq!(text, "500/2000 records, 2.00 MiB, 100/s, ETA 15 s");
    }

    #[test]
    fn records_add_up() {
        let progress = Progress::new(Totals { records: 2, bytes: 9 });
        progress.add(4);
        progress.add(5);
        assert_eq!(progress.totals(), Totals { records: 2, bytes: 9 });
        progress.finish();
    }
}
