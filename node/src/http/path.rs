//! Names out of a request's path. No path is ever resolved: `..` is a key like any other.

use std::borrow::Cow;

use rondo_storage::Key;
use rondo_storage::key::{KeyError, check_bucket};

use crate::http::problem::{Kind, Problem};

/// What the part of a path after `/v1/kv/` names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// `{bucket}`.
    Bucket(String),
    /// `{bucket}/{key...}`: everything after the first unencoded slash is the key.
    Object(Key),
}

/// Takes `{bucket}` or `{bucket}/{key...}` as they stand in a request line.
pub(crate) fn parse(rest: &str) -> Result<Named, Problem> {
    match rest.split_once('/') {
        None => bucket(rest).map(Named::Bucket),
        Some((raw_bucket, raw_key)) => object(raw_bucket, raw_key).map(Named::Object),
    }
}

/// Checks a bucket's name as it stands in a path.
pub(crate) fn bucket(raw: &str) -> Result<String, Problem> {
    let name = decode(raw)?;
    check_bucket(&name).map_err(refused)?;
    Ok(name.into_owned())
}

fn object(raw_bucket: &str, raw_key: &str) -> Result<Key, Problem> {
    Key::new(&decode(raw_bucket)?, &decode(raw_key)?).map_err(refused)
}

/// What a bad name is answered with.
pub(crate) fn refused(error: KeyError) -> Problem {
    match error {
        KeyError::TooLong(_) => Problem::new(Kind::UriTooLong, error.to_string()),
        KeyError::Bucket(ref name) => Problem::new(Kind::BadRequest, error.to_string()).naming("bucket", name),
        _ => Problem::new(Kind::BadRequest, error.to_string()).naming("key", ""),
    }
}

/// Percent-decoding by RFC 3986: `%` and two hex digits, or it is an error; the result is UTF-8, or it is an error.
pub(crate) fn decode(raw: &str) -> Result<Cow<'_, str>, Problem> {
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = after.first_chunk::<2>().and_then(|[high, low]| Some(hex(*high)? << 4 | hex(*low)?));
        bytes.push(digits.ok_or_else(|| Problem::new(Kind::BadRequest, bad_encoding(raw)))?);
        rest = &after[2..];
    }
    let not_text = |_| Problem::new(Kind::BadRequest, "the path or parameter is not valid UTF-8 when decoded");
    String::from_utf8(bytes).map(Cow::Owned).map_err(not_text)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn bad_encoding(raw: &str) -> String {
    let shown: String = raw.chars().take(100).collect();
    format!("bad percent-encoding in {shown:?}: every % needs two hex digits, a plain % is %25")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(rest: &str) -> (String, String) {
        match parse(rest).unwrap() {
            Named::Object(key) => (key.bucket().to_owned(), key.key().to_owned()),
            Named::Bucket(name) => panic!("only a bucket: {name}"),
        }
    }

    fn kind(rest: &str) -> Kind {
        parse(rest).unwrap_err().kind()
    }

    #[test]
    fn an_encoded_slash_is_a_slash() {
        assert_eq!(key("b/a%2Fb"), key("b/a/b"));
        assert_eq!(key("b/a%2fb").1, "a/b");
        assert_eq!(key("b//").1, "/");
    }

    #[test]
    fn nothing_is_resolved() {
        assert_eq!(key("b/..").1, "..");
        assert_eq!(key("b/x/../y/./").1, "x/../y/./");
        assert_eq!(key("b/%2e%2e").1, "..");
    }

    #[test]
    fn any_text_is_a_key() {
        assert_eq!(key("b/%C3%A9%20%00+%25").1, "\u{e9} \0+%");
        assert_eq!(key("b/x%0A%3F%23;=").1, "x\n?#;=");
    }

    #[test]
    fn bad_encodings_are_refused() {
        for rest in ["b/%", "b/%4", "b/%zz", "b/a%+1", "b/%ff", "b/%c3", "%/k"] {
            assert_eq!(kind(rest), Kind::BadRequest, "{rest}");
        }
    }

    #[test]
    fn lengths_are_those_of_the_decoded_name() {
        assert_eq!(key(&format!("b/{}", "%41".repeat(1_024))).1.len(), 1_024);
        assert_eq!(kind(&format!("b/{}", "a".repeat(1_025))), Kind::UriTooLong);
        assert_eq!(kind("b/"), Kind::BadRequest);
    }

    #[test]
    fn buckets_are_checked_after_decoding() {
        assert_eq!(parse("b%2Ec").unwrap(), Named::Bucket("b.c".into()));
        for rest in ["", ".", "..", "%2e%2e", "a%2Fb", "a b", "/k", "../k", "%2e/k"] {
            assert_eq!(kind(rest), Kind::BadRequest, "{rest}");
        }
    }
}
