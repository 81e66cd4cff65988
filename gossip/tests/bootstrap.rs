//! G1–G3 under message loss, delay, reordering and restarts: no two foundings share a member, and when the network
//! heals exactly the expected number of nodes are one cluster.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rondo_gossip::bootstrap::{Candidates, FoundingOptions, Request};
use rondo_gossip::{Bootstrap, FoundingState, Message, NodeInfo};
use rondo_ring::{NodeId, PartitionCount, ReplicationFactor};

/// SplitMix64: a seed and nothing else decides a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[derive(Clone)]
enum InFlight {
    Request { from: usize, to: usize, request: Box<Request> },
    Reply { from: usize, to: usize, request: Box<Request>, reply: Box<Message> },
}

struct Cluster {
    random: Random,
    nodes: Vec<Bootstrap>,
    expect: u8,
    network: BTreeMap<(Duration, u64), InFlight>,
    now: Duration,
    sent: u64,
    loss_percent: u64,
    restart_per_mille: u64,
    restarts: u64,
    committed: BTreeSet<u128>,
}

fn info(i: usize) -> NodeInfo {
    // Ids in another order than the addresses: the proposer is not simply the first.
    let id = NodeId(((i as u128 * 7) % 11) << 64 | i as u128);
    NodeInfo {
        id,
        name: format!("n{i}"),
        zone: "z".into(),
        weight: 1,
        peer_addr: format!("host{i}:1"),
        client_addr: format!("host{i}:2"),
        version: "test".into(),
        incarnation: 1,
        instance: 0,
        start: 0,
        disk_used_bytes: 0,
        disk_available_bytes: 0,
        heartbeat: 0,
    }
}

fn options_of(expect: u8) -> Option<FoundingOptions> {
    let (partitions, n) = (PartitionCount::new(16).unwrap(), ReplicationFactor::new(3).unwrap());
    Some(FoundingOptions { expect, partitions, n })
}

impl Cluster {
    fn new(seed: u64, nodes: usize, expect: u8) -> Self {
        let mut random = Random(seed);
        let (loss_percent, restart_per_mille) = (random.below(40), random.below(8));
        let machine = |i| Self::boot(i, nodes, expect, FoundingState::Free);
        Self {
            random,
            nodes: (0..nodes).map(machine).collect(),
            expect,
            network: BTreeMap::new(),
            now: Duration::ZERO,
            sent: 0,
            loss_percent,
            restart_per_mille,
            restarts: 0,
            committed: BTreeSet::new(),
        }
    }

    /// Everyone has the first node and its own right neighbour for seeds.
    fn boot(i: usize, nodes: usize, expect: u8, state: FoundingState) -> Bootstrap {
        let seeds = vec![info(0).peer_addr, info((i + 1) % nodes).peer_addr];
        Bootstrap::new(info(i), options_of(expect), seeds, state)
    }

    fn send(&mut self, message: InFlight) {
        if self.random.below(100) >= self.loss_percent {
            let delay = Duration::from_millis(1 + self.random.below(400));
            self.sent += 1;
            self.network.insert((self.now + delay, self.sent), message);
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(10);
        while let Some(entry) = self.network.first_entry().filter(|entry| entry.key().0 <= self.now) {
            match entry.remove() {
                InFlight::Request { from, to, request } => {
                    let reply = self.nodes[to].handle(info(from).id, request.message.clone(), self.now);
                    self.send(InFlight::Reply { from: to, to: from, request, reply: Box::new(reply) });
                }
                InFlight::Reply { from, to, request, reply } => {
                    self.nodes[to].reply(info(from).id, &request.message, *reply, self.now);
                }
            }
        }
        for i in 0..self.nodes.len() {
            if self.random.below(1_000) < self.restart_per_mille {
                self.nodes[i] = Self::boot(i, self.nodes.len(), self.expect, self.nodes[i].state().clone());
                self.restarts += 1;
            }
            let fresh = u128::from(self.random.next());
            for request in self.nodes[i].tick(self.now, fresh) {
                let to = (0..self.nodes.len()).find(|&j| info(j).peer_addr == request.address).unwrap();
                self.send(InFlight::Request { from: i, to, request: Box::new(request) });
            }
        }
        self.check();
    }

    /// G1: no node is in two foundings; G2: no cluster has another number of members than was asked for.
    fn check(&mut self) {
        let formed: BTreeMap<_, _> = self.nodes.iter().filter_map(Bootstrap::formed).map(|f| (f.cluster, f)).collect();
        let mut members = BTreeSet::new();
        for founding in formed.values() {
            assert_eq!(founding.members.len(), usize::from(self.expect));
            assert!(founding.members.iter().all(|member| members.insert(member.id)), "a member of two clusters");
        }
        assert!(self.committed.iter().all(|cluster| formed.contains_key(cluster)), "a commit was undone");
        self.committed.extend(formed.keys());
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.step();
        }
    }

    fn heal(&mut self) {
        (self.loss_percent, self.restart_per_mille) = (0, 0);
        self.run(Duration::from_secs(40));
    }

    fn formed(&self) -> usize {
        self.nodes.iter().filter(|node| node.formed().is_some()).count()
    }
}

