//! Whole clusters of the real machine under virtual time: one seed decides every delay, loss and fault of a run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use rondo_gossip::bootstrap::Request;
use rondo_gossip::{Gossip, GossipOptions, Message, NodeInfo, Random, Registry};
use rondo_ring::{Liveness, NodeId};

/// How often a node's driver ticks.
const TICK: Duration = Duration::from_millis(50);
/// Delay of a message: most are as in one data centre, one in a hundred is late.
const DELAY_MS: usize = 10;
const LATE_MS: usize = 150;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

enum Event {
    Tick,
    Request { from: usize, request: Box<Request> },
    Reply { from: NodeId, request: Box<Request>, reply: Box<Message> },
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Running,
    Killed,
    /// Stopped: what arrives waits until then.
    PausedUntil(Duration),
}

pub(crate) struct Node {
    pub gossip: Gossip,
    state: State,
    /// Where it listens in this life.
    address: String,
    /// Its clock stands still, at this reading.
    frozen: Option<Duration>,
    /// What its clock is ahead by.
    ahead: Duration,
    seeds: Vec<String>,
    zone: String,
    life: u64,
    /// Entered with every start: events of an earlier life are no more.
    starts: u64,
}

pub(crate) struct World {
    pub now: Duration,
    pub nodes: Vec<Node>,
    pub random: Random,
    /// Of 100 messages, requests and replies alike.
    pub loss_percent: usize,
    /// Messages from the one to the other are lost.
    pub cuts: Vec<(usize, usize)>,
    /// Bytes of all messages sent, as encoded.
    pub bytes: u64,
    pub messages: u64,
    /// Times that a node asked others to reach one that did not answer.
    pub asked_for_help: u64,
    options: GossipOptions,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, (usize, u64, Event)>,
    pushed: u64,
    addresses: BTreeMap<String, usize>,
}

pub(crate) fn id(node: usize) -> NodeId {
    // Spread over the whole range, as real ids are.
    let mut random = Random::new(node as u64 + 1);
    NodeId(u128::from(random.number()) << 64 | u128::from(random.number()))
}

impl World {
    /// A formed cluster whose nodes all know each other, in so many zones.
    pub(crate) fn new(seed: u64, nodes: usize, zones: usize) -> Self {
        let mut world = Self::empty(seed);
        let infos: Vec<_> = (0..nodes).map(|node| world.info(node, 1, &format!("z{}", node % zones))).collect();
        // As they know each other once all have begun to serve.
        let infos: Vec<_> = infos.into_iter().map(|i| NodeInfo { instance: 1, start: 1, heartbeat: 1, ..i }).collect();
        for node in 0..nodes {
            world.boot(node, infos.clone(), vec![infos[0].peer_addr.clone()], infos[node].zone.clone());
            world.nodes[node].gossip.begin(1, 1);
        }
        world
    }

    pub(crate) fn empty(seed: u64) -> Self {
        Self {
            now: secs(1),
            nodes: Vec::new(),
            random: Random::new(seed),
            loss_percent: 0,
            cuts: Vec::new(),
            bytes: 0,
            messages: 0,
            asked_for_help: 0,
            options: GossipOptions::default(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            pushed: 0,
            addresses: BTreeMap::new(),
        }
    }

    fn info(&self, node: usize, life: u64, zone: &str) -> NodeInfo {
        NodeInfo {
            id: id(node),
            name: format!("node-{node}"),
            zone: zone.into(),
            weight: 1,
            peer_addr: format!("node-{node}.life-{life}.example:7701"),
            client_addr: format!("node-{node}.life-{life}.example:7700"),
            version: "0.1.0".into(),
            incarnation: life,
            instance: 0,
            start: 0,
            disk_used_bytes: 123_456_789,
            disk_available_bytes: 9_876_543_210,
            heartbeat: 0,
        }
    }

    /// A node's life begins, not yet serving.
    fn boot(&mut self, node: usize, known: Vec<NodeInfo>, seeds: Vec<String>, zone: String) {
        let (life, starts) = self.nodes.get(node).map_or((1, 1), |node| (node.life, node.starts + 1));
        let info = self.info(node, life, &zone);
        let address = info.peer_addr.clone();
        self.addresses.retain(|_, at| *at != node);
        self.addresses.insert(address.clone(), node);
        let seed = self.random.number();
        let gossip = Gossip::new(info, known, Registry::default(), seeds.clone(), self.options.clone(), self.now, seed);
        let state = State::Running;
        let fresh = Node { gossip, state, address, frozen: None, ahead: Duration::ZERO, seeds, zone, life, starts };
        if node < self.nodes.len() {
            self.nodes[node] = fresh;
        } else {
            self.nodes.push(fresh);
        }
        let phase = ms(self.random.below(TICK.as_millis() as usize) as u64);
        self.push(self.now + phase, node, Event::Tick);
    }

    /// A node that knows nothing but an address; serves at once.
    pub(crate) fn join(&mut self, through: usize) -> usize {
        let (node, seed) = (self.nodes.len(), self.nodes[through].address.clone());
        self.boot(node, Vec::new(), vec![seed], "z0".into());
        self.nodes[node].gossip.begin(1, 1);
        node
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].state = State::Killed;
    }

