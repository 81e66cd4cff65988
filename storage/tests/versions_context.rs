//! A context is a set of dots: every operation held against plain sets of small counters.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rondo_storage::versions::{ActorId, CausalContext, Dot, EnvelopeError};

const COUNTER_MAX: u64 = 24;

fn every_dot() -> impl Iterator<Item = Dot> {
    (0..4).flat_map(|actor| (1..=COUNTER_MAX).map(move |counter| Dot { actor: ActorId(actor), counter }))
}

fn as_set(context: &CausalContext) -> BTreeSet<Dot> {
    every_dot().filter(|dot| context.contains(*dot)).collect()
}

/// A context and the same as a set: single dots, and entries of a vector.
fn contexts() -> impl Strategy<Value = (CausalContext, BTreeSet<Dot>)> {
    let entry = (0..4u64, 1..=COUNTER_MAX, prop::bool::weighted(0.1));
    prop::collection::vec(entry, 0..30).prop_map(|entries| {
        let (mut context, mut set) = (CausalContext::default(), BTreeSet::new());
        for (actor, counter, through) in entries {
            let dot = Dot { actor: ActorId(actor), counter };
            if through {
                context.insert_through(dot);
                set.extend((1..=counter).map(|counter| Dot { counter, ..dot }));
            } else {
                context.insert(dot);
                set.insert(dot);
            }
        }
        (context, set)
    })
}

proptest! {
    #[test]
    fn a_context_is_the_set_of_what_was_put_in((context, set) in contexts()) {
        prop_assert_eq!(as_set(&context), set.clone());
        prop_assert_eq!(context.is_empty(), set.is_empty());
        for actor in (0..4).map(ActorId) {
            let highest = set.iter().filter(|dot| dot.actor == actor).map(|dot| dot.counter).max();
            prop_assert_eq!(context.highest(actor), highest.unwrap_or(0));
        }
        prop_assert_eq!(context.actors().count(), context.actor_count());
        prop_assert!(context.actors().all(|(actor, highest)| highest > 0 && highest == context.highest(actor)));
    }

    #[test]
    fn join_is_union_and_covers_is_superset((a, a_set) in contexts(), (b, b_set) in contexts()) {
        let mut joined = a.clone();
        joined.join(&b);
        prop_assert_eq!(as_set(&joined), a_set.union(&b_set).copied().collect());
        prop_assert_eq!(a.covers(&b), a_set.is_superset(&b_set));
        prop_assert!(joined.covers(&a) && joined.covers(&b));
        prop_assert_eq!(a == b, a_set == b_set);
    }

    #[test]
    fn equal_sets_are_equal_bytes((context, set) in contexts()) {
        let one_by_one: CausalContext = set.iter().rev().copied().collect();
        let mut bytes = Vec::new();
        context.encode_into(&mut bytes);
        prop_assert_eq!(bytes.len(), context.encoded_len());
        prop_assert_eq!(&one_by_one, &context);
        prop_assert_eq!(CausalContext::decode(&bytes), Ok(context));
    }

    /// Bytes that decode are the bytes that the same context encodes to: there is no second spelling.
    #[test]
    fn what_decodes_is_canonical((context, _) in contexts(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let mut bytes = Vec::new();
        context.encode_into(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(other) = CausalContext::decode(&bytes) {
            let mut again = Vec::new();
            other.encode_into(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(context) = CausalContext::decode(&bytes) {
            let mut again = Vec::new();
            context.encode_into(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}

#[test]
fn the_ends_of_the_counters_are_counters_too() {
    let (first, last) =
        (Dot { actor: ActorId(u64::MAX), counter: 1 }, Dot { actor: ActorId(u64::MAX), counter: u64::MAX });
    let context: CausalContext = [first, last].into_iter().collect();
    assert!(context.contains(first) && context.contains(last));
    assert!(!context.contains(Dot { counter: u64::MAX - 1, ..last }));
    let mut whole = context.clone();
    whole.insert_through(last);
    assert_eq!(whole.len(), 1);
    for context in [context, whole] {
        let mut bytes = Vec::new();
        context.encode_into(&mut bytes);
        assert_eq!(CausalContext::decode(&bytes), Ok(context));
    }
}

#[test]
fn no_write_has_the_counter_zero() {
    let zero = Dot { actor: ActorId(1), counter: 0 };
    let mut context: CausalContext = [zero].into_iter().collect();
    context.insert_through(zero);
    assert!(context.is_empty() && !context.contains(zero));
}

#[test]
fn a_context_of_too_many_ranges_is_refused() {
    let ranges = |count: u64| -> Vec<u8> {
        let dots = (1..=count).map(|n| Dot { actor: ActorId(1), counter: n * 2 });
        let mut bytes = Vec::new();
        dots.collect::<CausalContext>().encode_into(&mut bytes);
        bytes
    };
    let max = CausalContext::RANGES_MAX as u64;
    assert!(CausalContext::decode(&ranges(max)).is_ok());
    let refused = EnvelopeError::Content("a context of too many ranges");
    assert_eq!(CausalContext::decode(&ranges(max + 1)), Err(refused));
}

#[test]
fn nothing_is_pruned_up_to_the_limit() {
    let dots = |count: u64| (1..=count).map(|actor| Dot { actor: ActorId(actor), counter: actor });
    let max = CausalContext::ACTORS_MAX as u64;
    let mut at_limit: CausalContext = dots(max).collect();
    assert_eq!(at_limit.prune(|_| false, u64::MAX), 0);
    assert_eq!(at_limit.actor_count() as u64, max);

    let mut above: CausalContext = dots(max + 1).collect();
    assert_eq!(above.prune(|actor| actor.0 == 2, 10), 8);
    let left: Vec<u64> = above.actors().map(|(actor, _)| actor.0).collect();
    assert_eq!(left, [2].into_iter().chain(10..=max + 1).collect::<Vec<_>>());
}
