//! The laws V1 to V6 under random histories of three replicas: stale contexts, blind writes, deletes, requests
//! coordinated twice, replicas that forget.

#[path = "versions_history/world.rs"]
mod world;

use bytes::Bytes;
use proptest::prelude::*;
use rondo_storage::versions::{ActorId, CausalContext, Dot, Metadata, Object, Sibling};
use world::{Answer, Dots, Replica, World, steps};

fn run(steps: &[world::Step]) -> World {
    let mut world = World::new();
    steps.iter().for_each(|step| world.step(step));
    world
}

fn merged(a: &Object, b: &Object) -> Object {
    let mut object = a.clone();
    object.merge(b.clone());
    object
}

/// What the context covers of everything ever written.
fn covered(world: &World, context: &CausalContext) -> Dots {
    world.history.keys().filter(|dot| context.contains(**dot)).copied().collect()
}

/// V3: what a replica has seen and holds no more was shown to the client of some write (or a twin of it was), or was a
/// tombstone.
fn check_nothing_falsely_replaced(world: &World, replica: &Replica) {
    let gone = replica.model.seen.iter().filter(|dot| !replica.model.siblings.contains_key(dot));
    for dot in gone.filter(|dot| !world.history[dot].tombstone) {
        let shown = world.history.values().any(|write| write.shown.iter().any(|seen| world.is_twin(seen, dot)));
        assert!(shown, "{dot:?} vanished and nobody had seen it");
    }
}

/// V4: no version stands beside one whose client had been shown it.
fn check_no_false_sibling(world: &World, replica: &Replica) {
    for dot in replica.object.dots() {
        let shown = &world.history[&dot].shown;
        assert!(replica.object.dots().all(|other| !shown.contains(&other)), "{dot:?} beside what it replaced");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// V2, V3, V4, after every step of a history.
    #[test]
    fn objects_are_what_the_model_says(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            for replica in &world.replicas {
                prop_assert_eq!(replica.object.dots().collect::<Vec<_>>(), replica.model.visible());
                prop_assert_eq!(covered(&world, &replica.object.context), replica.model.seen.clone());
                check_nothing_falsely_replaced(&world, replica);
                check_no_false_sibling(&world, replica);
            }
        }
    }

    /// V6: an answer covers what its client had seen and its own write, and of what remains nothing else.
    #[test]
    fn answers_cover_what_was_seen_and_nothing_else(steps in steps()) {
        let world = run(&steps);
        for Answer { context, covered: exactly, shown } in &world.answers {
            prop_assert_eq!(&covered(&world, context), exactly);
            prop_assert!(shown.is_subset(exactly));
        }
    }

    /// V1 and V5, on states in the middle of histories, which may be older than each other.
    #[test]
    fn merge_is_commutative_associative_and_idempotent(steps in steps(), picks in any::<[prop::sample::Index; 3]>()) {
        let world = run(&steps);
        let state = |which: usize| {
            let earlier = &world.replicas[which].earlier;
            &earlier[picks[which].index(earlier.len())].0
        };
        let (a, b, c) = (state(0), state(1), state(2));
        prop_assert_eq!(merged(a, a).encode(), a.encode());
        prop_assert_eq!(merged(a, b).encode(), merged(b, a).encode());
        prop_assert_eq!(merged(&merged(a, b), c).encode(), merged(a, &merged(b, c)).encode());
        prop_assert_eq!(merged(&merged(a, b), a).encode(), merged(a, b).encode());
        prop_assert!(merged(a, b).dominates(a) && merged(a, b).dominates(b));
        prop_assert_eq!(a.dominates(b), merged(a, b) == *a);
    }

    /// V5: whatever way writes took to a replica, the same state has the same bytes, and they come back.
    #[test]
    fn equal_states_are_equal_bytes(steps in steps()) {
        let world = run(&steps);
        let objects = || world.replicas.iter().map(|replica| &replica.object);
        let forwards = objects().fold(Object::default(), |sum, next| merged(&sum, next));
        let backwards = objects().rev().fold(Object::default(), |sum, next| merged(&sum, next));
        prop_assert_eq!(&forwards, &backwards);
        prop_assert_eq!(forwards.encode(), backwards.encode());
        for object in objects() {
            let bytes = object.encode();
            prop_assert_eq!(&Object::decode(&bytes).unwrap(), object);
            let same_bytes = bytes == forwards.encode();
            prop_assert_eq!(Object::digest(&bytes) == Object::digest(&forwards.encode()), same_bytes);
            prop_assert_eq!(object == &forwards, same_bytes);
        }
    }
}

fn write(object: &mut Object, seen: &CausalContext, dot: Dot) -> CausalContext {
    object.update(seen, Sibling { dot, value: Some(Bytes::from_static(b"v")), metadata: Metadata::default() });
    object.answer_context(seen, dot)
}

fn dot(actor: u64, counter: u64) -> Dot {
    Dot { actor: ActorId(actor), counter }
}

