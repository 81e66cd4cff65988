//! The table of the PBS paper (VLDB 2012): 99.9th percentiles at N = 3, of 50,000 trials, and what agrees with it.

/// The paper's trials.
pub(crate) const TRIALS: usize = 50_000;
/// A read with which probability is called consistent, and the percentile of the latencies.
pub(crate) const P: f64 = 0.999;

/// Largest deviation of a latency, of its published value.
const LATENCY_TOLERANCE: f64 = 0.05;
/// Largest deviation of a window of inconsistency, of its published value.
const WINDOW_TOLERANCE: f64 = 0.20;
/// Where the published window is 0: as far as R + W > N it must be 0 exactly, elsewhere at most this, ms.
const ZERO_MS: f64 = 1.0;

/// A row of the table.
pub(crate) struct Row {
    pub(crate) r: usize,
    pub(crate) w: usize,
    /// For each fit: 99.9th percentile of read and write latency and the window of inconsistency, ms.
    pub(crate) fits: [[f64; 3]; 4],
}

/// The whole table.
pub(crate) const TABLE: [Row; 6] = [
    Row { r: 1, w: 1, fits: [[0.66, 0.66, 1.85], [0.66, 10.99, 45.5], [5.58, 10.83, 1364.0], [3.4, 55.12, 113.0]] },
    Row { r: 1, w: 2, fits: [[0.66, 1.63, 1.79], [0.65, 20.97, 43.3], [5.61, 427.0, 1352.0], [3.4, 167.6, 0.0]] },
    Row { r: 2, w: 1, fits: [[1.63, 0.65, 0.0], [1.63, 10.9, 13.6], [32.6, 10.73, 202.0], [151.3, 56.4, 30.2]] },
    Row { r: 2, w: 2, fits: [[1.62, 1.64, 0.0], [1.64, 20.96, 0.0], [33.2, 428.0, 0.0], [151.3, 167.7, 0.0]] },
    Row { r: 3, w: 1, fits: [[4.14, 0.65, 0.0], [4.12, 10.89, 0.0], [219.3, 10.8, 0.0], [153.9, 55.2, 0.0]] },
    Row { r: 1, w: 3, fits: [[0.65, 4.09, 0.0], [0.65, 112.7, 0.0], [5.63, 1871.0, 0.0], [3.44, 241.6, 0.0]] },
];

/// The probability that a read with R = W = 1 is consistent at once, for each fit.
pub(crate) const CONSISTENT_AT_ONCE: [f64; 4] = [0.974, 0.439, 0.893, 0.33];
/// The same after 10 ms with LNKD-DISK.
pub(crate) const DISK_AFTER_10_MS: f64 = 0.925;
/// Largest deviation of a probability.
const PROBABILITY_TOLERANCE: f64 = 0.01;

/// Whether a latency is as published.
pub(crate) fn latency_agrees(found: f64, published: f64) -> bool {
    (found - published).abs() <= LATENCY_TOLERANCE * published
}

/// Whether a window is as published.
pub(crate) fn window_agrees(row: &Row, found: f64, published: f64) -> bool {
    match (row.r + row.w > 3, published > 0.0) {
        (true, _) => found == 0.0 && published == 0.0,
        (false, true) => (found - published).abs() <= WINDOW_TOLERANCE * published,
        (false, false) => found <= ZERO_MS,
    }
}

/// Whether a probability is as published.
pub(crate) fn probability_agrees(found: f64, published: f64) -> bool {
    (found - published).abs() <= PROBABILITY_TOLERANCE
}
