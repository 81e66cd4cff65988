//! How stale reads are here: the model of `rondo_coordinator::staleness` over this node's own measurements.
//!
//! What is measured are round trips: of merges, the other replica's commit included, and of reads. A one-way delay is
//! taken to be half a round trip of reads; what is left of a merge's is the time until the write can be read there.
//! docs/staleness.md says what else is assumed.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rondo_coordinator::Now;
use rondo_coordinator::staleness::{Delays, Hears, Staleness, Trials};
use rondo_ring::NodeId;

use crate::peers::{Lane, Network, Recent, Times};

/// Writes a replica must have taken before anything is said of a 99.9th percentile.
pub const SAMPLES_MIN: u64 = 1_000;
/// Reads below which a replica's distance counts as nothing, so that writes seem to arrive only with their
/// acknowledgement: the estimate is then on the safe side.
const READS_MIN: u64 = 100;
/// The estimate's resolution is one of so many.
const TRIALS: usize = 20_000;
/// The same measurements give the same estimate.
const SEED: u64 = 2012;
/// Ages of a write for which the probability is given, ms.
pub const AGES_MS: [f64; 10] = [0.0, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0];
/// For r and w each. More of either only makes reads fresher.
const QUORUM_MAX: usize = 2;
/// Good for so long: programs that ask often cost no more than one that does.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// An estimate, or why there is none.
#[derive(Clone, Debug)]
pub struct Report {
    /// Replicas of a key.
    pub n: usize,
    /// Writes measured of the replica of which the fewest were.
    pub samples: u64,
    /// How far back they go.
    pub window: Duration,
    /// Replicas with too few; where there are any, nothing is estimated.
    pub too_few: Vec<(NodeId, u64)>,
    /// By r, then w.
    pub estimates: Vec<Estimate>,
}

/// For one r and w.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// Replicas a read waits for.
    pub r: usize,
    /// Replicas a write waits for.
    pub w: usize,
    /// The probability that a read sees a write of each of [`AGES_MS`].
    pub p_consistent: [f64; AGES_MS.len()],
    /// Age at which 99.9 % of the reads see it, ms.
    pub t_999_ms: f64,
}

/// Where the measurements are, and the last report on them.
pub struct Estimator {
    network: Arc<Network>,
    /// The commits of this node's own store, as each worker times them.
    commits: Mutex<Vec<Arc<Recent>>>,
    last: tokio::sync::Mutex<Option<(Now, Arc<Report>)>>,
}

impl Estimator {
    /// Nothing is measured yet.
    pub fn new(network: Arc<Network>) -> Self {
        Self { network, commits: Mutex::default(), last: tokio::sync::Mutex::default() }
    }

    /// For one worker to record its commits in.
    pub fn shard(&self) -> Arc<Recent> {
        let shard = Arc::new(Recent::default());
        self.commits.lock().push(shard.clone());
        shard
    }

    /// The report of now, at most a second old; some milliseconds of work for another thread.
    pub async fn report(&self, this: NodeId, others: &[NodeId], n: usize, now: Now) -> Arc<Report> {
        let mut last = self.last.lock().await;
        if let Some((_, report)) = last.as_ref().filter(|(made, _)| now < *made + GOOD_FOR) {
            return report.clone();
        }
        let own = Times::of(self.commits.lock().iter().map(|shard| &**shard), now);
        let own = Replica { node: this, writes: own, reads: Times::none() };
        let others: Vec<_> = others.iter().map(|&node| self.replica(node, now)).collect();
        let window = Recent::window(now);
        let making = tokio::task::spawn_blocking(move || report(own, others, n, window));
        let report = Arc::new(making.await.expect("invariant: the model does not panic"));
        *last = Some((now, report.clone()));
        report
    }

    fn replica(&self, node: NodeId, now: Now) -> Replica {
        let stats = self.network.health().get(node);
        let times = |lane| stats.as_ref().map_or_else(Times::none, |stats| stats.recent(lane, now));
        Replica { node, writes: times(Lane::Write), reads: times(Lane::Read) }
    }
}

