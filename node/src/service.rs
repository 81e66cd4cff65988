//! What the HTTP surface may ask of the node. One value per worker thread, sharing everything but the peer lanes.

use std::sync::{Arc, OnceLock};

use rondo_coordinator::get::ReadRequest;
use rondo_coordinator::put::WriteRequest;
use rondo_coordinator::{Bucket, Failure, ListAnswer, ListRequest, Now, ReadAnswer, Trace, WriteAnswer};
use rondo_ring::{NodeId, View};
use rondo_storage::Key;
use rondo_storage::store::{HintCount, Hinted, Stored, WallClock};
use rondo_storage::versions::ContextTokens;
use tokio::sync::{oneshot, watch};

use crate::server::buckets::Buckets;
use crate::server::disk::Reading;
use crate::server::drive::Driver;
use crate::server::exchange::{Exchange, RepairStatus};
use crate::server::membership::Membership;
use crate::server::staleness::{Estimator, Report};
use crate::server::time::{Clock, SystemClock};

/// Where a member stands (API.md section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Answers.
    Up,
    /// Late.
    Suspect,
    /// Silent for longer than the failure detector allows.
    Down,
}

/// What is known of a member.
#[derive(Clone, Debug)]
pub struct MemberInfo {
    /// Its identity.
    pub id: NodeId,
    /// Unique in the cluster.
    pub name: String,
    /// Failure domain.
    pub zone: String,
    /// Relative share.
    pub weight: u32,
    /// As seen from here.
    pub state: MemberState,
    /// As advertised, host:port.
    pub client_addr: String,
    /// As advertised, host:port.
    pub peer_addr: String,
    /// Its release.
    pub version: String,
    /// Bytes in its data directory.
    pub disk_used_bytes: u64,
    /// Bytes free for it.
    pub disk_available_bytes: u64,
}

/// Why the node is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Member of a formed cluster, layout known, caught up.
    Ready,
    /// What it is waiting for, in words.
    Waiting(String),
    /// SIGTERM was received.
    Draining,
}

/// Why a bucket's properties were not set. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The registry holds as many entries as it may.
    #[error("there are {0} buckets with properties already, which is the most allowed")]
    TooMany(usize),
    /// It could not be made durable here.
    #[error("the properties could not be stored: {0}")]
    Storage(String),
}

/// What all workers' services share.
pub struct Shared {
    /// This node.
    pub node: NodeId,
    /// The monotonic clock.
    pub clock: Clock,
    /// The membership.
    pub membership: Membership,
    /// Bucket properties.
    pub buckets: Arc<Buckets>,
    /// Anti-entropy.
    pub exchange: Arc<Exchange>,
    /// Set once, when the cluster is formed.
    pub tokens: OnceLock<Arc<ContextTokens>>,
    /// As `/readyz` says it.
    pub readiness: watch::Receiver<Readiness>,
    /// What is measured for the estimate of staleness.
    pub staleness: Estimator,
}

/// The node as the HTTP surface sees it.
pub struct Service {
    shared: Arc<Shared>,
    driver: Arc<Driver>,
}

impl Service {
    /// One for each worker: the driver's lanes belong to its thread.
    pub fn new(shared: Arc<Shared>, driver: Arc<Driver>) -> Self {
        Self { shared, driver }
    }

    /// Carries out a client's write. Its trace goes with every operation to the peers.
    pub fn write(
        &self,
        request: WriteRequest,
        trace: Option<Arc<Trace>>,
    ) -> impl Future<Output = Result<WriteAnswer, Failure>> + Send + use<> {
        let writing = self.view().map(|view| self.driver.write(request, &view, trace));
        async { writing.ok_or(Failure::Busy)?.await }
    }

    /// Carries out a client's read. As to the trace: see [`Service::write`].
    pub fn read(
        &self,
        request: ReadRequest,
        trace: Option<Arc<Trace>>,
    ) -> impl Future<Output = Result<ReadAnswer, Failure>> + Send + use<> {
        let reading = self.view().map(|view| self.driver.read(request, &view, trace));
        async { reading.ok_or(Failure::Busy)?.await }
    }

