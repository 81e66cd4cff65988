//! Reproduces the staleness table of the PBS paper (VLDB 2012), and puts the machines of this crate beside the model.
//! Run by `make pbs`; ends with 1 if a value is not as published.
#![allow(clippy::print_stdout, reason = "prints a table")]

mod distributions;
mod machines;
mod published;

use std::process::ExitCode;

use distributions::{FITS, Fit, N, Random};
use machines::{Cluster, Hedging, Question};
use published::{CONSISTENT_AT_ONCE, DISK_AFTER_10_MS, P, TABLE, TRIALS};
use rondo_coordinator::staleness::{Delays, Hears, Trials, p_misses_last};

/// Trials of the model: as many more than the paper's that the 99.9th percentiles of its longest tails hold still.
const TRIALS_HERE: usize = 20 * TRIALS;
/// Trials of the machines, each one write and one read.
const RUNS: usize = 10_000;
/// The draws are the same in every run.
const SEED: u64 = 2012;

fn main() -> ExitCode {
    let mut deviations = Deviations(0);
    println!("N = {N}, 99.9th percentiles of reads and writes and t at which 99.9 % of reads are consistent, in ms;");
    println!("{TRIALS_HERE} trials here, {TRIALS} in the paper: found (published), ! where they do not agree\n");
    for (index, fit) in FITS.iter().enumerate() {
        let mut random = Random(SEED);
        let trials = Trials::draw(N, TRIALS_HERE, |replicas| {
            fit.draw(&mut random, replicas);
        });
        print_fit(index, fit, &trials, &mut deviations);
    }
    print_closed_form();
    print_machines();
    match deviations.0 {
        0 => ExitCode::SUCCESS,
        count => {
            println!("\n{count} values are not as published");
            ExitCode::FAILURE
        }
    }
}

/// Values that are not as published.
struct Deviations(usize);

impl Deviations {
    fn shown(&mut self, found: f64, published: f64, agrees: bool) -> String {
        self.0 += usize::from(!agrees);
        format!("{found:.2} ({published}){}", if agrees { " " } else { "!" })
    }

    fn probability(&mut self, found: f64, published: f64) -> String {
        let agrees = published::probability_agrees(found, published);
        self.0 += usize::from(!agrees);
        let mark = if agrees { "" } else { "!" };
        format!("{:.1} % ({:.1} %){mark}", 100.0 * found, 100.0 * published)
    }
}

fn print_fit(index: usize, fit: &Fit, trials: &Trials, deviations: &mut Deviations) {
    println!("{:10} {:>22} {:>22} {:>22}", fit.name, "read", "write", "t");
    for row in &TABLE {
        let [read, write, window] = row.fits[index];
        let reads = trials.read_latency(row.r, Hears::Fastest).quantile(P);
        let writes = trials.write_latency(row.w).quantile(P);
        let after = trials.staleness(row.r, row.w, Hears::Fastest).consistent_after_ms(P);
        let read = deviations.shown(reads, read, published::latency_agrees(reads, read));
        let write = deviations.shown(writes, write, published::latency_agrees(writes, write));
        let window = deviations.shown(after, window, published::window_agrees(row, after, window));
        println!("R={} W={}    {read:>22} {write:>22} {window:>22}", row.r, row.w);
    }
    let staleness = trials.staleness(1, 1, Hears::Fastest);
    let at_once = deviations.probability(staleness.p_consistent(0.0), CONSISTENT_AT_ONCE[index]);
    let later = staleness.p_consistent(10.0);
    let later = match fit.name {
        "LNKD-DISK" => deviations.probability(later, DISK_AFTER_10_MS),
        _ => format!("{:.1} %", 100.0 * later),
    };
    println!("consistent with R = W = 1: {at_once} at once, {later} after 10 ms\n");
}

fn print_closed_form() {
    println!("The last k writes are all missed with probability (C(N-W,R)/C(N,R))^k at most:");
    println!("{:10} {:>10} {:>10} {:>10} {:>10} {:>10}", "", "k = 1", "2", "3", "5", "10");
    for (r, w) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        let [a, b, c, d, e] = [1, 2, 3, 5, 10].map(|k| p_misses_last(N as u32, r, w, k));
        println!("R={r} W={w}    {a:>10.4} {b:>10.4} {c:>10.4} {d:>10.4} {e:>10.4}");
    }
}

/// The machines ask R owners, their own first, where the paper's model asks all and takes the first R.
fn print_machines() {
    println!(
        "\nThe machines, {RUNS} writes and reads each: share of consistent reads at once, and of those that begin t"
    );
    println!("after the acknowledgement, t being that of the model with R owners asked");
    let columns = ["model, all", "model, R asked", "machines", "hedging", "t", "machines at t"];
    println!("{:20} {}", "", columns.map(|column| format!("{column:>15}")).concat());
    let cluster = Cluster::new();
    for fit in &FITS {
        for (r, w) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            let row = machines_row(&cluster, fit, r, w).map(|cell| format!("{cell:>15}")).concat();
            println!("{:10} R={r} W={w}   {row}", fit.name);
        }
    }
}

fn machines_row(cluster: &Cluster, fit: &Fit, r: usize, w: usize) -> [String; 6] {
    let (mut random, mut writers) = (Random(SEED), Vec::new());
    let mut drawn: Vec<[Delays; N]> = Vec::new();
    let trials = Trials::draw(N, RUNS, |replicas| {
        writers.push(fit.draw(&mut random, replicas));
        drawn.push(std::array::from_fn(|index| replicas[index]));
    });
    let nearest = trials.staleness(r, w, Hears::Nearest);
    let after = nearest.consistent_after_ms(P);
    let share = |age_ms: f64, hedging: Hedging| {
        let seen = drawn.iter().zip(&writers);
        let seen = seen.filter(|(delays, writer)| {
            cluster.sees(Question { delays: &delays[..], writer: **writer, r, w, age_ms, hedging })
        });
        seen.count() as f64 / RUNS as f64
    };
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    [
        percent(trials.staleness(r, w, Hears::Fastest).p_consistent(0.0)),
        percent(nearest.p_consistent(0.0)),
        percent(share(0.0, Hedging::Never)),
        percent(share(0.0, Hedging::Always)),
        format!("{after:.2}"),
        percent(share(after, Hedging::Never)),
    ]
}
