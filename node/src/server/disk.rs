//! The threads that wait for the disk, so that no worker ever does (docs/decisions/0011-no-worker-waits-for-the-disk.md).
//!
//! What memory cannot say of a key is asked here. Everything is bounded: the threads, the jobs that wait for one, and the
//! time a job may take. One that takes longer is refused, so that another owner is asked in its place, and then writes
//! nothing (`job.rs`). While every thread is held up by a disk that says nothing, further jobs are refused at once.

mod job;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rondo_coordinator::Now;
use rondo_storage::engine::EngineError;
use rondo_storage::store::{Store, StoreError};
use tokio::runtime::Handle;

use crate::server::time::Clock;
use job::Job;
pub use job::{Merging, Reading, Updating};

/// Threads. Enough to keep a disk busy that works on several requests at once.
const THREADS: usize = 4;
/// Jobs that may wait for a thread; beyond it they are refused at once.
const WAITING_MAX: usize = 1_024;
/// A job without an answer for so long is refused. Above what a busy disk takes, and well below the patience of those who
/// ask from other nodes: they hear of it before they take this node for hung.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often the jobs are looked at, as long as there are any.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A job and when it came.
#[derive(Clone)]
struct Entry {
    since: Now,
    job: Arc<dyn Job>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Entry>,
    /// Threads that wait for a job.
    sleeping: usize,
    closed: bool,
}

struct Shared {
    store: Arc<Store>,
    clock: Clock,
    patience: Duration,
    queue: Mutex<Queue>,
    arrivals: Condvar,
    /// What each thread is at. Locked after `queue`, where both are.
    running: Box<[Mutex<Option<Entry>>]>,
    /// Somebody looks at the jobs every [`LOOK_EVERY`].
    watched: AtomicBool,
    jobs_total: AtomicU64,
    refused_total: AtomicU64,
}

/// See the module. One for all workers; dropping it ends the threads.
pub struct Disk {
    shared: Arc<Shared>,
    watcher: Handle,
}

impl Disk {
    /// Starts the threads. The jobs' time is looked after on the runtime of `watcher`, which must not block.
    pub fn start(store: Arc<Store>, clock: Clock, watcher: Handle) -> std::io::Result<Arc<Self>> {
        Self::with(THREADS, PATIENCE, store, clock, watcher)
    }

    fn with(
        threads: usize,
        patience: Duration,
        store: Arc<Store>,
        clock: Clock,
        watcher: Handle,
    ) -> std::io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            store,
            clock,
            patience,
            queue: Mutex::default(),
            arrivals: Condvar::new(),
            running: (0..threads).map(|_| Mutex::default()).collect(),
            watched: AtomicBool::new(false),
            jobs_total: AtomicU64::new(0),
            refused_total: AtomicU64::new(0),
        });
        let disk = Arc::new(Self { shared: shared.clone(), watcher });
        for index in 0..threads {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("disk-{index}")).spawn(move || shared.work(index))?;
        }
        Ok(disk)
    }

    /// Hands a job over. It is answered exactly once, from any thread, at the latest when it has been refused.
    pub fn submit(&self, job: impl Job) {
        self.submit_shared(Arc::new(job));
    }

    fn submit_shared(&self, job: Arc<dyn Job>) {
        match self.shared.push(job) {
            Ok(()) => self.watch(),
            Err((job, why)) => self.shared.refuse(&*job, why),
        }
    }

    /// Jobs handed over, since the start.
    pub fn jobs_total(&self) -> u64 {
        self.shared.jobs_total.load(Ordering::Relaxed)
    }

    /// Those of them that were refused.
    pub fn refused_total(&self) -> u64 {
        self.shared.refused_total.load(Ordering::Relaxed)
    }

    /// Jobs that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.shared.queue.lock().waiting.len()
    }

    fn watch(&self) {
        let shared = &self.shared;
        if shared.watched.load(Ordering::SeqCst) || shared.watched.swap(true, Ordering::SeqCst) {
            return;
        }
        let shared = shared.clone();
        self.watcher.spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if shared.look() {
                    continue;
                }
                shared.watched.store(false, Ordering::SeqCst);
                // What came in between has seen that somebody watches.
                if shared.is_idle() || shared.watched.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
        });
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn push(&self, job: Arc<dyn Job>) -> Result<(), (Arc<dyn Job>, StoreError)> {
        let since = self.clock.now();
        self.jobs_total.fetch_add(1, Ordering::Relaxed);
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err((job, EngineError::Closed.into()));
        }
        if queue.waiting.len() >= WAITING_MAX {
            return Err((job, EngineError::Busy.into()));
        }
        if queue.sleeping == 0 && self.running.iter().all(|running| self.is_late(&running.lock(), since)) {
            return Err((job, StoreError::GivenUp));
        }
        queue.waiting.push_back(Entry { since, job });
        let wake = queue.sleeping > 0;
        drop(queue);
        if wake {
            self.arrivals.notify_one();
        }
        Ok(())
    }

    fn work(&self, index: usize) {
        while let Some(job) = self.next(index) {
            job.run(&self.store);
            *self.running[index].lock() = None;
        }
    }

    fn next(&self, index: usize) -> Option<Arc<dyn Job>> {
        let mut queue = self.queue.lock();
        let entry = loop {
            if let Some(entry) = queue.waiting.pop_front() {
                break entry;
            }
            if queue.closed {
                return None;
            }
            queue.sleeping += 1;
            self.arrivals.wait(&mut queue);
            queue.sleeping -= 1;
        };
        let job = entry.job.clone();
        *self.running[index].lock() = Some(entry);
        // The next one must not wait until this one is done, which the disk may never say.
        let wake = !queue.waiting.is_empty() && queue.sleeping > 0;
        drop(queue);
        if wake {
            self.arrivals.notify_one();
        }
        Some(job)
    }

    /// Refuses the jobs whose time is over. Whether there are others.
    fn look(&self) -> bool {
        let now = self.clock.now();
        let mut late: Vec<Arc<dyn Job>> = Vec::new();
        let mut queue = self.queue.lock();
        while queue.waiting.front().is_some_and(|entry| now >= entry.since + self.patience) {
            late.extend(queue.waiting.pop_front().map(|entry| entry.job));
        }
        let mut left = !queue.waiting.is_empty();
        drop(queue);
        for running in &self.running {
            let running = running.lock();
            left |= running.is_some();
            if self.is_late(&running, now) {
                late.extend(running.as_ref().map(|entry| entry.job.clone()));
            }
        }
        late.iter().for_each(|job| self.refuse(&**job, StoreError::GivenUp));
        left
    }

    fn is_idle(&self) -> bool {
        self.queue.lock().waiting.is_empty() && self.running.iter().all(|running| running.lock().is_none())
    }

    fn refuse(&self, job: &dyn Job, why: StoreError) {
        if job.refuse(why) {
            self.refused_total.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What waits is refused; what is being done is answered when it is.
    fn close(&self) {
        let waiting = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.waiting)
        };
        self.arrivals.notify_all();
        waiting.iter().for_each(|entry| self.refuse(&*entry.job, EngineError::Closed.into()));
    }

    fn is_late(&self, running: &Option<Entry>, now: Now) -> bool {
        running.as_ref().is_some_and(|entry| now >= entry.since + self.patience)
    }
}

#[cfg(test)]
mod tests;
