//! Partitions: bytes between nodes wait, and nobody is told.

use super::world::{World, while_in_trouble};

#[test]
fn a_node_that_is_cut_off_costs_the_others_nothing() {
    let mut world = World::start(3);
    for victim in [0, 1, 2] {
        world.under_load(while_in_trouble() / 4);
        world.in_trouble(victim, |world| {
            let both_ways = |other| [(victim, other), (other, victim)];
            world.network.cut(world.others(victim).into_iter().flat_map(both_ways));
            world.count("partitions");
            world.under_load(while_in_trouble() * 2);
            world.network.heal();
            world.until_all_are_up();
        });
    }
    world.under_load(while_in_trouble() / 4);
    world.judge(&["partitions", "hinted acknowledgements"]).is_good();
}

/// Both sides of the cut between two nodes reach the third, and each other only through it.
#[test]
fn two_nodes_that_do_not_reach_each_other_lose_nothing() {
    let mut world = World::start(3);
    for (one, other) in [(0, 1), (1, 2)] {
        world.under_load(while_in_trouble() / 4);
        for cuts in [vec![(one, other)], vec![(one, other), (other, one)]] {
            world.in_trouble(one, |world| {
                world.in_trouble(other, |world| {
                    world.network.cut(cuts);
                    world.count("partitions");
                    world.under_load(while_in_trouble());
                    world.network.heal();
                    world.until_all_are_up();
                });
            });
        }
    }
    world.under_load(while_in_trouble() / 4);
    world.judge(&["partitions"]).has_lost_nothing();
}

/// Two and three of five: on either side some keys have a quorum, and stand-ins for the rest.
#[test]
fn a_cluster_that_falls_into_two_loses_nothing() {
    let mut world = World::start(5);
    for side in [[0, 1], [2, 4]] {
        world.under_load(while_in_trouble() / 4);
        (0..5).for_each(|node| world.stage.in_trouble(node));
        let across = |&(one, other): &(usize, usize)| side.contains(&one) != side.contains(&other);
        let pairs = (0..5).flat_map(|one| (0..5).map(move |other| (one, other)));
        world.network.cut(pairs.filter(across));
        world.count("partitions");
        world.under_load(while_in_trouble() * 2);
        world.network.heal();
        world.until_all_are_up();
        (0..5).for_each(|node| world.stage.out_of_trouble(node));
    }
    world.under_load(while_in_trouble() / 4);
    world.judge(&["partitions", "sloppy acknowledgements", "hinted acknowledgements"]).has_lost_nothing();
}