    pub(crate) fn pause(&mut self, node: usize, duration: Duration) {
        self.nodes[node].state = State::PausedUntil(self.now + duration);
    }

    /// Starts a killed node with what it had persisted; at another address if it moves. It serves when told to.
    pub(crate) fn restart(&mut self, node: usize, moved: bool, seeds: Option<Vec<String>>) {
        let known = self.nodes[node].gossip.members().infos();
        let (seeds, zone) = (seeds.unwrap_or(self.nodes[node].seeds.clone()), self.nodes[node].zone.clone());
        self.nodes[node].life += 1;
        let address = self.nodes[node].address.clone();
        self.boot(node, known, seeds, zone);
        if !moved {
            self.addresses.insert(address, node);
        }
    }

    /// The node's directory is replaced by a copy from its first life.
    pub(crate) fn forget_lives(&mut self, node: usize) {
        self.nodes[node].life = 0;
        let (seeds, zone) = (self.nodes[node].seeds.clone(), self.nodes[node].zone.clone());
        let this = self.info(node, 1, &zone);
        let founders = (0..self.nodes.len()).filter(|&other| other != node).map(|other| self.info(other, 1, "z0"));
        let known = founders.collect();
        self.nodes[node].gossip =
            Gossip::new(this, known, Registry::default(), seeds, self.options.clone(), self.now, 1);
    }

    pub(crate) fn serve(&mut self, node: usize) {
        let life = self.nodes[node].life;
        self.nodes[node].gossip.begin(life, life);
    }

    pub(crate) fn address(&self, node: usize) -> String {
        self.nodes[node].address.clone()
    }

    /// The node's clock stands still while everything else goes on.
    pub(crate) fn freeze_clock(&mut self, node: usize) {
        self.nodes[node].frozen = Some(self.local(node));
    }

    pub(crate) fn thaw_clock(&mut self, node: usize, ahead: Duration) {
        self.nodes[node].frozen = None;
        self.nodes[node].ahead += ahead;
    }

    fn local(&self, node: usize) -> Duration {
        self.nodes[node].frozen.unwrap_or(self.now + self.nodes[node].ahead)
    }

    pub(crate) fn liveness(&self, by: usize, of: usize) -> Liveness {
        self.nodes[by].gossip.liveness(id(of), self.local(by))
    }

    fn push(&mut self, at: Duration, node: usize, event: Event) {
        self.pushed += 1;
        self.queue.push(Reverse((at, self.pushed)));
        self.events.insert(self.pushed, (node, self.nodes[node].starts, event));
    }

    fn post(&mut self, from: usize, to: usize, event: Event, bytes: usize) {
        self.bytes += bytes as u64;
        self.messages += 1;
        if self.random.below(100) < self.loss_percent || self.cuts.contains(&(from, to)) {
            return;
        }
        let most = if self.random.below(100) == 0 { LATE_MS } else { DELAY_MS };
        let delay = ms(1 + self.random.below(most) as u64);
        self.push(self.now + delay, to, event);
    }

