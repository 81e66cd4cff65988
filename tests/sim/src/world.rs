//! Virtual time and everything that is waiting for its turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rondo_coordinator::{CoordinatorOptions, Now, ReplicaError};
use rondo_ring::{Layout, NodeId};

use crate::client::Client;
use crate::faults::Rates;
use crate::history::{At, History};
use crate::mutant::Mutant;
use crate::network::Network;
use crate::node::Node;
use crate::node::packet::Packet;
use crate::random::Random;
use crate::setup::Setup;
use crate::trace::Trace;

/// What is going to happen.
#[derive(Debug)]
pub enum Event {
    /// Something happens to one process of a node; to no later one.
    Process {
        /// Which node.
        node: usize,
        /// Which of its processes.
        life: u64,
        /// What.
        what: Happens,
    },
    /// A message reaches a node, whatever process it has by then.
    Arrives {
        /// Whose.
        from: usize,
        /// Where.
        to: usize,
        /// What.
        packet: Box<Packet>,
    },
    /// A node is started.
    Start {
        /// Which.
        node: usize,
    },
    /// A client makes up its mind.
    Client {
        /// Which.
        client: usize,
    },
    /// Trouble of the plan.
    Trouble {
        /// Its place in the plan.
        index: usize,
    },
    /// The network is whole again.
    Rejoined,
}

/// What happens to a process.
#[derive(Clone, Copy, Debug)]
pub enum Happens {
    /// A call broke.
    Broke {
        /// Which.
        call: u64,
        /// How.
        error: ReplicaError,
    },
    /// A machine wanted to be woken, unless it has another wish by now.
    Wake {
        /// Which.
        machine: u64,
    },
    /// The membership looks at the clock.
    Tick,
    /// The house is looked after.
    House,
    /// The refill wanted to be woken.
    Refill,
    /// Anti-entropy looks whether it is time for a round.
    Exchange,
    /// A round has waited for so long as it wanted.
    Waited {
        /// With whom.
        peer: NodeId,
    },
    /// The delivery of hints looks round.
    Handoff,
    /// The disk has done what it was given.
    Disk,
    /// A page for a listing has been read here.
    Page {
        /// For which listing.
        list: u64,
        /// For which of its streams.
        stream: usize,
    },
}

/// A cluster, its clients and its troubles.
pub struct World {
    /// Time since the beginning.
    pub now: At,
    /// All chance of the run.
    pub random: Random,
    /// How often things fail at the moment.
    pub rates: Rates,
    /// Troubles that could not be made so far, by their place in the plan.
    pub(crate) waiting_troubles: BTreeSet<usize>,
    /// The network.
    pub network: Network,
    /// In the order of their ids, 1 to so many.
    pub nodes: Vec<Node>,
    /// Who own what.
    pub layout: Arc<Layout>,
    /// Of the coordinators.
    pub options: CoordinatorOptions,
    /// The clients.
    pub clients: Vec<Client>,
    /// What the seed has drawn.
    pub setup: Setup,
    /// What is wrong with the driver.
    pub mutant: Mutant,
    /// For the checkers.
    pub history: History,
    /// For people, and to compare runs.
    pub trace: Trace,
    queue: BTreeMap<(At, u64), Event>,
    serial: u64,
}

impl World {
    /// A cluster that is about to start.
    #[must_use]
    pub fn new(setup: Setup, mutant: Mutant, readable: bool) -> Self {
        let mut random = Random::new(setup.seed ^ 0x05ee_d0fd_a7a0);
        let layout = setup.layout();
        let nodes = (0..setup.nodes).map(|index| Node::new(index, &mut random)).collect();
        let clients = (0..setup.clients).map(|_| Client::default()).collect();
        let mut world = Self {
            now: Duration::ZERO,
            random,
            rates: setup.plan.rates.clone(),
            waiting_troubles: BTreeSet::new(),
            network: Network::default(),
            nodes,
            layout,
            options: CoordinatorOptions::default(),
            clients,
            mutant,
            history: History::default(),
            trace: Trace::new(readable),
            queue: BTreeMap::new(),
            serial: 0,
            setup,
        };
        world.schedule_the_beginning();
        world
    }

    fn schedule_the_beginning(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.start(node));
        for client in 0..self.clients.len() {
            let at = self.random.duration(Duration::from_millis(500), Duration::from_millis(1_500));
            self.at(at, Event::Client { client });
        }
        for index in 0..self.setup.plan.troubles.len() {
            // A disk that cannot be lost now, since another is being refilled, needs the time.
            let patient = self.setup.plan.troubles[index].0.loses_a_disk();
            let latest = Duration::from_secs(if patient { 8 } else { 20 });
            let at = self.random.duration(Duration::from_secs(2), latest);
            self.at(at, Event::Trouble { index });
        }
    }

    /// A number that nothing else has.
    pub fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Something will happen then.
    pub fn at(&mut self, time: At, event: Event) {
        let serial = self.serial();
        self.queue.insert((time.max(self.now), serial), event);
    }

    /// Something will happen to a node's present process.
    pub fn at_node(&mut self, time: At, node: usize, what: Happens) {
        if let Some(life) = self.nodes[node].life() {
            self.at(time, Event::Process { node, life, what });
        }
    }

    /// Lets everything happen that is due by then.
    pub fn run_until(&mut self, until: At) {
        while let Some((&(time, serial), _)) = self.queue.first_key_value() {
            if time > until {
                break;
            }
            let event = self.queue.remove(&(time, serial)).expect("it is the first");
            self.now = time;
            self.happen(event);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        let node = match &event {
            Event::Process { node, life, .. } if self.nodes[*node].life() == Some(*life) => Some(*node),
            Event::Process { .. } => return,
            Event::Arrives { to, .. } => Some(*to),
            Event::Start { .. } | Event::Client { .. } | Event::Trouble { .. } | Event::Rejoined => None,
        };
        if let Some(node) = node {
            let paused_until = self.nodes[node].paused_until;
            if paused_until > self.now {
                // What has come meanwhile is read when it goes on, in any order.
                let late = self.random.duration(Duration::ZERO, Duration::from_millis(3));
                return self.at(paused_until + late, event);
            }
            self.nodes[node].wall.advance(self.now);
        }
        match event {
            Event::Process { node, what, .. } => self.happens_to(node, what),
            Event::Arrives { from, to, packet } => self.arrives(from, to, *packet),
            Event::Start { node } => self.start(node),
            Event::Client { client } => self.client_acts(client),
            Event::Trouble { index } => self.trouble(index),
            Event::Rejoined => self.rejoin(),
        }
        if let Some(node) = node {
            self.settle(node);
        }
    }

    fn happens_to(&mut self, node: usize, what: Happens) {
        match what {
            Happens::Broke { call, error } => self.call_broke(node, call, error),
            Happens::Wake { machine } => self.wake(node, machine),
            Happens::Tick => self.membership_ticks(node),
            Happens::House => self.keep_house(node),
            Happens::Refill => self.refill_goes_on(node),
            Happens::Exchange => self.begin_due_rounds(node),
            Happens::Waited { peer } => self.round_has_waited(node, peer),
            Happens::Handoff => self.look_at_hints(node),
            Happens::Disk => self.disk_is_done(node),
            Happens::Page { list, stream } => self.page_was_read(node, list, stream),
        }
    }

    /// A node's own monotonic clock.
    pub fn clock(&self, node: usize) -> Now {
        self.nodes[node].clock(self.now)
    }

    /// Where a node is in the list.
    #[must_use]
    pub fn index_of(&self, id: NodeId) -> usize {
        id.0 as usize - 1
    }
}
