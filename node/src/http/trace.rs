//! `traceparent` (W3C Trace Context, section 3.2): read, never made. One that is malformed is as good as none.

use http::{HeaderMap, HeaderValue};

/// Of a request that has exactly one, and that one valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceParent<'a> {
    /// The 32 hex digits, as they were sent.
    pub(crate) trace_text: &'a str,
    pub(crate) trace_id: u128,
    pub(crate) parent_id: u64,
    pub(crate) flags: u8,
}

/// Version, trace id, parent id, flags, and the dashes between them.
const BYTES: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

impl<'a> TraceParent<'a> {
    pub(crate) fn read(headers: &'a HeaderMap) -> Option<Self> {
        let mut values = headers.get_all("traceparent").iter();
        let value = values.next()?;
        if values.next().is_some() { None } else { Self::parse(value) }
    }

    /// A later version may go on after these fields; version 0 ends with them, and there is no version 255.
    fn parse(value: &'a HeaderValue) -> Option<Self> {
        let text = value.to_str().ok()?;
        let (known, rest) = text.split_at_checked(BYTES)?;
        let version = hex(known.get(..2)?)?;
        let ends = rest.is_empty() || (version != 0 && rest.starts_with('-'));
        let dashes = [2, 35, 52].iter().all(|&at| known.as_bytes()[at] == b'-');
        let trace_text = known.get(3..35)?;
        let (trace_id, parent_id) = (hex(trace_text)?, hex(known.get(36..52)?)? as u64);
        let flags = hex(known.get(53..)?)? as u8;
        let valid = ends && dashes && version != 0xff && trace_id != 0 && parent_id != 0;
        valid.then_some(Self { trace_text, trace_id, parent_id, flags })
    }
}

/// Lower case only, as the standard has it.
fn hex(digits: &str) -> Option<u128> {
    let fits = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if fits { u128::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(values: &[&str]) -> Option<(u128, u64, u8)> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("traceparent", HeaderValue::from_str(value).unwrap());
        }
        TraceParent::read(&headers).map(|parent| (parent.trace_id, parent.parent_id, parent.flags))
    }

    #[test]
    fn the_example_of_the_standard_is_read() {
        let read_as = Some((0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7, 1));
        assert_eq!(read(&[VALID]), read_as);
        let later = VALID.replacen("00-", "cc-", 1);
        assert_eq!(read(&[&later]), read_as);
        assert_eq!(read(&[&format!("{later}-what-a-later-version-adds")]), read_as);
    }

    #[test]
    fn a_malformed_one_is_as_good_as_none() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        let bad = [
            "",
            "x",
            &VALID[1..],
            &VALID[..54],
            &format!("{VALID}-01"),
            &format!("{VALID}0"),
            &VALID.replacen("00-", "ff-", 1),
            &format!("{}.01", VALID.replacen("00-", "cc-", 1)),
            &VALID.to_uppercase(),
            &VALID.replace('-', "_"),
            &VALID.replacen("4bf9", "4bg9", 1),
            &zero_trace,
            &zero_parent,
        ];
        for bad in bad {
            assert_eq!(read(&[bad]), None, "{bad:?}");
        }
        assert_eq!(read(&[VALID, VALID]), None, "which of the two?");
        assert_eq!(read(&[]), None);
    }
}