    /// One event. The node it concerned, if it is alive.
    fn step(&mut self) -> Option<usize> {
        let Reverse((at, key)) = self.queue.pop().expect("nodes tick for ever");
        let (node, starts, event) = self.events.remove(&key).expect("it was pushed");
        self.now = self.now.max(at);
        match self.nodes[node].state {
            State::Running => {}
            State::PausedUntil(until) if until <= self.now => self.nodes[node].state = State::Running,
            State::PausedUntil(until) => {
                if starts == self.nodes[node].starts {
                    self.push(until, node, event);
                }
                return None;
            }
            State::Killed => return None,
        }
        if starts != self.nodes[node].starts {
            return None;
        }
        self.happen(node, event);
        Some(node)
    }

    fn happen(&mut self, node: usize, event: Event) {
        let local = self.local(node);
        match event {
            Event::Tick => {
                self.nodes[node].gossip.tick(local);
                self.push(self.now + TICK, node, Event::Tick);
            }
            Event::Request { from, request } => {
                let reply = self.nodes[node].gossip.handle(id(from), request.message.clone(), local);
                let (bytes, reply) = (reply.encode().len(), Box::new(reply));
                self.post(node, from, Event::Reply { from: id(node), request, reply }, bytes);
            }
            Event::Reply { from, request, reply } => {
                self.nodes[node].gossip.reply(from, &request, *reply, local);
            }
        }
        self.carry_out(node);
    }

    /// What a driver does after each event: the registry is made durable, requests are sent.
    fn carry_out(&mut self, node: usize) {
        let gossip = &mut self.nodes[node].gossip;
        let incoming = gossip.take_incoming();
        if !incoming.is_empty() {
            let mut registry = gossip.registry().clone();
            let changed = registry.merge(incoming, 1_000_000);
            gossip.adopt(registry, changed);
        }
        for request in gossip.take_requests() {
            let bytes = request.message.encode().len();
            self.asked_for_help += u64::from(matches!(request.message, Message::AskProbe(_)));
            let Some(&to) = self.addresses.get(&request.address) else { continue };
            if request.node.is_none_or(|expected| expected == id(to)) {
                self.post(node, to, Event::Request { from: node, request: Box::new(request) }, bytes);
            }
        }
    }

    /// Sets a bucket at a node.
    pub(crate) fn set(&mut self, node: usize, name: &str, value: &str) {
        let gossip = &mut self.nodes[node].gossip;
        let mut registry = gossip.registry().clone();
        registry.set(name, Some(value.into()), id(node), 1).unwrap();
        gossip.publish(registry, name);
        self.carry_out(node);
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        self.watch(duration, |_, _| {});
    }

    /// Runs on, and looks at every node after each of its events.
    pub(crate) fn watch(&mut self, duration: Duration, mut look: impl FnMut(&Self, usize)) {
        let end = self.now + duration;
        while self.queue.peek().is_some_and(|Reverse((at, _))| *at <= end) {
            if let Some(node) = self.step() {
                look(self, node);
            }
        }
        self.now = end;
    }

    /// Runs on until something holds; how long that took, `None` where it did not within the limit.
    pub(crate) fn until(&mut self, limit: Duration, mut holds: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let begin = self.now;
        while self.now < begin + limit {
            if holds(self) {
                return Some(self.now - begin);
            }
            self.run(ms(10));
        }
        None
    }

    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].state == State::Running).collect()
    }

    /// Everyone that runs believes this of a node.
    pub(crate) fn all_believe(&self, of: usize, liveness: Liveness) -> bool {
        self.running().into_iter().filter(|&by| by != of).all(|by| self.liveness(by, of) == liveness)
    }

    pub(crate) fn all_up(&self) -> bool {
        let running = self.running();
        running.iter().all(|&of| self.all_believe(of, Liveness::Up))
    }
}

/// The value that `percent` of the values do not exceed.
pub(crate) fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort();
    let rank = (values.len() * percent).div_ceil(100).max(1) - 1;
    values[rank]
}
