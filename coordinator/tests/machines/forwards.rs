//! Writes that another owner is to coordinate.

use super::*;

/// C1: refused and unreachable owners cannot have begun it; a silent one may, and the next gets the same write id.
#[test]
fn a_write_is_forwarded_to_the_next_owner_only_where_that_is_safe() {
    let (_, view, owners) = views(0);
    let (mut write, actions) = put(&view, 2, client());
    let (first, sent) = forwards(&actions).pop().unwrap();
    assert_eq!((first, sent.change.metadata.write_id, sent.start_within_ms), (owners[0], 77, 400));
    let actions = write.on_event(reply(first, ReplicaReply::Refused(Refusal::Damaged)), ms(1));
    let (second, _) = forwards(&actions).pop().unwrap();
    assert!(forwards(&write.on_event(Event::Wake, ms(399))).is_empty(), "it has 400 ms from when it was asked");
    let (third, sent) = forwards(&write.on_event(Event::Wake, ms(401))).pop().unwrap();
    assert_eq!((third, sent.change.metadata.write_id), (owners[2], 77));
    let Updated { dot, context, .. } = updated();
    let answer = WriteAnswer {
        dot,
        context,
        siblings: 1,
        modified_us: 7,
        expires_us: 9,
        acks: 2,
        n: 3,
        hinted: 0,
        sloppy: false,
    };
    let actions = write.on_event(reply(third, ReplicaReply::Forwarded(Ok(answer.clone()))), ms(500));
    assert_eq!(write_answer(&actions), Some(Ok(answer.clone())));
    assert!(write.on_event(reply(second, ReplicaReply::Forwarded(Ok(answer))), ms(900)).is_empty());
}

/// C1: a node that was stopped reads what came meanwhile before it has another owner do the same write again.
#[test]
fn a_wake_up_that_comes_late_asks_nobody_yet() {
    let (_, view, owners) = views(0);
    let (mut write, _) = put(&view, 2, client());
    let actions = write.on_event(Event::Wake, ms(3_000));
    assert!(forwards(&actions).is_empty());
    assert!(actions.iter().any(|action| matches!(action, Action::WakeAt(at) if *at == ms(3_100))), "{actions:?}");
    let (second, _) = forwards(&write.on_event(Event::Wake, ms(3_101))).pop().unwrap();
    assert_eq!(second, owners[1]);
}

#[test]
fn owners_that_all_refuse_are_not_applied_and_a_lost_one_is_unknown() {
    let (_, view, owners) = views(0);
    for (lost, outcome) in [(false, Outcome::NotApplied), (true, Outcome::Unknown)] {
        let (mut write, _) = put(&view, 2, client());
        let first = if lost { Err(ReplicaError::Lost) } else { Ok(ReplicaReply::Refused(Refusal::Damaged)) };
        write.on_event(Event::Reply { from: owners[0], result: first }, ms(1));
        write.on_event(Event::Reply { from: owners[1], result: Err(ReplicaError::NotSent) }, ms(2));
        let actions = write.on_event(reply(owners[2], ReplicaReply::Forwarded(Err(Failure::LowDisk))), ms(3));
        assert_eq!(write_answer(&actions), unavailable(0, outcome));
    }
}

/// A machine that stalls as a whole makes every owner refuse what waited: none has begun it, so each is asked again.
#[test]
fn owners_to_whom_it_came_too_late_are_asked_again() {
    let (_, view, owners) = views(0);
    let (mut write, _) = put(&view, 2, client());
    let expired = |owner: NodeId| reply(owner, ReplicaReply::Refused(Refusal::Expired));
    let mut at = 1;
    for round in 0..3 {
        for (place, &owner) in owners[..3].iter().enumerate() {
            let actions = write.on_event(expired(owner), ms(at));
            assert_eq!(write_answer(&actions), None, "round {round}");
            assert_eq!(forwards(&actions).pop().map(|(to, _)| to), owners[..3].get(place + 1).copied());
        }
        at += 101;
        assert_eq!(forwards(&write.on_event(Event::Wake, ms(at))).pop().unwrap().0, owners[0], "round {round}");
    }
    write.on_event(Event::Reply { from: owners[0], result: Err(ReplicaError::NotSent) }, ms(at));
    write.on_event(expired(owners[1]), ms(at));
    let actions = write.on_event(expired(owners[2]), ms(at));
    assert_eq!(write_answer(&actions), None);
    assert_eq!(forwards(&write.on_event(Event::Wake, ms(at + 101))).pop().unwrap().0, owners[1]);
    let Updated { dot, context, .. } = updated();
    let answer = WriteAnswer {
        dot,
        context,
        siblings: 1,
        modified_us: 7,
        expires_us: 9,
        acks: 2,
        n: 3,
        hinted: 0,
        sloppy: false,
    };
    let actions = write.on_event(reply(owners[1], ReplicaReply::Forwarded(Ok(answer.clone()))), ms(at + 110));
    assert_eq!(write_answer(&actions), Some(Ok(answer)));
}

