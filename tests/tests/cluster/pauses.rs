//! SIGSTOP: a node that hangs, with its sockets open, and goes on as if nothing had been.

use super::world::{World, while_in_trouble};

#[test]
fn a_node_that_hangs_is_not_waited_for() {
    let mut world = World::start(3);
    for victim in [2, 0, 1] {
        world.under_load(while_in_trouble() / 4);
        world.in_trouble(victim, |world| {
            world.cluster[victim].pause();
            world.count("pauses");
            world.under_load(while_in_trouble());
            world.stage.resumes(victim);
            world.cluster[victim].resume();
            // What it had begun before ends: its deadline has passed.
            world.under_load(while_in_trouble() / 2);
        });
    }
    world.under_load(while_in_trouble() / 4);
    world.judge(&["pauses"]).is_good();
}
