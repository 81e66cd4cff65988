//! What the node does by the clock, apart from requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rondo_storage::store::{Rebuild, Store};

use crate::server::membership::Membership;

/// A page that was read waits for the writes queued before it: a few milliseconds, at most hundreds of times a turn.
const REBUILD_PAUSE: Duration = Duration::from_millis(2);
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
            rebuild_digests(&store);
            store.status()
        });
        if let Ok(status) = looked.await {
            membership.disk(status.disk_used_bytes, status.disk_available_bytes);
        }
    }
}

/// A turn's worth. Under load there are always writes under way, and a page that waited for them until the next turn would
/// be the only one of its second: a million keys would take a quarter of an hour.
fn rebuild_digests(store: &Store) {
    let turn = Instant::now();
    while turn.elapsed() < REBUILD_TURN {
        match store.rebuild_digests() {
            Rebuild::Advanced => {}
            Rebuild::Waiting => std::thread::sleep(REBUILD_PAUSE),
            Rebuild::Finished => return,
        }
    }
}
