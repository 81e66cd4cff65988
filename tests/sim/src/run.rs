//! One run: a minute of virtual time, of which the last quarter is quiet, and then the judgement.

use std::time::Duration;

use crate::history::{At, Violation};
use crate::invariants::{self, answers, hints};
use crate::mutant::Mutant;
use crate::setup::Setup;
use crate::troubles::HEALS_AT;
use crate::world::World;

/// How long a run takes, in its own time.
pub const ENDS_AT: At = Duration::from_secs(60);
/// Everybody is back by then, the last to be stopped included.
const READ_AT: At = Duration::from_secs(53);

/// What came of a seed.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What it drew.
    pub setup: Setup,
    /// What was found wrong: nothing, it is hoped.
    pub violations: Vec<Violation>,
    /// How often what happened.
    pub happened: std::collections::BTreeMap<&'static str, u64>,
    /// Of all events.
    pub hash: u64,
    /// How many there were.
    pub events: u64,
    /// The readable form, where it was wanted.
    pub lines: Vec<String>,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, mutant: Mutant, readable: bool) -> Report {
    run_of(Setup::draw(seed), mutant, readable)
}

/// Runs what was set up.
#[must_use]
pub fn run_of(setup: Setup, mutant: Mutant, readable: bool) -> Report {
    let mut world = World::new(setup, mutant, readable);
    world.run_until(HEALS_AT);
    world.heal();
    world.run_until(READ_AT);
    world.everything_is_read();
    world.run_until(ENDS_AT);
    world.judge();
    let World { history, trace, setup, .. } = world;
    Report {
        seed: setup.seed,
        violations: history.violations,
        happened: history.happened,
        hash: trace.hash(),
        events: trace.events(),
        lines: trace.lines().to_vec(),
        setup,
    }
}

impl World {
    fn kept_hints(&self) -> Vec<(usize, rondo_ring::NodeId, u64)> {
        let running = self.nodes.iter().enumerate().filter_map(|(node, n)| Some((node, n.process.as_ref()?)));
        let of = |(node, process): (usize, &crate::node::Process)| {
            let counts = process.store.hint_counts().into_iter().filter(|(_, kept)| kept.count > 0);
            counts.map(|(target, kept)| (node, target, kept.count)).collect::<Vec<_>>()
        };
        running.flat_map(of).collect()
    }

    fn judge(&mut self) {
        let now = self.now;
        answers::in_the_end(&mut self.history, now);
        let kept = self.kept_hints();
        hints::in_the_end(&mut self.history, &kept, now);
        for key in self.setup.keys.clone() {
            let owners = self.layout.preference_list(self.layout.partition_of(key.token()));
            let owners = &owners[..owners.len().min(usize::from(self.setup.n))];
            let stored = |&id: &rondo_ring::NodeId| {
                let node = self.index_of(id);
                self.nodes[node].process.as_ref().map(|process| (node, process.store.read(&key)))
            };
            let held: Vec<_> = owners.iter().filter_map(stored).collect();
            invariants::of_key_in_the_end(&mut self.history, &key, &held, now);
        }
        self.look_for_vacuity();
    }

    /// A run that was drawn to have trouble and had none, or in which nobody could do anything, proves nothing. Of the
    /// ways to lose a disk one is enough: each waits until what another has lost is refilled.
    fn look_for_vacuity(&mut self) {
        let drawn = |loses: bool| {
            let troubles = self.setup.plan.troubles.iter().map(|(trouble, _)| *trouble);
            troubles.filter(move |trouble| trouble.loses_a_disk() == loses).map(Self::name_of)
        };
        let wanted = drawn(false).chain(["writes acknowledged", "reads answered"]);
        let mut missing: Vec<_> = wanted.filter(|what| self.history.times(what) == 0).collect();
        if drawn(true).all(|what| self.history.times(what) == 0) {
            missing.extend(drawn(true));
        }
        for what in missing {
            self.history.violated("vacuous", self.now, format!("there were no {what}"));
        }
    }
}

/// The sum of what happened.
pub fn add(sum: &mut std::collections::BTreeMap<&'static str, u64>, report: &Report) {
    report.happened.iter().for_each(|(what, times)| *sum.entry(what).or_default() += times);
}

impl Report {
    /// For people.
    #[must_use]
    pub fn complaint(&self) -> String {
        let lines: Vec<_> = self.violations.iter().map(|violation| format!("  {violation}")).collect();
        format!("seed {} (make sim SEED={}):\n{}", self.seed, self.seed, lines.join("\n"))
    }
}
