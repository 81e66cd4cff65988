//! Nodes that come back: in another life, at another address, all of them at once.

use rondo_ring::Liveness;

use crate::seeds;
use crate::world::{World, id, ms, secs};

#[test]
fn a_node_that_comes_back_is_up_for_everyone_within_two_seconds() {
    for seed in seeds() {
        let nodes = 3 + seed as usize % 6;
        let mut world = World::new(seed, nodes, 1);
        world.run(secs(3));
        world.kill(1);
        assert!(world.until(secs(10), |world| world.all_believe(1, Liveness::Down)).is_some(), "seed {seed}");
        world.restart(1, seed % 2 == 0, None);
        world.run(secs(2));
        assert!(world.all_believe(1, Liveness::Down), "seed {seed}: it only starts");
        world.serve(1);
        let took = world.until(secs(2), |world| world.all_believe(1, Liveness::Up));
        assert!(took.is_some(), "seed {seed}");
    }
}

/// Whoever was stopped for long finds itself called down, and says that it is not.
#[test]
fn a_node_that_goes_on_after_a_stop_is_up_within_two_seconds() {
    for seed in seeds() {
        let mut world = World::new(seed, 3 + seed as usize % 3, 1);
        world.run(secs(3));
        world.pause(1, secs(10));
        world.run(secs(10) - ms(10));
        assert!(world.all_believe(1, Liveness::Down), "seed {seed}");
        let took = world.until(secs(2), |world| world.all_believe(1, Liveness::Up));
        assert!(took.is_some(), "seed {seed}");
    }
}

/// All start again at other addresses, with what they had persisted and one seed that is right.
#[test]
fn a_cluster_that_has_moved_as_a_whole_finds_itself_again() {
    for seed in seeds() {
        let nodes = 3 + seed as usize % 8;
        let mut world = World::new(seed, nodes, 1);
        world.run(secs(3));
        (0..nodes).for_each(|node| world.kill(node));
        world.run(secs(1));
        for node in 0..nodes {
            let right = world.address(0);
            world.restart(node, true, Some(vec![right]));
        }
        world.run(ms(500));
        for node in 0..nodes {
            world.serve(node);
            world.run(ms(100));
        }
        let took = world.until(secs(15), World::all_up);
        assert!(took.is_some(), "seed {seed}: {nodes} nodes");
    }
}

/// A directory that was restored from an old copy: the others have heard of later lives of this node. One that serves
/// without their word on that is told, and must end (G11); the next start is above what they have seen.
#[test]
fn an_old_copy_of_a_node_outdoes_its_own_past() {
    let mut world = World::new(7, 3, 1);
    world.run(secs(2));
    for _ in 0..3 {
        world.kill(1);
        world.restart(1, false, None);
        world.serve(1);
        world.run(secs(2));
    }
    let seen = |world: &World| world.nodes[0].gossip.members().info(id(1)).unwrap().stamp();
    let before = seen(&world);
    world.kill(1);
    world.forget_lives(1);
    world.restart(1, false, None);
    world.serve(1);
    world.run(secs(3));
    assert_eq!(world.nodes[1].gossip.successor().map(|later| later.start), Some(4));
    world.kill(1);
    world.restart(1, false, None);
    world.nodes[1].gossip.begin(5, 5);
    world.run(secs(3));
    assert_eq!(world.nodes[1].gossip.successor(), None);
    assert!(seen(&world) > before, "{:?} after {before:?}", seen(&world));
    assert!(world.all_up());
}
