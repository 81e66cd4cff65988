//! One cluster for the tests of a file that do not disturb each other.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::cluster::Cluster;

/// A cluster that is there as long as a test holds it: a static one would never be dropped, and its processes would
/// outlive the tests.
#[derive(Debug)]
pub struct Shared {
    held: Mutex<Weak<Cluster>>,
}

impl Shared {
    /// None started yet.
    #[allow(clippy::new_without_default, reason = "it is only ever a static")]
    pub const fn new() -> Self {
        Self { held: Mutex::new(Weak::new()) }
    }

    /// The running one, or a new one.
    #[track_caller]
    pub fn get(&self, start: impl FnOnce() -> Cluster) -> Arc<Cluster> {
        // A test that failed while it started a cluster leaves none, and the next one tries for itself.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(start());
            *held = Arc::downgrade(&cluster);
            cluster
        })
    }
}
