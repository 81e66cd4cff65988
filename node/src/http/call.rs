//! One request on an object: what it can be followed by, and where its time goes.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rondo_coordinator::Trace;
use tracing::field::DisplayValue;

use crate::http::trace::TraceParent;

/// What a handler notes of a request while it is in work, for `Server-Timing` and the log.
#[derive(Debug, Default)]
pub(crate) struct Call {
    /// Goes with every operation of the request to the peers.
    pub(crate) trace: Option<Arc<Trace>>,
    /// Reading the upload.
    pub(crate) body: Option<Duration>,
    /// Until this node's own disk had answered a read.
    pub(crate) store: Option<Duration>,
    /// Until enough owners had answered, or could not any more.
    pub(crate) quorum: Option<Duration>,
}

impl Call {
    /// Allocates nothing for a request without a trace.
    pub(crate) fn new(parent: Option<TraceParent<'_>>, request_id: &str) -> Self {
        let trace = parent.map(|TraceParent { trace_id, parent_id, flags, .. }| {
            Arc::new(Trace { trace_id, parent_id, flags, request_id: request_id.into() })
        });
        Self::of(trace)
    }

    /// One of the requests of a batch.
    pub(crate) fn of(trace: Option<Arc<Trace>>) -> Self {
        Self { trace, ..Self::default() }
    }

    /// For the log: as `traceparent` has it.
    pub(crate) fn trace_text(&self) -> Option<DisplayValue<&Trace>> {
        self.trace.as_deref().map(tracing::field::display)
    }

    /// The value of `Server-Timing`: milliseconds, to the microsecond. The parts lie one after the other within the
    /// total, but for the store's, which is part of the quorum's.
    pub(crate) fn server_timing(&self, total: Duration) -> HeaderValue {
        let mut text = Text { bytes: [0; TEXT_BYTES], len: 0 };
        text.metric(b"total;dur=", total);
        for (name, took) in
            [(&b", body;dur="[..], self.body), (b", store;dur=", self.store), (b", quorum;dur=", self.quorum)]
        {
            took.inspect(|took| text.metric(name, *took));
        }
        HeaderValue::from_bytes(&text.bytes[..text.len]).expect("names and digits are visible ASCII")
    }
}

/// Four names of 13 bytes at most and four numbers of at most 17 digits and a point: more than a day's microseconds.
const TEXT_BYTES: usize = 4 * (13 + 18);

struct Text {
    bytes: [u8; TEXT_BYTES],
    len: usize,
}

impl Text {
    fn metric(&mut self, name: &[u8], took: Duration) {
        self.push(name);
        let micros = took.as_micros().min(u128::from(u32::MAX) * 1_000) as u64;
        let mut digits = [b'0'; 16];
        let (mut rest, mut first) = (micros, digits.len());
        // At least `0.000`: the point stands before the last three digits.
        while rest > 0 || first > digits.len() - 4 {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let point = digits.len() - 3;
        self.push(&digits[first..point]);
        self.push(b".");
        self.push(&digits[point..]);
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_with_three_places() {
        let micros = |us| Duration::from_micros(us);
        let timing = |us| Call::default().server_timing(micros(us)).to_str().unwrap().to_owned();
        for (us, text) in [(0, "0.000"), (7, "0.007"), (999, "0.999"), (1_000, "1.000"), (12_345_678, "12345.678")] {
            assert_eq!(timing(us), format!("total;dur={text}"));
        }
        let call =
            Call { body: Some(micros(2_500)), store: Some(micros(40)), quorum: Some(micros(900)), ..Call::default() };
        let text = "total;dur=4.000, body;dur=2.500, store;dur=0.040, quorum;dur=0.900";
        assert_eq!(call.server_timing(micros(4_000)), text);
    }

    #[test]
    fn the_longest_fits() {
        let longest = Some(Duration::MAX);
        let call = Call { body: longest, store: longest, quorum: longest, ..Call::default() };
        assert!(call.server_timing(Duration::MAX).len() <= TEXT_BYTES);
    }
}
