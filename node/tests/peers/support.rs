//! Nodes that consist of a transport and a script.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rondo_coordinator::{ReplicaError, ReplicaReply, ReplicaRequest, ReplicaValue, Replicas, ReplyTo, Want};
use rondo_node::peers::{
    AddressBook, Arrival, Identity, LaneOptions, Network, PeerHandler, PeerOptions, PeerServer, Peers, Secret,
};
use rondo_ring::{Epoch, NodeId};
use rondo_storage::Key;
use rondo_storage::engine::Durability;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) const CLUSTER: u128 = 77;
pub(crate) const FAR: Duration = Duration::from_secs(30);

pub(crate) type OpResult = Result<ReplicaReply, ReplicaError>;

/// What the node under test is asked, and what it says: reads and merges are answered at once with the token of
/// their key, or held until the test lets them go.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) holding: AtomicBool,
    pub(crate) held: Mutex<Vec<(ReplicaRequest, ReplyTo)>>,
    pub(crate) asked: AtomicUsize,
    pub(crate) epochs: Mutex<Vec<Epoch>>,
    pub(crate) remaining: Mutex<Vec<Duration>>,
    pub(crate) travelled: Mutex<Vec<Duration>>,
}

impl Script {
    pub(crate) fn hold(&self) {
        self.holding.store(true, Ordering::SeqCst);
    }

    pub(crate) fn held(&self) -> usize {
        self.held.lock().unwrap().len()
    }

    /// Answers what is held, newest first, and everything from now on.
    pub(crate) fn release(&self) {
        self.holding.store(false, Ordering::SeqCst);
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        held.into_iter().rev().for_each(|(request, reply)| reply(Ok(answer(&request))));
    }
}

fn answer(request: &ReplicaRequest) -> ReplicaReply {
    match request {
        ReplicaRequest::Read { key, .. } => ReplicaReply::Value(ReplicaValue::Digest(key.token().0)),
        _ => ReplicaReply::Merged,
    }
}

impl PeerHandler for Script {
    fn replica(&self, _: NodeId, request: ReplicaRequest, arrival: Arrival, reply: ReplyTo) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.remaining.lock().unwrap().push(arrival.remaining);
        self.travelled.lock().unwrap().push(arrival.travelled);
        if self.holding.load(Ordering::SeqCst) {
            self.held.lock().unwrap().push((request, reply));
        } else {
            reply(Ok(answer(&request)));
        }
    }

    fn control(&self, from: NodeId, _: SocketAddr, body: Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send>> {
        Box::pin(async move { [from.0.to_le_bytes().as_slice(), &body].concat().into() })
    }

    fn epoch_seen(&self, _: NodeId, epoch: Epoch) {
        self.epochs.lock().unwrap().push(epoch);
    }
}

/// Short pauses between attempts; the times by which something is given up are each test's own, where it waits for
/// that, and long enough elsewhere to never pass by accident.
pub(crate) fn options() -> PeerOptions {
    let lane = |lane: LaneOptions| LaneOptions { batch_timeout: FAR, ..lane };
    let defaults = PeerOptions::default();
    let mut options = PeerOptions {
        read: lane(defaults.read),
        write: lane(defaults.write),
        forward: LaneOptions { connections: 3, ..lane(defaults.forward) },
        background: lane(defaults.background),
        connect_timeout: Duration::from_secs(10),
        reconnect_patience: Duration::from_millis(30),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(40),
        ..defaults
    };
    options.server.handshake_timeout = Duration::from_secs(10);
    options
}

/// One node.
pub(crate) struct Node {
    pub(crate) network: Arc<Network>,
    pub(crate) server: Arc<PeerServer>,
    pub(crate) script: Arc<Script>,
    origin: Instant,
    drain: Option<watch::Sender<bool>>,
}

impl Node {
    pub(crate) fn member(id: u128) -> Self {
        Self::new(id, b"secret", Some(CLUSTER), options())
    }

