//! A rolling restart, as an orchestrator does it: SIGTERM, the same node again, and the next one when it is ready.

use super::world::{World, while_in_trouble};

#[test]
fn a_rolling_restart_fails_no_quorum_request() {
    let mut world = World::start(3);
    for round in 0..2 {
        for node in 0..3 {
            world.under_load(while_in_trouble() / 8);
            world.in_trouble(node, |world| {
                let ended = world.cluster[node].terminate();
                assert!(ended.success(), "round {round}: {ended}\n{}", world.cluster[node].log_tail());
                world.count("restarts");
                world.cluster[node].start();
                world.cluster[node].wait_ready();
            });
        }
    }
    world.under_load(while_in_trouble() / 4);
    world.judge(&["restarts"]).is_good();
}
