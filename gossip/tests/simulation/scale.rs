//! Prints the table of `docs/gossip.md`: what clusters of 10, 100 and 1,000 nodes cost and how soon they know. Virtual
//! time, messages as they are encoded. `RONDO_GOSSIP_KILLS` (30) says how many nodes are killed.

use std::time::Duration;

use rondo_ring::Liveness;

use crate::setting;
use crate::world::{World, id, ms, percentile, secs};

const ROUND_MS: u128 = 100;

#[test]
#[ignore = "takes minutes: make gossip-scale"]
fn scale() {
    let kills = setting("RONDO_GOSSIP_KILLS", 30) as usize;
    println!(
        "| nodes | new member known to all | bytes per node and second, idle | messages | down everywhere, p50 | p99 |"
    );
    println!("|---|---|---|---|---|---|");
    let mut flat = Vec::new();
    for nodes in [10, 100, 1_000] {
        let (bytes, messages) = idle(nodes);
        let known = known_to_all(nodes);
        let mut down = detection(nodes, kills);
        let (half, most) = (percentile(&mut down, 50), percentile(&mut down, 99));
        println!(
            "| {nodes} | {} rounds, {:.1} s | {bytes:.0} | {messages:.1} | {:.1} s | {:.1} s |",
            known.as_millis().div_ceil(ROUND_MS),
            known.as_secs_f64(),
            half.as_secs_f64(),
            most.as_secs_f64()
        );
        assert!(most <= secs(5), "{nodes} nodes: p99 {most:?}");
        flat.push(bytes);
    }
    assert!((flat[2] / flat[1] - 1.0).abs() < 0.2, "{flat:?}");
}

fn idle(nodes: usize) -> (f64, f64) {
    let mut world = World::new(1, nodes, 3);
    world.run(secs(10));
    let (bytes, messages) = (world.bytes, world.messages);
    world.run(secs(20));
    let per = |count: u64| count as f64 / nodes as f64 / 20.0;
    (per(world.bytes - bytes), per(world.messages - messages))
}

/// The slowest of five.
fn known_to_all(nodes: usize) -> Duration {
    let one = |seed| {
        let mut world = World::new(seed, nodes, 3);
        world.run(secs(2));
        let through = world.random.below(nodes);
        let new = world.join(through);
        let known = |world: &World| world.nodes.iter().all(|node| node.gossip.members().info(id(new)).is_some());
        world.until(secs(30), known).unwrap()
    };
    (1..=5).map(one).max().unwrap()
}

/// Until every other node believes it: one node after another, in clusters that have lost a tenth at most.
fn detection(nodes: usize, kills: usize) -> Vec<Duration> {
    let (mut world, mut took, mut dead) = (World::new(2, nodes, 3), Vec::new(), Vec::new());
    for kill in 0..kills {
        if dead.len() >= nodes.div_ceil(10) || kill == 0 {
            (world, dead) = (World::new(100 + kill as u64, nodes, 3), Vec::new());
            world.run(secs(5));
        }
        world.run(ms(world.random.clone().below(1_000) as u64));
        let victim = pick(&mut world, &dead);
        dead.push(victim);
        world.kill(victim);
        took.push(world.until(secs(60), |world| world.all_believe(victim, Liveness::Down)).unwrap());
    }
    took
}

fn pick(world: &mut World, dead: &[usize]) -> usize {
    let alive: Vec<_> = (0..world.nodes.len()).filter(|node| !dead.contains(node)).collect();
    *world.random.pick(&alive).unwrap()
}
