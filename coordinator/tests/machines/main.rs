//! Single requests, event by event: which action each answer leads to. What all of them need is here.

#![allow(clippy::unwrap_used, reason = "test helpers")]

mod busy;
mod forwards;
mod reads;
mod writes;

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
