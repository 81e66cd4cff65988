//! How much may be in work at once. Beyond it a request is turned away before any work, instead of waiting in a queue
//! until its deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::problem::{Kind, Problem};
use rondo_config::HttpLimits;

/// Shared by all workers.
#[derive(Clone, Debug)]
pub(crate) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requests: AtomicU64,
    bytes: AtomicU64,
    requests_max: u64,
    bytes_max: u64,
    listings: Arc<Semaphore>,
}

/// Listings in work at one time: each holds pages of keys, unlike other requests.
const LISTINGS_MAX: usize = 128;

/// A request in work; over when dropped.
#[derive(Debug)]
pub(crate) struct Admitted(Arc<Inner>);

/// A listing in work; over when dropped.
#[derive(Debug)]
pub(crate) struct Listing {
    _request: Admitted,
    _listing: OwnedSemaphorePermit,
}

/// Bytes of an upload; given back when dropped.
#[derive(Debug)]
pub(crate) struct BytesHeld {
    inner: Arc<Inner>,
    bytes: u64,
}

impl Admission {
    pub(crate) fn new(limits: &HttpLimits) -> Self {
        Self::bounded(limits.requests_in_flight, limits.body_bytes_in_flight)
    }

    fn bounded(requests_max: u64, bytes_max: u64) -> Self {
        let listings = Arc::new(Semaphore::new(LISTINGS_MAX));
        Self(Arc::new(Inner { requests: 0.into(), bytes: 0.into(), requests_max, bytes_max, listings }))
    }

    /// For bodies whose size is bounded so tightly that they need not be counted.
    pub(crate) fn unlimited() -> BytesHeld {
        Self::bounded(u64::MAX, u64::MAX).hold()
    }

    /// Takes a request in, or says that there are too many.
    pub(crate) fn admit(&self) -> Result<Admitted, Problem> {
        if self.0.requests.fetch_add(1, Ordering::Relaxed) < self.0.requests_max {
            return Ok(Admitted(self.0.clone()));
        }
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        let detail = format!("{} requests are in work already; nothing was begun", self.0.requests_max);
        Err(Problem::new(Kind::Busy, detail))
    }

    /// Takes a listing in, which is a request as well.
    pub(crate) fn admit_listing(&self) -> Result<Listing, Problem> {
        let full = |_| Problem::new(Kind::Busy, format!("{LISTINGS_MAX} listings are in work already"));
        let listing = self.0.listings.clone().try_acquire_owned().map_err(full)?;
        Ok(Listing { _request: self.admit()?, _listing: listing })
    }

    /// Nothing yet; see [`BytesHeld::grow_to`].
    pub(crate) fn hold(&self) -> BytesHeld {
        BytesHeld { inner: self.0.clone(), bytes: 0 }
    }

    /// Requests and bytes in work now.
    pub(crate) fn in_flight(&self) -> (u64, u64) {
        (self.0.requests.load(Ordering::Relaxed), self.0.bytes.load(Ordering::Relaxed))
    }
}

impl BytesHeld {
    /// Counts this many bytes in all, or says that there are too many.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        let more = (bytes as u64).saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let before = self.inner.bytes.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        if before.saturating_add(more) <= self.inner.bytes_max {
            return Ok(());
        }
        let detail = format!("uploads of {before} bytes are in work already; nothing was written");
        Err(Problem::new(Kind::Busy, detail))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for BytesHeld {
    fn drop(&mut self) {
        self.inner.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_too_many_is_turned_away_until_another_ends() {
        let admission = Admission::bounded(2, 0);
        let (first, _second) = (admission.admit().unwrap(), admission.admit().unwrap());
        assert_eq!(admission.admit().unwrap_err().kind(), Kind::Busy);
        assert_eq!(admission.in_flight().0, 2);
        drop(first);
        assert!(admission.admit().is_ok());
    }

    #[test]
    fn listings_have_a_bound_of_their_own() {
        let admission = Admission::bounded(1_000, 0);
        let all: Vec<_> = (0..LISTINGS_MAX).map(|_| admission.admit_listing().unwrap()).collect();
        assert_eq!(admission.admit_listing().unwrap_err().kind(), Kind::Busy);
        assert!(admission.admit().is_ok() && admission.in_flight().0 == LISTINGS_MAX as u64);
        drop(all);
        assert!(admission.admit_listing().is_ok());
    }

    #[test]
    fn bytes_are_counted_once_and_given_back() {
        let admission = Admission::bounded(1, 10);
        let mut first = admission.hold();
        first.grow_to(4).unwrap();
        first.grow_to(6).unwrap();
        first.grow_to(5).unwrap();
        assert_eq!(admission.in_flight().1, 6);
        let mut second = admission.hold();
        assert_eq!(second.grow_to(5).unwrap_err().kind(), Kind::Busy);
        drop(second);
        assert_eq!(admission.in_flight().1, 6);
        drop(first);
        assert_eq!(admission.in_flight().1, 0);
    }
}
