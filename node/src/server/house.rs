//! What the node does by the clock, apart from requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rondo_storage::store::{Rebuild, Store};

use crate::server::membership::Membership;

/// How long the disk thread works on the Merkle trees before it looks at the rest of the house again.
const REBUILD_TURN: Duration = Duration::from_millis(500);

/// Once a second: the mark, the disk guard, what is left to do of the Merkle trees, the state of the disk for the others
/// to show.
pub(super) async fn keep_house(store: Arc<Store>, membership: Membership) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let store = store.clone();
        // A slow disk must not hold up the control thread.
        let looked = tokio::task::spawn_blocking(move || {
            store.tick();
            let turn = Instant::now();
            while turn.elapsed() < REBUILD_TURN && store.rebuild_digests() == Rebuild::Advanced {}
            store.status()
        });
        if let Ok(status) = looked.await {
            membership.disk(status.disk_used_bytes, status.disk_available_bytes);
        }
    }
}