/// What was measured of one replica.
#[derive(Clone, Debug)]
struct Replica {
    node: NodeId,
    /// Until this node knew that a write it coordinated was durable there.
    writes: Times,
    /// Until it had the answer to a read; none of its own store.
    reads: Times,
}

impl Replica {
    fn has_too_few(&self) -> bool {
        self.writes.count() < SAMPLES_MIN
    }
}

fn report(own: Replica, mut others: Vec<Replica>, n: usize, window: Duration) -> Report {
    let n = n.min(1 + others.len());
    others.sort_by_key(|other| (Reverse(other.writes.count()), other.node));
    let fewest = others[..n - 1].iter().chain([&own]).map(|replica| replica.writes.count()).min();
    let samples = fewest.unwrap_or_default();
    let too_few = |replica: &&Replica| samples < SAMPLES_MIN && replica.has_too_few();
    let too_few = [&own].into_iter().chain(&others).filter(too_few).map(|r| (r.node, r.writes.count())).collect();
    others.retain(|other| !other.has_too_few());
    let estimates = if samples < SAMPLES_MIN { Vec::new() } else { estimates(&own, &others, n) };
    Report { n, samples, window, too_few, estimates }
}

fn estimates(own: &Replica, others: &[Replica], n: usize) -> Vec<Estimate> {
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut turn: Vec<&Replica> = others.iter().collect();
    let trials = Trials::draw(n, TRIALS, |replicas| draw(own, &mut turn, &mut random, replicas));
    let most = n.min(QUORUM_MAX);
    let quorums = (1..=most).flat_map(|r| (1..=most).map(move |w| (r, w)));
    quorums.map(|(r, w)| Estimate::of(r, w, &trials.staleness(r, w, Hears::Nearest))).collect()
}

impl Estimate {
    fn of(r: usize, w: usize, staleness: &Staleness) -> Self {
        let p_consistent = AGES_MS.map(|age| staleness.p_consistent(age));
        Self { r, w, p_consistent, t_999_ms: staleness.consistent_after_ms(0.999) }
    }
}

/// One write that this node coordinates, beside any others that own the key, and one read that any of the owners
/// coordinates: it looks at its own copy at once.
fn draw(own: &Replica, others: &mut [&Replica], random: &mut SmallRng, replicas: &mut [Delays]) {
    let n = replicas.len();
    for index in 0..n - 1 {
        others.swap(index, random.random_range(index..others.len()));
    }
    let reader = random.random_range(0..n);
    for (index, delays) in replicas.iter_mut().enumerate() {
        // Between two other nodes it is taken to be as far as from here.
        let read = match (index == reader, index.checked_sub(1).or(reader.checked_sub(1))) {
            (false, Some(other)) => one_way(others[other], random),
            _ => 0.0,
        };
        let (write, ack) = match index.checked_sub(1) {
            None => (own.writes.quantile_ms(random.random()), 0.0),
            Some(other) => merge_legs(others[other], random),
        };
        *delays = Delays { write_ms: write, ack_ms: ack, read_ms: read, answer_ms: read };
    }
    replicas.swap(0, reader);
}

/// Half a round trip of reads, ms.
fn one_way(replica: &Replica, random: &mut SmallRng) -> f64 {
    if replica.reads.count() < READS_MIN { 0.0 } else { replica.reads.quantile_ms(random.random()) / 2.0 }
}

