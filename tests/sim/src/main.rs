//! `rondo-sim SEED` replays a seed with a transcript; `rondo-sim FROM..TO` runs many and says which failed.

#![allow(clippy::print_stdout, reason = "it is for people")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rondo_sim::{Mutant, Report, run};

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    let range = argument.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match (range, argument.parse()) {
        (Some((from, to)), _) => many(from, to),
        (None, Ok(seed)) => one(seed),
        (None, Err(_)) => {
            println!("rondo-sim SEED, or rondo-sim FROM..TO");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64) -> ExitCode {
    let report = run(seed, Mutant::None, true);
    report.lines.iter().for_each(|line| println!("{line}"));
    println!("{:#?}", report.setup);
    println!("{:#?}", report.happened);
    println!("hash {:016x}, {} events", report.hash, report.events);
    verdict(&report)
}

fn verdict(report: &Report) -> ExitCode {
    if report.violations.is_empty() {
        println!("seed {}: every invariant holds", report.seed);
        return ExitCode::SUCCESS;
    }
    println!("{}", report.complaint());
    ExitCode::FAILURE
}

fn many(from: u64, to: u64) -> ExitCode {
    let (next, sum, failed) = (AtomicU64::new(from), Mutex::new(BTreeMap::new()), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= to {
                break;
            }
            let report = run(seed, Mutant::None, false);
            rondo_sim::run::add(&mut sum.lock(), &report);
            if !report.violations.is_empty() {
                failed.fetch_add(1, Ordering::Relaxed);
                println!("{}", report.complaint());
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    println!("{:#?}", sum.into_inner());
    let failed = failed.into_inner();
    println!("{} seeds, {failed} failed", to.saturating_sub(from));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
