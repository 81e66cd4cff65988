//! What a seed draws before anything happens: the cluster, its clients, its troubles.

use std::sync::Arc;
use std::time::Duration;

use rondo_ring::{Layout, Member, NodeId, PartitionCount, ReplicationFactor};
use rondo_storage::Key;

use crate::faults::Plan;
use crate::random::Random;

/// The bucket of all keys.
pub const BUCKET: &str = "fruit";
/// Partitions of the ring: enough that every node owns some keys and not others.
const PARTITIONS: u16 = 64;

/// One run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where all of this comes from.
    pub seed: u64,
    /// 3 to 9.
    pub nodes: usize,
    /// 1 to 3; nodes are in them by turns.
    pub zones: usize,
    /// N of the bucket.
    pub n: u8,
    /// Few, so that clients meet.
    pub keys: Vec<Key>,
    /// Clients, each with one request at a time.
    pub clients: usize,
    /// Mean time between an answer and the next request of a client.
    pub think: Duration,
    /// Of a thousand requests so many are writes; a tenth as many are listings.
    pub writes: u64,
    /// Of a thousand writes so many are deletes.
    pub deletes: u64,
    /// Of a thousand reads and writes so many take stand-ins for owners.
    pub sloppy: u64,
    /// What goes wrong.
    pub plan: Plan,
}

impl Setup {
    /// Drawn from the seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let nodes = 3 + [0, 0, 0, 1, 2, 2, 3, 4, 6][random.index(9)];
        let n = match random.below(8) {
            0 if nodes >= 5 => 5,
            1 => 2,
            _ => 3,
        };
        let names =
            ["apple", "plum", "pear", "fig", "date", "lime", "kiwi", "quince", "cherry", "peach", "mango", "guava"];
        let keys = 3 + random.index(names.len() - 2);
        let key = |name: &&str| Key::new(BUCKET, name).expect("a good name");
        Self {
            seed,
            nodes,
            zones: 1 + random.index(3),
            n,
            keys: names[..keys].iter().map(key).collect(),
            clients: 3 + random.index(6),
            think: random.duration(Duration::from_millis(10), Duration::from_millis(250)),
            writes: 250 + random.below(600),
            deletes: random.below(300),
            sloppy: [0, 0, 200, 600][random.index(4)],
            plan: Plan::draw(&mut random, nodes),
        }
    }

    /// The first layout of such a cluster.
    #[must_use]
    pub fn layout(&self) -> Arc<Layout> {
        let member = |index| Member { id: Self::id(index), zone: self.zone(index), weight: 1 };
        let members = (0..self.nodes).map(member).collect();
        let partitions = PartitionCount::new(PARTITIONS).expect("a power of two");
        Arc::new(Layout::found(members, partitions, self.replication()).expect("distinct members"))
    }

    /// N.
    #[must_use]
    pub fn replication(&self) -> ReplicationFactor {
        ReplicationFactor::new(self.n).expect("1 to 7")
    }

    /// Of a node by its place.
    #[must_use]
    pub fn id(index: usize) -> NodeId {
        NodeId(index as u128 + 1)
    }

    /// Of a node by its place.
    #[must_use]
    pub fn zone(&self, index: usize) -> String {
        format!("z{}", index % self.zones)
    }

    /// Keys that are never deleted and never expire: a listing has to have them once they are written.
    #[must_use]
    pub fn stays(&self, key: &Key) -> bool {
        self.keys.iter().position(|one| one == key).is_some_and(|place| place % 3 == 0)
    }
}
