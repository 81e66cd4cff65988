//! The placement strategies of the Dynamo paper, section 6.2, and what its figure 8 measures of them.

use rondo_ring::{Layout, Member, NodeId, PartitionCount, PartitionId, ReplicationFactor};

/// Nodes in figure 8.
pub(crate) const NODES: usize = 30;
/// Replicas in figure 8.
pub(crate) const REPLICAS: usize = 3;
/// Fixed partitions of strategy 2.
pub(crate) const STRATEGY_2_PARTITIONS: usize = 1024;

/// SplitMix64 (Steele, Lea and Flood, 2014): the same seed draws the same figure everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }
}

/// A part of the hash space and its owners.
pub(crate) struct Arc {
    /// Share of the hash space, 0 to 1.
    pub(crate) width: f64,
    /// Indexes of the nodes in its preference list.
    pub(crate) owners: Vec<usize>,
}

/// Mean load / maximal load, the load being the share of the hash space in whose preference lists a node is.
pub(crate) fn efficiency(arcs: &[Arc], nodes: usize) -> f64 {
    let mut loads = vec![0.0; nodes];
    arcs.iter().for_each(|arc| arc.owners.iter().for_each(|&owner| loads[owner] += arc.width));
    let mean = loads.iter().sum::<f64>() / nodes as f64;
    mean / loads.iter().copied().fold(0.0, f64::max)
}

/// The probability that two nodes picked at random share a part of the hash space.
pub(crate) fn scatter(arcs: &[Arc], nodes: usize) -> f64 {
    let mut meet = vec![false; nodes * nodes];
    for owners in arcs.iter().map(|arc| &arc.owners) {
        owners.iter().for_each(|&a| owners.iter().for_each(|&b| meet[a * nodes + b] = a != b));
    }
    meet.iter().filter(|&&meet| meet).count() as f64 / (nodes * (nodes - 1)) as f64
}

/// The first distinct nodes from `start` on, clockwise.
fn successors(ring: &[(u64, usize)], start: usize) -> Vec<usize> {
    let mut owners = Vec::with_capacity(REPLICAS);
    for &(_, node) in ring[start..].iter().chain(&ring[..start]) {
        if !owners.contains(&node) {
            owners.push(node);
        }
        if owners.len() == REPLICAS {
            break;
        }
    }
    owners
}

fn random_ring(random: &mut Random, nodes: usize, tokens: usize) -> Vec<(u64, usize)> {
    let mut ring: Vec<(u64, usize)> = (0..nodes * tokens).map(|i| (random.next(), i % nodes)).collect();
    ring.sort_unstable();
    ring
}

/// Strategy 1: T random tokens per node, and the arcs between them are the partitions.
pub(crate) fn strategy_1(random: &mut Random, nodes: usize, tokens: usize) -> Vec<Arc> {
    let ring = random_ring(random, nodes, tokens);
    let before = |at: usize| ring[(at + ring.len() - 1) % ring.len()].0;
    let width = |at: usize| ring[at].0.wrapping_sub(before(at)) as f64 / 2f64.powi(64);
    (0..ring.len()).map(|at| Arc { width: width(at), owners: successors(&ring, at) }).collect()
}

/// Strategy 2: T random tokens per node; equal partitions belong to the first nodes met from their ends on.
pub(crate) fn strategy_2(random: &mut Random, nodes: usize, tokens: usize) -> Vec<Arc> {
    let ring = random_ring(random, nodes, tokens);
    let width = u64::MAX / STRATEGY_2_PARTITIONS as u64 + 1;
    let end = |partition: usize| (partition as u64 * width).wrapping_add(width - 1);
    let start = |partition: usize| ring.partition_point(|&(token, _)| token < end(partition)) % ring.len();
    let arc = |p: usize| Arc { width: 1.0 / STRATEGY_2_PARTITIONS as f64, owners: successors(&ring, start(p)) };
    (0..STRATEGY_2_PARTITIONS).map(arc).collect()
}

/// Strategy 3: equal partitions, Q/S of them handed to each node at random; the others of a preference list follow on
/// the ring.
pub(crate) fn strategy_3(random: &mut Random, nodes: usize, tokens: usize) -> Vec<Arc> {
    let partitions = nodes * tokens;
    let mut holders: Vec<usize> = (0..partitions).map(|i| i % nodes).collect();
    random.shuffle(&mut holders);
    let ring: Vec<(u64, usize)> = (0..).zip(holders).collect();
    let arc = |p: usize| Arc { width: 1.0 / partitions as f64, owners: successors(&ring, p) };
    (0..partitions).map(arc).collect()
}

/// One token per node at equal distances: every node's neighbours on the ring hold its replicas.
pub(crate) fn one_token(nodes: usize) -> Vec<Arc> {
    let owners = |first: usize| (first..first + REPLICAS).map(|node| node % nodes).collect();
    (0..nodes).map(|first| Arc { width: 1.0 / nodes as f64, owners: owners(first) }).collect()
}

/// A table that gives each partition to the least loaded nodes, ties broken at random.
pub(crate) fn least_loaded(random: &mut Random, nodes: usize, partitions: usize) -> Vec<Arc> {
    let mut loads = vec![0_usize; nodes];
    let mut next = || {
        let mut order: Vec<usize> = (0..nodes).collect();
        random.shuffle(&mut order);
        order.sort_by_key(|&node| loads[node]);
        order.truncate(REPLICAS);
        order.iter().for_each(|&node| loads[node] += 1);
        order
    };
    (0..partitions).map(|_| Arc { width: 1.0 / partitions as f64, owners: next() }).collect()
}

/// Equal members in one zone.
pub(crate) fn members(count: usize) -> Vec<Member> {
    let mut ids = Random(count as u64);
    let mut id = || NodeId(u128::from(ids.next()) << 64 | u128::from(ids.next()));
    (0..count).map(|_| Member { id: id(), zone: "zone".into(), weight: 1 }).collect()
}

/// A founding layout of this crate.
pub(crate) fn founded(members: Vec<Member>, partitions: u16) -> Layout {
    let q = PartitionCount::new(partitions).expect("a power of two");
    Layout::found(members, q, ReplicationFactor::new(REPLICAS as u8).expect("3 is allowed")).expect("valid members")
}

/// The partitions of a layout.
pub(crate) fn arcs(layout: &Layout) -> Vec<Arc> {
    let partitions = layout.partitions().get();
    let index = |node: &NodeId| layout.members().iter().position(|m| m.id == *node).expect("an owner is a member");
    let arc = |p: u16| Arc {
        width: 1.0 / f64::from(partitions),
        owners: layout.owners(PartitionId(p)).iter().map(index).collect(),
    };
    (0..partitions).map(arc).collect()
}

/// The mean of a measurement over this many seeds.
pub(crate) fn mean_of_seeds(seeds: u64, measure: impl Fn(&mut Random) -> f64) -> f64 {
    (0..seeds).map(|seed| measure(&mut Random(seed))).sum::<f64>() / seeds as f64
}
