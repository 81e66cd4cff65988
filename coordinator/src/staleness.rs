//! How stale the reads of partial quorums are: the WARS model of "Probabilistically Bounded Staleness" (Bailis,
//! Venkataraman, Franklin, Hellerstein and Stoica, VLDB 2012).
//!
//! A write is at a replica after W, and its acknowledgement is back after A more; a read is at the replica after R, and
//! its answer is back after S. The write is acknowledged with the w-th smallest W + A. A read that begins t after that
//! is fresh if one of the r replicas it hears had the write when it looked: acknowledgement + t + R ≥ W. So every trial
//! has one time from which on a read is fresh, and the distribution of that time over the trials is the answer.
//!
//! Pure: where the delays come from, and the randomness in them, is the caller's.

mod sorted;

use smallvec::SmallVec;

pub use sorted::Sorted;

/// The four one-way delays of one replica in one trial, in milliseconds, none negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Delays {
    /// W: until the write can be read at the replica.
    pub write_ms: f64,
    /// A: from then until the coordinator has the acknowledgement.
    pub ack_ms: f64,
    /// R: until the read looks at the replica.
    pub read_ms: f64,
    /// S: from then until the coordinator has the answer.
    pub answer_ms: f64,
}

/// Which replicas a read hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hears {
    /// All are asked, and the r that answer first count: the model of the paper.
    Fastest,
    /// r are asked, those with the least index: what [`Read`](crate::Read) does, with its own replica as the first.
    Nearest,
}

/// Delays drawn many times, from which every combination of r and w is judged.
#[derive(Clone, Debug)]
pub struct Trials {
    n: usize,
    delays: Vec<Delays>,
}

impl Trials {
    /// `draw` fills in the delays of the `n` replicas (at least 1) once for every trial, in the order in which the
    /// reader would ask them.
    pub fn draw(n: usize, count: usize, mut draw: impl FnMut(&mut [Delays])) -> Self {
        let mut delays = vec![Delays::default(); n * count];
        delays.chunks_exact_mut(n).for_each(&mut draw);
        Self { n, delays }
    }

    /// From when on a read with r sees a write with w. Both are 1 to n.
    pub fn staleness(&self, r: usize, w: usize, hears: Hears) -> Staleness {
        Staleness(self.each(|trial| fresh_from_ms(trial, r, w, hears)))
    }

    /// How long a read with r takes, ms.
    pub fn read_latency(&self, r: usize, hears: Hears) -> Sorted {
        self.each(|trial| heard(trial, r, hears).iter().map(Delays::read_trip_ms).fold(0.0, f64::max))
    }

    /// How long a write with w takes, ms.
    pub fn write_latency(&self, w: usize) -> Sorted {
        self.each(|trial| acknowledged_ms(trial, w))
    }

    fn each(&self, judge: impl FnMut(&[Delays]) -> f64) -> Sorted {
        Sorted::new(self.delays.chunks_exact(self.n).map(judge).collect())
    }
}

impl Delays {
    fn write_trip_ms(&self) -> f64 {
        self.write_ms + self.ack_ms
    }

    fn read_trip_ms(&self) -> f64 {
        self.read_ms + self.answer_ms
    }
}

/// How long after its acknowledgement a write is seen.
#[derive(Clone, Debug)]
pub struct Staleness(Sorted);

impl Staleness {
    /// The probability that a read which begins so long after the acknowledgement sees the write.
    pub fn p_consistent(&self, t_ms: f64) -> f64 {
        self.0.share_up_to(t_ms)
    }

    /// The least age at which a read sees the write with this probability; 0 if it does at once.
    pub fn consistent_after_ms(&self, p: f64) -> f64 {
        self.0.quantile(p).max(0.0)
    }
}

/// How long after the acknowledgement a read of this trial has to begin to be fresh, ms. Negative: it always is.
///
/// With r + w > n one replica that is heard has acknowledged. Its W is no more than the time of the acknowledgement,
/// in floating point too, since a sum is not rounded below its larger part: the result is never positive.
pub fn fresh_from_ms(trial: &[Delays], r: usize, w: usize, hears: Hears) -> f64 {
    let acknowledged = acknowledged_ms(trial, w);
    let from = |delays: &Delays| (delays.write_ms - acknowledged) - delays.read_ms;
    heard(trial, r, hears).iter().map(from).fold(f64::INFINITY, f64::min)
}

fn acknowledged_ms(trial: &[Delays], w: usize) -> f64 {
    let mut trips: SmallVec<[f64; 7]> = trial.iter().map(Delays::write_trip_ms).collect();
    trips.sort_unstable_by(f64::total_cmp);
    trips[w - 1]
}

fn heard(trial: &[Delays], r: usize, hears: Hears) -> SmallVec<[Delays; 7]> {
    let mut heard = SmallVec::from_slice(trial);
    if hears == Hears::Fastest {
        heard.sort_unstable_by(|one: &Delays, other| one.read_trip_ms().total_cmp(&other.read_trip_ms()));
    }
    heard.truncate(r);
    heard
}

