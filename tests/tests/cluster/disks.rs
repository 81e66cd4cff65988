//! Disks that are lost, and one that is full.

use std::fs;

use super::world::{World, while_in_trouble};

/// The whole directory, identity included: the node comes back under its name and is refilled (docs/decisions/0014).
#[test]
fn a_node_whose_disk_is_wiped_comes_back_and_nothing_is_lost() {
    let mut world = World::start(3);
    for victim in [1, 2] {
        world.under_load(while_in_trouble() / 4);
        world.in_trouble(victim, |world| {
            world.wipe(victim);
            world.under_load(while_in_trouble());
            world.cluster[victim].start();
            world.until_ready(victim);
        });
        world.until_all_are_up();
    }
    world.under_load(while_in_trouble() / 4);
    world.judge(&["wipes"]).is_good();
}

/// It takes no writes, and is an owner that has failed to the others.
#[test]
fn a_node_whose_disk_is_full_costs_the_others_nothing() {
    let mut world = World::start(3);
    let victim = 1;
    world.under_load(while_in_trouble() / 4);
    world.in_trouble(victim, |world| {
        // No disk has an exbibyte left.
        let full = world.cluster.directory().join("full.toml");
        fs::write(&full, format!("[disk]\nreserve_bytes = {}\n", 1_u64 << 60)).unwrap();
        world.cluster[victim].flag("--config", full.to_str().unwrap());
        world.cluster[victim].restart();
        assert_eq!(world.cluster[victim].metric("rondo_store_low_disk"), 1.0);
        world.count("full disks");
        world.under_load(while_in_trouble());
        fs::write(&full, "[disk]\nreserve_bytes = 0\n").unwrap();
        world.cluster[victim].restart();
    });
    world.under_load(while_in_trouble() / 4);
    world.judge(&["full disks"]).is_good();
}
