//! Rounds between nodes that differ: A2 to A6.

mod world;

use bytes::Bytes;
use rondo_antientropy::answer::{Reply, reply};
use rondo_antientropy::{Answer, Group, Memory, Question, Span};
use rondo_ring::PartitionId;
use rondo_storage::Key;
use rondo_storage::engine::{Durability, Keyspace};
use rondo_storage::store::Stored;
use world::{Random, World, key};

const ALL: [usize; 3] = [0, 1, 2];

fn filled(partitions: u16, keys: u64) -> World {
    let world = World::new(3, partitions);
    (0..keys).for_each(|number| world.put(&ALL, &key(number), Some(&[7; 100])));
    world
}

#[test]
fn equal_nodes_say_one_hash_and_repair_nothing() {
    let mut world = filled(256, 500);
    let outcome = world.round(0, 1, Memory::default());
    assert!(outcome.succeeded && outcome.complete && outcome.memory.in_sync);
    assert_eq!((outcome.compared, outcome.keys_differing, world.values), (256, 0, 0));
    assert!(world.wire_bytes < 32, "{} bytes", world.wire_bytes);
}

#[test]
fn each_side_gets_what_it_lacks_and_nothing_else() {
    let mut world = filled(64, 2_000);
    for number in 0..10 {
        world.put(&[0, 2], &key(number), Some(b"newer, one has the old one"));
        world.put(&[1, 2], &key(100 + number), None);
        world.put(&[0], &key(10_000 + number), Some(b"only one has it"));
        world.put(&[1], &key(20_000 + number), Some(b"only the other has it"));
        // Siblings: each lacks something of the other's.
        world.put(&[0], &key(200 + number), Some(b"one"));
        world.put(&[1], &key(200 + number), Some(b"other"));
    }
    let outcome = world.round(0, 1, Memory::default());
    assert!(outcome.succeeded && !outcome.memory.in_sync);
    assert_eq!(outcome.keys_differing, 50);
    assert_eq!(outcome.keys_mended, 30);
    assert_eq!(world.values, 60, "A5: one value for a key that one side lacks, two where both lack something");
    assert!(world.round(0, 1, outcome.memory).memory.in_sync);
    assert_eq!(world.rows(0), world.rows(1));
    world.settle();
    assert_eq!(world.rows(0), world.rows(2));
}

#[test]
fn the_wire_carries_the_difference_and_little_more() {
    let mut world = filled(256, 20_000);
    let value = [9; 1_024];
    (0..100).for_each(|number| world.put(&[0, 2], &key(number * 199), Some(&value)));
    let (mut memory, mut differing) = (Memory::default(), 0);
    while !memory.in_sync {
        let outcome = world.round(0, 1, memory);
        differing += outcome.keys_differing;
        memory = outcome.memory;
    }
    assert_eq!((differing, world.values), (100, 100));
    let bound = 120 * 1_024 + (300 << 10);
    assert!(world.wire_bytes < bound, "{} bytes", world.wire_bytes);
}

#[test]
fn a_write_under_way_is_no_reason_for_a_repair() {
    let mut world = filled(64, 500);
    let late = world.write(0, &key(3), Some(b"under way"));
    let mut arrived = false;
    let outcome = world.spoiled_round(0, 1, Memory::default(), |world, question| {
        // It arrives after the first look and before the second.
        if let (Question::Digests(groups), false) = (question, arrived)
            && groups.iter().any(|group| group.below == 0)
        {
            arrived = true;
            for at in [1, 2] {
                world.nodes[at].store.merge(&key(3), &late, Durability::Fsync, Box::new(|_| {})).unwrap();
            }
        }
        true
    });
    assert!(arrived && outcome.succeeded && outcome.memory.in_sync, "{outcome:?}");
    assert_eq!((outcome.keys_differing, world.values), (0, 0), "A4");
}

#[test]
fn a_lost_write_beside_a_hot_key_is_found() {
    // One leaf for all: Q = 1 has 65,536 leaves, so the hot key is the one that lacks something itself.
    let mut world = filled(1, 50);
    world.put(&[1], &key(3), Some(b"lost by the others"));
    let mut number = 0;
    let outcome = world.spoiled_round(0, 1, Memory::default(), |world, _| {
        number += 1;
        world.write(1, &key(3), Some(format!("{number}").as_bytes()));
        true
    });
    assert!(outcome.succeeded && outcome.keys_differing == 1, "{outcome:?}");
    world.settle();
    assert_eq!(world.rows(0), world.rows(1));
}

#[test]
fn a_node_without_data_is_filled_by_rounds_of_bounded_size() {
    let mut world = filled(256, 5_000);
    world.wipe(1);
    let (mut memory, mut rounds) = (Memory::default(), 0);
    while !memory.in_sync {
        let before = world.values;
        let outcome = world.round(0, 1, memory);
        assert!(outcome.succeeded && world.values - before < 2_000, "a round is bounded in partitions");
        memory = outcome.memory;
        rounds += 1;
        assert!(rounds < 10);
    }
    assert_eq!(world.rows(0), world.rows(1));
    assert_eq!(world.values, 5_000);
}

#[test]
fn a_tree_that_is_not_complete_is_compared_with_nothing() {
    let mut world = filled(8, 200);
    world.wipe(1);
    world.restart(0);
    let outcome = world.round(0, 1, Memory::default());
    assert_eq!((outcome.compared, outcome.complete, outcome.memory.in_sync), (0, false, false));
    assert_eq!((world.values, world.rows(1).len()), (0, 0), "A6");
    world.build_trees(0);
    let outcome = world.round(0, 1, Memory::default());
    assert_eq!((outcome.keys_differing, world.rows(1).len()), (200, 200));
}

