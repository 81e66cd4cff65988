//! The machine that keeps the nodes of a formed cluster informed of each other: who they are, where, and whether they
//! are alive.
//!
//! Every exchange is a request and its reply, of a bounded number of bytes. [`Gossip::handle`] answers a request;
//! [`Gossip::reply`] takes an answer; [`Gossip::tick`] lets time pass. What to send is in [`Gossip::take_requests`] after
//! each of them. A request that nobody answers needs no word: time tells. By event:
//!
//! | file | what happens |
//! |---|---|
//! | `gossip/exchange.rs` | news are told and taken |
//! | `gossip/probe.rs` | members are spoken to in turn, directly and through helpers |
//! | `gossip/suspect.rs` | accusations, their end, and what is believed of each member |
//! | `gossip/differences.rs` | tables that differ are made equal |
//! | `gossip/search.rs` | a node that hears of nobody asks its seeds |

mod differences;
mod exchange;
mod presence;
mod probe;
mod search;
mod suspect;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rondo_ring::NodeId;

use crate::arrivals::Arrivals;
use crate::bootstrap::Request;
use crate::health::LocalHealth;
use crate::members::Members;
use crate::message::Message;
use crate::node_info::NodeInfo;
use crate::options::{FAN_OUT, GossipOptions};
use crate::queue::Queue;
use crate::random::Random;
use crate::registry::{Entry, Registry};
use presence::Presence;
use probe::Probe;
use suspect::Accusation;

/// Members told of a change of the registry by the node where it was made.
const TOLD_AT_ONCE_MAX: usize = 16;

/// The machine.
#[derive(Clone, Debug)]
pub struct Gossip {
    options: GossipOptions,
    seeds: Vec<String>,
    random: Random,
    members: Members,
    registry: Registry,
    presence: Presence,
    health: LocalHealth,
    arrivals: BTreeMap<NodeId, Arrivals>,
    /// Members whose answer is waited for.
    probes: BTreeMap<NodeId, Probe>,
    /// Probes made for others, by the node probed and the one that asked; until when.
    favours: BTreeMap<(NodeId, NodeId), Duration>,
    /// Members that this node could not reach.
    accusations: BTreeMap<NodeId, Accusation>,
    /// A newer start of this node, of another process.
    successor: Option<Box<NodeInfo>>,
    /// Called down on this node's word alone, and for this node alone (G8).
    lone: BTreeSet<NodeId>,
    rumours: Queue<NodeId>,
    entry_rumours: Queue<String>,
    /// Entries of others that are news here, until the driver has made them durable.
    incoming: Vec<Entry>,
    /// The order in which members are spoken to, each node's its own.
    rotation: Vec<NodeId>,
    /// Whose turn it is.
    turn: usize,
    spoken: BTreeMap<NodeId, Duration>,
    next_turn: Duration,
    next_search: Duration,
    next_comparison: Duration,
    next_registry_comparison: Duration,
    outbox: Vec<Request>,
}

impl Gossip {
    /// `known`: the founding's members, or what was persisted since. `seeds`: host:port of any nodes. `seed`: decides
    /// whom this node speaks to, and must not be the same on all nodes.
    pub fn new(
        this: NodeInfo,
        known: Vec<NodeInfo>,
        registry: Registry,
        seeds: Vec<String>,
        options: GossipOptions,
        now: Duration,
        seed: u64,
    ) -> Self {
        let presence = Presence::new(now, 2 * options.round());
        let mut machine = Self {
            options,
            seeds,
            random: Random::new(seed),
            members: Members::new(this, known),
            registry,
            presence,
            health: LocalHealth::default(),
            arrivals: BTreeMap::new(),
            probes: BTreeMap::new(),
            favours: BTreeMap::new(),
            accusations: BTreeMap::new(),
            successor: None,
            lone: BTreeSet::new(),
            rumours: Queue::default(),
            entry_rumours: Queue::default(),
            incoming: Vec::new(),
            rotation: Vec::new(),
            turn: 0,
            spoken: BTreeMap::new(),
            next_turn: Duration::ZERO,
            next_search: Duration::ZERO,
            next_comparison: Duration::ZERO,
            next_registry_comparison: Duration::ZERO,
            outbox: Vec::new(),
        };
        let others: Vec<_> = machine.members.others().keys().copied().collect();
        others.into_iter().for_each(|node| machine.expect(node));
        machine
    }

    /// From now on this node takes requests: announced with a raised stamp.
    pub fn begin(&mut self, instance: u64, start: u64) {
        self.members.change_this(|this| {
            (this.instance, this.start) = (instance, start);
            // An old copy of a directory begins above what the others saw of it.
            this.incarnation = this.incarnation.max(start);
            this.heartbeat += 1;
        });
        self.rumours.push(self.members.this().id);
    }

    /// To be called several times in a heartbeat interval.
    pub fn tick(&mut self, now: Duration) {
        self.look(now);
        if self.members.this().serves() {
            self.conclude_probes();
            self.conclude_favours();
            self.judge();
            self.probe_the_accused();
            self.probe_next();
        }
        self.search();
    }

