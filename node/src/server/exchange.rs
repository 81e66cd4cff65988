//! Drives anti-entropy: rounds with the other nodes, and the answers to theirs. One for all threads of a node; its rounds
//! run on the control thread, and what they read of the disk beside it.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rondo_antientropy::answer::{Reply, reply};
use rondo_antientropy::round::{Action, Event};
use rondo_antientropy::{Answer, AntiEntropyOptions, Memory, Outcome, Pace, Pair, Question, Round, Schedule, Standing};
use rondo_ring::{Liveness, NodeId, PartitionId, ReplicationFactor, View};
use rondo_storage::store::Store;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use crate::http::Metrics;
use crate::server::buckets::Buckets;
use crate::server::control::PeerControl;
use crate::server::membership::Membership;
use crate::server::merge;
use crate::server::time::Clock;

/// How often the members and their health are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The window over which the foreground's latency is watched.
const WINDOW: Duration = Duration::from_secs(1);

/// Anti-entropy of this node.
pub struct Exchange {
    options: AntiEntropyOptions,
    store: Arc<Store>,
    peers: Arc<PeerControl>,
    membership: Membership,
    buckets: Arc<Buckets>,
    clock: Clock,
    metrics: Arc<Metrics>,
    schedule: Mutex<Schedule>,
    pace: Mutex<Pace>,
    /// Something is due sooner than it was.
    sooner: Notify,
    totals: Totals,
    /// Rounds that move data.
    moving: AtomicUsize,
}

/// Since the start, of exchanges that either side began. Bytes are those of messages, without the heads of HTTP.
#[derive(Debug, Default)]
struct Totals {
    exchanges: AtomicU64,
    keys_repaired: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
}

/// What anti-entropy has done and how the node stands.
#[derive(Clone, Debug, Default)]
pub struct RepairStatus {
    /// Data is being moved.
    pub running: bool,
    /// Rounds, of both sides.
    pub exchanges: u64,
    /// Keys this node got something new of.
    pub keys_repaired: u64,
    /// To the other nodes.
    pub bytes_sent: u64,
    /// From them.
    pub bytes_received: u64,
    /// Each node that shares keys with this one; times since the process began.
    pub peers: Vec<(NodeId, Standing)>,
}

/// What an exchange is made of.
pub struct Parts {
    /// When and how patiently.
    pub options: AntiEntropyOptions,
    /// This node.
    pub node: NodeId,
    /// Its disk.
    pub store: Arc<Store>,
    /// The way to the others.
    pub peers: Arc<PeerControl>,
    /// Who they are.
    pub membership: Membership,
    /// Their N.
    pub buckets: Arc<Buckets>,
    /// The monotonic clock.
    pub clock: Clock,
    /// The foreground's latency, and where the totals are shown.
    pub metrics: Arc<Metrics>,
}

