//! Single requests, event by event: which action each answer leads to.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::{
    Action, Actions, CoordinatorOptions, Event, Failure, ForwardedWrite, Now, Origin, Outcome, QuorumChoice,
    QuorumKind, Read, ReadAnswer, ReadRequest, Refusal, ReplicaError, ReplicaReply, ReplicaRequest, ReplicaValue, Want,
    Write, WriteAnswer, WriteRequest,
};
use rondo_ring::{Layout, Liveness, Member, NodeId, PartitionCount, ReplicationFactor, View};
use rondo_storage::Key;
use rondo_storage::engine::{Durability, EngineError};
use rondo_storage::store::{BlindPut, Change, StoreError, Stored, Updated};
use rondo_storage::versions::{ActorId, CausalContext, Conflict, Dot, Metadata, Object, Sibling};

const DEADLINE: Now = Duration::from_secs(5);

fn ms(ms: u64) -> Now {
    Duration::from_millis(ms)
}

fn n() -> ReplicationFactor {
    ReplicationFactor::new(3).unwrap()
}

fn key() -> Key {
    Key::new("fruit", "apple").unwrap()
}

/// Five nodes, as one of the key's owners sees them, or as a node that is none; owners first.
fn views(down: usize) -> (View, View, Vec<NodeId>) {
    let members = (1..=5).map(|i| Member { id: NodeId(i), zone: "z".into(), weight: 1 }).collect();
    let layout = Arc::new(Layout::found(members, PartitionCount::new(8).unwrap(), n()).unwrap());
    let table = View::new(NodeId(1), layout.clone(), |_| Liveness::Up);
    let owners = table.owners(key().token(), n()).to_vec();
    let other = (1..=5).map(NodeId).find(|node| !owners.contains(node)).unwrap();
    let state = |node: NodeId| {
        if owners[owners.len() - down..].contains(&node) { Liveness::Down } else { Liveness::Up }
    };
    (View::new(owners[0], layout.clone(), state), View::new(other, layout.clone(), state), owners.clone())
}

/// As an owner sees it that believes this of the last one.
fn view_with_last(liveness: Liveness) -> (View, Vec<NodeId>) {
    let (view, _, owners) = views(0);
    let state = |node: NodeId| if node == owners[2] { liveness } else { Liveness::Up };
    (View::new(owners[0], view.layout().clone(), state), owners)
}

fn written(base: &Object, actor: u64, counter: u64) -> Object {
    let dot = Dot { actor: ActorId(actor), counter };
    let value = Some(Bytes::from(format!("{actor}.{counter}")));
    let mut object = base.clone();
    object.update(&base.context.clone(), Sibling { dot, value, metadata: Metadata::default() });
    object
}

fn updated() -> Updated {
    let object = written(&Object::default(), 1, 1);
    let dot = Dot { actor: ActorId(1), counter: 1 };
    Updated {
        object: object.encode(),
        dot,
        context: object.context,
        siblings: 1,
        modified_us: 7,
        expires_us: 9,
        hinted: 0,
    }
}

fn put(view: &View, w: u8, origin: Origin) -> (Write, Actions) {
    let change = Change {
        context: None,
        blind: BlindPut::Overwrite,
        conflict: Conflict::Siblings,
        condition: None,
        value: Some(Bytes::from_static(b"red")),
        metadata: Metadata::default(),
        ttl: None,
        siblings_max: 100,
        durability: Durability::Fsync,
    };
    let w = QuorumChoice::Count(w);
    let request =
        WriteRequest { key: key(), change, n: n(), w, quorum: QuorumKind::Strict, deadline: DEADLINE, origin };
    Write::start(request, view, &CoordinatorOptions::default(), Now::ZERO)
}

fn client() -> Origin {
    Origin::Client { write_id: NonZeroU64::new(77).unwrap() }
}

fn get(view: &View, r: u8, at_least: Option<CausalContext>) -> (Read, Actions) {
    let (r, quorum) = (QuorumChoice::Count(r), QuorumKind::Strict);
    let request = ReadRequest { key: key(), n: n(), r, quorum, at_least, deadline: DEADLINE };
    Read::start(request, view, |_| None, &CoordinatorOptions::default(), Now::ZERO)
}

/// R=2 at an owner that knows in how many ms the other owners answer.
fn get_knowing(view: &View, times: [Option<u64>; 2], now: Now) -> (Read, Actions) {
    let owners = view.owners(key().token(), n());
    let known = |node| owners.iter().position(|&owner| owner == node).and_then(|place| times[place - 1]).map(ms);
    let r = QuorumChoice::Count(2);
    let request = ReadRequest { key: key(), n: n(), r, quorum: QuorumKind::Strict, at_least: None, deadline: DEADLINE };
    let known = |node| if node == view.this() { None } else { known(node) };
    Read::start(request, view, known, &CoordinatorOptions::default(), now)
}

fn late(actions: &Actions) -> Option<NodeId> {
    actions.iter().find_map(|a| if let Action::MayHedge { late } = a { Some(*late) } else { None })
}

fn wakes_at(actions: &Actions) -> Option<Now> {
    actions.iter().rev().find_map(|a| if let Action::WakeAt(at) = a { Some(*at) } else { None })
}

fn reply(from: NodeId, reply: ReplicaReply) -> Event {
    Event::Reply { from, result: Ok(reply) }
}

fn value(from: NodeId, value: ReplicaValue) -> Event {
    reply(from, ReplicaReply::Value(value))
}

fn digest(object: &Object) -> ReplicaValue {
    ReplicaValue::Digest(Object::digest(&object.encode()).unwrap())
}

fn write_answer(actions: &Actions) -> Option<Result<WriteAnswer, Failure>> {
    actions.iter().find_map(|a| if let Action::AnswerWrite(result) = a { Some(result.clone()) } else { None })
}

fn read_answer(actions: &Actions) -> Option<Result<ReadAnswer, Failure>> {
    actions.iter().find_map(|a| if let Action::AnswerRead(result) = a { Some(result.clone()) } else { None })
}

fn sends(actions: &Actions) -> Vec<(NodeId, ReplicaRequest)> {
    let send = |a: &Action| if let Action::Send { to, request, .. } = a { Some((*to, request.clone())) } else { None };
    actions.iter().filter_map(send).collect()
}

fn forwards(actions: &Actions) -> Vec<(NodeId, ForwardedWrite)> {
    let forward = |(to, request)| if let ReplicaRequest::Forward(write) = request { Some((to, *write)) } else { None };
    sends(actions).into_iter().filter_map(forward).collect()
}

fn reads(actions: &Actions, kind: Want) -> Vec<NodeId> {
    let read = |(to, request)| matches!(request, ReplicaRequest::Read { want, .. } if want == kind).then_some(to);
    sends(actions).into_iter().filter_map(read).collect()
}

fn merges(actions: &Actions) -> Vec<(NodeId, Object)> {
    let merge = |(to, request)| {
        if let ReplicaRequest::Merge { object, .. } = request {
            Some((to, Object::decode(&object).unwrap()))
        } else {
            None
        }
    };
    sends(actions).into_iter().filter_map(merge).collect()
}

fn unavailable(acked: u8, outcome: Outcome) -> Option<Result<WriteAnswer, Failure>> {
    Some(Err(Failure::Unavailable { required: 2, acked, n: 3, outcome }))
}

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