#[test]
fn keys_of_a_smaller_n_stay_where_they_belong_and_cost_nothing() {
    let mut world = World::new(3, 4);
    let few = |number: u64| Key::new("n1", &number.to_string()).unwrap();
    for number in 0..50 {
        let owner = world.nodes[0].view.owners(few(number).token(), world::n_of("n1"))[0];
        world.put(&[owner.0 as usize - 1], &few(number), Some(b"one copy"));
    }
    let outcome = world.round(0, 1, Memory::default());
    assert!(outcome.succeeded && outcome.memory.in_sync, "{outcome:?}");
    assert_eq!((outcome.keys_differing, world.values), (0, 0));
    assert!(!outcome.memory.explained.is_empty());
    let before = world.wire_bytes;
    let outcome = world.round(0, 1, outcome.memory);
    assert!(outcome.memory.in_sync && outcome.leaves == 0);
    assert!(world.wire_bytes - before < 200, "explained differences are not looked into again");

    world.put(&[0], &key(1), Some(b"this one belongs to all"));
    let outcome = world.round(0, 1, outcome.memory);
    assert_eq!((outcome.keys_differing, world.values), (1, 1));
    let outcome = world.round(0, 1, outcome.memory);
    assert!(outcome.memory.in_sync, "{outcome:?}");
}

#[test]
fn a_damaged_row_is_replaced_by_what_the_other_has() {
    let mut world = filled(8, 100);
    world.put(&[0, 2], &key(5), Some(b"newer"));
    world.nodes[1].engine.damage(Keyspace::Objects, key(5).row());
    assert!(matches!(world.nodes[1].store.read(&key(5)), Stored::Unknown(None)));
    let outcome = world.round(0, 1, Memory::default());
    assert!(outcome.succeeded && outcome.keys_differing >= 1, "{outcome:?}");
    let rows = [0, 1].map(|at| world.nodes[at].store.row(key(5).row()).unwrap());
    assert!(rows[0].is_some() && rows[0] == rows[1]);
}

#[test]
fn nonsense_is_refused() {
    let world = filled(8, 10);
    let pair = world.pair(0, 1);
    let ask = |question| match reply(&pair, question) {
        Reply::Answer(answer) => answer,
        other => panic!("{other:?}"),
    };
    let group = |partition, depth, below, nodes: &[u32]| {
        let partition = PartitionId(partition);
        Question::Digests(vec![Group { partition, depth, below, nodes: nodes.to_vec() }])
    };
    let span = |partition, first, last| Span { partition: PartitionId(partition), first, last };
    let versions = |spans| Question::Versions { spans, after: None, upto: None };
    assert_eq!(ask(Question::Values(vec![])), Answer::Refused);
    assert_eq!(ask(group(0, 0, 63, &[0])), Answer::Refused, "more than an answer holds");
    assert_eq!(ask(group(0, 0, 200, &[0])), Answer::Refused);
    for impossible in [group(9, 0, 6, &[0]), group(0, 16, 6, &[0]), group(0, 6, 6, &[64]), group(0, 255, 0, &[0])] {
        assert_eq!(ask(impossible), Answer::Digests(vec![None]));
    }
    assert_eq!(ask(versions(vec![span(9, 0, 0)])), Answer::Refused);
    let empty = Answer::Versions { rows: vec![], upto: None };
    assert_eq!(ask(versions(vec![span(0, u32::MAX, u32::MAX)])), empty, "no such leaf");
    let (own, other) = ((Bytes::from_static(b"no row"), Bytes::new()), key(1).row().clone());
    let taken = reply(&pair, Question::Take(vec![own, (other.clone(), Bytes::new())]));
    assert_eq!(taken, Reply::Merge(vec![(other, Bytes::new())]), "a row that is nobody's is left out");
}

/// Three nodes, writes that reach some of the owners, restarts, messages lost at any point: in the end, and
/// with no traffic, all hold the same, and it is what one node would hold that had received every write.
#[test]
fn whatever_happens_all_hold_the_same_in_the_end() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut world = World::new(3, [1, 8, 64][random.below(3) as usize]);
        let keys = 1 + random.below(300);
        for step in 0..400 {
            let first = random.below(3) as usize;
            let mut owners = vec![first];
            owners.extend(ALL.into_iter().filter(|&at| at != first && random.below(3) > 0));
            let value = format!("{seed}-{step}");
            let value = if random.below(5) == 0 { None } else { Some(value.as_bytes()) };
            world.put(&owners, &key(random.below(keys)), value);
            match random.below(60) {
                0 => {
                    let at = random.below(3) as usize;
                    world.restart(at);
                    if random.below(2) == 0 {
                        world.build_trees(at);
                    }
                }
                1..6 => {
                    let (from, loss) = (random.below(2) as usize, random.below(6));
                    let mut dice = Random(seed * 1_000 + step);
                    world.spoiled_round(from, 2, Memory::default(), |world, _| {
                        if dice.below(4) == 0 {
                            world.put(&[dice.below(3) as usize], &key(dice.below(keys)), Some(b"meanwhile"));
                        }
                        loss == 0 || dice.below(20) >= loss
                    });
                }
                _ => {}
            }
        }
        ALL.iter().for_each(|&at| world.build_trees(at));
        world.settle();
        assert_eq!(world.rows(0), world.rows(1), "seed {seed}");
        assert_eq!(world.rows(0), world.rows(2), "seed {seed}");
        assert_eq!(world.rows(0), world.rows_of_all_writes(), "seed {seed}");
    }
}