/// One to whom it came too late is also asked again where another says nothing.
#[test]
fn an_owner_to_whom_it_came_too_late_is_asked_again_beside_a_silent_one() {
    let (_, view, owners) = views(0);
    let (mut write, _) = put(&view, 2, client());
    write.on_event(Event::Reply { from: owners[0], result: Err(ReplicaError::NotSent) }, ms(1));
    let actions = write.on_event(reply(owners[1], ReplicaReply::Refused(Refusal::Expired)), ms(2));
    assert_eq!(wakes_at(&actions), Some(ms(402)));
    let actions = write.on_event(Event::Wake, ms(402));
    assert_eq!(forwards(&actions).pop().map(|(to, _)| to), Some(owners[1]), "{actions:?}");
}

/// Asking again ends with the deadline, and what is said then is true.
#[test]
fn what_came_too_late_everywhere_until_the_deadline_is_not_applied() {
    let (_, view, owners) = views(0);
    let (mut write, _) = put(&view, 2, client());
    for &owner in &owners[..3] {
        write.on_event(reply(owner, ReplicaReply::Refused(Refusal::Expired)), DEADLINE - ms(1));
    }
    let actions = write.on_event(Event::Wake, DEADLINE);
    let failure = Failure::TimedOut { required: 2, acked: 0, n: 3, outcome: Outcome::NotApplied };
    assert_eq!(write_answer(&actions), Some(Err(failure)));
}

/// "Nothing was written" is true of the owner that says it, not of one that was lost.
#[test]
fn a_refusal_after_a_lost_owner_is_unknown() {
    let (_, view, owners) = views(0);
    let context = CausalContext::default();
    let too_many = Failure::TooManySiblings { count: 9, max: 8, context: context.clone() };
    for refusal in [too_many, Failure::ConditionFailed { etag: None, context }] {
        let (mut write, _) = put(&view, 2, client());
        let actions = write.on_event(reply(owners[0], ReplicaReply::Forwarded(Err(refusal.clone()))), ms(1));
        assert_eq!(write_answer(&actions), Some(Err(refusal.clone())));
        let (mut write, _) = put(&view, 2, client());
        write.on_event(Event::Reply { from: owners[0], result: Err(ReplicaError::Lost) }, ms(1));
        let actions = write.on_event(reply(owners[1], ReplicaReply::Forwarded(Err(refusal))), ms(2));
        assert_eq!(write_answer(&actions), unavailable(0, Outcome::Unknown));
    }
}

/// Neither is it true of one that is silent: what that one did is waited for, and not until the deadline.
#[test]
fn a_refusal_beside_a_silent_owner_is_unknown_before_long() {
    let (_, view, owners) = views(0);
    let refused = || {
        let failure = Failure::ConditionFailed { etag: None, context: CausalContext::default() };
        reply(owners[1], ReplicaReply::Forwarded(Err(failure)))
    };
    let begin = || {
        let (mut write, _) = put(&view, 2, client());
        write.on_event(Event::Wake, ms(400));
        let actions = write.on_event(refused(), ms(410));
        assert_eq!(write_answer(&actions), None);
        assert!(actions.iter().any(|a| matches!(a, Action::WakeAt(at) if *at == ms(810))), "{actions:?}");
        write
    };
    let actions = begin().on_event(Event::Wake, ms(810));
    assert_eq!(write_answer(&actions), unavailable(0, Outcome::Unknown));
    // It had not begun: then the refusal stands.
    let actions = begin().on_event(reply(owners[0], ReplicaReply::Refused(Refusal::Expired)), ms(500));
    assert!(matches!(write_answer(&actions), Some(Err(Failure::ConditionFailed { .. }))), "{actions:?}");
}

/// C1: a damaged owner, or one that cannot judge a condition, hands its client's write on, but never one that was
/// handed to it.
#[test]
fn a_damaged_or_distrusted_owner_forwards_only_its_own_clients_writes() {
    let (view, _, owners) = views(0);
    for reason in [StoreError::Damaged, StoreError::Distrusted] {
        let (mut write, _) = put(&view, 2, client());
        let actions = write.on_event(Event::Updated(Err(reason.clone())), ms(1));
        assert_eq!(forwards(&actions).pop().unwrap().0, owners[1]);
        let (mut write, _) = put(&view, 2, Origin::Peer);
        let actions = write.on_event(Event::Updated(Err(reason)), ms(1));
        assert_eq!(write_answer(&actions), unavailable(0, Outcome::NotApplied));
        assert!(sends(&actions).is_empty());
    }
}

#[test]
fn a_forwarded_write_that_comes_too_late_is_not_begun() {
    let (_, view, _) = views(0);
    let (_, actions) = put(&view, 2, client());
    let (_, sent) = forwards(&actions).pop().unwrap();
    let request = sent.clone().into_request(ms(399), DEADLINE).unwrap();
    assert_eq!((request.origin, request.deadline), (Origin::Peer, DEADLINE + ms(4_980 - 399)));
    assert_eq!(sent.into_request(ms(400), DEADLINE).unwrap_err(), Refusal::Expired);
}