#[test]
fn exactly_the_expected_nodes_form_one_cluster_whatever_the_network_does() {
    let mut restarts = 0;
    for seed in 0..120 {
        let expect = 1 + (seed % 7) as u8;
        let mut cluster = Cluster::new(seed, usize::from(expect), expect);
        cluster.run(Duration::from_secs(20));
        cluster.heal();
        assert_eq!(cluster.formed(), usize::from(expect), "seed {seed}");
        assert_eq!(cluster.committed.len(), 1, "seed {seed}");
        assert!(cluster.nodes.iter().all(Bootstrap::is_quiet), "seed {seed}");
        restarts += cluster.restarts;
    }
    assert!(restarts > 100, "vacuous: only {restarts} restarts");
}

#[test]
fn two_nodes_too_many_are_told_and_found_nothing() {
    for seed in 0..60 {
        let expect = 2 + (seed % 4) as u8;
        let mut cluster = Cluster::new(1_000 + seed, usize::from(expect) + 2, expect);
        cluster.loss_percent = cluster.loss_percent.min(10);
        cluster.run(Duration::from_secs(20));
        cluster.heal();
        // With two to spare, a second cluster needs a network cut in two; then still no node is in both (check).
        let clusters = cluster.committed.len();
        assert_eq!(cluster.formed(), clusters * usize::from(expect), "seed {seed}");
        assert!(clusters >= 1, "seed {seed}");
        for spare in cluster.nodes.iter().filter(|node| node.formed().is_none()) {
            assert!(spare.waiting_for().contains("formed cluster"), "seed {seed}: {}", spare.waiting_for());
        }
    }
}

#[test]
fn founders_who_disagree_say_so() {
    let mut cluster = Cluster::new(5, 2, 2);
    let options = FoundingOptions {
        expect: 2,
        partitions: PartitionCount::new(32).unwrap(),
        n: ReplicationFactor::new(3).unwrap(),
    };
    cluster.nodes[1] = Bootstrap::new(info(1), Some(options), vec![info(0).peer_addr], FoundingState::Free);
    cluster.heal();
    assert_eq!(cluster.formed(), 0);
    for node in &cluster.nodes {
        assert!(node.waiting_for().contains("32") && node.waiting_for().contains("16"), "{}", node.waiting_for());
    }
}

#[test]
fn two_nodes_of_one_name_say_so() {
    let mut cluster = Cluster::new(6, 2, 2);
    let twin = NodeInfo { name: info(0).name, ..info(1) };
    cluster.nodes[1] = Bootstrap::new(twin, options_of(2), vec![info(0).peer_addr], FoundingState::Free);
    cluster.heal();
    assert_eq!(cluster.formed(), 0);
    assert!(cluster.nodes.iter().all(|node| node.waiting_for().contains("both called \"n0\"")));
}

/// Carries what the nodes say, to whoever is at the address at the moment.
fn exchange(nodes: &mut [Bootstrap], addresses: &[String], now: Duration) {
    for from in 0..nodes.len() {
        for Request { address, node, message } in nodes[from].tick(now, now.as_millis()) {
            let Some(to) = addresses.iter().position(|at| *at == address) else { continue };
            let id = info(to).id;
            if node.is_none_or(|node| node == id) {
                let reply = nodes[to].handle(info(from).id, message.clone(), now);
                nodes[from].reply(id, &message, reply, now);
            }
        }
    }
}

/// n0 has the smallest id and proposes; it alone knows that all have accepted, or not even it does. Then all restart at
/// other addresses, with one seed that is not the proposer.
fn restart_elsewhere(committed: bool) {
    let boot = |i: usize, address: &str, state| {
        let this = NodeInfo { peer_addr: address.into(), ..info(i) };
        Bootstrap::new(this, options_of(3), vec!["host1:new".into()], state)
    };
    let mut nodes: Vec<_> = (0..3).map(|i| boot(i, &info(i).peer_addr, FoundingState::Free)).collect();
    let everyone = [0, 1, 2].map(info);
    for other in &everyone[1..] {
        let known = everyone.iter().map(|info| (info.id, info.peer_addr.clone())).collect();
        let introduction = Candidates { this: other.clone(), options: options_of(3), known, formed: None };
        nodes[0].handle(other.id, Message::Introduce(introduction), Duration::ZERO);
    }
    let now = Duration::from_secs(1);
    nodes[0].tick(now, 1);
    let proposals = nodes[0].tick(now + Duration::from_millis(200), 2);
    assert_eq!(proposals.len(), 2, "a proposal to each");
    for Request { node, message, .. } in proposals {
        let to = everyone.iter().position(|info| Some(info.id) == node).unwrap();
        let reply = nodes[to].handle(everyone[0].id, message.clone(), now);
        assert_eq!(reply, Message::Accepted);
        if committed || to == 1 {
            nodes[0].reply(everyone[to].id, &message, reply, now);
        }
    }
    assert_eq!(nodes[0].formed().is_some(), committed);

    let addresses = ["host0:new", "host1:new", "host2:new"].map(String::from);
    let states: Vec<_> = nodes.iter().map(|node| node.state().clone()).collect();
    let mut nodes: Vec<_> = (0..3).map(|i| boot(i, &addresses[i], states[i].clone())).collect();
    for tick in 0..100 {
        exchange(&mut nodes, &addresses, now + Duration::from_millis(100 * tick));
    }
    let clusters: BTreeSet<_> = nodes.iter().map(|node| node.formed().map(|formed| formed.cluster)).collect();
    assert_eq!(clusters.len(), 1, "{clusters:?}");
    assert!(clusters.iter().all(Option::is_some));
}

#[test]
fn a_founding_cut_short_is_found_again_at_other_addresses() {
    restart_elsewhere(false);
}

#[test]
fn a_commit_cut_short_is_found_again_at_other_addresses() {
    restart_elsewhere(true);
}