    /// Answers another node's request.
    pub fn handle(&mut self, from: NodeId, message: Message, now: Duration) -> Message {
        self.look(now);
        match message {
            _ if from == self.members.this().id => Message::Declined("this is the asking node itself".into()),
            Message::Exchange(exchange) => self.answer_exchange(from, *exchange),
            Message::AskProbe(node) => self.asked_to_probe(from, node),
            Message::Probed(word) => {
                self.helper_said(from, word);
                Message::Ok
            }
            Message::Summary(theirs) => self.digests(&theirs),
            Message::RegistrySummary(theirs) => self.registry_digests(&theirs),
            Message::Registry { entries, wants } => {
                self.take_entries(entries);
                Message::Registry { entries: self.registry.some(&wants), wants: Vec::new() }
            }
            Message::AskMembers(info) => self.say_members(from, *info),
            _ => Message::Declined("not a question among members".into()),
        }
    }

    /// Takes the reply of `from` to a request of this machine.
    pub fn reply(&mut self, from: NodeId, request: &Request, reply: Message, now: Duration) {
        self.look(now);
        if from == self.members.this().id {
            return;
        }
        match (&request.message, reply) {
            (Message::Exchange(said), Message::Exchange(exchange)) => self.exchanged(from, request, said, *exchange),
            (Message::AskProbe(node), Message::Declined(_)) => self.helper_declined(from, *node),
            (_, Message::Digests { buckets, digests }) => self.compare(from, &buckets, &digests),
            (_, Message::RegistryDigests { buckets, digests }) => self.compare_registry(from, &buckets, &digests),
            (_, Message::Registry { entries, .. }) => self.take_entries(entries),
            (_, Message::Members(infos)) => self.told_members(infos),
            _ => {}
        }
    }

    /// What is to be sent. Ask after every call.
    pub fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.outbox)
    }

    /// Entries that are news here: to be merged into a copy of the registry, made durable, and handed back with
    /// [`Gossip::adopt`]. Until then they are neither in force nor passed on.
    pub fn take_incoming(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.incoming)
    }

    /// The registry with a change made here, durably: told to some at once, who pass it on.
    pub fn publish(&mut self, registry: Registry, name: &str) {
        self.adopt(registry, vec![name.into()]);
        let Some(entry) = self.registry.get(name).cloned() else { return };
        let mut others = self.rotation.clone();
        self.random.shuffle(&mut others);
        for to in others.into_iter().take(TOLD_AT_ONCE_MAX) {
            self.send(to, Message::Registry { entries: vec![entry.clone()], wants: Vec::new() });
        }
    }

    /// The registry as it now is, durably, and the names of what changed: passed on with the next exchanges.
    pub fn adopt(&mut self, registry: Registry, changed: Vec<String>) {
        self.registry = registry;
        changed.into_iter().for_each(|name| self.entry_rumours.push(name));
    }

    /// Another process that began to serve as this node after this one: this one must end (G11).
    pub fn successor(&self) -> Option<&NodeInfo> {
        self.successor.as_deref()
    }

    /// The table.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Whose records changed since this was last asked.
    pub fn take_changed(&mut self) -> BTreeSet<NodeId> {
        self.members.take_changed()
    }

    /// The registry as it is in force.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Reports the state of this node's disk from now on.
    pub fn set_disk(&mut self, used_bytes: u64, available_bytes: u64) {
        self.members.set_disk(self.members.this().id, used_bytes, available_bytes);
    }

    /// How many members this node believes to be down.
    pub fn down(&self) -> usize {
        let agreed = self.members.others().iter().filter(|(_, member)| member.down).count();
        agreed + self.lone.iter().filter(|&&node| self.members.get(node).is_some_and(|member| !member.down)).count()
    }

    /// How many times the usual patience this node has with others at the moment, 1 to 9.
    pub fn patience(&self) -> u32 {
        self.health.patience()
    }

    /// Time passes. What this node did not see pass is no time, and speaks against its own word (G9).
    fn look(&mut self, now: Duration) {
        let missed = self.presence.look(now);
        if missed >= self.options.probe_timeout() {
            self.health.worse(1 + u8::try_from(missed.as_secs()).unwrap_or(u8::MAX).min(2));
        }
    }

    fn now(&self) -> Duration {
        self.presence.now()
    }

    /// Begins to expect messages of a member, and to speak to it in turn.
    fn expect(&mut self, node: NodeId) {
        self.rotation.insert(self.random.below(self.rotation.len() + 1), node);
        let turns = self.options.round() * self.rotation.len() as u32;
        // It speaks to this node as often as this node speaks to it.
        let interval_ms = turns.max(self.options.heartbeat()).as_secs_f64() * 1e3 / 2.0;
        self.arrivals.insert(node, Arrivals::new(interval_ms, self.now()));
    }

    fn send(&mut self, to: NodeId, message: Message) {
        if let Some(info) = self.members.get(to).map(|member| &member.info) {
            self.outbox.push(Request { address: info.peer_addr.clone(), node: Some(to), message });
        }
    }

    /// How often a piece of news is told by each node that has it: enough that everyone hears it with a probability that
    /// does not fall with their number.
    fn times_told(&self) -> u32 {
        let members = self.members.others().len() + 2;
        (2 * members.ilog2() + 2).max(2 * FAN_OUT)
    }
}
