//! Reads.

use super::*;

#[test]
fn equal_digests_are_votes() {
    let (view, _, owners) = views(0);
    let object = written(&Object::default(), 1, 1);
    let (mut read, actions) = get(&view, 2, None);
    assert!(actions.iter().any(|a| matches!(a, Action::ReadHere { .. })));
    assert_eq!((reads(&actions, Want::Digest), reads(&actions, Want::Object)), (vec![owners[1]], vec![]));
    assert_eq!(read_answer(&read.on_event(value(owners[1], digest(&object)), ms(1))), None);
    let actions = read.on_event(Event::ReadHere(Stored::Found(object.encode())), ms(2));
    assert_eq!(
        read_answer(&actions),
        Some(Ok(ReadAnswer { object, acks: 2, n: 3, sloppy: false, store: Some(ms(2)) }))
    );
    assert!(read.is_finished());
}

/// C4, C7: a different digest is fetched before it counts; both replicas get the merged state afterwards.
#[test]
fn differences_are_fetched_merged_answered_and_repaired() {
    let (view, _, owners) = views(0);
    let (left, right) = (written(&Object::default(), 1, 1), written(&Object::default(), 2, 1));
    let (mut read, _) = get(&view, 2, None);
    read.on_event(Event::ReadHere(Stored::Found(left.encode())), ms(1));
    let actions = read.on_event(value(owners[1], digest(&right)), ms(2));
    assert_eq!((read_answer(&actions), reads(&actions, Want::Object)), (None, vec![owners[1]]));
    let actions = read.on_event(value(owners[1], ReplicaValue::Object(right.encode())), ms(3));
    let mut both = left;
    both.merge(right);
    assert_eq!(read_answer(&actions).unwrap().unwrap().object, both);
    assert!(matches!(actions.first(), Some(Action::AnswerRead(_))), "the answer waits for no repair");
    assert_eq!(merges(&actions), vec![(owners[1], both)]);
    assert!(actions.iter().any(|a| matches!(a, Action::MergeHere { .. })));
    read.on_event(Event::MergedHere(Ok(())), ms(4));
    assert!(!read.is_finished());
    read.on_event(reply(owners[1], ReplicaReply::Merged), ms(5));
    assert!(read.is_finished());
}

/// C4: "unknown" is no vote, another owner is asked at once, and what could not be read is repaired.
#[test]
fn unknown_is_no_vote_and_is_repaired() {
    let (view, _, owners) = views(0);
    let object = written(&Object::default(), 1, 1);
    let (mut read, _) = get(&view, 2, None);
    let actions = read.on_event(Event::ReadHere(Stored::Unknown(None)), ms(1));
    assert_eq!(reads(&actions, Want::Object), vec![owners[2]]);
    read.on_event(value(owners[2], ReplicaValue::Object(object.encode())), ms(2));
    let actions = read.on_event(value(owners[1], digest(&object)), ms(3));
    assert_eq!(read_answer(&actions).unwrap().unwrap().acks, 2);
    assert!(actions.iter().any(|a| matches!(a, Action::MergeHere { .. })));
}

#[test]
fn a_silent_owner_is_hedged_and_a_quorum_out_of_reach_is_said_at_once() {
    let (_, view, owners) = views(0);
    let (mut read, actions) = get(&view, 2, None);
    assert_eq!((reads(&actions, Want::Object), reads(&actions, Want::Digest)), (vec![owners[0]], vec![owners[1]]));
    assert_eq!(late(&read.on_event(Event::Wake, ms(99))), None);
    let actions = read.on_event(Event::Wake, ms(100));
    assert_eq!((late(&actions), sends(&actions).len()), (Some(owners[0]), 0));
    assert_eq!(reads(&read.on_event(Event::MayHedge(true), ms(100)), Want::Object), vec![owners[2]]);
    assert_eq!(late(&read.on_event(Event::Wake, ms(200))), None, "never more than N");
    read.on_event(Event::Reply { from: owners[1], result: Err(ReplicaError::Lost) }, ms(201));
    let actions = read.on_event(reply(owners[2], ReplicaReply::Refused(Refusal::Busy)), ms(202));
    let outcome = Outcome::NotApplied;
    assert_eq!(read_answer(&actions), Some(Err(Failure::Unavailable { required: 2, acked: 0, n: 3, outcome })));
}

/// C9: whether it is late by its own standard or by that of the owner that could stand in for it.
#[test]
fn an_owner_is_late_when_the_other_would_have_answered() {
    let (view, _, owners) = views(0);
    for (times, patience) in [([Some(20), Some(30)], 20), ([Some(80), Some(7)], 7), ([Some(80), None], 80)] {
        let (mut read, actions) = get_knowing(&view, times, Now::ZERO);
        assert_eq!((reads(&actions, Want::Digest), wakes_at(&actions)), (vec![owners[1]], Some(ms(patience))));
        assert_eq!(late(&read.on_event(Event::Wake, ms(patience - 1))), None);
        assert_eq!(late(&read.on_event(Event::Wake, ms(patience))), Some(owners[1]));
        // What is denied is asked for again, and not before the longest patience has passed.
        let actions = read.on_event(Event::MayHedge(false), ms(patience));
        assert!(sends(&actions).is_empty());
        assert_eq!(late(&read.on_event(Event::Wake, ms(patience + 99))), None);
        assert_eq!(late(&read.on_event(Event::Wake, ms(patience + 100))), Some(owners[1]));
        let actions = read.on_event(Event::MayHedge(true), ms(patience + 100));
        assert_eq!(sends(&actions).into_iter().map(|(to, _)| to).collect::<Vec<_>>(), [owners[2]]);
    }
}

