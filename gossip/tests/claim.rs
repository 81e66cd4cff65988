//! G10 and G11: a member that lost its directory gets its place back under loss, delay, reordering and restarts; nobody
//! gets the place of one that may be alive; no two have it with the same start.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rondo_gossip::bootstrap::{Belief, GRANT_AGE_MAX, Request, Seat};
use rondo_gossip::{
    Bootstrap, Exchange, Founding, FoundingState, Gossip, GossipOptions, Message, NodeInfo, Random, Registry, Rumour,
    Stamp,
};
use rondo_ring::{Layout, NodeId, PartitionCount, ReplicationFactor};

const CLUSTER: u128 = 77;
/// The member whose directory is lost.
const SEAT: usize = 1;
/// Its last start that anybody has heard of.
const LAST_START: u64 = 5;

fn id(node: usize) -> NodeId {
    NodeId(1 + node as u128)
}

fn info(node: usize) -> NodeInfo {
    NodeInfo {
        id: id(node),
        name: format!("n{node}"),
        zone: "z".into(),
        weight: 1,
        peer_addr: format!("host{node}:1"),
        client_addr: format!("host{node}:2"),
        version: "test".into(),
        incarnation: 1,
        instance: 1,
        start: 1,
        disk_used_bytes: 0,
        disk_available_bytes: 0,
        heartbeat: 0,
    }
}

fn founding(members: usize) -> Founding {
    let infos: Vec<_> = (0..members).map(info).collect();
    let (partitions, n) = (PartitionCount::new(16).unwrap(), ReplicationFactor::new(1).unwrap());
    let layout = Layout::found(infos.iter().map(NodeInfo::member).collect(), partitions, n).unwrap();
    Founding { cluster: CLUSTER, proposer: id(0), members: infos, layout }
}

enum InFlight {
    Request { from: usize, to: usize, request: Request },
    Reply { from: usize, to: usize, request: Message, reply: Message },
}

/// Members 0 to n − 1 without the lost one, and after them those that claim its place.
struct World {
    random: Random,
    members: usize,
    nodes: BTreeMap<usize, Bootstrap>,
    /// Whom each member holds to be down.
    down: BTreeMap<usize, BTreeSet<NodeId>>,
    /// Members that nobody reaches.
    cut_off: BTreeSet<usize>,
    network: BTreeMap<(Duration, u64), InFlight>,
    now: Duration,
    sent: u64,
    loss_percent: usize,
    /// Claimants that restart in the course of a step.
    restart_per_mille: usize,
    /// Who was granted the place when, with which start.
    taken: Vec<(Duration, usize, u64)>,
}

impl World {
    fn new(seed: u64, members: usize, claimants: usize) -> Self {
        let mut random = Random::new(seed);
        let loss_percent = random.below(40);
        let formed =
            |node| Bootstrap::new(info(node), None, Vec::new(), FoundingState::Formed(founding(members).into()));
        let alive = || (0..members).filter(|&node| node != SEAT);
        let mut nodes: BTreeMap<_, _> = alive().map(|node| (node, formed(node))).collect();
        nodes.extend((members..members + claimants).map(|node| (node, Self::claimant(node, FoundingState::Free))));
        Self {
            random,
            members,
            nodes,
            down: alive().map(|node| (node, [id(SEAT)].into())).collect(),
            cut_off: BTreeSet::new(),
            network: BTreeMap::new(),
            now: Duration::ZERO,
            sent: 0,
            loss_percent,
            restart_per_mille: 0,
            taken: Vec::new(),
        }
    }

    /// An empty node with the lost one's name. Its seed is the first member.
    fn claimant(node: usize, state: FoundingState) -> Bootstrap {
        let this = NodeInfo { name: info(SEAT).name, ..info(node) };
        Bootstrap::new(this, None, vec![info(0).peer_addr], state)
    }

    fn send(&mut self, message: InFlight) {
        if self.random.below(100) >= self.loss_percent {
            let delay = Duration::from_millis(1 + self.random.below(400) as u64);
            self.sent += 1;
            self.network.insert((self.now + delay, self.sent), message);
        }
    }

