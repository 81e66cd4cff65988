//! C10 and the sloppy quorum: the machines over real stores, five nodes, some of which cannot be reached.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::{
    Action, Actions, CoordinatorOptions, Event, Failure, Now, Origin, Outcome, QuorumChoice, QuorumKind, Read,
    ReadAnswer, ReadRequest, ReplicaError, ReplicaReply, ReplicaRequest, ReplicaValue, Want, Write, WriteAnswer,
    WriteRequest,
};
use rondo_ring::{Layout, Liveness, Member, NodeId, PartitionCount, ReplicationFactor, View};
use rondo_storage::Key;
use rondo_storage::engine::memory::MemoryEngine;
use rondo_storage::engine::{Durability, EngineError};
use rondo_storage::store::{BlindPut, Change, Condition, Store, StoreError, Stored, WallClock};
use rondo_storage::versions::{ActorId, CausalContext, Conflict, Metadata, Object};

const SLOPPY: QuorumKind = QuorumKind::Sloppy;
const STRICT: QuorumKind = QuorumKind::Strict;

struct Still;

impl WallClock for Still {
    fn now_us(&self) -> u64 {
        1_750_000_000_000_000
    }
}

/// Five nodes; of those in `away` nothing is heard, and those in `down` are known for it.
struct World {
    layout: Arc<Layout>,
    stores: Vec<Store>,
    away: BTreeSet<NodeId>,
    down: BTreeSet<NodeId>,
}

impl World {
    fn new(nodes: u128) -> Self {
        let q = PartitionCount::new(8).unwrap();
        let members = (1..=nodes).map(|i| Member { id: NodeId(i), zone: "z".into(), weight: 1 }).collect();
        let layout = Arc::new(Layout::found(members, q, n()).unwrap());
        let store = |i| Store::over(Arc::new(MemoryEngine::new()), Arc::new(Still), ActorId(i), q);
        let stores = (1..=nodes as u64).map(store).collect();
        Self { layout, stores, away: BTreeSet::new(), down: BTreeSet::new() }
    }

    fn view(&self, node: NodeId) -> View {
        let state = |id| if self.down.contains(&id) { Liveness::Down } else { Liveness::Up };
        View::new(node, self.layout.clone(), state)
    }

    fn owners(&self) -> Vec<NodeId> {
        self.view(NodeId(1)).owners(key().token(), n()).to_vec()
    }

    fn fallbacks(&self) -> Vec<NodeId> {
        self.view(NodeId(1)).fallbacks(key().token(), n()).to_vec()
    }

    /// They are gone, and everybody knows it.
    fn lose(&mut self, nodes: &[NodeId]) {
        self.away.extend(nodes);
        self.down.extend(nodes);
    }

    fn back(&mut self) {
        (self.away, self.down) = Default::default();
    }

    fn store(&self, node: NodeId) -> &Store {
        &self.stores[node.0 as usize - 1]
    }

    fn targets(&self, node: NodeId) -> Vec<NodeId> {
        self.store(node).hint_counts().into_iter().map(|(target, _)| target).collect()
    }

    fn held(&self, node: NodeId) -> Vec<String> {
        texts(&Store::decode(&self.store(node).read(&key())).unwrap_or_default())
    }

    /// Every hint goes to its target, as the handoff does it.
    fn deliver(&self) {
        for holder in (1..=self.stores.len() as u128).map(NodeId) {
            for target in self.targets(holder) {
                for hint in self.store(holder).hint_page(target, None, 100, 1 << 20).unwrap().hints {
                    let request = ReplicaRequest::Deliver { key: hint.key.clone(), object: hint.object };
                    assert!(matches!(self.serve(target, request), ReplicaReply::Merged));
                    assert!(self.store(holder).forget_hint(target, &hint.key, hint.digest, Box::new(|_| ())).unwrap());
                }
            }
        }
    }