/// C9: also where it is asked only after another has failed.
#[test]
fn an_owner_asked_later_is_hedged_too() {
    let (view, _, owners) = views(0);
    let (mut read, actions) = get(&view, 1, None);
    assert_eq!(wakes_at(&actions), Some(DEADLINE), "nobody but this node is asked");
    let actions = read.on_event(Event::ReadHere(Stored::Unknown(None)), ms(1));
    assert_eq!((reads(&actions, Want::Object), wakes_at(&actions)), (vec![owners[1]], Some(ms(101))));
    assert_eq!(late(&read.on_event(Event::Wake, ms(101))), Some(owners[1]));
}

/// C9: an owner that is always slow is not asked first, but for a read now and then; one that nobody knows yet is.
#[test]
fn slow_owners_are_asked_last() {
    let (view, _, owners) = views(0);
    let asked = |times, now| reads(&get_knowing(&view, times, now).1, Want::Digest);
    let usual = Duration::from_micros(1);
    assert_eq!(asked([Some(80), Some(1)], usual), [owners[2]]);
    assert_eq!(asked([Some(80), Some(1)], Now::ZERO), [owners[1]], "to see whether it has recovered");
    assert_eq!(asked([Some(8), Some(1)], usual), [owners[1]], "not much slower");
    assert_eq!(asked([None, Some(1)], usual), [owners[1]]);
    assert_eq!(asked([Some(1), Some(80)], usual), [owners[1]]);
    let (down, _, owners) = views(1);
    assert_eq!(reads(&get_knowing(&down, [Some(80), Some(1)], usual).1, Want::Digest), [owners[1]], "slow, but there");
}

/// C7: also what arrives after the answer.
#[test]
fn a_late_reply_is_repaired_too() {
    let (_, view, owners) = views(0);
    let object = written(&Object::default(), 1, 1);
    let (mut read, _) = get(&view, 1, None);
    read.on_event(Event::Wake, ms(100));
    read.on_event(Event::MayHedge(true), ms(100));
    let actions = read.on_event(value(owners[1], ReplicaValue::Object(object.encode())), ms(101));
    assert!(read_answer(&actions).is_some() && !read.is_finished());
    let actions = read.on_event(value(owners[0], ReplicaValue::Missing), ms(300));
    assert_eq!(merges(&actions), vec![(owners[0], object)]);
}

#[test]
fn at_least_asks_everybody_before_it_gives_up() {
    let (view, _, owners) = views(0);
    let older = written(&Object::default(), 1, 1);
    let newer = written(&older, 1, 2);
    for reached in [true, false] {
        let (mut read, _) = get(&view, 1, Some(newer.context.clone()));
        let actions = read.on_event(Event::ReadHere(Stored::Found(older.encode())), ms(1));
        assert_eq!((read_answer(&actions), reads(&actions, Want::Object).len()), (None, 2));
        read.on_event(value(owners[1], ReplicaValue::Missing), ms(2));
        let last = if reached { &newer } else { &older };
        let actions = read.on_event(value(owners[2], ReplicaValue::Object(last.encode())), ms(3));
        let expected = if reached { Ok(newer.clone()) } else { Err(Failure::ContextNotReached) };
        assert_eq!(read_answer(&actions).unwrap().map(|answer| answer.object), expected);
    }
}

/// The contract's 503: an owner that is not taken for up and says nothing is none that can be reached. One that is taken
/// for up is waited for.
#[test]
fn at_least_does_not_wait_for_owners_that_are_away() {
    let older = written(&Object::default(), 1, 1);
    let newer = written(&older, 1, 2);
    let not_reached = Some(Err(Failure::ContextNotReached));
    for away in [Liveness::Suspect, Liveness::Down] {
        let (view, owners) = view_with_last(away);
        let (mut read, _) = get(&view, 1, Some(newer.context.clone()));
        read.on_event(Event::ReadHere(Stored::Found(older.encode())), ms(1));
        assert_eq!(read_answer(&read.on_event(value(owners[1], ReplicaValue::Missing), ms(2))), None, "it may be slow");
        let woken = [101, 201].map(|at| wakes_at(&read.on_event(Event::Wake, ms(at))));
        assert_eq!(woken, [Some(ms(201)), Some(ms(252))]);
        assert_eq!(read_answer(&read.on_event(Event::Wake, ms(252))), not_reached);
        // It comes back with what was asked for: the others get it.
        read.on_event(reply(owners[1], ReplicaReply::Merged), ms(300));
        let actions = read.on_event(value(owners[2], ReplicaValue::Object(newer.encode())), ms(400));
        assert_eq!(merges(&actions), vec![(owners[1], newer.clone())]);
    }
    let (view, owners) = view_with_last(Liveness::Up);
    let (mut read, _) = get(&view, 1, Some(newer.context.clone()));
    read.on_event(Event::ReadHere(Stored::Found(older.encode())), ms(1));
    read.on_event(value(owners[1], ReplicaValue::Missing), ms(2));
    assert_eq!(read_answer(&read.on_event(Event::Wake, ms(4_999))), None);
    assert_eq!(read_answer(&read.on_event(Event::Wake, DEADLINE)), not_reached, "R votes are there: no 504");
}

#[test]
fn a_key_that_never_was_is_an_answer() {
    let (view, _, owners) = views(0);
    let (mut read, _) = get(&view, 2, None);
    read.on_event(Event::ReadHere(Stored::Missing), ms(1));
    let actions = read.on_event(value(owners[1], ReplicaValue::Missing), ms(2));
    assert_eq!(
        read_answer(&actions),
        Some(Ok(ReadAnswer { object: Object::default(), acks: 2, n: 3, sloppy: false, store: Some(ms(1)) }))
    );
    assert!(read.is_finished());
}
