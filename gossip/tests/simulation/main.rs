//! The figures that `docs/gossip.md` promises, from simulation. `RONDO_GOSSIP_SEEDS` (`make gossip-sim`: 1,000) says how
//! many runs of each kind, `RONDO_GOSSIP_HOURS` (24) how long the run without faults but loss is.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod detection;
mod false_alarms;
mod restarts;
mod scale;
mod spread;
mod world;

/// How many seeds a test runs.
fn seeds() -> std::ops::Range<u64> {
    0..setting("RONDO_GOSSIP_SEEDS", 40)
}

fn setting(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
