//! Numbers that are never the same twice, and the name of a request in `X-Request-Id`.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderValue};
use rondo_coordinator::Trace;
use xxhash_rust::xxh3::xxh3_64;

use crate::http::problem::Problem;
use crate::http::trace::TraceParent;

/// Makes numbers that no other request of any node has, but for a chance of 2⁻⁶⁴. One per worker.
pub(crate) struct Ids {
    base: u64,
    next: AtomicU64,
}

impl Ids {
    /// Starts at a random place, or at `salt` where the system has no randomness to give.
    pub(crate) fn new(salt: u64) -> Self {
        Self { base: getrandom::u64().unwrap_or(salt), next: AtomicU64::new(0) }
    }

    /// The next number. SplitMix64: distinct for 2⁶⁴ calls, and unlike its neighbours.
    pub(crate) fn number(&self) -> u64 {
        let turn = self.next.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.base.wrapping_add(turn);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A name for a client's write, should it have to be forwarded.
    pub(crate) fn write_id(&self) -> NonZeroU64 {
        // Zero comes up once in 2⁶⁴ calls.
        NonZeroU64::new(self.number()).unwrap_or(NonZeroU64::MIN)
    }

    /// A new name of a request: 16 hex digits.
    pub(crate) fn request_id(&self) -> String {
        format!("{:016x}", self.number())
    }

    /// The client's own name of the request, or else the trace it belongs to, or else a new one.
    pub(crate) fn name_of(&self, headers: &HeaderMap, parent: Option<TraceParent<'_>>) -> String {
        let own = headers.get("x-request-id").and_then(visible);
        own.or(parent.map(|parent| parent.trace_text)).map_or_else(|| self.request_id(), str::to_owned)
    }
}

/// The write named by `Idempotency-Key`, so that a client that repeats a request whose answer it never saw leaves one
/// version and not two: siblings of one name count as one.
pub(crate) fn idempotency(headers: &HeaderMap) -> Result<Option<NonZeroU64>, Problem> {
    const NAME: &str = "Idempotency-Key";
    let mut values = headers.get_all(NAME).iter().filter(|value| !value.is_empty());
    let Some(value) = values.next() else { return Ok(None) };
    let shown = String::from_utf8_lossy(value.as_bytes());
    match (visible(value), values.next()) {
        (Some(text), None) => Ok(Some(NonZeroU64::new(xxh3_64(text.as_bytes())).unwrap_or(NonZeroU64::MIN))),
        (Some(_), Some(_)) => Err(Problem::parameter(NAME, &shown, "one header of this name")),
        (None, _) => Err(Problem::parameter(NAME, &shown, "1 to 128 characters of visible ASCII")),
    }
}

fn visible(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().filter(|text| Trace::is_request_id(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &'static str, value: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        Ids::new(0).name_of(&headers, TraceParent::read(&headers))
    }

    #[test]
    fn the_same_idempotency_key_is_the_same_write() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("idempotency-key", HeaderValue::from_str(value).unwrap());
            }
            idempotency(&headers)
        };
        assert_eq!(of(&["run-7"]).unwrap(), of(&["run-7"]).unwrap());
        assert_ne!(of(&["run-7"]).unwrap(), of(&["run-8"]).unwrap());
        assert_eq!((of(&[]).unwrap(), of(&[""]).unwrap()), (None, None));
        assert!(of(&["a", "b"]).is_err() && of(&["a b"]).is_err() && of(&[&"x".repeat(129)]).is_err());
    }

    #[test]
    fn a_fitting_name_is_echoed_and_any_other_replaced() {
        assert_eq!(id("x-request-id", "abc-1"), "abc-1");
        for bad in ["", "a b", "a\tb", "\u{e9}", &"x".repeat(129)] {
            let made = id("x-request-id", bad);
            assert!(made.len() == 16 && made.bytes().all(|b| b.is_ascii_hexdigit()), "{bad:?} gave {made:?}");
        }
    }

    #[test]
    fn a_trace_names_its_requests() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(id("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01")), trace);
        assert_eq!(id("traceparent", "00-0-0-0").len(), 16);
    }

    #[test]
    fn names_are_distinct() {
        let ids = Ids::new(0);
        let made: std::collections::BTreeSet<_> = (0..1_000).map(|_| ids.request_id()).collect();
        assert_eq!(made.len(), 1_000);
    }
}