    fn answer(&mut self, from: usize, to: usize, message: Message) -> Message {
        let machine = self.nodes.get_mut(&to).unwrap();
        match message {
            Message::Claim(claim) if to < self.members => {
                let (down, members) = (self.down[&to].clone(), (0..self.members).map(info).collect());
                let belief = Belief { serves: true, down, last_start: LAST_START, members };
                machine.claimed(id(from), &claim, belief, self.now)
            }
            message => machine.handle(id(from), message, self.now),
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(10);
        while let Some(entry) = self.network.first_entry().filter(|entry| entry.key().0 <= self.now) {
            match entry.remove() {
                InFlight::Request { from, to, request } => {
                    let reply = self.answer(from, to, request.message.clone());
                    self.send(InFlight::Reply { from: to, to: from, request: request.message, reply });
                }
                InFlight::Reply { from, to, request, reply } => {
                    self.nodes.get_mut(&to).unwrap().reply(id(from), &request, reply, self.now);
                }
            }
        }
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            if node >= self.members && self.random.below(1_000) < self.restart_per_mille {
                let state = self.nodes[&node].state().clone();
                self.nodes.insert(node, Self::claimant(node, state));
            }
            let fresh = u128::from(self.random.number());
            let requests = self.nodes.get_mut(&node).unwrap().tick(self.now, fresh);
            for request in requests {
                let to = self.nodes.keys().copied().find(|&to| info(to).peer_addr == request.address);
                if let Some(to) = to.filter(|to| !self.cut_off.contains(to)) {
                    self.send(InFlight::Request { from: node, to, request });
                }
            }
            self.note(node);
        }
    }

    /// A place that was granted is taken, and then nothing is heard of the node that took it.
    fn note(&mut self, node: usize) {
        let Some(seat) = self.nodes[&node].seat() else { return };
        assert_eq!((seat.node, seat.founding.cluster), (id(SEAT), CLUSTER));
        assert!(seat.start > LAST_START);
        self.taken.push((self.now, node, seat.start));
        self.nodes.remove(&node);
        self.network.retain(|_, message| match message {
            InFlight::Request { from, to, .. } | InFlight::Reply { from, to, .. } => *from != node && *to != node,
        });
    }

    fn run(&mut self, seconds: u64) -> &mut Self {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            self.step();
        }
        self
    }

    fn waiting_for(&self, node: usize) -> String {
        self.nodes[&node].waiting_for()
    }
}

#[test]
fn a_lost_member_gets_its_place_back_whatever_the_network_does() {
    for seed in 0..60 {
        let members = 2 + (seed % 6) as usize;
        let mut world = World::new(seed, members, 1);
        world.restart_per_mille = 1;
        world.run(30);
        (world.loss_percent, world.restart_per_mille) = (0, 0);
        world.run(20);
        assert_eq!(world.taken.len(), 1, "seed {seed}: {}", world.waiting_for(members));
        assert!(world.taken[0].0 >= GRANT_AGE_MAX, "members that have only begun granted it");
    }
}

#[test]
fn a_place_is_not_given_away_while_one_member_takes_its_owner_for_alive() {
    for seed in 0..40 {
        let members = 2 + (seed % 6) as usize;
        let mut world = World::new(seed, members, 1);
        let doubter = *world.random.pick(&world.down.keys().copied().collect::<Vec<_>>()).unwrap();
        world.down.get_mut(&doubter).unwrap().clear();
        world.run(60);
        assert_eq!(world.taken, [], "seed {seed}");
        world.loss_percent = 0;
        let waits = world.run(12).waiting_for(members);
        assert!(waits.contains("the name n1 belongs to a member that is alive at host1:1"), "{waits}");
    }
}

#[test]
fn one_that_was_heard_of_just_now_is_not_down() {
    let mut world = World::new(1, 3, 1);
    world.loss_percent = 0;
    for _ in 0..40 {
        let now = world.now;
        world.nodes.get_mut(&0).unwrap().heard(id(SEAT), now);
        world.run(1);
    }
    assert_eq!(world.taken, []);
    world.run(12);
    assert_eq!(world.taken.len(), 1);
}

#[test]
fn a_minority_gives_no_place_away() {
    for seed in 0..40 {
        let members = 3 + (seed % 5) as usize;
        let mut world = World::new(seed, members, 1);
        // Of the members without the lost one so many are reached that it is half at the most; all hold the rest down.
        let others: Vec<_> = world.down.keys().copied().collect();
        world.cut_off = others[others.len() / 2..].iter().copied().collect();
        let held: BTreeSet<_> = world.cut_off.iter().map(|&node| id(node)).chain([id(SEAT)]).collect();
        world.down.values_mut().for_each(|down| *down = held.clone());
        world.run(60);
        assert_eq!(world.taken, [], "seed {seed}");
        assert!(world.waiting_for(members).contains("no majority"), "{}", world.waiting_for(members));
    }
}

#[test]
fn one_that_is_silent_but_not_down_is_waited_for_and_one_that_is_down_is_not() {
    for seed in 0..20 {
        let mut world = World::new(seed, 5, 1);
        world.loss_percent = 0;
        world.cut_off = [3].into();
        // One of them holds the silent one to be alive.
        for node in [0, 2] {
            world.down.get_mut(&node).unwrap().insert(id(3));
        }
        world.run(40);
        assert_eq!(world.taken, []);
        assert!(world.waiting_for(5).contains("n3 at host3:1 has not said a word"), "{}", world.waiting_for(5));
        world.down.get_mut(&4).unwrap().insert(id(3));
        world.run(12);
        assert_eq!(world.taken.len(), 1);
    }
}

