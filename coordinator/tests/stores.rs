//! The machines over the real store and the in-memory engine: what the simulation's own store leaves out.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::{
    Action, Actions, CoordinatorOptions, Event, Failure, Now, Origin, Outcome, QuorumChoice, QuorumKind, Read,
    ReadAnswer, ReadRequest, ReplicaError, ReplicaReply, ReplicaRequest, ReplicaValue, Write, WriteAnswer,
    WriteRequest,
};
use rondo_ring::{Layout, Liveness, Member, NodeId, PartitionCount, ReplicationFactor, View};
use rondo_storage::Key;
use rondo_storage::engine::Durability;
use rondo_storage::engine::memory::MemoryEngine;
use rondo_storage::store::{BlindPut, Change, Condition, Store, Stored, Ttl, WallClock};
use rondo_storage::versions::{ActorId, CausalContext, Conflict, ETag, Metadata};

/// A clock that goes on by a microsecond whenever it is asked.
struct Ticks(Mutex<u64>);

impl Ticks {
    fn step(&self, us: u64) {
        *self.0.lock().unwrap() += us;
    }
}

impl WallClock for Ticks {
    fn now_us(&self) -> u64 {
        let mut ticks = self.0.lock().unwrap();
        *ticks += 1;
        *ticks
    }
}

struct Cluster {
    layout: Arc<Layout>,
    stores: Vec<Store>,
    /// One for each store.
    clocks: Vec<Arc<Ticks>>,
    /// Cannot be reached; the others do not know yet.
    away: Option<NodeId>,
}

impl Cluster {
    fn new() -> Self {
        let (q, n) = (PartitionCount::new(8).unwrap(), ReplicationFactor::new(3).unwrap());
        let members = (1..=3).map(|i| Member { id: NodeId(i), zone: "z".into(), weight: 1 }).collect();
        let layout = Arc::new(Layout::found(members, q, n).unwrap());
        // A second apart.
        let clocks: Vec<_> = (1..=3).map(|i| Arc::new(Ticks(Mutex::new(1_000_000 * i)))).collect();
        let store =
            |(clock, i): (&Arc<Ticks>, u64)| Store::over(Arc::new(MemoryEngine::new()), clock.clone(), ActorId(i), q);
        let stores = clocks.iter().zip(1..).map(store).collect();
        Self { layout, stores, clocks, away: None }
    }

    fn view(&self, node: u128) -> View {
        View::new(NodeId(node), self.layout.clone(), |_| Liveness::Up)
    }

    fn store(&self, node: NodeId) -> &Store {
        &self.stores[node.0 as usize - 1]
    }

