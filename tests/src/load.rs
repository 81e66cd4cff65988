//! Requests in the background: what they were answered with, and how long the longest took.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::http::request;
use crate::wait::{eventually, holds};

/// A machine that serves no request in this time does not work.
const PROGRESS: Duration = Duration::from_secs(60);

/// Threads that write a key of their own at W=2 and read it back at R=2, again and again, through the nodes given.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    requests: AtomicUsize,
    seen: Mutex<Seen>,
}

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Keys whose write was acknowledged. The value of a key is the key.
    pub written: Vec<String>,
    /// Requests without the right answer: what came instead.
    pub failures: Vec<String>,
    /// The longest request.
    pub longest: Duration,
    /// All requests.
    pub requests: usize,
}

impl Load {
    /// Starts so many threads; keys go to `bucket`.
    pub fn start(addresses: &[std::net::SocketAddr], bucket: &str, threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let start = |thread: usize| {
            let (shared, addresses, bucket) = (shared.clone(), addresses.to_vec(), bucket.to_string());
            std::thread::spawn(move || shared.work(thread, &addresses, &bucket))
        };
        Self { threads: (0..threads).map(start).collect(), shared }
    }

    /// Waits until so many more requests have been answered.
    #[track_caller]
    pub fn wait_for(&self, requests: usize) {
        let goal = self.shared.requests.load(Ordering::Relaxed) + requests;
        eventually(PROGRESS, "requests answered", || {
            let done = self.shared.requests.load(Ordering::Relaxed);
            holds(done >= goal, || format!("{done} of {goal}"))
        });
    }

    /// Ends it.
    pub fn stop(mut self) -> Seen {
        self.end();
        let mut seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        seen.requests = self.shared.requests.load(Ordering::Relaxed);
        seen
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a thread of the load does not panic");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn work(&self, thread: usize, addresses: &[std::net::SocketAddr], bucket: &str) {
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let key = format!("{thread}-{number}");
            let at = |offset: usize| {
                let address = addresses[(thread + number + offset) % addresses.len()];
                format!("http://{address}/v1/kv/{bucket}/{key}")
            };
            let put = request("PUT", &at(0)).w(2).body(key.as_bytes());
            if self.note(put, 204, "").is_some() {
                self.seen().written.push(key.clone());
                self.note(request("GET", &at(1)).r(2), 200, &key);
            }
        }
    }

    fn note(&self, request: crate::http::Request, status: u16, body: &str) -> Option<()> {
        let result = request.try_send();
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut seen = self.seen();
        match result {
            Ok(answer) if answer.status == status && answer.body == body.as_bytes() => {
                seen.longest = seen.longest.max(answer.took);
                Some(())
            }
            Ok(answer) => {
                seen.longest = seen.longest.max(answer.took);
                let (url, took) = (answer.url(), answer.took);
                seen.failures.push(format!("{url}: {} after {took:?}: {}", answer.status, answer.text()));
                None
            }
            Err(why) => {
                seen.failures.push(why);
                None
            }
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