impl Exchange {
    /// Idle until [`run`](Self::run).
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { options, node, store, peers, membership, buckets, clock, metrics } = parts;
        let exchange = Arc::new(Self {
            schedule: Mutex::new(Schedule::new(node, options.clone())),
            options,
            store,
            peers,
            membership,
            buckets,
            clock,
            metrics,
            pace: Mutex::default(),
            sooner: Notify::new(),
            totals: Totals::default(),
            moving: AtomicUsize::new(0),
        });
        exchange.show();
        exchange
    }

    fn show(self: &Arc<Self>) {
        type Read = fn(&Totals) -> &AtomicU64;
        let totals: [(&str, &str, Read); 4] = [
            ("repair_exchanges", "Exchanges of anti-entropy that ended, of both sides", |t| &t.exchanges),
            ("repair_keys", "Keys of which anti-entropy brought something new", |t| &t.keys_repaired),
            ("repair_sent_bytes", "Bytes of anti-entropy's messages sent", |t| &t.bytes_sent),
            ("repair_received_bytes", "Bytes of anti-entropy's messages received", |t| &t.bytes_received),
        ];
        for (name, help, read) in totals {
            let exchange = self.clone();
            self.metrics.register_total(name, help, move || read(&exchange.totals).load(Ordering::Relaxed));
        }
        let exchange = self.clone();
        let help = "Nodes that hold something else than this one, of those that share keys with it";
        self.metrics.register_gauge("repair_peers_differing", help, None, move || {
            exchange.schedule.lock().standings().filter(|(_, standing)| !standing.in_sync).count() as f64
        });
        let exchange = self.clone();
        let unit = Some(prometheus_client::registry::Unit::Seconds);
        let help = "Pause between two batches of anti-entropy, for the sake of the foreground";
        self.metrics.register_gauge("repair_pause", help, unit, move || exchange.pace.lock().pause().as_secs_f64());
    }

    /// For as long as the process lives.
    pub async fn run(self: Arc<Self>) {
        let mut window = Duration::ZERO;
        loop {
            let now = self.clock.now();
            if now >= window {
                window = now + WINDOW;
                let (bounds, counts) = self.metrics.foreground();
                self.pace.lock().observe(&bounds, &counts);
            }
            if let Some(view) = self.membership.now().view.clone() {
                self.begin_due(&view, now);
            }
            let due = self.schedule.lock().wake_at().map_or(LOOK, |at| at.saturating_sub(now).min(LOOK));
            let _ = tokio::time::timeout(due.max(Duration::from_millis(1)), self.sooner.notified()).await;
        }
    }

    fn begin_due(self: &Arc<Self>, view: &Arc<View>, now: Duration) {
        self.meet(view, now);
        let mut schedule = self.schedule.lock();
        while let Some((peer, memory)) = schedule.next(now) {
            let (exchange, view) = (self.clone(), view.clone());
            tokio::spawn(async move {
                let outcome = exchange.round(&view, peer, memory).await;
                exchange.ended(peer, outcome);
            });
        }
    }

    /// Who shares keys with this node now, and is there.
    fn meet(&self, view: &Arc<View>, now: Duration) {
        let others = sharing(view, self.depth()).into_iter();
        let peers: Vec<_> = others.map(|id| (id, view.liveness(id) != Liveness::Down)).collect();
        let configuration = self.configuration(view);
        self.schedule.lock().set_peers(&peers, configuration, now);
    }

    fn depth(&self) -> usize {
        usize::from(self.buckets.n_max())
    }

    /// Another number where the pairs may share other keys.
    fn configuration(&self, view: &View) -> u64 {
        let mut hasher = DefaultHasher::new();
        view.layout().epoch().hash(&mut hasher);
        self.buckets.all().iter().for_each(|(name, bucket)| (name, bucket.n.get()).hash(&mut hasher));
        hasher.finish()
    }

    fn ended(&self, peer: NodeId, outcome: Outcome) {
        self.totals.exchanges.fetch_add(1, Ordering::Relaxed);
        if outcome.keys_differing > 0 {
            let (keys, leaves) = (outcome.keys_differing, outcome.leaves);
            tracing::info!(%peer, keys, leaves, succeeded = outcome.succeeded, "keys differed and were exchanged");
        }
        self.schedule.lock().ended(peer, outcome, self.clock.now());
        self.sooner.notify_one();
    }

    async fn round(&self, view: &Arc<View>, peer: NodeId, memory: Memory) -> Outcome {
        let (options, mut event) = (self.options.clone(), Event::Begin);
        let mut round = self.on_disk(view, peer, move |pair| Round::new(pair, memory, &options)).await;
        let (mut moving, mut peers_pause) = (None, Duration::ZERO);
        loop {
            let action;
            let step = move |pair: &Pair<'_>| {
                let action = round.step(event, pair);
                (round, action)
            };
            (round, action) = self.on_disk(view, peer, step).await;
            event = match action {
                Action::Ask(question) => {
                    if question.is_bulk() {
                        moving.get_or_insert_with(|| Moving::begin(&self.moving));
                        let pause = self.pace.lock().pause().max(peers_pause);
                        tokio::time::sleep(pause).await;
                    }
                    match self.ask(peer, &question).await {
                        Some((answer, pause)) => {
                            peers_pause = pause;
                            Event::Answered(answer)
                        }
                        None => Event::Failed,
                    }
                }
                Action::Wait(pause) => {
                    tokio::time::sleep(pause).await;
                    Event::Waited
                }
                Action::Merge(rows) => self.merge(rows).await.map_or(Event::Failed, Event::Merged),
                Action::Finish(outcome) => return outcome,
            };
        }
    }

    /// Work that reads the disk, beside the threads that must not.
    async fn on_disk<T: Send + 'static>(
        &self,
        view: &Arc<View>,
        peer: NodeId,
        work: impl FnOnce(&Pair<'_>) -> T + Send + 'static,
    ) -> T {
        let (store, view, buckets) = (self.store.clone(), view.clone(), self.buckets.clone());
        let worked = spawn_blocking(move || {
            let n = |bucket: &str| -> ReplicationFactor { buckets.get(bucket).n };
            let depth = usize::from(buckets.n_max());
            work(&Pair { store: &store, view: &view, peer, n: &n, depth })
        });
        worked.await.expect("the store and the machine do not panic, and nothing cancels them")
    }

    async fn merge(&self, rows: Vec<(Bytes, Bytes)>) -> Option<u64> {
        let changed = merge::all(&self.store, rows).await?;
        self.totals.keys_repaired.fetch_add(changed, Ordering::Relaxed);
        Some(changed)
    }

    /// The answer, and how long the other node wants to be left alone before the next batch.
    async fn ask(&self, peer: NodeId, question: &Question) -> Option<(Answer, Duration)> {
        let body = question.encode();
        self.totals.bytes_sent.fetch_add(body.len() as u64, Ordering::Relaxed);
        let answer = self.peers.repair(peer, &body).await?;
        self.totals.bytes_received.fetch_add(answer.len() as u64, Ordering::Relaxed);
        let (pause_ms, answer) = answer.split_first_chunk::<2>()?;
        Some((Answer::decode(answer)?, Duration::from_millis(u16::from_le_bytes(*pause_ms).into())))
    }

    /// The answer to a question of another node: the pause this one wants, in ms, then the answer.
    pub async fn answer(&self, from: NodeId, body: &[u8]) -> Vec<u8> {
        self.totals.bytes_received.fetch_add(body.len() as u64, Ordering::Relaxed);
        let view = self.membership.now().view.clone();
        let answer = match (Question::decode(body), view) {
            (Some(question), Some(view)) => self.reply(from, question, &view).await,
            _ => Answer::Refused,
        };
        let pause_ms = u16::try_from(self.pace.lock().pause().as_millis()).unwrap_or(u16::MAX);
        let framed = [&pause_ms.to_le_bytes()[..], &answer.encode()].concat();
        self.totals.bytes_sent.fetch_add(framed.len() as u64, Ordering::Relaxed);
        framed
    }

    async fn reply(&self, from: NodeId, question: Question, view: &Arc<View>) -> Answer {
        let began = match question {
            Question::Compare { in_sync, .. } => Some(in_sync),
            _ => None,
        };
        let answer = match self.on_disk(view, from, move |pair| reply(pair, question)).await {
            Reply::Answer(answer) => answer,
            Reply::Merge(rows) => self.merge(rows).await.map_or(Answer::Refused, |_| Answer::Taken),
            Reply::Hurry => {
                self.schedule.lock().hurry(from, self.clock.now());
                self.sooner.notify_one();
                Answer::Hurried
            }
        };
        if let Some(in_sync) = began {
            self.totals.exchanges.fetch_add(1, Ordering::Relaxed);
            self.schedule.lock().heard(from, in_sync || answer == Answer::Same, self.clock.now());
        }
        answer
    }

    /// Begins an exchange with every node that shares keys with this one, or asks it to begin one; who they are.
    pub fn begin_all(self: &Arc<Self>) -> Vec<NodeId> {
        let now = self.clock.now();
        // Asked right after the start, it may not have looked at them yet.
        if let Some(view) = self.membership.now().view.clone() {
            self.meet(&view, now);
        }
        let (all, others) = {
            let mut schedule = self.schedule.lock();
            let all: Vec<NodeId> = schedule.standings().map(|(id, _)| id).collect();
            all.iter().for_each(|&id| schedule.hurry(id, now));
            (all, schedule.others_turn())
        };
        self.sooner.notify_one();
        for peer in others {
            let exchange = self.clone();
            tokio::spawn(async move { exchange.ask(peer, &Question::Hurry).await });
        }
        all
    }

    /// For people.
    pub fn status(&self) -> RepairStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RepairStatus {
            running: self.moving.load(Ordering::Relaxed) > 0 || !self.store.untrusted().is_empty(),
            exchanges: read(&self.totals.exchanges),
            keys_repaired: read(&self.totals.keys_repaired),
            bytes_sent: read(&self.totals.bytes_sent),
            bytes_received: read(&self.totals.bytes_received),
            peers: self.schedule.lock().standings().collect(),
        }
    }
}

/// The other nodes that may own keys of which this one is an owner too.
fn sharing(view: &View, depth: usize) -> BTreeSet<NodeId> {
    let layout = view.layout();
    let lists = (0..layout.partitions().get()).map(|partition| {
        let list = layout.preference_list(PartitionId(partition));
        &list[..list.len().min(depth)]
    });
    let shared = lists.filter(|list| list.contains(&view.this())).flatten().copied();
    shared.filter(|&node| node != view.this()).collect()
}

/// A round that moves data, until this is dropped.
struct Moving<'a>(&'a AtomicUsize);

impl<'a> Moving<'a> {
    fn begin(moving: &'a AtomicUsize) -> Self {
        moving.fetch_add(1, Ordering::Relaxed);
        Self(moving)
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
