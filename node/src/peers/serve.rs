//! The side that is asked: accepts connections, bounds them, ends them.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rondo_coordinator::{ReplicaRequest, ReplyTo, Trace};
use rondo_ring::{Epoch, NodeId};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::client::Network;
use super::options::ServerOptions;
use super::session::Session;

/// Most bytes of a request's head: ours have about a hundred.
const HEAD_BYTES_MAX: usize = 1 << 10;
/// Read buffer: grows to this only for a peer that sends that much.
const READ_BUFFER_BYTES_MAX: usize = 256 << 10;

/// What is said of an operation besides what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// What was left of its time when it left the sender's queue.
    pub remaining: Duration,
    /// At most so long ago that was.
    pub travelled: Duration,
    /// Of the client's request that it belongs to, where that has one.
    pub trace: Option<Arc<Trace>>,
}

/// What a node does for its peers. Every call is from a peer that has proved the secret.
pub trait PeerHandler: Send + Sync + 'static {
    /// Carries out one operation and calls `reply` exactly once, from any thread, within the time that was left. Must
    /// not block. The request's bytes are slices of the whole batch: what is kept is to be copied.
    fn replica(&self, from: NodeId, request: ReplicaRequest, arrival: Arrival, reply: ReplyTo);

    /// Answers a control message; both are bounded by `CONTROL_BYTES_MAX`.
    fn control(&self, from: NodeId, from_addr: SocketAddr, body: Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send>>;

    /// A batch is about to be carried out whose sender has this layout in force.
    fn epoch_seen(&self, from: NodeId, epoch: Epoch) {
        let _ = (from, epoch);
    }
}

/// The peer port of a node. Shared by all workers.
pub struct PeerServer {
    pub(super) network: Arc<Network>,
    pub(super) handler: Arc<dyn PeerHandler>,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    turned_away: AtomicU64,
}

impl PeerServer {
    /// A server that accepts nothing yet.
    pub fn new(network: &Arc<Network>, handler: Arc<dyn PeerHandler>) -> Arc<Self> {
        let options = &network.options().server;
        Arc::new(Self {
            network: Arc::clone(network),
            handler,
            connections: Arc::new(Semaphore::new(options.connections_max)),
            handshakes: Arc::new(Semaphore::new(options.handshakes_max)),
            turned_away: AtomicU64::new(0),
        })
    }

    /// Connections at the moment.
    pub fn connections(&self) -> usize {
        self.options().connections_max - self.connections.available_permits()
    }

    /// Connections closed at once because there were too many.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub(super) fn options(&self) -> &ServerOptions {
        &self.network.options().server
    }

    /// Serves one connection until it ends, is idle for too long, does not prove the secret in time, or `drain`
    /// becomes true and its last request is answered.
    pub async fn serve_connection(self: Arc<Self>, stream: TcpStream, mut drain: watch::Receiver<bool>) {
        let permits =
            (Arc::clone(&self.connections).try_acquire_owned(), Arc::clone(&self.handshakes).try_acquire_owned());
        let (Ok(_connection), Ok(handshake)) = permits else {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let Ok(from_addr) = stream.peer_addr() else { return };
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let session = Session::new(self, from_addr, handshake);
        let service = service_fn(|request| {
            let session = Arc::clone(&session);
            async move { Ok::<_, Infallible>(session.answer(request).await) }
        });
        let mut builder = http1::Builder::new();
        builder.auto_date_header(false).writev(true).max_headers(16).max_header_size(HEAD_BYTES_MAX);
        builder.max_buf_size(READ_BUFFER_BYTES_MAX);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut draining = false;
        loop {
            tokio::select! {
                biased;
                // How it ended concerns the peer, which sees it too.
                _ = connection.as_mut() => return,
                _ = drain.wait_for(|&draining| draining), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = sleep_until(session.look_at()) => {
                    if session.overstayed(Instant::now()) {
                        return;
                    }
                }
            }
        }
    }
}
