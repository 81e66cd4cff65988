//! SIGKILL: of one node after the other, and of all at once.

use super::world::{World, while_in_trouble};

#[test]
fn nodes_killed_one_after_the_other_cost_nothing() {
    let mut world = World::start(3);
    for victim in [0, 1, 2, 1] {
        world.under_load(while_in_trouble() / 4);
        world.in_trouble(victim, |world| {
            world.cluster[victim].kill();
            world.count("kills");
            world.under_load(while_in_trouble());
            world.cluster[victim].start();
            world.cluster[victim].wait_ready();
        });
    }
    world.under_load(while_in_trouble() / 4);
    world.judge(&["kills", "hinted acknowledgements"]).is_good();
}

/// Where there are more nodes than owners: others stand in, and forwarded writes may be carried out twice.
#[test]
fn two_of_five_killed_at_a_time_lose_nothing() {
    let mut world = World::start(5);
    for (one, other) in [(0, 1), (2, 3), (4, 0)] {
        world.under_load(while_in_trouble() / 4);
        world.in_trouble(one, |world| {
            world.in_trouble(other, |world| {
                world.cluster[one].begin_kill();
                world.cluster[other].kill();
                world.cluster[one].kill();
                world.count("kills");
                world.under_load(while_in_trouble());
                world.cluster.start_missing();
            });
        });
    }
    world.under_load(while_in_trouble() / 4);
    world.judge(&["kills", "hinted acknowledgements", "sloppy acknowledgements"]).has_lost_nothing();
}

#[test]
fn all_nodes_killed_at_once_lose_nothing() {
    let mut world = World::start(3);
    for _ in 0..3 {
        world.under_load(while_in_trouble() / 2);
        (0..3).for_each(|node| world.stage.in_trouble(node));
        (0..3).for_each(|node| world.cluster[node].begin_kill());
        (0..3).for_each(|node| world.cluster[node].kill());
        world.count("kills");
        world.cluster.start_missing();
        (0..3).for_each(|node| world.stage.out_of_trouble(node));
    }
    world.under_load(while_in_trouble() / 2);
    world.judge(&["kills"]).has_lost_nothing();
}