    fn carry_out(&self, node: NodeId, actions: Actions, answered: &mut impl FnMut(Action)) -> Vec<Event> {
        let mut events = Vec::new();
        for action in actions {
            match action {
                Action::UpdateHere { key, change, hint_for } => {
                    events.extend(updated(|done| {
                        self.store(node).update_beside(&key, &change, &hint_for, || Some(done))
                    }));
                }
                Action::UpdateHints { key, change, hint_for } => {
                    events.extend(updated(|done| {
                        self.store(node).update_hinted(&key, &change, &hint_for, || Some(done))
                    }));
                }
                Action::HintHere { target, key, object, durability } => {
                    events.push(Event::Hinted(self.keep(node, target, &key, &object, durability)));
                }
                Action::MergeHere { key, object, durability } => {
                    events.push(Event::MergedHere(self.merge(node, &key, &object, durability)));
                }
                Action::ReadHere { key } => events.push(Event::ReadHere(self.store(node).read(&key))),
                Action::ReadHintsHere { key } => {
                    events.push(Event::ReadHere(self.store(node).read_hinted(&key).stored));
                }
                Action::Send { to, .. } if self.away.contains(&to) => {
                    events.push(Event::Reply { from: to, result: Err(ReplicaError::NotSent) });
                }
                Action::Send { to, request, .. } => {
                    events.push(Event::Reply { from: to, result: Ok(self.serve(to, request)) });
                }
                answer @ (Action::AnswerWrite(_) | Action::AnswerRead(_)) => answered(answer),
                Action::MayHedge { .. } => events.push(Event::MayHedge(true)),
                Action::WakeAt(_) => {}
            }
        }
        events
    }

    fn merge(&self, node: NodeId, key: &Key, object: &Bytes, durability: Durability) -> Result<(), StoreError> {
        self.store(node).merge(key, object, durability, Box::new(|result| result.unwrap())).map(|_| ())
    }

    fn keep(
        &self,
        node: NodeId,
        target: NodeId,
        key: &Key,
        object: &Bytes,
        durability: Durability,
    ) -> Result<(), StoreError> {
        self.store(node).keep_hint(target, key, object, durability, || Some(Box::new(|result| result.unwrap())))
    }

    fn serve(&self, node: NodeId, request: ReplicaRequest) -> ReplicaReply {
        match request {
            ReplicaRequest::Merge { key, object, durability } => {
                ReplicaReply::to_merge(self.merge(node, &key, &object, durability))
            }
            ReplicaRequest::Deliver { key, object } => {
                ReplicaReply::to_merge(self.merge(node, &key, &object, Durability::Fsync))
            }
            ReplicaRequest::Hint { target, key, object, durability } => {
                ReplicaReply::to_merge(self.keep(node, target, &key, &object, durability))
            }
            ReplicaRequest::Read { key, want: Want::Hinted } => {
                ReplicaReply::Value(ReplicaValue::of(self.store(node).read_hinted(&key).stored, Want::Hinted))
            }
            ReplicaRequest::Read { key, want } => {
                ReplicaReply::Value(ReplicaValue::of(self.store(node).read(&key), want))
            }
            ReplicaRequest::Forward(write) => match write.into_request(Now::ZERO, Now::ZERO) {
                Ok(request) => ReplicaReply::Forwarded(self.run_write(node, request)),
                Err(refusal) => ReplicaReply::Refused(refusal),
            },
            ReplicaRequest::List(_) => panic!("nothing is listed"),
        }
    }

    fn run_write(&self, node: NodeId, request: WriteRequest) -> Result<WriteAnswer, Failure> {
        let (mut write, actions) = Write::start(request, &self.view(node), &CoordinatorOptions::default(), Now::ZERO);
        let mut answer = None;
        let mut take = |a| {
            if let Action::AnswerWrite(result) = a {
                assert!(answer.replace(result).is_none(), "C6: answered once");
            }
        };
        let mut events = VecDeque::from(self.carry_out(node, actions, &mut take));
        while let Some(event) = events.pop_front() {
            events.extend(self.carry_out(node, write.on_event(event, Now::ZERO), &mut take));
        }
        assert!(write.is_finished());
        answer.unwrap()
    }

    fn put(&self, node: NodeId, w: u8, quorum: QuorumKind, value: &str) -> Result<WriteAnswer, Failure> {
        self.run_write(node, request(w, quorum, change(Some(value))))
    }

    fn get(&self, node: NodeId, r: u8, quorum: QuorumKind) -> Result<ReadAnswer, Failure> {
        self.get_at_least(node, r, quorum, None)
    }

