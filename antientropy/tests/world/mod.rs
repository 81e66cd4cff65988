//! A few nodes with stores in memory, and a network between them that a test can spoil.

#![allow(clippy::unwrap_used, reason = "a module of a test: everything in it is for that test")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rondo_antientropy::answer::{Reply, reply};
use rondo_antientropy::round::{Action, Event};
use rondo_antientropy::{Answer, AntiEntropyOptions, Memory, Outcome, Pair, Question, Round};
use rondo_ring::{Layout, Liveness, Member, NodeId, PartitionCount, ReplicationFactor, View};
use rondo_storage::Key;
use rondo_storage::engine::{Durability, MemoryEngine};
use rondo_storage::store::{BlindPut, Change, Merged, Store, WallClock};
use rondo_storage::versions::{ActorId, Conflict, Metadata};

struct Clock;

impl WallClock for Clock {
    fn now_us(&self) -> u64 {
        1_750_000_000_000_000
    }
}

/// Splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

pub(crate) struct Node {
    pub(crate) engine: Arc<MemoryEngine>,
    pub(crate) store: Store,
    pub(crate) view: View,
}

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    partitions: PartitionCount,
    instances: u64,
    /// Receives every write.
    witness: Store,
    /// The largest N of any bucket.
    depth: usize,
    /// Bytes of questions and answers so far.
    pub(crate) wire_bytes: u64,
    /// Values that travelled so far.
    pub(crate) values: u64,
}

/// N of the buckets of these tests: `n1`, `n2`, ...; 3 for all others.
pub(crate) fn n_of(bucket: &str) -> ReplicationFactor {
    let n = bucket.strip_prefix('n').and_then(|n| n.parse().ok()).unwrap_or(3);
    ReplicationFactor::new(n).unwrap()
}

impl World {
    pub(crate) fn new(nodes: u128, partitions: u16) -> Self {
        let partitions = PartitionCount::new(partitions).unwrap();
        let member = |id| Member { id: NodeId(id), zone: "z".into(), weight: 1 };
        let members: Vec<Member> = (1..=nodes).map(member).collect();
        let layout = Arc::new(Layout::found(members, partitions, ReplicationFactor::new(3).unwrap()).unwrap());
        let witness = Store::over(Arc::new(MemoryEngine::new()), Arc::new(Clock), ActorId(u64::MAX), partitions);
        let mut world =
            Self { nodes: Vec::new(), partitions, instances: 0, witness, depth: 3, wire_bytes: 0, values: 0 };
        for id in 1..=nodes {
            let (engine, view) =
                (Arc::new(MemoryEngine::new()), View::new(NodeId(id), layout.clone(), |_| Liveness::Up));
            let store = world.open(&engine);
            world.nodes.push(Node { engine, store, view });
        }
        world
    }

    fn open(&mut self, engine: &Arc<MemoryEngine>) -> Store {
        self.instances += 1;
        Store::over(engine.clone(), Arc::new(Clock), ActorId(self.instances), self.partitions)
    }

    /// The process ends; what the engine published is there after it. The trees are built again by a scan.
    pub(crate) fn restart(&mut self, at: usize) {
        let engine = self.nodes[at].engine.clone();
        self.nodes[at].store = self.open(&engine);
    }

    /// The disk is gone.
    pub(crate) fn wipe(&mut self, at: usize) {
        let engine = Arc::new(MemoryEngine::new());
        self.nodes[at].store = self.open(&engine);
        self.nodes[at].engine = engine;
    }

    pub(crate) fn build_trees(&self, at: usize) {
        while self.nodes[at].store.rebuild_digests() != rondo_storage::store::Rebuild::Finished {}
    }

    /// One node coordinates a write; the envelope it would send to the others.
    pub(crate) fn write(&self, at: usize, key: &Key, value: Option<&[u8]>) -> Bytes {
        let change = Change {
            context: None,
            blind: BlindPut::Overwrite,
            conflict: Conflict::Siblings,
            condition: None,
            value: value.map(Bytes::copy_from_slice),
            metadata: Metadata::default(),
            ttl: None,
            siblings_max: 100,
            durability: Durability::Fsync,
        };
        let object = self.nodes[at].store.update(key, change, Box::new(|_| {})).unwrap().object;
        self.witness.merge(key, &object, Durability::Fsync, Box::new(|_| {})).unwrap();
        object
    }

