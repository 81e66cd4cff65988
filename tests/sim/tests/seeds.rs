//! Every invariant in every run: the seeds that once found something, then some hundreds more (`make sim-long` has
//! thousands, `make sim SEED=n` shows one).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rondo_sim::kept::KEPT;
use rondo_sim::{Mutant, run};

/// Seeds of a usual test run, each a minute of virtual time; `RONDO_SIM_SEEDS` has another number.
const SEEDS: u64 = 300;

/// What has to happen often in so many runs, or they prove nothing.
const HAPPENS: [&str; 25] = [
    "clock jumps",
    "crashes",
    "damaged rows",
    "exchanges that found differences",
    "failed commits",
    "forwards",
    "hedges",
    "hints kept",
    "hints sent",
    "keys mended by exchanges",
    "listings",
    "lost disks",
    "members called down",
    "old disks",
    "partitions",
    "partitions refilled",
    "pauses",
    "power losses",
    "reads failed",
    "reads with a context",
    "repairs",
    "siblings shown",
    "sloppy acknowledgements",
    "writes failed",
    "writes that are nowhere",
];

#[test]
fn every_invariant_holds_in_every_run() {
    let seeds: u64 = std::env::var("RONDO_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let all: Vec<u64> = KEPT.iter().map(|(seed, _)| *seed).chain(0..seeds).collect();
    let (next, happened, failed) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    let work = || {
        while let Some(&seed) = all.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            let report = run(seed, Mutant::None, false);
            rondo_sim::run::add(&mut happened.lock(), &report);
            if !report.violations.is_empty() {
                failed.lock().push(report.complaint());
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let (failed, happened) = (failed.into_inner(), happened.into_inner());
    assert!(failed.is_empty(), "{} of {} runs failed:\n{}", failed.len(), all.len(), failed.join("\n"));
    let rare: Vec<_> = HAPPENS.iter().filter(|what| happened.get(*what).is_none_or(|&times| times < 20)).collect();
    assert!(rare.is_empty(), "a vacuous set of runs: hardly any {rare:?} in {happened:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 7, 42] {
        let (one, other) = (run(seed, Mutant::None, false), run(seed, Mutant::None, false));
        assert_eq!((one.hash, one.events), (other.hash, other.events), "seed {seed}");
        assert!(one.events > 500, "{} events", one.events);
    }
    assert_ne!(run(1, Mutant::None, false).hash, run(2, Mutant::None, false).hash);
}
