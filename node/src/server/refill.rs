//! Drives a refill (docs/decisions/0005-what-a-refilled-node-owes.md) and serves as a source of others'.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rondo_antientropy::{Action, Page, PageRequest, Refill};
use rondo_ring::{NodeId, PartitionId, View};
use rondo_storage::Key;
use rondo_storage::engine::{Durability, EngineError};
use rondo_storage::store::{DirectoryError, Store};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::server::control::PeerControl;
use crate::server::time::Clock;

/// Rows of one page.
const ROWS_MAX: usize = 4_096;
/// Merges in the writer's queue at one time.
const MERGES_MAX: usize = 64;

/// The source's side: what this store holds of the partition, after the given row; `None` where it cannot say.
pub fn page(store: &Store, request: &PageRequest) -> Option<Page> {
    let after = request.after.as_deref();
    let page = store.scan_partition(request.partition, after, ROWS_MAX, request.bytes_max as usize).ok()?;
    Some(Page { partition: request.partition, rows: page.rows, last: page.last, complete: page.complete })
}

/// Every partition this node may own and does not trust, with the other nodes that may own keys of it: the first
/// `depth` of the preference list.
fn untrusted(store: &Store, view: &View, depth: usize) -> Vec<(PartitionId, Vec<NodeId>)> {
    let layout = view.layout();
    let sources = |partition| {
        let list = layout.preference_list(partition);
        let owners = &list[..list.len().min(depth)];
        owners.iter().copied().filter(|&node| node != view.this()).collect()
    };
    store.untrusted().into_iter().map(|partition| (partition, sources(partition))).collect()
}

/// Runs until every partition that is untrusted now is trusted.
pub async fn run(store: &Arc<Store>, peers: &PeerControl, view: &View, depth: usize, clock: Clock) {
    let mut refill = Refill::new(untrusted(store, view, depth));
    let partitions = refill.progress().partitions_total;
    if partitions == 0 {
        return;
    }
    tracing::warn!(partitions, "this disk may lack writes it acknowledged: refilling from the other owners");
    let mut action = refill.step();
    loop {
        action = match action {
            Action::Ask { source, request } => match peers.page(source, &request).await {
                Some(page) => refill.page(page, clock.now()),
                None => refill.failed(clock.now()),
            },
            Action::Merge(rows) => {
                if merge(store, rows).await {
                    refill.merged()
                } else {
                    refill.failed(clock.now())
                }
            }
            Action::Trust(partition) => match trust(store, partition).await {
                Ok(()) => refill.step(),
                Err(error) => {
                    tracing::error!(%error, partition = partition.0, "the partition could not be marked as refilled");
                    return;
                }
            },
            Action::WakeAt(at) => {
                tokio::time::sleep_until(clock.instant(at)).await;
                refill.step()
            }
            Action::Finished => break,
        };
    }
    let done = refill.progress();
    tracing::info!(partitions = done.partitions_done, rows = done.rows, bytes = done.bytes, "refilled");
}

/// Durable when it returns, which the control thread does not wait for.
async fn trust(store: &Arc<Store>, partition: PartitionId) -> Result<(), DirectoryError> {
    let store = store.clone();
    spawn_blocking(move || store.trust(partition)).await.expect("the store does not panic, and nothing cancels it")
}

/// Whether all of them are durable here. A few at a time: the writer's queue is the foreground's as well.
async fn merge(store: &Arc<Store>, rows: Vec<(Bytes, Bytes)>) -> bool {
    for some in rows.chunks(MERGES_MAX) {
        if !merge_at_once(store.clone(), some.to_vec()).await {
            return false;
        }
    }
    true
}

async fn merge_at_once(store: Arc<Store>, rows: Vec<(Bytes, Bytes)>) -> bool {
    let (all, merged) = oneshot::channel();
    let left = Arc::new(Countdown { left: AtomicUsize::new(rows.len() + 1), all: parking_lot::Mutex::new(Some(all)) });
    // A merge reads what is there, and the control thread reads no tables.
    let queued = spawn_blocking(move || {
        for (row, object) in rows {
            let one = left.clone();
            let done = Box::new(move |result: Result<(), EngineError>| one.count(result.is_ok()));
            let accepted =
                Key::from_row(row).is_ok_and(|key| store.merge(&key, &object, Durability::Fsync, done).is_ok());
            if !accepted {
                left.count(false);
            }
        }
        left.count(true);
    });
    queued.await.is_ok() && merged.await.unwrap_or(false)
}

/// Says once whether all succeeded.
struct Countdown {
    left: AtomicUsize,
    all: parking_lot::Mutex<Option<oneshot::Sender<bool>>>,
}

impl Countdown {
    fn count(&self, succeeded: bool) {
        let last = self.left.fetch_sub(1, Ordering::AcqRel) == 1;
        if !succeeded || last {
            let _ = self.all.lock().take().map(|all| all.send(succeeded));
        }
    }
}