    /// Everything an action of this node leads to; answers go to `answered`.
    fn carry_out(&self, node: NodeId, actions: Actions, answered: &mut impl FnMut(Action)) -> Vec<Event> {
        let mut events = Vec::new();
        for action in actions {
            match action {
                Action::UpdateHere { key, change, .. } => {
                    let (done, is_done) = channel();
                    let updated = self.store(node).update(&key, change, Box::new(move |r| done.send(r).unwrap()));
                    let queued = updated.is_ok();
                    events.push(Event::Updated(updated));
                    events.extend(queued.then(|| Event::Durable(is_done.recv().unwrap())));
                }
                Action::MergeHere { key, object, durability } => {
                    events.push(Event::MergedHere(self.merge(node, &key, &object, durability)));
                }
                Action::HintHere { target, key, object, durability } => {
                    let kept = self.store(node).keep_hint(target, &key, &object, durability, || Some(Box::new(|_| ())));
                    events.push(Event::Hinted(kept));
                }
                Action::UpdateHints { .. } | Action::ReadHintsHere { .. } => panic!("every quorum is strict"),
                Action::ReadHere { key } => events.push(Event::ReadHere(self.store(node).read(&key))),
                Action::Send { to, .. } if self.away == Some(to) => {
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

    fn merge(
        &self,
        node: NodeId,
        key: &Key,
        object: &Bytes,
        durability: Durability,
    ) -> Result<(), rondo_storage::store::StoreError> {
        let (done, is_done) = channel();
        self.store(node).merge(key, object, durability, Box::new(move |r| done.send(r).unwrap()))?;
        Ok(is_done.recv().unwrap()?)
    }

    /// Over the wire and back.
    fn serve(&self, node: NodeId, request: ReplicaRequest) -> ReplicaReply {
        let mut wire = Vec::new();
        request.encode_into(&mut wire);
        let reply = match ReplicaRequest::decode(&mut Bytes::from(wire)).unwrap() {
            ReplicaRequest::Merge { key, object, durability } => {
                ReplicaReply::to_merge(self.merge(node, &key, &object, durability))
            }
            ReplicaRequest::Read { key, want } => {
                ReplicaReply::Value(ReplicaValue::of(self.store(node).read(&key), want))
            }
            ReplicaRequest::List(_) | ReplicaRequest::Hint { .. } | ReplicaRequest::Deliver { .. } => {
                panic!("nothing is listed, and every quorum is strict")
            }
            ReplicaRequest::Forward(_) => panic!("all three nodes own every key"),
        };
        let mut wire = Vec::new();
        reply.encode_into(&mut wire);
        ReplicaReply::decode(&mut Bytes::from(wire)).unwrap()
    }

    fn put(&self, node: u128, value: Option<&str>, context: Option<CausalContext>) -> Result<WriteAnswer, Failure> {
        self.write(node, Change { context, ..change(value) })
    }

    fn write(&self, node: u128, change: Change) -> Result<WriteAnswer, Failure> {
        let origin = Origin::Client { write_id: NonZeroU64::MIN };
        let (n, w, deadline) = (self.layout.n(), QuorumChoice::Quorum, Duration::from_secs(5));
        let request = WriteRequest { key: key(), change, n, w, quorum: QuorumKind::Strict, deadline, origin };
        let (mut write, actions) = Write::start(request, &self.view(node), &CoordinatorOptions::default(), Now::ZERO);
        let mut answer = None;
        let mut take = |a| {
            if let Action::AnswerWrite(result) = a {
                answer = Some(result)
            }
        };
        let mut events = VecDeque::from(self.carry_out(NodeId(node), actions, &mut take));
        while let Some(event) = events.pop_front() {
            events.extend(self.carry_out(NodeId(node), write.on_event(event, Now::ZERO), &mut take));
        }
        assert!(write.is_finished());
        answer.unwrap()
    }

    fn get(&self, node: u128, r: QuorumChoice) -> Result<ReadAnswer, Failure> {
        let (n, deadline) = (self.layout.n(), Duration::from_secs(5));
        let request = ReadRequest { key: key(), n, r, quorum: QuorumKind::Strict, at_least: None, deadline };
        let options = CoordinatorOptions::default();
        let (mut read, actions) = Read::start(request, &self.view(node), |_| None, &options, Now::ZERO);
        let mut answer = None;
        let mut take = |a| {
            if let Action::AnswerRead(result) = a {
                answer = Some(result)
            }
        };
        let mut events = VecDeque::from(self.carry_out(NodeId(node), actions, &mut take));
        while let Some(event) = events.pop_front() {
            events.extend(self.carry_out(NodeId(node), read.on_event(event, Now::ZERO), &mut take));
        }
        assert!(read.is_finished());
        answer.unwrap()
    }

    fn values(&self, node: u128) -> Vec<String> {
        let answer = self.get(node, QuorumChoice::Quorum).unwrap();
        let text = |v: &Bytes| String::from_utf8(v.to_vec()).unwrap();
        answer.object.live(u64::MAX).filter_map(|s| s.value.as_ref().map(text)).collect()
    }
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

#[test]
fn a_write_is_read_at_every_node_and_a_delete_is_remembered() {
    let cluster = Cluster::new();
    let answer = cluster.put(1, Some("red"), None).unwrap();
    assert_eq!((answer.n, answer.siblings), (3, 1));
    for node in 1..=3 {
        assert_eq!(cluster.values(node), ["red"]);
    }
    cluster.put(2, None, Some(answer.context)).unwrap();
    let read = cluster.get(3, QuorumChoice::All).unwrap();
    assert_eq!((read.object.live(0).count(), read.object.siblings.len()), (0, 1), "the tombstone is in the answer");
}

/// The id in `Origin::Client` is stored only with a forwarded write, so these two, with equal ids, stay apart.
#[test]
fn concurrent_writes_are_siblings_until_a_context_covers_them() {
    let cluster = Cluster::new();
    let red = cluster.put(1, Some("red"), Some(CausalContext::default())).unwrap();
    let green = cluster.put(2, Some("green"), Some(CausalContext::default())).unwrap();
    assert_eq!(green.siblings, 2);
    assert!(!green.context.contains(red.dot), "its client has not seen the other");
    assert_eq!(cluster.values(3).len(), 2);
    let seen = cluster.get(3, QuorumChoice::Quorum).unwrap().object.context;
    assert_eq!(cluster.put(3, Some("yellow"), Some(seen)).unwrap().siblings, 1);
    assert_eq!(cluster.values(1), ["yellow"]);
}

/// C7, on real stores: what was away is repaired by the next read that asks it.
#[test]
fn a_node_that_was_away_is_repaired_by_a_read() {
    let mut cluster = Cluster::new();
    cluster.put(1, Some("red"), None).unwrap();
    cluster.away = Some(NodeId(3));
    assert_eq!(cluster.put(1, Some("green"), None).unwrap().acks, 2);
    assert!(matches!(cluster.get(1, QuorumChoice::All), Err(Failure::Unavailable { required: 3, acked: 2, .. })));
    cluster.away = None;
    assert_eq!(cluster.values(3), ["green"]);
    let held = |node| match cluster.store(NodeId(node)).read(&key()) {
        Stored::Found(object) => object,
        other => panic!("{other:?}"),
    };
    assert!(held(1) == held(2) && held(2) == held(3), "byte-equal replicas");
}

#[test]
fn a_lonely_owner_says_unknown_because_it_has_the_write() {
    let mut cluster = Cluster::new();
    cluster.away = Some(NodeId(2));
    cluster.put(1, Some("red"), None).unwrap();
    cluster.layout = Arc::new(
        Layout::found(
            vec![
                Member { id: NodeId(1), zone: "z".into(), weight: 1 },
                Member { id: NodeId(2), zone: "z".into(), weight: 1 },
            ],
            cluster.layout.partitions(),
            cluster.layout.n(),
        )
        .unwrap(),
    );
    let outcome = Outcome::Unknown;
    let alone = Err(Failure::Unavailable { required: 2, acked: 1, n: 3, outcome });
    assert_eq!(cluster.put(1, Some("green"), None), alone);
}

/// C5, and the expiry that its coordinator computed once: the same bytes everywhere, filtered after the merge by
/// whoever asks, whatever his own clock said when the value was written.
#[test]
fn an_expiry_is_the_same_on_every_replica_and_takes_part_in_the_merge() {
    let mut cluster = Cluster::new();
    cluster.clocks[0].step(3_600_000_000);
    cluster.put(2, Some("older"), None).unwrap();
    cluster.away = Some(NodeId(3));
    let written = cluster.write(1, Change { ttl: Ttl::new(10).ok(), ..change(Some("short")) }).unwrap();
    assert_eq!(written.expires_us, written.modified_us + 10_000_000);
    cluster.away = None;
    for node in 1..=3 {
        let read = cluster.get(node, QuorumChoice::All).unwrap().object;
        let shown = |now_us| read.live(now_us).map(|s| s.metadata.expires_us).collect::<Vec<_>>();
        assert_eq!(shown(written.expires_us - 1), [written.expires_us], "at node {node}");
        assert!(shown(written.expires_us).is_empty(), "the older value does not come back");
    }
    let held = |node| cluster.store(NodeId(node)).read(&key());
    assert!(held(1) == held(2) && held(2) == held(3), "byte-equal replicas");
}

/// Expired by its coordinator's clock: created again there, and one version is left at every node.
#[test]
fn what_has_expired_may_be_created_again() {
    let cluster = Cluster::new();
    let create = |value| Change { condition: Some(Condition::Absent), ttl: Ttl::new(10).ok(), ..change(Some(value)) };
    let first = cluster.write(1, create("first")).unwrap();
    let taken = Err(Failure::ConditionFailed { etag: ETag::of([first.dot]), context: first.context.clone() });
    assert_eq!(cluster.write(2, create("second")), taken);
    cluster.clocks[1].step(60_000_000);
    let second = cluster.write(2, create("second")).unwrap();
    for node in 1..=3 {
        let read = cluster.get(node, QuorumChoice::All).unwrap().object;
        assert_eq!(read.dots().collect::<Vec<_>>(), [second.dot], "at node {node}");
    }
}

/// Two writes that did not know of each other: every node shows the later one, though the merge keeps both.
#[test]
fn of_two_last_writers_every_node_shows_the_same() {
    let mut cluster = Cluster::new();
    let lww = |value| Change { conflict: Conflict::Lww, ..change(Some(value)) };
    cluster.away = Some(NodeId(2));
    cluster.write(1, lww("early")).unwrap();
    cluster.away = Some(NodeId(1));
    // Node 3 has the first write, node 2 has not.
    cluster.clocks[1].step(5_000_000);
    let late = cluster.write(2, lww("late")).unwrap();
    cluster.away = None;
    for node in 1..=3 {
        let read = cluster.get(node, QuorumChoice::All).unwrap().object;
        assert_eq!(read.siblings.len(), 2, "both are kept");
        assert_eq!(read.shown(0, Conflict::Lww).map(|s| s.dot).collect::<Vec<_>>(), [late.dot]);
    }
    assert_eq!(cluster.write(1, lww("after both")).unwrap().siblings, 1);
    assert_eq!(cluster.values(2), ["after both"]);
}
