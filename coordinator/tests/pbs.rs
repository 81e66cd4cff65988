//! The staleness model agrees with the published table of PBS (VLDB 2012), and the machines with the model, trial by
//! trial.

#[path = "../examples/pbs/distributions.rs"]
mod distributions;
#[path = "../examples/pbs/machines.rs"]
mod machines;
#[path = "../examples/pbs/published.rs"]
mod published;

use distributions::{FITS, N, Random};
use machines::{Cluster, Hedging, Question};
use published::{CONSISTENT_AT_ONCE, DISK_AFTER_10_MS, P, TABLE, TRIALS};
use rondo_coordinator::staleness::{Delays, Hears, Trials, fresh_from_ms};

#[test]
fn the_model_agrees_with_the_published_table() {
    for (index, fit) in FITS.iter().enumerate() {
        let mut random = Random(7);
        let trials = Trials::draw(N, 4 * TRIALS, |replicas| {
            fit.draw(&mut random, replicas);
        });
        for row in &TABLE {
            let what = format!("{}, R={}, W={}", fit.name, row.r, row.w);
            let [read, write, window] = row.fits[index];
            let reads = trials.read_latency(row.r, Hears::Fastest).quantile(P);
            let writes = trials.write_latency(row.w).quantile(P);
            let after = trials.staleness(row.r, row.w, Hears::Fastest).consistent_after_ms(P);
            assert!(published::latency_agrees(reads, read), "{what}: reads take {reads} ms, not {read}");
            assert!(published::latency_agrees(writes, write), "{what}: writes take {writes} ms, not {write}");
            assert!(published::window_agrees(row, after, window), "{what}: consistent after {after} ms, not {window}");
        }
        let staleness = trials.staleness(1, 1, Hears::Fastest);
        let (found, published) = (staleness.p_consistent(0.0), CONSISTENT_AT_ONCE[index]);
        assert!(published::probability_agrees(found, published), "{}: {found}, not {published}", fit.name);
        if fit.name == "LNKD-DISK" {
            assert!(published::probability_agrees(staleness.p_consistent(10.0), DISK_AFTER_10_MS));
        }
    }
}

/// A read just before the model's time misses the write, one just after sees it: digests, fetches and merges change
/// nothing of that.
#[test]
fn the_machines_agree_with_the_model_in_every_trial() {
    const MARGIN_MS: f64 = 1e-4;
    let cluster = Cluster::new();
    let (mut stale, mut fresh) = (0, 0);
    for fit in &FITS {
        let mut random = Random(11);
        for trial in 0..150 {
            let mut delays = [Delays::default(); N];
            let writer = fit.draw(&mut random, &mut delays);
            for (r, w) in (1..=N).flat_map(|r| (1..=N).map(move |w| (r, w))) {
                let from = fresh_from_ms(&delays, r, w, Hears::Nearest);
                let sees = |age_ms| {
                    let hedging = Hedging::Never;
                    cluster.sees(Question { delays: &delays, writer, r, w, age_ms, hedging })
                };
                let what = || format!("{}, trial {trial}, R={r}, W={w}, from {from} ms", fit.name);
                assert!(sees(from.max(0.0) + MARGIN_MS), "{}", what());
                fresh += 1;
                if from > MARGIN_MS {
                    assert!(!sees(from - MARGIN_MS), "{}", what());
                    stale += 1;
                }
            }
        }
    }
    assert!(stale > 300 && fresh > stale, "{stale} trials could be stale, {fresh} in all");
}

/// What the model leaves out only makes reads fresher: here the owner that is asked is slow and has nothing, and the hedge
/// asks the one that has the write.
#[test]
fn a_hedge_can_find_what_the_model_misses() {
    let late = Delays { write_ms: 1_000.0, ack_ms: 1.0, read_ms: 1.0, answer_ms: 1.0 };
    let slow = Delays { read_ms: 200.0, answer_ms: 200.0, ..late };
    let delays = [late, slow, Delays { write_ms: 10.0, ack_ms: 10.0, ..late }];
    let cluster = Cluster::new();
    let sees = |hedging| cluster.sees(Question { delays: &delays, writer: 2, r: 2, w: 1, age_ms: 0.0, hedging });
    assert!(!sees(Hedging::Never) && sees(Hedging::Always));
}
