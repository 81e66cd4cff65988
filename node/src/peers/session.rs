//! One connection on the side that is asked: what has been proved so far, and what may be asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use rondo_coordinator::ReplicaError;
use rondo_ring::NodeId;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::batch::{self, BatchError};
use super::error::PeerError;
use super::gather::Gather;
use super::handshake::{self, End, Hello, MESSAGE_BYTES_MAX, Purpose};
use super::options::{CONTROL_BYTES_MAX, OP_BYTES_MAX};
use super::refusal::{Cause, Refused};
use super::serve::{Arrival, PeerServer};
use super::{ROUTE_CONTROL, ROUTE_HELLO, ROUTE_OPS, ROUTE_PROOF, body};

/// Longest that an operation is waited for, whatever its sender says.
const REMAINING_MAX: Duration = Duration::from_secs(60);
/// How long beyond its deadline an operation's reply is waited for: then something is wrong here.
const GRACE: Duration = Duration::from_millis(100);
/// Values of an answer beyond which reads in the same batch are refused.
const VALUES_BYTES_MAX: usize = OP_BYTES_MAX + (8 << 20);

type Answer = Response<Full<Bytes>>;

/// How far the handshake is.
enum Phase {
    New(OwnedSemaphorePermit),
    Challenged {
        permit: OwnedSemaphorePermit,
        hello: Hello,
        sent: Bytes,
        challenge: Bytes,
    },
    Proved(Peer),
    /// Nothing more is heard.
    Refused,
}

/// Who is at the other end, proved.
#[derive(Clone, Copy)]
struct Peer {
    node: NodeId,
    cluster: Option<u128>,
    purpose: Purpose,
}

/// Why a request was not carried out.
enum Denied {
    Refused(Refused),
    Status(StatusCode),
}

impl From<Refused> for Denied {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<BatchError> for Denied {
    fn from(error: BatchError) -> Self {
        tracing::debug!("peer batch: {error}");
        Self::Status(StatusCode::BAD_REQUEST)
    }
}

pub(super) struct Session {
    server: Arc<PeerServer>,
    from_addr: SocketAddr,
    phase: Mutex<Phase>,
    began: Instant,
    proved: AtomicBool,
    busy: AtomicBool,
    /// When the last request was answered, in µs after `began`.
    answered_us: AtomicU64,
}

impl Session {
    pub(super) fn new(server: Arc<PeerServer>, from_addr: SocketAddr, permit: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self {
            server,
            from_addr,
            phase: Mutex::new(Phase::New(permit)),
            began: Instant::now(),
            proved: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            answered_us: AtomicU64::new(0),
        })
    }

    /// When to look at `overstayed` again: often enough to see every change of what the limit is.
    pub(super) fn look_at(&self) -> Instant {
        let soon = Instant::now() + self.server.options().idle_timeout;
        self.limit().map_or(soon, |limit| limit.min(soon))
    }

    /// Not proved in time, or without a whole request for too long.
    pub(super) fn overstayed(&self, now: Instant) -> bool {
        self.limit().is_some_and(|limit| limit <= now)
    }

    /// `None` while a request is being answered.
    fn limit(&self) -> Option<Instant> {
        let options = self.server.options();
        if !self.proved.load(Ordering::Relaxed) {
            return Some(self.began + options.handshake_timeout);
        }
        (!self.busy.load(Ordering::Relaxed)).then_some(self.answered() + options.idle_timeout)
    }

    fn answered(&self) -> Instant {
        self.began + Duration::from_micros(self.answered_us.load(Ordering::Relaxed))
    }

    fn note_answered(&self) {
        self.answered_us.store(self.began.elapsed().as_micros() as u64, Ordering::Relaxed);
    }

    /// The longest that what is read now can have been on its way: the sender was silent for `idle` after it had read
    /// the last answer, and it did not read that before it was sent. Above the truth by the way of that answer.
    fn travelled(&self, idle: Duration) -> Duration {
        self.answered().elapsed().saturating_sub(idle)
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.busy.store(true, Ordering::Relaxed);
        let answer = self.route(request).await;
        self.note_answered();
        self.busy.store(false, Ordering::Relaxed);
        answer.map_or_else(|denied| self.deny(denied), |body| Response::new(Full::new(body)))
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Bytes, Denied> {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            return Err(Denied::Status(StatusCode::METHOD_NOT_ALLOWED));
        }
        match head.uri.path() {
            ROUTE_HELLO => self.hello(self.read(body, MESSAGE_BYTES_MAX).await?),
            ROUTE_PROOF => self.proof(&self.read(body, MESSAGE_BYTES_MAX).await?),
            ROUTE_OPS => {
                let peer = self.peer(Purpose::Operations)?;
                self.operations(peer, self.read(body, self.server.options().batch_bytes_max).await?).await
            }
            ROUTE_CONTROL => {
                let peer = self.peer(Purpose::Control)?;
                let body = self.read(body, CONTROL_BYTES_MAX).await?;
                Ok(self.server.handler.control(peer.node, self.from_addr, body).await)
            }
            _ => Err(Denied::Status(StatusCode::NOT_FOUND)),
        }
    }

