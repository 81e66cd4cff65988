//! Writes that an owner coordinates.

use super::*;

/// C2: all owners are sent the write while the own fsync runs; the answer comes with the second durable ack.
#[test]
fn an_owner_writes_here_and_sends_to_all_others_at_once() {
    let (view, _, owners) = views(0);
    let (mut write, actions) = put(&view, 2, client());
    assert!(actions.iter().any(|a| matches!(a, Action::UpdateHere { .. })) && sends(&actions).is_empty());
    let actions = write.on_event(Event::Updated(Ok(updated())), ms(1));
    let sent: Vec<_> = merges(&actions).into_iter().map(|(to, _)| to).collect();
    assert_eq!((sent.len(), sent.contains(&owners[0])), (2, false));
    assert_eq!(write_answer(&write.on_event(reply(owners[2], ReplicaReply::Merged), ms(2))), None);
    let answer = write_answer(&write.on_event(Event::Durable(Ok(())), ms(3))).unwrap().unwrap();
    assert_eq!((answer.acks, answer.n, answer.siblings), (2, 3, 1));
    assert!(!write.is_finished(), "one owner has not said anything");
    let late = write.on_event(reply(owners[1], ReplicaReply::Merged), ms(4));
    assert!(late.is_empty() && write.is_finished());
}

#[test]
fn a_failed_disk_here_does_not_fail_what_two_others_have() {
    let (view, _, owners) = views(0);
    let (mut write, _) = put(&view, 2, client());
    write.on_event(Event::Updated(Ok(updated())), ms(1));
    write.on_event(Event::Durable(Err(EngineError::DiskFull)), ms(2));
    write.on_event(reply(owners[1], ReplicaReply::Merged), ms(3));
    let answer = write_answer(&write.on_event(reply(owners[2], ReplicaReply::Merged), ms(4)));
    assert_eq!(answer.unwrap().unwrap().acks, 2);
}

/// C3: the same failures, told apart by whether every owner said that it does not have the write.
#[test]
fn not_applied_is_said_only_when_nobody_can_have_it() {
    let refused = || Ok(ReplicaReply::Refused(Refusal::LowDisk));
    let failed = || Event::Durable(Err(EngineError::DiskFull));
    let cases = [
        (refused(), refused(), Outcome::NotApplied),
        (Err(ReplicaError::NotSent), refused(), Outcome::NotApplied),
        (refused(), Err(ReplicaError::Lost), Outcome::Unknown),
        (Err(ReplicaError::TimedOut), refused(), Outcome::Unknown),
    ];
    for (first, second, outcome) in cases {
        let (view, _, owners) = views(0);
        let (mut write, _) = put(&view, 1, client());
        write.on_event(Event::Updated(Ok(updated())), ms(1));
        write.on_event(Event::Reply { from: owners[1], result: first }, ms(2));
        write.on_event(failed(), ms(2));
        let answer = write_answer(&write.on_event(Event::Reply { from: owners[2], result: second }, ms(3)));
        assert_eq!(answer, Some(Err(Failure::Unavailable { required: 1, acked: 0, n: 3, outcome })));
        assert!(write.is_finished());
    }
}

#[test]
fn an_impossible_quorum_is_answered_before_the_deadline() {
    let (view, _, owners) = views(0);
    let (mut write, _) = put(&view, 2, client());
    write.on_event(Event::Updated(Ok(updated())), ms(1));
    write.on_event(Event::Durable(Ok(())), ms(2));
    write.on_event(Event::Reply { from: owners[1], result: Err(ReplicaError::NotSent) }, ms(3));
    let actions = write.on_event(Event::Reply { from: owners[2], result: Err(ReplicaError::Lost) }, ms(4));
    assert_eq!(write_answer(&actions), unavailable(1, Outcome::Unknown));
}

/// C3: nothing is written where the owners known to be down rule W out.
#[test]
fn known_dead_owners_fail_the_write_before_it_begins() {
    let (view, _, _) = views(2);
    let (write, actions) = put(&view, 2, client());
    assert_eq!(write_answer(&actions), unavailable(0, Outcome::NotApplied));
    assert!(actions.len() == 1 && write.is_finished());
}

/// C6.
#[test]
fn the_deadline_answers_once() {
    let (view, _, owners) = views(0);
    let (mut write, _) = put(&view, 2, client());
    write.on_event(Event::Updated(Ok(updated())), ms(1));
    write.on_event(Event::Durable(Ok(())), ms(2));
    assert_eq!(write_answer(&write.on_event(Event::Wake, ms(3))), None);
    let late = Failure::TimedOut { required: 2, acked: 1, n: 3, outcome: Outcome::Unknown };
    assert_eq!(write_answer(&write.on_event(Event::Wake, DEADLINE)), Some(Err(late)));
    assert!(write.on_event(reply(owners[1], ReplicaReply::Merged), DEADLINE).is_empty());
}

/// A failed condition is the answer at once, and nothing goes to anybody.
#[test]
fn a_failed_condition_ends_the_write_where_it_was_judged() {
    let (view, _, _) = views(0);
    for origin in [client(), Origin::Peer] {
        let (mut write, _) = put(&view, 2, origin);
        let (etag, context) = (None, CausalContext::default());
        let refused = StoreError::ConditionFailed { etag: etag.clone(), context: context.clone() };
        let actions = write.on_event(Event::Updated(Err(refused)), ms(1));
        assert_eq!(write_answer(&actions), Some(Err(Failure::ConditionFailed { etag, context })));
        assert!(sends(&actions).is_empty() && write.is_finished());
    }
}
