//! What a client's request is followed by, on its way through the nodes.
//!
//! The names a client gave: a trace of W3C Trace Context and the request's own name. No machine looks at them; whoever
//! drives a machine hands them to the peers with each of its operations, so that the logs of all nodes can be searched
//! for one request.

use std::fmt;

use bytes::Bytes;

use crate::wire::{WireError, put_bytes, take_bytes, take_u8, take_u64};

/// A trace, and the request in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Of everything that belongs together; not 0.
    pub trace_id: u128,
    /// Of the caller's part of it; not 0.
    pub parent_id: u64,
    /// As the caller sent them; bit 0: it records this trace.
    pub flags: u8,
    /// `X-Request-Id`: 1 to 128 bytes of visible ASCII.
    pub request_id: Box<str>,
}

impl Trace {
    /// Longest name of a request.
    pub const REQUEST_ID_BYTES_MAX: usize = 128;

    /// Whether it can be a request's name: visible ASCII within the bound. Anything else could forge lines of a log.
    pub fn is_request_id(text: &str) -> bool {
        (1..=Self::REQUEST_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
    }

    /// Appends its bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.trace_id.to_le_bytes());
        out.extend_from_slice(&self.parent_id.to_le_bytes());
        out.push(self.flags);
        put_bytes(out, self.request_id.as_bytes());
    }

    /// Takes one off the front of `input`. What is left in `input` after an error means nothing.
    pub fn decode(input: &mut Bytes) -> Result<Self, WireError> {
        let low = u128::from(take_u64(input)?);
        let trace_id = low | u128::from(take_u64(input)?) << 64;
        let (parent_id, flags) = (take_u64(input)?, take_u8(input)?);
        let name = take_bytes(input, "request id", Self::REQUEST_ID_BYTES_MAX)?;
        let name = std::str::from_utf8(&name).ok().filter(|name| Self::is_request_id(name));
        match name {
            Some(name) if trace_id != 0 && parent_id != 0 => {
                Ok(Self { trace_id, parent_id, flags, request_id: name.into() })
            }
            _ => Err(WireError::Value("trace")),
        }
    }
}

impl fmt::Display for Trace {
    /// As `traceparent` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let trace_id = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
        Trace { trace_id, parent_id: 0x00f0_67aa_0ba9_02b7, flags: 1, request_id: "order-7".into() }
    }

    #[test]
    fn a_trace_arrives_as_it_was_sent() {
        let mut bytes = Vec::new();
        trace().encode_into(&mut bytes);
        bytes.push(9);
        let mut input = Bytes::from(bytes);
        assert_eq!((Trace::decode(&mut input).unwrap(), &input[..]), (trace(), &[9][..]));
        assert_eq!(trace().to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    }

    #[test]
    fn what_could_forge_a_log_or_is_no_trace_is_refused() {
        let refused = |change: fn(&mut Trace)| {
            let (mut changed, mut bytes) = (trace(), Vec::new());
            change(&mut changed);
            changed.encode_into(&mut bytes);
            Trace::decode(&mut bytes.into()).is_err()
        };
        assert!(!refused(|_| ()));
        assert!(refused(|t| t.trace_id = 0) && refused(|t| t.parent_id = 0));
        assert!(refused(|t| t.request_id = "a\nb".into()) && refused(|t| t.request_id = "".into()));
        assert!(refused(|t| t.request_id = "x".repeat(129).into()));
    }
}
