//! Versions of a key as JSON.
//!
//! Written by hand around serde_json: a stored JSON value goes out byte for byte, since a number that does not fit a
//! double must not change on its way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use rondo_storage::versions::{ETag, Metadata, Sibling};
use serde::Serialize;
use serde::de::IgnoredAny;

/// Content type of a list.
pub(crate) const LIST_TYPE: &str = "application/vnd.rondo.siblings+json";
/// What a value without a content type is.
pub(crate) const DEFAULT_TYPE: &str = "application/octet-stream";

/// `"context":…,"siblings":[…]`, without the braces around it.
pub(crate) fn list_members<'a>(context: &str, siblings: impl Iterator<Item = &'a Sibling>) -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, "context", &context);
    out.extend_from_slice(b",\"siblings\":[");
    for (index, sibling) in siblings.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'{');
        push(&mut out, "etag", &etag(sibling));
        push_rest(&mut out, sibling);
        out.push(b'}');
    }
    out.push(b']');
    out
}

/// `{"context":…,"siblings":[…]}`.
pub(crate) fn list<'a>(context: &str, siblings: impl Iterator<Item = &'a Sibling>) -> Bytes {
    let mut out = vec![b'{'];
    out.append(&mut list_members(context, siblings));
    out.push(b'}');
    out.into()
}

/// The name of one version.
pub(crate) fn etag(sibling: &Sibling) -> String {
    ETag::of([sibling.dot]).map(|etag| etag.to_string()).unwrap_or_default()
}

/// `,"content_type":…,"modified":…,"bytes":…` and the value, unless it is a tombstone.
pub(crate) fn push_rest(out: &mut Vec<u8>, sibling: &Sibling) {
    let Metadata { modified_us, content_encoding, .. } = &sibling.metadata;
    let content_type = content_type(&sibling.metadata);
    out.push(b',');
    push(out, "content_type", &content_type);
    out.push(b',');
    push(out, "modified", &rfc3339(*modified_us));
    if !content_encoding.is_empty() {
        out.push(b',');
        push(out, "content_encoding", &String::from_utf8_lossy(content_encoding));
    }
    if let Some(value) = &sibling.value {
        out.push(b',');
        push(out, "bytes", &value.len());
        out.push(b',');
        push_value(out, value, &content_type);
    }
}

/// `"value":…` for JSON that parses, `"text":…` for other UTF-8, `"base64":…` otherwise.
pub(crate) fn push_value(out: &mut Vec<u8>, value: &Bytes, content_type: &str) {
    match std::str::from_utf8(value) {
        Ok(text) if is_json(content_type) && serde_json::from_str::<IgnoredAny>(text).is_ok() => {
            out.extend_from_slice(b"\"value\":");
            out.extend_from_slice(text.trim_ascii().as_bytes());
        }
        Ok(text) => push(out, "text", &text),
        Err(_) => push(out, "base64", &STANDARD.encode(value)),
    }
}

/// `"name":value`.
pub(crate) fn push(out: &mut Vec<u8>, name: &str, value: &impl Serialize) {
    serde_json::to_writer(&mut *out, name).expect("writing to a vector cannot fail");
    out.push(b':');
    serde_json::to_writer(out, value).expect("texts and numbers are always JSON");
}

/// As it was sent, or the default.
pub(crate) fn content_type(metadata: &Metadata) -> String {
    match metadata.content_type.as_ref() {
        b"" => DEFAULT_TYPE.to_owned(),
        sent => String::from_utf8_lossy(sent).into_owned(),
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// µs since 1970 as RFC 3339.
pub(crate) fn rfc3339(us: u64) -> String {
    timestamp(us).to_string()
}

/// µs since 1970; times beyond the calendar's end are its end.
pub(crate) fn timestamp(us: u64) -> Timestamp {
    i64::try_from(us).ok().and_then(|us| Timestamp::from_microsecond(us).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rondo_storage::versions::{ActorId, Dot};
    use serde_json::{Value, json};

    fn sibling(counter: u64, value: &'static [u8], content_type: &'static str) -> Sibling {
        let metadata = Metadata {
            content_type: Bytes::from_static(content_type.as_bytes()),
            modified_us: 1_500_000,
            ..Metadata::default()
        };
        Sibling { dot: Dot { actor: ActorId(0xa), counter }, value: Some(Bytes::from_static(value)), metadata }
    }

    fn listed(siblings: &[Sibling]) -> Value {
        serde_json::from_slice(&list("token", siblings.iter())).unwrap()
    }

    #[test]
    fn the_list_has_the_public_shape() {
        let shown = listed(&[sibling(1, b"{\"a\": 1}", "application/json"), sibling(2, b"hi\n", "text/plain")]);
        let expected = json!({"context":"token","siblings":[
            {"etag":"a-1","content_type":"application/json","modified":"1970-01-01T00:00:01.5Z","bytes":8,"value":{"a":1}},
            {"etag":"a-2","content_type":"text/plain","modified":"1970-01-01T00:00:01.5Z","bytes":3,"text":"hi\n"}]});
        assert_eq!(shown, expected);
    }

    #[test]
    fn json_goes_out_byte_for_byte() {
        let exact = br#"{"big":123456789012345678901234567890,"x":1.10,"x":2}"#;
        let body = list("t", [sibling(1, exact, "application/vnd.x+JSON; charset=utf-8")].iter());
        assert!(body.windows(exact.len()).any(|window| window == exact));
    }

    #[test]
    fn what_is_no_json_is_text_and_what_is_no_text_is_base64() {
        let shown = listed(&[
            sibling(1, b"{broken", "application/json"),
            sibling(2, b"\xff\x00", "application/json"),
            sibling(3, b"\"\xff\"", "application/json"),
            sibling(4, b"7", ""),
        ]);
        let siblings = shown["siblings"].as_array().unwrap();
        assert_eq!(siblings[0]["text"], "{broken");
        assert_eq!(siblings[1]["base64"], "/wA=");
        assert!(siblings[2]["base64"].is_string());
        assert_eq!((&siblings[3]["text"], &siblings[3]["content_type"]), (&json!("7"), &json!(DEFAULT_TYPE)));
    }

    #[test]
    fn an_empty_list_is_json_too() {
        assert_eq!(listed(&[]), json!({"context":"token","siblings":[]}));
    }

    #[test]
    fn a_time_beyond_the_calendar_does_no_harm() {
        assert!(rfc3339(u64::MAX).starts_with("9999-"));
    }
}