    fn get_at_least(
        &self,
        node: NodeId,
        r: u8,
        quorum: QuorumKind,
        at_least: Option<CausalContext>,
    ) -> Result<ReadAnswer, Failure> {
        let (r, deadline) = (QuorumChoice::Count(r), Duration::from_secs(5));
        let request = ReadRequest { key: key(), n: n(), r, quorum, at_least, deadline };
        let options = CoordinatorOptions::default();
        let (mut read, actions) = Read::start(request, &self.view(node), |_| None, &options, Now::ZERO);
        let mut answer = None;
        let mut take = |a| {
            if let Action::AnswerRead(result) = a {
                answer = Some(result);
            }
        };
        let mut events = VecDeque::from(self.carry_out(node, actions, &mut take));
        while let Some(event) = events.pop_front() {
            events.extend(self.carry_out(node, read.on_event(event, Now::ZERO), &mut take));
        }
        assert!(read.is_finished());
        answer.unwrap()
    }
}

fn updated(
    update: impl FnOnce(
        Box<dyn FnOnce(Result<(), EngineError>) + Send>,
    ) -> Result<rondo_storage::store::Updated, StoreError>,
) -> Vec<Event> {
    let (done, is_done) = channel();
    let updated = update(Box::new(move |result| done.send(result).unwrap()));
    let queued = updated.is_ok();
    let durable = queued.then(|| Event::Durable(is_done.recv().unwrap()));
    [Some(Event::Updated(updated)), durable].into_iter().flatten().collect()
}

fn n() -> ReplicationFactor {
    ReplicationFactor::new(3).unwrap()
}

fn key() -> Key {
    Key::new("fruit", "apple").unwrap()
}

fn change(value: Option<&str>) -> Change {
    Change {
        context: None,
        blind: BlindPut::Overwrite,
        conflict: Conflict::Siblings,
        condition: None,
        value: value.map(|v| Bytes::from(v.to_owned())),
        metadata: Metadata::default(),
        ttl: None,
        siblings_max: 100,
        durability: Durability::Fsync,
    }
}

fn request(w: u8, quorum: QuorumKind, change: Change) -> WriteRequest {
    let origin = Origin::Client { write_id: NonZeroU64::MIN };
    let (w, deadline) = (QuorumChoice::Count(w), Duration::from_secs(5));
    WriteRequest { key: key(), change, n: n(), w, quorum, deadline, origin }
}

fn texts(object: &Object) -> Vec<String> {
    let text = |v: &Bytes| String::from_utf8(v.to_vec()).unwrap();
    object.live(u64::MAX).filter_map(|s| s.value.as_ref().map(text)).collect()
}

/// C10, strict: the hint is kept here, counts for nothing, and the owner gets exactly what it missed.
#[test]
fn an_owner_that_is_down_gets_what_it_missed() {
    let mut world = World::new(5);
    let owners = world.owners();
    world.put(owners[0], 3, STRICT, "before").unwrap();
    world.lose(&owners[2..]);
    let answer = world.put(owners[0], 2, STRICT, "after").unwrap();
    assert_eq!((answer.acks, answer.hinted, answer.sloppy), (2, 1, false));
    assert_eq!(world.targets(owners[0]), [owners[2]]);
    let refused = world.put(owners[0], 3, STRICT, "more").unwrap_err();
    assert_eq!(refused, Failure::Unavailable { required: 3, acked: 0, n: 3, outcome: Outcome::NotApplied });
    world.back();
    world.deliver();
    assert_eq!((world.held(owners[2]), world.targets(owners[0])), (vec!["after".to_owned()], vec![]));
}

/// C10: the same for one of which nobody knew, from the moment the own write is durable.
#[test]
fn an_owner_that_does_not_answer_gets_what_it_missed() {
    let mut world = World::new(5);
    let owners = world.owners();
    world.away.insert(owners[1]);
    world.put(owners[0], 1, STRICT, "one").unwrap();
    assert_eq!(world.targets(owners[0]), [owners[1]]);
    world.away.insert(owners[2]);
    let unmet = world.put(owners[0], 2, STRICT, "two").unwrap_err();
    assert_eq!(unmet, Failure::Unavailable { required: 2, acked: 1, n: 3, outcome: Outcome::Unknown });
    world.back();
    world.deliver();
    assert_eq!(world.held(owners[1]), ["two"]);
    assert_eq!(world.held(owners[2]), ["two"]);
}