/// There and back, ms. The way back is no longer than the whole.
fn merge_legs(replica: &Replica, random: &mut SmallRng) -> (f64, f64) {
    let round_trip = replica.writes.quantile_ms(random.random());
    let back = one_way(replica, random).min(round_trip);
    (round_trip - back, back)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(count: u32, ms: f64) -> Times {
        let recent = Recent::default();
        recent.record(Now::ZERO, Duration::from_secs_f64(ms / 1e3), count);
        Times::of([&recent], Now::ZERO)
    }

    fn replica(node: u128, writes: Times, reads: Times) -> Replica {
        Replica { node: NodeId(node), writes, reads }
    }

    /// This node is durable after 1 ms, the others after 3 ms and half a read of 1 ms.
    fn known(n: usize) -> Report {
        let other = |node| replica(node, times(5_000, 3.0), times(500, 1.0));
        report(replica(1, times(2_000, 1.0), Times::none()), vec![other(2), other(3)], n, Duration::from_secs(7))
    }

    #[track_caller]
    fn near(found: f64, right: f64, within: f64) {
        assert!((found - right).abs() <= within, "{found}, not {right}");
    }

    #[test]
    fn a_known_distribution_has_the_known_staleness() {
        let report = known(3);
        assert_eq!((report.n, report.samples, report.too_few.len(), report.estimates.len()), (3, 2_000, 0, 4));
        let at = |r, w, age_ms| {
            let estimate = report.estimates.iter().find(|e| (e.r, e.w) == (r, w)).unwrap();
            let age = AGES_MS.iter().position(|&age| age == age_ms).unwrap();
            (estimate.p_consistent[age], estimate.t_999_ms)
        };
        // W = 1 is acknowledged after 1 ms, when only this node has it; the others have it 1.5 ms later.
        near(at(1, 1, 0.0).0, 1.0 / 3.0, 0.02);
        near(at(1, 1, 1.0).0, 1.0 / 3.0, 0.02);
        near(at(1, 1, 2.0).0, 1.0, 0.0);
        near(at(1, 1, 0.0).1, 1.5, 0.4);
        // R = 2: all but those that one of the others coordinates and asks the third, half of two thirds; the third is
        // asked half a millisecond later.
        near(at(2, 1, 0.0).0, 2.0 / 3.0, 0.02);
        near(at(2, 1, 0.0).1, 1.0, 0.4);
        // W = 2 waits for an acknowledgement that is on its way for half a millisecond.
        near(at(1, 2, 0.0).0, 1.0, 0.02);
        assert_eq!(at(2, 2, 0.0), (1.0, 0.0));
    }

    #[test]
    fn of_two_replicas_both_may_be_waited_for() {
        let report = known(2);
        let fresh: Vec<_> = report.estimates.iter().map(|e| (e.r, e.w, e.p_consistent[0] == 1.0)).collect();
        assert_eq!(fresh, [(1, 1, false), (1, 2, true), (2, 1, true), (2, 2, true)]);
        assert_eq!(known(1).estimates.iter().map(|e| (e.r, e.w, e.t_999_ms)).collect::<Vec<_>>(), [(1, 1, 0.0)]);
    }

    #[test]
    fn a_cluster_smaller_than_n_has_as_many_replicas_as_nodes() {
        assert_eq!(known(5).n, 3);
    }

    #[test]
    fn without_measured_reads_a_write_arrives_with_its_acknowledgement() {
        let other = |node| replica(node, times(5_000, 3.0), times(5, 1.0));
        let others = vec![other(2), other(3)];
        let report = report(replica(1, times(2_000, 1.0), Times::none()), others, 3, Duration::ZERO);
        near(report.estimates[0].t_999_ms, 2.0, 0.4);
    }

    #[test]
    fn of_too_few_samples_nothing_is_made_up() {
        let (many, few) = (|node| replica(node, times(5_000, 3.0), Times::none()), times(999, 3.0));
        let quiet = replica(3, few.clone(), Times::none());
        let three = report(many(1), vec![many(2), quiet.clone()], 3, Duration::ZERO);
        assert_eq!((three.samples, three.estimates.len()), (999, 0));
        assert_eq!(three.too_few, [(NodeId(3), 999)]);
        let own = report(replica(1, few, Times::none()), vec![many(2), many(3)], 3, Duration::ZERO);
        assert_eq!((own.too_few, own.estimates.len()), (vec![(NodeId(1), 999)], 0));
        // With a fourth node there are replicas enough without the quiet one.
        let four = report(many(1), vec![quiet, many(2), many(4)], 3, Duration::ZERO);
        assert_eq!((four.samples, four.too_few.len(), four.estimates.len()), (5_000, 0, 4));
    }
}
