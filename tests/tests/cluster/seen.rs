//! The checkers are checked: what is really lost is seen, and what clients say wrongly.

use std::fs;
use std::time::Duration;

use rondo_tests::copy_directory;

use super::stage::Liar;
use super::world::World;

const A_WHILE: Duration = Duration::from_secs(2);

/// More than any cluster promises to survive: all three have forgotten the same.
#[test]
fn a_cluster_set_back_to_an_older_copy_is_seen_to_have_lost_writes() {
    let mut world = World::start(3);
    world.under_load(A_WHILE);
    let copies = world.cluster.directory().join("copies");
    for loses in [false, true] {
        (0..3).for_each(|node| world.stage.in_trouble(node));
        (0..3).for_each(|node| world.cluster[node].begin_kill());
        (0..3).for_each(|node| world.cluster[node].kill());
        for node in world.cluster.nodes() {
            let (directory, copy) = (node.data_dir(), copies.join(node.name()));
            let (from, to) = if loses { (&*copy, directory) } else { (directory, &*copy) };
            let _ = fs::remove_dir_all(to);
            copy_directory(from, to);
        }
        world.cluster.start_missing();
        (0..3).for_each(|node| world.stage.out_of_trouble(node));
        world.under_load(A_WHILE);
    }
    world.judge(&[]).shows("no acknowledged write is lost");
}

#[test]
fn one_vote_that_is_said_to_be_a_quorum_is_seen() {
    let mut world = World::with_clients(3, Liar::OfQuorums);
    world.under_load(A_WHILE * 2);
    world.judge(&[]).shows("R + W > N means read-your-writes");
}

#[test]
fn the_value_of_another_key_is_seen() {
    let mut world = World::with_clients(3, Liar::OfKeys);
    world.under_load(A_WHILE);
    world.judge(&[]).shows("no phantom");
}

/// W=3 with one node gone fails, and two have taken it.
#[test]
fn a_write_that_is_said_to_be_nowhere_is_seen() {
    let mut world = World::with_clients(3, Liar::OfOutcomes);
    world.in_trouble(0, |world| {
        world.cluster[0].kill();
        world.under_load(A_WHILE);
        world.cluster[0].start();
        world.until_ready(0);
    });
    world.judge(&["writes failed"]).shows("no phantom");
}
