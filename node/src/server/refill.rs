//! Drives a refill (docs/decisions/0005-what-a-refilled-node-owes.md) and serves as a source of others'.

use std::sync::Arc;

use rondo_antientropy::{Action, Page, PageRequest, Refill};
use rondo_ring::{NodeId, PartitionId, View};
use rondo_storage::store::{DirectoryError, Store};
use tokio::task::spawn_blocking;

use crate::server::control::PeerControl;
use crate::server::merge;
use crate::server::time::Clock;

/// Rows of one page.
const ROWS_MAX: usize = 4_096;

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
                if merge::all(store, rows).await.is_some() {
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
