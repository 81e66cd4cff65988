//! Nobody that is alive is called down: not for lost messages, not by a node that is itself the one that is late.

use std::time::Duration;

use rondo_ring::Liveness;

use crate::world::{World, ms, secs};
use crate::{seeds, setting};

/// One long run; `RONDO_GOSSIP_HOURS` of virtual time, and each hour another cluster.
#[test]
fn lost_messages_call_nobody_down() {
    let hours = setting("RONDO_GOSSIP_HOURS", 1);
    let mut asked_for_help = 0;
    for hour in 0..hours {
        let nodes = 3 + (hour as usize * 3 + 3) % 10;
        let mut world = World::new(hour, nodes, 1 + hour as usize % 3);
        world.loss_percent = 5;
        world.watch(secs(3_600), |world, by| {
            assert_eq!(world.nodes[by].gossip.down(), 0, "hour {hour}, after {:?}", world.now);
        });
        asked_for_help += world.asked_for_help;
    }
    println!("{hours} hours, {asked_for_help} calls for help");
    assert!(asked_for_help > 100 * hours, "vacuous: {asked_for_help} answers were missed");
}

/// One node is disturbed again and again; the others must not be called down for it.
fn disturbed(disturb: impl Fn(&mut World, usize, u64)) {
    for seed in seeds() {
        let nodes = 3 + seed as usize % 6;
        let mut world = World::new(seed, nodes, 1 + seed as usize % 3);
        world.loss_percent = if seed % 2 == 0 { 0 } else { 5 };
        world.run(secs(3) + ms(seed * 53 % 700));
        for round in 0..3 {
            let victim = world.random.below(nodes);
            let accused = |world: &World, by: usize| {
                for of in (0..nodes).filter(|&of| of != victim && of != by) {
                    assert_ne!(world.liveness(by, of), Liveness::Down, "seed {seed}, round {round}: {of} by {by}");
                }
            };
            disturb(&mut world, victim, seed);
            world.watch(secs(12), accused);
        }
    }
}

#[test]
fn a_node_that_was_stopped_for_three_seconds_accuses_nobody() {
    disturbed(|world, victim, _| world.pause(victim, secs(3)));
}

#[test]
fn a_node_that_was_stopped_for_a_minute_accuses_nobody() {
    disturbed(|world, victim, _| {
        world.pause(victim, secs(60));
        world.run(secs(60));
    });
}

#[test]
fn a_node_whose_clock_stood_still_accuses_nobody() {
    disturbed(|world, victim, seed| {
        world.freeze_clock(victim);
        world.run(secs(1 + seed % 7));
        world.thaw_clock(victim, Duration::ZERO);
    });
}

#[test]
fn a_node_whose_clock_jumps_ahead_accuses_nobody() {
    disturbed(|world, victim, _| world.thaw_clock(victim, secs(3_600)));
}

/// It hears nobody, and everyone hears it: its word alone is not enough.
#[test]
fn a_deaf_node_is_not_believed() {
    for seed in seeds() {
        let mut world = World::new(seed, 5, 1 + seed as usize % 3);
        world.run(secs(5));
        world.cuts = (1..5).map(|other| (other, 0)).collect();
        world.watch(secs(30), |world, by| {
            for of in (1..5).filter(|&of| by > 0 && of != by) {
                assert_ne!(world.liveness(by, of), Liveness::Down, "seed {seed}: {of} by {by}");
            }
        });
    }
}

/// A path that is cut between two nodes only: each is alive for everybody, also for the other.
#[test]
fn one_cut_path_calls_nobody_down() {
    for seed in seeds() {
        let mut world = World::new(seed, 3 + seed as usize % 4, 1 + seed as usize % 3);
        world.run(secs(5));
        world.cuts = if seed % 2 == 0 { vec![(0, 1), (1, 0)] } else { vec![(0, 1)] };
        world.watch(secs(60), |world, by| assert_eq!(world.nodes[by].gossip.down(), 0, "seed {seed}"));
    }
}