/// The promise of the sloppy quorum: two of three owners are gone, the write is taken, and is on them once they are back.
#[test]
fn a_sloppy_write_with_two_of_three_owners_gone_is_on_them_later() {
    for known in [true, false] {
        let mut world = World::new(5);
        let (owners, fallbacks) = (world.owners(), world.fallbacks());
        if known {
            world.lose(&owners[1..]);
        } else {
            world.away.extend(&owners[1..]);
        }
        let answer = world.put(owners[0], 2, SLOPPY, "red").unwrap();
        assert!(answer.acks >= 2 && answer.sloppy && answer.hinted >= 1, "{answer:?}");
        assert_eq!(world.targets(fallbacks[0]).len(), 1);
        assert_eq!(world.held(fallbacks[0]), Vec::<String>::new(), "a stand-in is no owner");
        world.back();
        world.deliver();
        for &owner in &owners {
            assert_eq!(world.held(owner), ["red"]);
        }
    }
}

/// One node counts once: in a cluster of three there is nobody to stand in.
#[test]
fn without_further_nodes_a_sloppy_quorum_is_a_strict_one() {
    let mut world = World::new(3);
    let owners = world.owners();
    world.lose(&owners[1..]);
    let refused = world.put(owners[0], 2, SLOPPY, "red").unwrap_err();
    assert_eq!(refused, Failure::Unavailable { required: 2, acked: 0, n: 3, outcome: Outcome::NotApplied });
    let answer = world.put(owners[0], 1, SLOPPY, "red").unwrap();
    assert_eq!((answer.acks, answer.hinted, answer.sloppy), (1, 2, false));
    assert!(matches!(world.get(owners[0], 2, SLOPPY), Err(Failure::Unavailable { required: 2, acked: 1, .. })));
}

/// A sloppy quorum whose owners are all there is a strict one, and says so.
#[test]
fn nobody_stands_in_for_owners_that_are_there() {
    let world = World::new(5);
    let owners = world.owners();
    let answer = world.put(owners[0], 3, SLOPPY, "red").unwrap();
    assert_eq!((answer.acks, answer.hinted, answer.sloppy), (3, 0, false));
    assert!(!world.get(owners[0], 3, SLOPPY).unwrap().sloppy);
    assert!((1..=5).all(|node| world.targets(NodeId(node)).is_empty()));
}

/// C1: no owner can be reached, a stand-in coordinates, and the owners hold one version of one dot.
#[test]
fn with_all_owners_gone_a_stand_in_coordinates_once() {
    for (entry, known) in [(0, true), (0, false), (1, true), (1, false)] {
        let mut world = World::new(5);
        let (owners, fallbacks) = (world.owners(), world.fallbacks());
        if known {
            world.lose(&owners);
        } else {
            world.away.extend(&owners);
        }
        let first = world.put(fallbacks[entry], 2, SLOPPY, "first").unwrap();
        assert_eq!((first.acks, first.n, first.sloppy), (2, 3, true));
        let second = world.put(fallbacks[entry], 2, SLOPPY, "second").unwrap();
        assert!(second.dot > first.dot && second.siblings == 1, "it builds on what is kept");
        let read = world.get(fallbacks[1 - entry], 2, SLOPPY).unwrap();
        assert_eq!((texts(&read.object), read.acks, read.sloppy), (vec!["second".to_owned()], 2, true));
        let strict = world.put(fallbacks[entry], 1, STRICT, "never").unwrap_err();
        assert!(matches!(strict, Failure::Unavailable { outcome: Outcome::NotApplied, .. }), "{strict:?}");
        world.back();
        world.deliver();
        for &owner in &owners {
            let object = Store::decode(&world.store(owner).read(&key())).unwrap();
            assert_eq!(object.dots().collect::<Vec<_>>(), [second.dot], "entry {entry}, known {known}");
        }
    }
}

/// What a condition is about is at the owners.
#[test]
fn no_stand_in_judges_a_condition() {
    let mut world = World::new(5);
    world.lose(&world.owners());
    let conditional = Change { condition: Some(Condition::Absent), ..change(Some("red")) };
    let refused = world.run_write(world.fallbacks()[0], request(1, SLOPPY, conditional)).unwrap_err();
    assert!(matches!(refused, Failure::Unavailable { outcome: Outcome::NotApplied, .. }), "{refused:?}");
}

