//! A node that is gone is called down by everyone, soon; one that hangs is routed around sooner.

use std::time::Duration;

use rondo_ring::Liveness;

use crate::seeds;
use crate::world::{World, ms, percentile, secs};

/// The time until everyone believes a lost node down, over all seeds.
fn detection(nodes: impl Fn(u64) -> usize, loss_percent: usize) -> Vec<Duration> {
    let one = |seed: u64| {
        let nodes = nodes(seed);
        let mut world = World::new(seed, nodes, 1 + seed as usize % 3);
        world.loss_percent = loss_percent;
        world.run(secs(5) + ms(seed * 37 % 1_000));
        let victim = world.random.below(nodes);
        if seed.is_multiple_of(2) {
            world.kill(victim)
        } else {
            world.pause(victim, secs(3_600))
        }
        let took = world.until(secs(30), |world| world.all_believe(victim, Liveness::Down));
        let others = world.running();
        assert!(others.iter().all(|&by| world.nodes[by].gossip.down() <= 1), "seed {seed}: only the lost node is down");
        took.unwrap_or_else(|| panic!("seed {seed}: {nodes} nodes did not notice within 30 s"))
    };
    seeds().map(one).collect()
}

#[test]
fn a_lost_node_is_down_for_everyone_within_five_seconds() {
    for nodes in [3, 5, 10, 25] {
        let mut took = detection(|_| nodes, 0);
        let (half, most) = (percentile(&mut took, 50), percentile(&mut took, 99));
        println!("{nodes} nodes: p50 {half:?}, p99 {most:?}");
        assert!(most <= secs(5), "{nodes} nodes: p99 {most:?}");
        assert!(half >= secs(2), "{nodes} nodes: p50 {half:?} leaves no time to answer");
    }
}

#[test]
fn a_lossy_network_delays_that_little() {
    let mut took = detection(|seed| 3 + seed as usize % 8, 5);
    let most = percentile(&mut took, 99);
    println!("p99 {most:?}");
    assert!(most <= secs(7), "p99 {most:?}");
}

/// Two nodes: nobody else can be asked, so the one that is left needs longer (G8).
#[test]
fn a_lone_survivor_says_so_in_the_end() {
    for seed in seeds() {
        let nodes = 2 + seed as usize % 3;
        let mut world = World::new(seed, nodes, 1 + seed as usize % 3);
        world.run(secs(3));
        (1..nodes).for_each(|victim| world.kill(victim));
        world.run(secs(4));
        assert_eq!(world.nodes[0].gossip.down(), 0, "seed {seed}: not on one word that soon");
        let took = world.until(secs(10), |world| world.nodes[0].gossip.down() == nodes - 1);
        assert!(took.is_some(), "seed {seed}");
    }
}

#[test]
fn routing_diverts_from_a_hung_node_within_a_second() {
    for nodes in [3, 4] {
        let one = |seed: u64| {
            let mut world = World::new(seed, nodes, 1);
            world.run(secs(20) + ms(seed * 37 % 1_000));
            world.pause(0, secs(60));
            world.until(secs(10), |world| !(1..nodes).any(|by| world.liveness(by, 0) == Liveness::Up)).unwrap()
        };
        let mut took: Vec<_> = seeds().map(one).collect();
        let most = percentile(&mut took, 99);
        println!("{nodes} nodes: p50 {:?}, p99 {most:?}", percentile(&mut took, 50));
        assert!(most <= secs(1), "{nodes} nodes: p99 {most:?}");
    }
}

/// Where the nodes are of several zones, the word of one zone is not enough: it may be the zone that is cut off.
#[test]
fn one_zone_alone_calls_nobody_down() {
    for seed in seeds() {
        // Zones of node i: i % 2. The even nodes cannot reach node 1, the odd ones can.
        let mut world = World::new(seed, 6, 2);
        world.run(secs(5));
        for even in [0, 2, 4] {
            world.cuts.extend([(even, 1), (1, even)]);
        }
        world.watch(secs(30), |world, by| {
            assert_ne!(world.liveness(by, 1), Liveness::Down, "seed {seed}: by node {by}");
        });
    }
}

/// Both halves of a cut cluster call the other down; when it is whole again, nobody.
#[test]
fn halves_that_lost_each_other_find_each_other_again() {
    for seed in seeds() {
        let mut world = World::new(seed, 6, 1);
        world.run(secs(5));
        let halves = |a: usize, b: usize| (a < 3) != (b < 3);
        world.cuts = (0..36).map(|pair| (pair / 6, pair % 6)).filter(|&(a, b)| halves(a, b)).collect();
        let seen = |world: &World| world.nodes.iter().all(|node| node.gossip.down() == 3);
        assert!(world.until(secs(15), seen).is_some(), "seed {seed}");
        world.cuts.clear();
        let took = world.until(secs(3), World::all_up);
        assert!(took.is_some(), "seed {seed}: not whole 3 s after the cut was mended");
    }
}
