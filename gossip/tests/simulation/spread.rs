//! News reach everyone soon, at a cost that does not grow with the cluster.

use std::time::Duration;

use crate::seeds;
use crate::world::{World, id, ms, secs};

fn joined(seed: u64, nodes: usize, loss_percent: usize) -> Duration {
    let mut world = World::new(seed, nodes, 3);
    world.loss_percent = loss_percent;
    world.run(secs(2));
    let through = world.random.below(nodes);
    let new = world.join(through);
    let everyone = |world: &World| world.nodes[new].gossip.members().infos().len() == nodes + 1;
    let known = |world: &World| world.nodes.iter().all(|node| node.gossip.members().info(id(new)).is_some());
    world.until(secs(20), |world| known(world) && everyone(world)).expect("everyone hears of it, and it of everyone")
}

/// 100 ms a round: ten times the nodes cost a few rounds more.
#[test]
fn a_new_member_is_known_to_all_in_a_number_of_rounds_that_grows_with_the_logarithm() {
    for seed in seeds().take(10) {
        let (ten, hundred) = (joined(seed, 10, 0), joined(seed, 100, 0));
        println!("10: {ten:?}, 100: {hundred:?}");
        assert!(ten <= ms(1_500) && hundred <= ms(2_000), "seed {seed}: {ten:?}, {hundred:?}");
    }
    assert!(joined(1, 400, 0) <= ms(2_500));
}

#[test]
fn what_was_lost_on_the_way_is_found_missing() {
    for seed in seeds().take(20) {
        assert!(joined(seed, 20, 20) <= secs(15), "seed {seed}");
    }
}

fn idle_bytes(nodes: usize) -> f64 {
    let mut world = World::new(1, nodes, 3);
    world.run(secs(10));
    let before = world.bytes;
    world.run(secs(10));
    (world.bytes - before) as f64 / nodes as f64 / 10.0
}

#[test]
fn an_idle_node_sends_as_much_in_a_large_cluster_as_in_a_small_one() {
    let (ten, hundred, more) = (idle_bytes(10), idle_bytes(100), idle_bytes(400));
    println!("bytes per node and second: 10: {ten:.0}, 100: {hundred:.0}, 400: {more:.0}");
    assert!((more / hundred - 1.0).abs() < 0.2 && (hundred / ten - 1.0).abs() < 0.2, "{ten} {hundred} {more}");
    assert!(more < 2_000.0, "{more}");
}

#[test]
fn a_changed_bucket_is_in_force_everywhere_within_a_second() {
    for seed in seeds().take(20) {
        for nodes in [3, 10, 50] {
            let mut world = World::new(seed, nodes, 1);
            world.run(secs(2));
            for change in 0..3 {
                let (at, value) = (world.random.below(nodes), format!("{{\"n\":{change}}}"));
                world.set(at, "fruit", &value);
                let of = |node: &crate::world::Node| node.gossip.registry().get("fruit").and_then(|e| e.value.clone());
                let everywhere = |world: &World| world.nodes.iter().all(|node| of(node).as_ref() == Some(&value));
                assert!(world.until(secs(1), everywhere).is_some(), "seed {seed}: {nodes} nodes");
            }
        }
    }
}

/// One of 1,000 entries changes: the others are not sent again.
#[test]
fn a_change_costs_what_changed() {
    let mut world = World::new(3, 3, 1);
    (0..1_000).for_each(|i| world.set(0, &format!("bucket-{i}"), &"x".repeat(500)));
    let same = |world: &World| {
        let digest = |node: &crate::world::Node| node.gossip.registry().digest();
        world.nodes.iter().all(|node| digest(node) == digest(&world.nodes[0]))
    };
    assert!(world.until(secs(30), same).is_some());
    // Until nobody tells of those any more.
    world.run(secs(60));
    let idle = world.bytes;
    world.run(secs(5));
    let idle = world.bytes - idle;
    let changed = world.bytes;
    world.set(1, "bucket-7", "y");
    world.run(secs(5));
    assert!(same(&world));
    let changed = world.bytes - changed;
    assert!(changed < idle + 8_192, "{changed} bytes instead of {idle}");
}
