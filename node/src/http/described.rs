//! What is said of a version in headers: of an answer, or of a part of one.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, LAST_MODIFIED};
use http::{HeaderName, HeaderValue};
use jiff::fmt::rfc2822::DateTimePrinter;
use rondo_storage::versions::Sibling;

use crate::http::objects::{self, EXPIRES};
use crate::http::siblings;

/// Everything that was stored with the value, and its times.
pub(crate) fn describe(headers: &mut HeaderMap, sibling: &Sibling) {
    let metadata = &sibling.metadata;
    headers.insert(CONTENT_TYPE, stored(&metadata.content_type, siblings::DEFAULT_TYPE));
    if !metadata.content_encoding.is_empty() {
        headers.insert(CONTENT_ENCODING, stored(&metadata.content_encoding, "identity"));
    }
    for (name, value) in &metadata.user {
        let name = HeaderName::from_bytes(&[b"rondo-meta-", &name[..]].concat());
        // Names and values were headers when they came; a disk can only lose them whole.
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    say_times(headers, sibling);
}

/// When it was written and, where it has an end, when that is.
pub(crate) fn say_times(headers: &mut HeaderMap, sibling: &Sibling) {
    let metadata = &sibling.metadata;
    headers.insert(LAST_MODIFIED, http_date(metadata.modified_us));
    if metadata.expires_us != 0 {
        headers.insert(EXPIRES, objects::header_text(siblings::rfc3339(metadata.expires_us)));
    }
}

/// A header's value as it was stored.
fn stored(value: &Bytes, default: &'static str) -> HeaderValue {
    match value.is_empty() {
        true => HeaderValue::from_static(default),
        false => HeaderValue::from_maybe_shared(value.clone()).unwrap_or(HeaderValue::from_static(default)),
    }
}

fn http_date(us: u64) -> HeaderValue {
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&siblings::timestamp(us));
    text.map_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"), objects::header_text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rondo_storage::versions::{ActorId, Dot, Metadata};
    use smallvec::SmallVec;

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(http_date(784_111_777_000_000), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn a_version_is_described_as_it_was_stored() {
        let metadata = Metadata {
            content_type: Bytes::from_static(b"text/x"),
            content_encoding: Bytes::from_static(b"br"),
            user: SmallVec::from_vec(vec![(Bytes::from_static(b"a"), Bytes::from_static(b"1\xff"))]),
            expires_us: 1_000_000,
            ..Metadata::default()
        };
        let dot = Dot { actor: ActorId(1), counter: 1 };
        let sibling = Sibling { dot, value: Some(Bytes::from_static(b"v")), metadata };
        let described = |sibling: &Sibling| {
            let mut headers = HeaderMap::new();
            describe(&mut headers, sibling);
            headers
        };
        let headers = described(&sibling);
        let header = |name: &str| headers[name].as_bytes().to_vec();
        assert_eq!((header("content-type"), header("content-encoding")), (b"text/x".to_vec(), b"br".to_vec()));
        assert_eq!(header("rondo-meta-a"), b"1\xff");
        assert_eq!(header("rondo-expires"), b"1970-01-01T00:00:01Z");
        let bare = described(&Sibling { metadata: Metadata::default(), ..sibling });
        assert_eq!(bare[CONTENT_TYPE], siblings::DEFAULT_TYPE);
        assert!(!bare.contains_key(CONTENT_ENCODING) && !bare.contains_key(EXPIRES));
    }
}