    pub(crate) fn new(id: u128, secret: &[u8], cluster: Option<u128>, options: PeerOptions) -> Self {
        let identity = Arc::new(Identity::new(NodeId(id), Secret::new(secret)));
        if let Some(cluster) = cluster {
            identity.set_cluster(cluster);
        }
        let origin = Instant::now();
        let network = Network::new(identity, Arc::new(AddressBook::new()), options, origin);
        let script = Arc::new(Script::default());
        let server = PeerServer::new(&network, Arc::clone(&script) as Arc<dyn PeerHandler>);
        Self { network, server, script, origin, drain: None }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.network.identity().node()
    }

    /// Opens a port; a second call moves the node to another one.
    pub(crate) async fn listen(&mut self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, mut draining) = watch::channel(false);
        let server = Arc::clone(&self.server);
        tokio::spawn(async move {
            let drained = draining.clone();
            let accept = async {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(Arc::clone(&server).serve_connection(stream, drained.clone()));
                }
            };
            tokio::select! {
                () = accept => {}
                _ = draining.wait_for(|&draining| draining) => {}
            }
        });
        self.drain = Some(drain);
        address
    }

    /// Closes the port and, once their requests are answered, its connections.
    pub(crate) async fn stop(&mut self) {
        self.drain.take().unwrap().send(true).unwrap();
        eventually(|| self.server.connections() == 0).await;
    }

    pub(crate) fn knows(&self, node: NodeId, address: impl ToString) {
        self.network.addresses().set(node, &address.to_string());
    }

    pub(crate) fn evidence(&self, node: NodeId) -> rondo_node::peers::Evidence {
        self.network.evidence(node)
    }

    /// Sends, with that much time.
    pub(crate) fn ask(
        &self,
        peers: &Peers,
        to: NodeId,
        request: ReplicaRequest,
        within: Duration,
    ) -> oneshot::Receiver<OpResult> {
        let (reply, result) = oneshot::channel();
        let deadline = self.origin.elapsed() + within;
        peers.send(to, request, None, deadline, Box::new(move |answer| reply.send(answer).unwrap()));
        result
    }

    /// Sends, and reports into `results` with a number.
    pub(crate) fn ask_numbered(
        &self,
        peers: &Peers,
        to: NodeId,
        number: usize,
        results: &mpsc::UnboundedSender<(usize, OpResult)>,
    ) {
        let results = results.clone();
        let reply = Box::new(move |answer| results.send((number, answer)).unwrap());
        peers.send(to, read(number), None, self.origin.elapsed() + FAR, reply);
    }
}

pub(crate) fn key(number: usize) -> Key {
    Key::new("fruit", &format!("apple-{number}")).unwrap()
}

pub(crate) fn read(number: usize) -> ReplicaRequest {
    ReplicaRequest::Read { key: key(number), want: Want::Digest }
}

pub(crate) fn merge(number: usize, object: Bytes) -> ReplicaRequest {
    ReplicaRequest::Merge { key: key(number), object, durability: Durability::Fsync }
}

pub(crate) fn is_answer_to(number: usize, result: &OpResult) -> bool {
    matches!(result, Ok(ReplicaReply::Value(ReplicaValue::Digest(digest))) if *digest == key(number).token().0)
}

/// Waits until it holds; panics after ten seconds.
pub(crate) async fn eventually(mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < give_up, "it never came to hold");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Time that a test is about: what is measured is how long it was.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A member with options of its own.
pub(crate) fn node_with(id: u128, change: impl FnOnce(&mut PeerOptions)) -> Node {
    let mut options = options();
    change(&mut options);
    Node::new(id, b"secret", Some(CLUSTER), options)
}

/// Two members, the second listening and known to the first, whose options are changed.
pub(crate) async fn pair_with(change: impl FnOnce(&mut PeerOptions)) -> (Node, Node, Arc<Peers>) {
    let (one, mut two) = (node_with(1, change), Node::member(2));
    one.knows(two.id(), two.listen().await);
    let peers = Peers::new(&one.network);
    (one, two, peers)
}

/// Two members, the second listening and known to the first.
pub(crate) async fn pair() -> (Node, Node, Arc<Peers>) {
    pair_with(|_| ()).await
}
