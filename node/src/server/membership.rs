//! Drives the membership machines: one task on the control thread owns them, everyone else sends it messages.
//!
//! Whatever a machine must not forget is made durable before its answer leaves (`files`).

mod task;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rondo_gossip::bootstrap::{FoundingOptions, Request};
use rondo_gossip::{Bootstrap, Founding, GossipOptions, Message, NodeInfo, Registry};
use rondo_ring::{NodeId, View};
use rondo_storage::store::{DirectoryError, Start, Store};
use tokio::sync::{mpsc, oneshot, watch};

use crate::server::buckets::Buckets;
use crate::server::files::Files;
use crate::server::time::Clock;
use crate::service::{BucketError, MemberInfo};
use task::Task;

/// How a message reaches another node, and what its requests say of a node's health. Implemented over the peer port.
pub trait Network: Send + Sync + 'static {
    /// Sends to an address and calls `reply` with who answered and what, if anyone did.
    fn call(&self, address: String, expected: Option<NodeId>, message: Message, reply: OnReply);

    /// Requests to this node are unanswered or fail at the moment.
    fn is_suspect(&self, node: NodeId) -> bool;

    /// Where nodes are reached from now on.
    fn addresses(&self, members: &[NodeInfo]);
}

/// Where a reply goes; dropped where there is none.
pub type OnReply = Box<dyn FnOnce(NodeId, Message) + Send>;

/// What the task is told.
enum Told {
    Message { from: NodeId, message: Message, reply: oneshot::Sender<Message> },
    Reply { from: NodeId, request: Box<Request>, message: Message },
    SetBucket { name: String, value: Option<String>, reply: oneshot::Sender<Result<(), BucketError>> },
    AskStarts { answers: mpsc::UnboundedSender<(NodeId, Option<Start>)> },
    Serve(Start),
    Disk { used_bytes: u64, available_bytes: u64 },
}

/// A handle to the task.
#[derive(Clone)]
pub struct Membership {
    tell: mpsc::UnboundedSender<Told>,
    shown: Arc<ArcSwap<Published>>,
    changes: watch::Receiver<()>,
}

/// What the task shows to everyone else; swapped whole.
#[derive(Clone, Default)]
pub struct Published {
    /// The cluster as founded, once it is formed.
    pub founding: Option<Arc<Founding>>,
    /// For the coordinator, once this node serves.
    pub view: Option<Arc<View>>,
    /// For people.
    pub members: Arc<Vec<MemberInfo>>,
    /// What an unformed node waits for.
    pub waiting_for: String,
    /// Why this process cannot go on.
    pub end: Option<End>,
}

/// A process that is not, or no longer, the node it started as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its directory is that of this member now, which has to start.
    TookPlace(NodeId),
    /// Another process is this node, there, with a newer start.
    Succeeded {
        /// Where it is.
        address: String,
        /// Its start.
        start: u64,
    },
}

impl Membership {
    /// What is published now. Takes no lock: it is on every request's path.
    pub fn now(&self) -> arc_swap::Guard<Arc<Published>> {
        self.shown.load()
    }

    /// Wakes whenever something else is published.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    /// Until this process cannot go on.
    pub async fn ended(&self) -> End {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            if let Some(end) = &self.now().end {
                return end.clone();
            }
            // The task lives as long as the process.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// A message of another node; the future is its answer.
    pub async fn handle(&self, from: NodeId, message: Message) -> Message {
        let (reply, answer) = oneshot::channel();
        let _ = self.tell.send(Told::Message { from, message, reply });
        answer.await.unwrap_or_else(|_| Message::Declined("shutting down".into()))
    }

    /// Sets or resets a bucket's properties: durable and in force here when it returns.
    pub async fn set_bucket(&self, name: &str, value: Option<String>) -> Result<(), BucketError> {
        let (reply, answer) = oneshot::channel();
        let _ = self.tell.send(Told::SetBucket { name: name.into(), value, reply });
        answer.await.unwrap_or_else(|_| Err(BucketError::Storage("shutting down".into())))
    }

    /// Asks every other member which start of this node it saw last; answers arrive as they come, and the channel
    /// closes when no more can.
    pub fn ask_starts(&self) -> mpsc::UnboundedReceiver<(NodeId, Option<Start>)> {
        let (answers, received) = mpsc::unbounded_channel();
        let _ = self.tell.send(Told::AskStarts { answers });
        received
    }

    /// From now on a view is published and this start is announced: this node takes requests.
    pub fn serve(&self, start: Start) {
        let _ = self.tell.send(Told::Serve(start));
    }

    /// The state of this node's disk, for the others to show.
    pub fn disk(&self, used_bytes: u64, available_bytes: u64) {
        let _ = self.tell.send(Told::Disk { used_bytes, available_bytes });
    }
}

/// What the task begins with.
pub struct Beginning {
    /// This node's record.
    pub this: NodeInfo,
    /// What it was told to found.
    pub founding: Option<FoundingOptions>,
    /// Where to look for others.
    pub seeds: Vec<String>,
    /// Times.
    pub options: GossipOptions,
    /// What it remembers.
    pub files: Files,
    /// Where it puts bucket properties.
    pub buckets: Arc<Buckets>,
}

/// Starts the task on the current runtime.
pub fn start(
    beginning: Beginning,
    network: Arc<dyn Network>,
    store: Arc<Store>,
    clock: Clock,
) -> Result<Membership, DirectoryError> {
    let state = beginning.files.founding().clone();
    let registry = Registry::restore(beginning.files.registry()?);
    let remembered = beginning.files.members()?;
    let bootstrap = Bootstrap::new(beginning.this.clone(), beginning.founding, beginning.seeds.clone(), state);
    let (tell, told) = mpsc::unbounded_channel();
    let (changed, changes) = watch::channel(());
    let shown = Arc::new(ArcSwap::from_pointee(Published::default()));
    let mut task = Task {
        this: beginning.this,
        seeds: beginning.seeds,
        options: beginning.options,
        files: beginning.files,
        bootstrap,
        gossip: None,
        layout: None,
        remembered,
        registry,
        buckets: beginning.buckets,
        network,
        store,
        clock,
        shown: shown.clone(),
        changed,
        tell: tell.clone(),
        serving: false,
        end: None,
        states: std::collections::HashMap::new(),
        unrecorded: BTreeSet::new(),
        unkept: false,
        next_keep: Duration::ZERO,
    };
    task.buckets.take(task.registry.entries());
    task.became_formed();
    task.show();
    tokio::spawn(task.run(told));
    Ok(Membership { tell, shown, changes })
}
