//! This node's disk for listings: pages are read on threads of their own, few at a time, so that a listing never holds
//! up a worker, and many of them not the disk.

use std::sync::Arc;

use rondo_coordinator::ListQuery;
use rondo_coordinator::message::Refusal;
use rondo_storage::store::{ListPage, Store};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Pages that may wait for their turn; beyond it they are refused at once, and another owner is asked.
const WAITING_MAX: usize = 256;
/// Most bytes of a page.
const PAGE_BYTES_MAX: usize = 512 << 10;

/// Shared by all workers.
pub struct Pages {
    /// Pages in work or waiting.
    taken: Arc<Semaphore>,
    /// Pages in work.
    reading: Arc<Semaphore>,
}

impl Pages {
    /// Reads at most so many pages at a time.
    pub fn new(at_once: usize) -> Arc<Self> {
        let (taken, reading) = (Semaphore::new(at_once + WAITING_MAX), Semaphore::new(at_once));
        Arc::new(Self { taken: Arc::new(taken), reading: Arc::new(reading) })
    }

    /// One page, or why there is none.
    pub async fn read(&self, store: &Arc<Store>, query: ListQuery) -> Result<ListPage, Refusal> {
        let _taken = self.taken.try_acquire().map_err(|_| Refusal::Busy)?;
        let reading = self.reading.clone().acquire_owned().await.map_err(|_| Refusal::Busy)?;
        let store = store.clone();
        let page = spawn_blocking(move || {
            let page = store.list(&query.range, query.rows_max as usize, PAGE_BYTES_MAX);
            // Also where nobody waits for the page any more: its reading is what is limited.
            drop(reading);
            page
        });
        match page.await {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a page of a listing could not be read");
                Err(Refusal::Storage)
            }
            Err(_) => Err(Refusal::Storage),
        }
    }
}