    /// A page of a bucket's keys. As to the trace: see [`Service::write`].
    pub async fn list(&self, request: ListRequest, trace: Option<Arc<Trace>>) -> Result<ListAnswer, Failure> {
        match self.view() {
            Some(view) => self.driver.list(request, &view, trace.as_deref()).await,
            None => Err(Failure::Busy),
        }
    }

    /// How stale reads are, for the N of a bucket that was never set.
    pub async fn staleness(&self) -> Arc<Report> {
        let this = self.shared.node;
        let others: Vec<_> = self.members().iter().map(|member| member.id).filter(|&id| id != this).collect();
        let n = self.shared.buckets.defaults().n.get();
        self.shared.staleness.report(this, &others, n.into(), self.now()).await
    }

    /// Monotonic time since the process began.
    pub fn now(&self) -> Now {
        self.shared.clock.now()
    }

    /// Wall clock, µs since 1970.
    pub fn wall_us(&self) -> u64 {
        SystemClock.now_us()
    }

    /// The membership as the coordinator sees it; `None` until this node serves.
    pub fn view(&self) -> Option<Arc<View>> {
        self.shared.membership.now().view.clone()
    }

    /// The cluster's id; `None` until the cluster is formed.
    pub fn cluster_id(&self) -> Option<u128> {
        self.shared.membership.now().founding.as_ref().map(|founding| founding.cluster)
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        self.shared.node
    }

    /// Everyone, in order of names.
    pub fn members(&self) -> Vec<MemberInfo> {
        self.shared.membership.now().members.to_vec()
    }

    /// Whether any request may be sent here.
    pub fn readiness(&self) -> Readiness {
        self.shared.readiness.borrow().clone()
    }

    /// What anti-entropy has done and how this node stands with the others.
    pub fn repair_status(&self) -> RepairStatus {
        self.shared.exchange.status()
    }

    /// Begins an exchange with every node that shares keys with this one; who they are.
    pub fn begin_repair(&self) -> Vec<NodeId> {
        self.shared.exchange.begin_all()
    }

    /// What this node's disk holds of a key; `None` where it is slow to say.
    pub async fn held(&self, key: Key) -> Option<Stored> {
        if let Some(stored) = self.driver.store.try_read(&key) {
            return Some(stored);
        }
        let (tell, told) = oneshot::channel();
        // The asking connection may be gone.
        self.driver.disk.submit(Reading::new(key, move |read| drop(tell.send(read))));
        told.await.ok()?.ok()
    }

    /// What is kept of a key for other nodes; `None` where the disk is slow to say it.
    pub async fn hinted(&self, key: Key) -> Option<Hinted> {
        let (tell, told) = oneshot::channel();
        self.driver.disk.submit(Reading::hinted(key, move |read| drop(tell.send(read))));
        told.await.ok()?.ok()
    }

    /// What this node keeps for others.
    pub fn hints(&self) -> Vec<(NodeId, HintCount)> {
        self.driver.store.hint_counts()
    }

    /// Makes and checks contexts; `None` until the cluster is formed.
    pub fn tokens(&self) -> Option<Arc<ContextTokens>> {
        self.shared.tokens.get().cloned()
    }

    /// Properties of a bucket: the cluster's defaults unless set.
    pub fn bucket(&self, name: &str) -> Arc<Bucket> {
        self.shared.buckets.get(name)
    }

    /// Every bucket that was set, by name.
    pub fn buckets(&self) -> Vec<(String, Arc<Bucket>)> {
        self.shared.buckets.all()
    }

    /// Sets (or with `None` resets) a bucket here, durably, and spreads it to every node.
    pub async fn set_bucket(&self, name: &str, bucket: Option<Bucket>) -> Result<(), BucketError> {
        let value = bucket.map(|bucket| serde_json::to_string(&bucket).expect("properties have a JSON form"));
        self.shared.membership.set_bucket(name, value).await
    }
}
