//! The side that asks: replica operations to other nodes.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rondo_coordinator::{Now, ReplicaError, ReplicaRequest, Replicas, ReplyTo, Trace};
use rondo_ring::NodeId;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::address::AddressBook;
use super::identity::Identity;
use super::lane::{Lane, Queue};
use super::options::PeerOptions;
use super::refusal::{Cause, RefusalLog};
use super::reply::Reply;
use super::slot::{self, Channel};
use super::stats::{Evidence, Health};

/// What all workers of this node share.
#[derive(Debug)]
pub struct Network {
    identity: Arc<Identity>,
    addresses: Arc<AddressBook>,
    options: PeerOptions,
    health: Health,
    refusals: RefusalLog,
    origin: Instant,
}

impl Network {
    /// `origin` is the zero of [`Now`] in this process.
    pub fn new(
        identity: Arc<Identity>,
        addresses: Arc<AddressBook>,
        options: PeerOptions,
        origin: Instant,
    ) -> Arc<Self> {
        let (health, refusals) = (Health::new(origin), RefusalLog::default());
        Arc::new(Self { identity, addresses, options, health, refusals, origin })
    }

    /// Who this node is.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Where the others are.
    pub fn addresses(&self) -> &Arc<AddressBook> {
        &self.addresses
    }

    /// Limits and times.
    pub fn options(&self) -> &PeerOptions {
        &self.options
    }

    /// What is known of each peer.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// What speaks for and against a peer; default for one that was never talked to. Costs under a microsecond.
    pub fn evidence(&self, node: NodeId) -> Evidence {
        self.health.get(node).map(|peer| peer.evidence(&self.options)).unwrap_or_default()
    }

    /// Handshakes refused, by either side, since the process began.
    pub fn refused(&self, cause: Cause) -> u64 {
        self.refusals.count(cause)
    }

    pub(super) fn refusals(&self) -> &RefusalLog {
        &self.refusals
    }

    pub(super) fn note_success(&self, address: &str, node: NodeId, sought: Option<NodeId>) {
        self.refusals.forget(address, sought);
        self.health.entry(node).succeeded();
    }

    pub(super) fn nonce(&self) -> [u8; 32] {
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).expect("invariant: the system has a source of randomness");
        nonce
    }

    pub(super) fn random(&self) -> u32 {
        getrandom::u32().expect("invariant: the system has a source of randomness")
    }
}

/// The lanes of one worker to all peers. Dropping it ends its connections; what waits is answered.
pub struct Peers {
    network: Arc<Network>,
    runtime: Handle,
    lanes: ArcSwap<BTreeMap<NodeId, Arc<PeerLanes>>>,
    slots: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct PeerLanes {
    channels: [OnceLock<Arc<Channel>>; Lane::ALL.len()],
}

impl Peers {
    /// To be called on the worker's runtime: its connections live there.
    pub fn new(network: &Arc<Network>) -> Arc<Self> {
        Arc::new(Self {
            network: Arc::clone(network),
            runtime: Handle::current(),
            lanes: ArcSwap::default(),
            slots: Mutex::default(),
        })
    }

    /// What all workers share.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Sends over a lane of the caller's choice: [`Lane::Background`] for repair. Same promises as
    /// [`Replicas::send`].
    pub fn send_on(
        &self,
        lane: Lane,
        to: NodeId,
        request: &ReplicaRequest,
        trace: Option<&Trace>,
        deadline: Now,
        reply: ReplyTo,
    ) {
        let lanes = self.lanes_to(to);
        let channel = lanes.channels[lane as usize].get_or_init(|| self.open(lane, to));
        let deadline = tokio::time::Instant::from_std(self.network.origin + deadline);
        if let Err(reply) = channel.queue.push(request, trace, deadline, Reply::new(reply)) {
            // Not from here: the caller may be in the middle of what its reply leads to.
            let channel = Arc::clone(channel);
            self.runtime.spawn(async move { channel.queue.fail([reply], ReplicaError::NotSent) });
        }
    }

    fn lanes_to(&self, node: NodeId) -> Arc<PeerLanes> {
        loop {
            if let Some(lanes) = self.lanes.load().get(&node) {
                return Arc::clone(lanes);
            }
            self.lanes.rcu(|old| {
                let mut new = BTreeMap::clone(old);
                new.entry(node).or_default();
                new
            });
        }
    }

    fn open(&self, lane: Lane, node: NodeId) -> Arc<Channel> {
        let network = Arc::clone(&self.network);
        let options = *network.options.lane(lane);
        let stats = network.health.entry(node);
        let queue = Queue::new(lane, options, Arc::clone(&stats));
        let channel = Arc::new(Channel { network, node, lane, stats, queue });
        let mut slots = self.slots.lock();
        for _ in 0..options.connections.max(1) {
            slots.spawn_on(slot::run(Arc::clone(&channel)), &self.runtime);
        }
        channel
    }
}

impl Replicas for Peers {
    fn send(&self, to: NodeId, request: ReplicaRequest, trace: Option<&Trace>, deadline: Now, reply: ReplyTo) {
        self.send_on(Lane::of(&request), to, &request, trace, deadline, reply);
    }

    fn read_p95(&self, of: NodeId) -> Option<Duration> {
        self.network.health.read_p95(of)
    }

    fn is_silent(&self, node: NodeId) -> bool {
        self.network.evidence(node).suspect()
    }
}