    /// A write that reaches the owners given, the first of which coordinates it.
    pub(crate) fn put(&self, owners: &[usize], key: &Key, value: Option<&[u8]>) {
        let object = self.write(owners[0], key, value);
        for &at in &owners[1..] {
            self.merge(at, key.row().clone(), &object);
        }
    }

    fn merge(&self, at: usize, row: Bytes, object: &Bytes) -> Option<bool> {
        let key = Key::from_row(row).ok()?;
        let merged = self.nodes[at].store.merge(&key, object, Durability::Fsync, Box::new(|_| {})).ok()?;
        Some(merged == Merged::Queued)
    }

    fn merge_all(&self, at: usize, rows: Vec<(Bytes, Bytes)>) -> Option<u64> {
        let mut changed = 0;
        for (row, object) in rows {
            changed += u64::from(self.merge(at, row, &object)?);
        }
        Some(changed)
    }

    pub(crate) fn pair(&self, at: usize, peer: usize) -> Pair<'_> {
        let Node { store, view, .. } = &self.nodes[at];
        Pair { store, view, peer: NodeId(peer as u128 + 1), n: &n_of, depth: self.depth }
    }

    /// A whole round without faults.
    pub(crate) fn round(&mut self, from: usize, to: usize, memory: Memory) -> Outcome {
        self.spoiled_round(from, to, memory, |_, _| true)
    }

    /// A round in which `meanwhile` runs before each question, and says whether that is answered.
    pub(crate) fn spoiled_round(
        &mut self,
        from: usize,
        to: usize,
        memory: Memory,
        mut meanwhile: impl FnMut(&mut Self, &Question) -> bool,
    ) -> Outcome {
        let mut round = Round::new(&self.pair(from, to), memory, &AntiEntropyOptions::default());
        let mut event = Event::Begin;
        for _ in 0..1_000_000 {
            event = match round.step(event, &self.pair(from, to)) {
                Action::Ask(question) => {
                    if meanwhile(self, &question) {
                        self.ask(from, to, &question).map_or(Event::Failed, Event::Answered)
                    } else {
                        Event::Failed
                    }
                }
                Action::Wait(pause) => {
                    assert!(pause > Duration::ZERO);
                    Event::Waited
                }
                Action::Merge(rows) => self.merge_all(from, rows).map_or(Event::Failed, Event::Merged),
                Action::Finish(outcome) => return outcome,
            };
        }
        panic!("the round never ended");
    }

    /// Over the wire and back.
    fn ask(&mut self, from: usize, to: usize, question: &Question) -> Option<Answer> {
        let sent = question.encode();
        let question = Question::decode(&sent)?;
        if let Question::Take(rows) = &question {
            self.values += rows.len() as u64;
        }
        let answer = match reply(&self.pair(to, from), question) {
            Reply::Answer(answer) => answer,
            Reply::Merge(rows) => match self.merge_all(to, rows) {
                Some(_) => Answer::Taken,
                None => Answer::Refused,
            },
            Reply::Hurry => Answer::Hurried,
        };
        if let Answer::Values { rows, .. } = &answer {
            self.values += rows.len() as u64;
        }
        let received = answer.encode();
        self.wire_bytes += (sent.len() + received.len()) as u64;
        Answer::decode(&received)
    }

    /// Rounds of every pair until one goes by without a difference; how many that took.
    pub(crate) fn settle(&mut self) -> usize {
        for rounds in 1..100 {
            let mut agreed = true;
            for from in 0..self.nodes.len() {
                for to in from + 1..self.nodes.len() {
                    agreed &= self.round(from, to, Memory::default()).memory.in_sync;
                }
            }
            if agreed {
                return rounds;
            }
        }
        panic!("the nodes never agreed");
    }

    /// All rows of a node, in order.
    pub(crate) fn rows(&self, at: usize) -> Vec<(Bytes, Bytes)> {
        self.rows_in(&self.nodes[at].store)
    }

    /// What a node would hold that had received every write.
    pub(crate) fn rows_of_all_writes(&self) -> Vec<(Bytes, Bytes)> {
        self.rows_in(&self.witness)
    }

    fn rows_in(&self, store: &Store) -> Vec<(Bytes, Bytes)> {
        let partitions = (0..self.partitions.get()).map(rondo_ring::PartitionId);
        let page = |p| store.scan_partition(p, None, usize::MAX, usize::MAX).unwrap().rows;
        partitions.flat_map(page).collect()
    }
}

pub(crate) fn key(number: u64) -> Key {
    Key::new("fruit", &format!("key-{number}")).unwrap()
}