/// C4: stand-ins that keep nothing of the key say nothing about it; beside an owner they make up the number.
#[test]
fn stand_ins_that_know_of_nothing_are_no_answer() {
    let mut world = World::new(5);
    let (owners, fallbacks) = (world.owners(), world.fallbacks());
    world.put(owners[0], 3, STRICT, "red").unwrap();
    world.lose(&owners[1..]);
    let read = world.get(owners[0], 2, SLOPPY).unwrap();
    assert_eq!((texts(&read.object), read.acks, read.sloppy), (vec!["red".to_owned()], 2, true));
    world.lose(&owners);
    assert!(matches!(world.get(fallbacks[0], 1, SLOPPY), Err(Failure::Unavailable { .. })));
    assert!(matches!(world.get(fallbacks[0], 1, STRICT), Err(Failure::Unavailable { .. })));
}

/// A context names a write that only a stand-in has: a sloppy read finds it there.
#[test]
fn a_context_is_found_where_it_is_kept() {
    let mut world = World::new(5);
    let owners = world.owners();
    world.put(owners[0], 3, STRICT, "old").unwrap();
    world.lose(&owners[..2]);
    let written = world.put(owners[2], 2, SLOPPY, "new").unwrap();
    world.back();
    world.lose(&owners[2..]);
    let context = Some(written.context);
    let read = world.get_at_least(owners[0], 2, SLOPPY, context.clone()).unwrap();
    assert_eq!(texts(&read.object), ["new"]);
    assert_eq!(world.held(owners[1]), ["new"], "C7: the owners that lack it get it");
    let strict = world.get_at_least(owners[0], 2, STRICT, context).unwrap();
    assert_eq!(texts(&strict.object), ["new"], "by then they have it");
}

/// A stand-in that has no room is passed over.
#[test]
fn the_next_one_is_asked_where_one_refuses() {
    let mut world = World::new(5);
    let (owners, fallbacks) = (world.owners(), world.fallbacks());
    world.away.insert(fallbacks[0]);
    world.lose(&owners[1..2]);
    let answer = world.put(owners[0], 3, SLOPPY, "red").unwrap();
    assert_eq!((answer.acks, answer.sloppy), (3, true));
    assert_eq!(world.targets(fallbacks[1]), [owners[1]]);
    assert!(matches!(world.store(fallbacks[0]).read_hinted(&key()).stored, Stored::Missing));
}

/// An owner that says nothing is not waited for to the end: its stand-in is asked after a while, and one of them counts.
#[test]
fn a_silent_owner_is_stood_in_for_after_a_while() {
    let world = World::new(5);
    let (owners, fallbacks) = (world.owners(), world.fallbacks());
    let (mut write, _) = Write::start(
        request(2, SLOPPY, change(Some("red"))),
        &world.view(owners[0]),
        &CoordinatorOptions::default(),
        Now::ZERO,
    );
    let of_update =
        updated(|done| world.store(owners[0]).update_beside(&key(), &change(Some("red")), &[], || Some(done)));
    let mut hints = Vec::new();
    let mut wakes = None;
    for event in of_update {
        for action in write.on_event(event, Now::ZERO) {
            if let Action::WakeAt(at) = action {
                wakes = Some(at);
            }
        }
    }
    assert_eq!(wakes, Some(Duration::from_millis(400)));
    for action in write.on_event(Event::Wake, Duration::from_millis(400)) {
        if let Action::Send { to, request: ReplicaRequest::Hint { target, .. }, .. } = action {
            hints.push((to, target));
        }
    }
    hints.sort_by_key(|(to, _)| fallbacks.iter().position(|node| node == to));
    assert_eq!(hints.iter().map(|(to, _)| *to).collect::<Vec<_>>(), fallbacks);
    let reply = Event::Reply { from: hints[0].0, result: Ok(ReplicaReply::Merged) };
    let answered = write.on_event(reply, Duration::from_millis(401));
    let answer =
        answered.iter().find_map(|a| if let Action::AnswerWrite(result) = a { Some(result.clone()) } else { None });
    let answer = answer.unwrap().unwrap();
    assert_eq!((answer.acks, answer.hinted, answer.sloppy), (2, 1, true));
    for from in [hints[0].1, hints[1].1, hints[1].0] {
        let reply = Event::Reply { from, result: Ok(ReplicaReply::Merged) };
        assert!(write.on_event(reply, Duration::from_millis(500)).is_empty());
    }
    assert!(write.is_finished());
}