/// Two clients that never see each other's last write leave two siblings, however long they go on; under plain version
/// vectors it is one for each write.
#[test]
fn interleaved_clients_one_behind_leave_two_siblings() {
    let mut object = Object::default();
    let mut contexts = [CausalContext::default(), CausalContext::default()];
    for round in 1..=1_000u64 {
        let client = (round % 2) as usize;
        contexts[client] = write(&mut object, &contexts[client], dot(1, round * 10));
        assert!(object.siblings.len() <= 2, "{} siblings after {round} writes", object.siblings.len());
        assert!(contexts[client].len() <= 2, "contexts do not grow with the writes");
    }
    assert_eq!((object.siblings.len(), object.context.len()), (2, 1));
}

/// As many siblings as concurrent writers and not one more, over several coordinators.
#[test]
fn siblings_never_outnumber_the_concurrent_writers() {
    let mut replicas = [Object::default(), Object::default(), Object::default()];
    let mut contexts = vec![CausalContext::default(); 5];
    for round in 1..=500usize {
        let (client, at) = (round * 7 % 5, round * 11 % 3);
        contexts[client] = write(&mut replicas[at], &contexts[client], dot(at as u64, round as u64));
        let object = replicas[at].clone();
        replicas.iter_mut().for_each(|replica| replica.merge(object.clone()));
        assert!(replicas[at].siblings.len() <= 5);
    }
    assert_eq!(replicas[0].siblings.len(), 5);
}

/// A client that only writes, beside a sibling it has never seen, keeps a token of the same size.
#[test]
fn a_client_that_never_reads_has_a_context_that_does_not_grow() {
    let mut object = Object::default();
    write(&mut object, &CausalContext::default(), dot(1, 10));
    let mut context = CausalContext::default();
    for counter in 11..2_000 {
        context = write(&mut object, &context, dot(1, counter));
    }
    assert_eq!(object.siblings.len(), 2);
    assert_eq!(context.len(), 2, "everything below the unseen sibling, and everything above");
    assert!(!context.contains(dot(1, 10)) && context.contains(dot(1, 9)) && context.contains(dot(1, 1_999)));
}

/// One request coordinated twice is shown once, by its latest dot; a client that has seen it under the other dot
/// replaces it.
#[test]
fn a_request_coordinated_twice_is_one_version() {
    let forwarded = |dot| Sibling {
        dot,
        value: Some(Bytes::from_static(b"v")),
        metadata: Metadata { write_id: 9, ..Metadata::default() },
    };
    let nothing = CausalContext::default();
    let (mut a, mut b) = (Object::default(), Object::default());
    a.update(&nothing, forwarded(dot(1, 20)));
    b.update(&nothing, forwarded(dot(2, 10)));
    let seen_at_b = b.context.clone();
    b.merge(a.clone());
    a.merge(b.clone());
    assert_eq!(a, b);
    assert_eq!(a.dots().collect::<Vec<_>>(), [dot(1, 20)]);
    assert!(a.context.contains(dot(2, 10)));

    write(&mut a, &seen_at_b, dot(1, 30));
    assert_eq!(a.dots().collect::<Vec<_>>(), [dot(1, 30)]);
    b.merge(a.clone());
    assert_eq!(a, b);
}

/// Deletes that never see each other do not pile up: a tombstone gives way to any later write of its replica.
#[test]
fn tombstones_do_not_pile_up() {
    let mut object = Object::default();
    let mut counter = 0;
    for _ in 0..100 {
        counter += 2;
        let seen = write(&mut object, &CausalContext::default(), dot(1, counter));
        let tombstone = Sibling { dot: dot(1, counter + 1), value: None, metadata: Metadata::default() };
        object.update(&seen, tombstone);
        assert_eq!(object.siblings.len(), 1);
        assert_eq!(object.live(0).count(), 0);
    }
}

#[test]
fn expired_siblings_are_not_live() {
    let mut object = Object::default();
    let metadata = Metadata { expires_us: 100, ..Metadata::default() };
    object.update(&CausalContext::default(), Sibling { dot: dot(1, 1), value: Some(Bytes::new()), metadata });
    assert_eq!((object.live(99).count(), object.live(100).count()), (1, 0));
    assert_eq!(object.dots().count(), 1);
}

#[test]
fn pruning_keeps_the_actors_of_siblings() {
    let mut object = Object::default();
    for actor in 0..80 {
        let seen = if actor == 5 { CausalContext::default() } else { object.context.clone() };
        let seen = if actor == 79 { CausalContext::default() } else { seen };
        write(&mut object, &seen, dot(actor, 100 + actor));
    }
    let siblings: Vec<Dot> = object.dots().collect();
    let forgotten = object.prune(|actor| actor.0 == 3, 170);
    assert_eq!(forgotten, 70 - 1 - siblings.iter().filter(|dot| dot.counter < 170).count());
    assert!(siblings.iter().all(|dot| object.context.contains(*dot)));
    assert!(object.context.contains(dot(3, 103)) && object.context.contains(dot(70, 170)));
    assert!(!object.context.contains(dot(4, 104)));
    assert_eq!(Object::decode(&object.encode()).unwrap(), object);
}
