//! Rows of another node, merged here and durable: for a refill and for anti-entropy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use rondo_storage::Key;
use rondo_storage::engine::{Durability, EngineError};
use rondo_storage::store::{Merged, Store};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

/// Merges in the writer's queue at one time: it is the foreground's as well.
const MERGES_MAX: usize = 64;

/// How many of them brought something new; `None` where one was refused or failed: the others may be merged.
pub(super) async fn all(store: &Arc<Store>, rows: Vec<(Bytes, Bytes)>) -> Option<u64> {
    let mut changed = 0;
    for some in rows.chunks(MERGES_MAX) {
        changed += at_once(store.clone(), some.to_vec()).await?;
    }
    Some(changed)
}

async fn at_once(store: Arc<Store>, rows: Vec<(Bytes, Bytes)>) -> Option<u64> {
    let (all, merged) = oneshot::channel();
    let counts = Arc::new(Countdown {
        left: AtomicUsize::new(rows.len() + 1),
        changed: AtomicU64::new(0),
        all: parking_lot::Mutex::new(Some(all)),
    });
    // A merge reads what is there, and neither the control thread nor a worker reads tables.
    let queued = spawn_blocking(move || {
        for (row, object) in rows {
            counts.merge(&store, row, &object);
        }
        counts.count(true);
    });
    queued.await.ok()?;
    merged.await.ok().flatten()
}

/// Says once whether all succeeded.
struct Countdown {
    left: AtomicUsize,
    changed: AtomicU64,
    all: parking_lot::Mutex<Option<oneshot::Sender<Option<u64>>>>,
}

impl Countdown {
    fn merge(self: &Arc<Self>, store: &Store, row: Bytes, object: &Bytes) {
        let one = self.clone();
        let done = Box::new(move |result: Result<(), EngineError>| one.count(result.is_ok()));
        match Key::from_row(row).map(|key| store.merge(&key, object, Durability::Fsync, done)) {
            Ok(Ok(Merged::Queued)) => {
                self.changed.fetch_add(1, Ordering::AcqRel);
            }
            Ok(Ok(Merged::Unchanged)) => {}
            Ok(Err(_)) | Err(_) => self.count(false),
        }
    }

    fn count(&self, succeeded: bool) {
        let last = self.left.fetch_sub(1, Ordering::AcqRel) == 1;
        if !succeeded || last {
            let changed = succeeded.then(|| self.changed.load(Ordering::Acquire));
            let _ = self.all.lock().take().map(|all| all.send(changed));
        }
    }
}