#[test]
fn of_two_that_claim_one_place_the_second_has_a_higher_start_and_comes_later() {
    let mut both = 0;
    for seed in 0..60 {
        let mut world = World::new(seed, 2 + (seed % 6) as usize, 2);
        world.restart_per_mille = 1;
        world.run(150);
        for pair in world.taken.windows(2) {
            let ((first, _, lower), (second, _, higher)) = (pair[0], pair[1]);
            assert!(second - first >= Duration::from_secs(10), "seed {seed}: {first:?}, {second:?}");
            assert!(higher > lower, "seed {seed}: {lower}, {higher}");
            both += 1;
        }
    }
    assert!(both > 10, "vacuous: {both} places were taken twice");
}

#[test]
fn a_crash_leaves_a_free_node_or_the_member() {
    let seat = Seat { founding: founding(3), node: id(SEAT), start: 9 };
    let state = FoundingState::Claimed(Box::new(seat.clone()));
    // Before node.json was changed.
    let mut world = World::new(3, 3, 1);
    world.nodes.insert(3, World::claimant(3, state.clone()));
    assert_eq!(world.nodes[&3].state(), &FoundingState::Free);
    world.loss_percent = 0;
    world.run(20);
    assert_eq!(world.taken.len(), 1, "it claims again");
    // After it.
    let member = Bootstrap::new(info(SEAT), None, Vec::new(), state);
    assert_eq!(member.formed(), Some(&seat.founding));
}

#[test]
fn a_node_of_another_name_claims_nothing() {
    let mut world = World::new(4, 3, 0);
    world.nodes.insert(3, Bootstrap::new(info(3), None, vec![info(0).peer_addr], FoundingState::Free));
    world.run(40);
    assert_eq!(world.taken, []);
    assert!(world.waiting_for(3).contains("no member of it is known by the name \"n3\""), "{}", world.waiting_for(3));
}

/// A member that serves since start 3, and is told of a record of itself.
fn told_of_itself(record: NodeInfo) -> Gossip {
    let known: Vec<_> = (0..3).map(info).collect();
    let this = NodeInfo { instance: 0, start: 0, incarnation: 3, ..info(SEAT) };
    let options = GossipOptions::default();
    let mut gossip = Gossip::new(this, known, Registry::default(), Vec::new(), options, Duration::ZERO, 1);
    gossip.begin(30, 3);
    let exchange = Exchange {
        stamp: Stamp { incarnation: 1, heartbeat: 0 },
        disk_used_bytes: 0,
        disk_available_bytes: 0,
        members: 0,
        registry: 0,
        rumours: vec![Rumour::of(record)],
        entries: Vec::new(),
        wants: Vec::new(),
    };
    gossip.handle(id(0), Message::Exchange(Box::new(exchange)), Duration::from_millis(100));
    gossip
}

#[test]
fn a_newer_start_of_ones_own_is_the_end_and_an_older_one_is_not() {
    let record = |start, instance, incarnation| NodeInfo { start, instance, incarnation, heartbeat: 7, ..info(SEAT) };
    let newer = [record(4, 1, 4), record(4, 1, 2), record(3, 31, 3)];
    for record in newer {
        assert_eq!(told_of_itself(record.clone()).successor(), Some(&record));
    }
    let elsewhere = NodeInfo { peer_addr: "host9:1".into(), ..record(3, 30, 3) };
    assert!(told_of_itself(elsewhere).successor().is_some(), "a copied directory, started twice at once");

    for record in [record(2, 99, 2), record(3, 30, 3), record(0, 0, 8)] {
        let gossip = told_of_itself(record.clone());
        assert_eq!(gossip.successor(), None);
        assert!(gossip.members().this().stamp() >= record.stamp(), "its own word is the last");
    }
}

#[test]
fn an_old_process_is_told_of_the_new_one_when_it_speaks() {
    let known: Vec<_> = (0..3).map(info).collect();
    let boot = |node: usize, known: Vec<NodeInfo>| {
        let options = GossipOptions::default();
        let mut gossip =
            Gossip::new(info(node), known, Registry::default(), Vec::new(), options, Duration::ZERO, node as u64);
        gossip.begin(node as u64, 1);
        gossip
    };
    let new = NodeInfo { start: 4, incarnation: 4, peer_addr: "host9:1".into(), ..info(SEAT) };
    let with_new = known.iter().map(|info| if info.id == new.id { new.clone() } else { info.clone() }).collect();
    let (mut old, mut other) = (boot(SEAT, known), boot(0, with_new));
    let mut now = Duration::ZERO;
    while old.successor().is_none() && now < Duration::from_secs(2) {
        now += Duration::from_millis(50);
        old.tick(now);
        for request in old.take_requests().into_iter().filter(|request| request.node == Some(id(0))) {
            let reply = other.handle(id(SEAT), request.message.clone(), now);
            old.reply(id(0), &request, reply, now);
        }
    }
    assert_eq!(old.successor(), Some(&new));
}