    async fn read(&self, body: Incoming, max: usize) -> Result<Bytes, Denied> {
        match timeout(self.server.options().body_timeout, body::read(body, max)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(PeerError::TooLarge(_))) => Err(Denied::Status(StatusCode::PAYLOAD_TOO_LARGE)),
            Ok(Err(_)) => Err(Denied::Status(StatusCode::BAD_REQUEST)),
            Err(_) => Err(Denied::Status(StatusCode::REQUEST_TIMEOUT)),
        }
    }

    fn hello(&self, received: Bytes) -> Result<Bytes, Denied> {
        let mut phase = self.phase.lock();
        // Only the first request of a connection may be this one.
        let Phase::New(permit) = std::mem::replace(&mut *phase, Phase::Refused) else {
            return Err(Refused { cause: Cause::Malformed, node: None }.into());
        };
        let hello = Hello::decode(&mut received.clone()).map_err(|cause| Refused { cause, node: None })?;
        let challenge = hello.answer(self.server.network.identity(), self.server.network.nonce())?.encode();
        *phase = Phase::Challenged { permit, hello, sent: received, challenge: challenge.clone() };
        Ok(challenge)
    }

    fn proof(&self, received: &[u8]) -> Result<Bytes, Denied> {
        let mut phase = self.phase.lock();
        let Phase::Challenged { permit, hello, sent, challenge } = std::mem::replace(&mut *phase, Phase::Refused)
        else {
            return Err(Refused { cause: Cause::Malformed, node: None }.into());
        };
        let network = &self.server.network;
        let proof = |end| handshake::proof(network.identity().secret(), end, &sent, &challenge);
        if !handshake::proves(received, &proof(End::Connecting)) {
            return Err(Refused { cause: Cause::Secret, node: Some(hello.node) }.into());
        }
        *phase = Phase::Proved(Peer { node: hello.node, cluster: hello.cluster, purpose: hello.purpose });
        drop(phase);
        drop(permit);
        self.note_answered();
        self.proved.store(true, Ordering::Relaxed);
        network.refusals().forget(&self.subject(Some(hello.node)), hello.expects);
        network.health().entry(hello.node).greeted();
        Ok(Bytes::copy_from_slice(&proof(End::Accepting)))
    }

    /// Who asks, if it may ask this now: the node may have joined a cluster since the handshake.
    fn peer(&self, purpose: Purpose) -> Result<Peer, Denied> {
        let Phase::Proved(peer) = *self.phase.lock() else {
            return Err(Refused { cause: Cause::Malformed, node: None }.into());
        };
        let refused = |cause| Refused { cause, node: Some(peer.node) };
        if peer.purpose != purpose {
            return Err(Denied::Status(StatusCode::FORBIDDEN));
        }
        match (peer.cluster, self.server.network.identity().cluster()) {
            (Some(theirs), Some(ours)) if theirs != ours => Err(refused(Cause::OtherCluster).into()),
            _ => Ok(peer),
        }
    }

    async fn operations(&self, peer: Peer, received: Bytes) -> Result<Bytes, Denied> {
        let batch::Request { epoch, idle, ops } = batch::decode_request(received)?;
        let handler = &self.server.handler;
        handler.epoch_seen(peer.node, epoch);
        let gather = Gather::new(ops.len());
        let mut longest = Duration::ZERO;
        for (index, op) in ops.into_iter().enumerate() {
            longest = longest.max(op.remaining.min(REMAINING_MAX));
            match op.request {
                Some(request) => {
                    let arrival = Arrival { remaining: op.remaining, travelled: self.travelled(idle), trace: op.trace };
                    handler.replica(peer.node, request, arrival, gather.reply_to(index));
                }
                None => gather.fill(index, Err(ReplicaError::NotSent)),
            }
        }
        let results = gather.results(longest + GRACE).await;
        Ok(batch::encode_replies(results, VALUES_BYTES_MAX))
    }

    /// Who it is about, in the log. Without the port, which is another at each attempt.
    fn subject(&self, node: Option<NodeId>) -> String {
        let ip = self.from_addr.ip();
        node.map_or_else(|| ip.to_string(), |node| format!("{node} at {ip}"))
    }

    /// Whoever asks for the wrong thing is told once and disconnected.
    fn deny(&self, denied: Denied) -> Answer {
        let network = &self.server.network;
        let (status, body) = match denied {
            Denied::Refused(refused) => {
                network.refusals().note(&self.subject(refused.node), refused);
                (StatusCode::FORBIDDEN, handshake::encode_refusal(refused.cause, network.identity().node()))
            }
            Denied::Status(status) => (status, Bytes::new()),
        };
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}