/// The probability that a read misses each of the last k writes, where no write spreads beyond its w replicas and each
/// picks them anew: (C(n−w, r) / C(n, r))^k (k-staleness in the paper). An upper bound for every real system.
pub fn p_misses_last(n: u32, r: u32, w: u32, k: u32) -> f64 {
    // C(n−w, r) / C(n, r), factor by factor.
    let factor = |i: u32| f64::from(n.saturating_sub(w + i)) / f64::from(n - i);
    (0..r).map(factor).product::<f64>().powi(k as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delays([write_ms, ack_ms, read_ms, answer_ms]: [f64; 4]) -> Delays {
        Delays { write_ms, ack_ms, read_ms, answer_ms }
    }

    /// Acknowledged at 3 with w = 1 and at 6 with w = 2. The second replica answers reads first.
    fn trial() -> [Delays; 3] {
        [delays([5.0, 1.0, 1.0, 1.0]), delays([9.0, 3.0, 0.5, 0.5]), delays([2.0, 1.0, 4.0, 1.0])]
    }

    #[test]
    fn a_trial_by_hand() {
        let fresh = |r, w, hears| fresh_from_ms(&trial(), r, w, hears);
        assert_eq!(fresh(1, 1, Hears::Nearest), 5.0 - 3.0 - 1.0);
        assert_eq!(fresh(1, 1, Hears::Fastest), 9.0 - 3.0 - 0.5);
        assert_eq!(fresh(2, 1, Hears::Fastest), 5.0 - 3.0 - 1.0, "the fresher of the two counts");
        assert_eq!(fresh(1, 2, Hears::Nearest), 5.0 - 6.0 - 1.0, "at once");
        assert_eq!(fresh(3, 1, Hears::Nearest), 2.0 - 3.0 - 4.0);
    }

    #[test]
    fn latencies_are_of_those_that_are_waited_for() {
        let trials = Trials::draw(3, 1, |replicas| replicas.copy_from_slice(&trial()));
        assert_eq!([1, 2, 3].map(|w| trials.write_latency(w).quantile(1.0)), [3.0, 6.0, 12.0]);
        assert_eq!([1, 2, 3].map(|r| trials.read_latency(r, Hears::Fastest).quantile(1.0)), [1.0, 2.0, 5.0]);
        assert_eq!([1, 2, 3].map(|r| trials.read_latency(r, Hears::Nearest).quantile(1.0)), [2.0, 2.0, 5.0]);
    }

    #[test]
    fn half_of_the_reads_are_fresh_after_the_median() {
        let mut age = 0.0;
        let trials = Trials::draw(1, 100, |replicas| {
            age += 1.0;
            replicas[0] = Delays { write_ms: age, ..Delays::default() };
        });
        // With one replica the acknowledgement is the write.
        let staleness = trials.staleness(1, 1, Hears::Nearest);
        assert_eq!((staleness.p_consistent(0.0), staleness.consistent_after_ms(0.999)), (1.0, 0.0));
        let mut age = 0.0;
        let trials = Trials::draw(2, 100, |replicas| {
            age += 1.0;
            replicas.copy_from_slice(&[Delays { write_ms: age, ..Delays::default() }, Delays::default()]);
        });
        let staleness = trials.staleness(1, 1, Hears::Nearest);
        assert_eq!(staleness.p_consistent(50.0), 0.5);
        assert_eq!((staleness.consistent_after_ms(0.5), staleness.consistent_after_ms(0.999)), (50.0, 100.0));
    }

    /// Every set of w replicas beside every set of r.
    fn misses_by_count(n: u32, r: u32, w: u32) -> f64 {
        let sets = |size: u32| (0_u32..1 << n).filter(move |set| set.count_ones() == size);
        let pairs = || sets(w).flat_map(|written| sets(r).map(move |read| written & read == 0));
        pairs().filter(|&missed| missed).count() as f64 / pairs().count() as f64
    }

    #[test]
    fn the_closed_form_counts_sets() {
        for n in 1..=7 {
            for (r, w) in (1..=n).flat_map(|r| (1..=n).map(move |w| (r, w))) {
                let (counted, closed) = (misses_by_count(n, r, w), p_misses_last(n, r, w, 1));
                assert!((counted - closed).abs() < 1e-12, "n {n}, r {r}, w {w}: {counted}, {closed}");
                assert!((p_misses_last(n, r, w, 3) - counted.powi(3)).abs() < 1e-12);
            }
        }
    }

    proptest! {
        /// R + W > N is read-your-writes whatever the delays are.
        #[test]
        fn overlapping_quorums_are_fresh_at_once(
            drawn in prop::collection::vec(prop::array::uniform4(0.0_f64..1e3), 1..=7),
            r in 1_usize..=7, w in 1_usize..=7, fastest: bool,
        ) {
            let trial: Vec<_> = drawn.into_iter().map(delays).collect();
            let n = trial.len();
            let (r, w) = (r.min(n), w.min(n));
            let hears = if fastest { Hears::Fastest } else { Hears::Nearest };
            prop_assert!(r + w <= n || fresh_from_ms(&trial, r, w, hears) <= 0.0);
        }

        /// More replicas heard or waited for never make a read staler.
        #[test]
        fn more_is_fresher(
            drawn in prop::collection::vec(prop::array::uniform4(0.0_f64..1e3), 2..=7), hears_fastest: bool,
        ) {
            let trial: Vec<_> = drawn.into_iter().map(delays).collect();
            let hears = if hears_fastest { Hears::Fastest } else { Hears::Nearest };
            for q in 2..=trial.len() {
                let fresh = |r, w| fresh_from_ms(&trial, r, w, hears);
                prop_assert!(fresh(q, 1) <= fresh(q - 1, 1) && fresh(1, q) <= fresh(1, q - 1));
            }
        }
    }
}
