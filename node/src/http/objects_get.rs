//! GET and HEAD.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use jiff::fmt::rfc2822::DateTimePrinter;
use rondo_coordinator::ReadAnswer;
use rondo_coordinator::get::ReadRequest;
use rondo_storage::Key;
use rondo_storage::versions::{ETag, Object, Sibling};
use smallvec::SmallVec;

use crate::http::call::Call;
use crate::http::objects::{self, Answer, Asked, CONTEXT, DELETED, EXPIRES, SIBLINGS};
use crate::http::params::{self, Shape};
use crate::http::problem::{Kind, Problem};
use crate::http::query::{Known, Query};
use crate::http::siblings;
use crate::http::surface::Surface;

const KNOWN: Known = Known { values: &["r", "w", "quorum", "timeout", "siblings", "sibling"], flags: &[] };

/// `GET | HEAD /v1/kv/{bucket}/{key...}`
pub(crate) async fn get(surface: &Surface, key: Key, parts: &Parts, call: &mut Call) -> Answer {
    let _admitted = surface.admission().admit()?;
    let query = Query::parse(parts.uri.query(), &KNOWN)?;
    let shape = params::shape(&parts.headers, &query)?;
    refuse_if_match(&parts.headers)?;
    params::refuse_metadata(&parts.headers)?;
    let known = Unchanged::read(&parts.headers)?;
    let asked = Asked::new(surface, key, parts, &query)?;
    let request = ReadRequest {
        key: asked.key.clone(),
        n: asked.bucket.n,
        r: asked.choices.r,
        at_least: asked.context.clone(),
        deadline: asked.deadline,
    };
    let read = surface.service().read(request, call.trace.clone()).await;
    call.quorum = Some(asked.took(surface));
    call.store = read.as_ref().ok().and_then(|read| read.store);
    let read = read.map_err(|failure| objects::failed(failure, &asked, objects::Write::No))?;
    answer(&asked, &read, surface.service().wall_us(), shape, &known)
}

/// A condition that reads do not have.
fn refuse_if_match(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(IF_MATCH) {
        Some(value) => Err(Problem::later("If-Match", &String::from_utf8_lossy(value.as_bytes()))),
        None => Ok(()),
    }
}

fn answer(asked: &Asked, read: &ReadAnswer, now_us: u64, shape: Shape, known: &Unchanged<'_>) -> Answer {
    let live: SmallVec<[&Sibling; 4]> = read.object.shown(now_us, asked.bucket.conflict).collect();
    let Some(etag) = ETag::of(live.iter().map(|sibling| sibling.dot)) else {
        return Err(missing(asked, read));
    };
    let token = asked.tokens.seal(&asked.key, &read.object.context);
    let mut response = match (shape, live.as_slice()) {
        (Shape::Value, [one]) => value(one, known.is(etag.as_str())),
        (Shape::Siblings, all) => list(&token, all, known.is(etag.as_str())),
        (Shape::Value, several) => return Err(conflict(&etag, token, several, read)),
    };
    if live.len() > 1 {
        response.headers_mut().insert(SIBLINGS, HeaderValue::from(live.len()));
    }
    objects::counted(&mut response, read.acks, read.n);
    response.headers_mut().extend([objects::quoted(etag.as_str())]);
    response.headers_mut().insert(CONTEXT, objects::header_text(token));
    Ok(response)
}

/// 404; with a context where a delete is remembered, so that a new value can say what it follows.
fn missing(asked: &Asked, read: &ReadAnswer) -> Problem {
    let counted = |problem: Problem| {
        let acks = objects::acks(read.acks, read.n);
        problem.header(objects::ACKS, acks).header(objects::QUORUM, HeaderValue::from_static("strict"))
    };
    if read.object == Object::default() {
        return counted(Problem::new(
            Kind::NoSuchKey,
            "nothing was ever stored under this key, or nothing is left of it",
        ));
    }
    let token = asked.tokens.seal(&asked.key, &read.object.context);
    counted(Problem::new(Kind::Deleted, "the value was deleted or has expired"))
        .header(DELETED, HeaderValue::from_static("true"))
        .header(CONTEXT, objects::header_text(token))
}

/// 409, so that a script that knows nothing of siblings stops instead of taking one at random.
fn conflict(etag: &ETag, token: String, live: &[&Sibling], read: &ReadAnswer) -> Problem {
    let members = siblings::list_members(&token, live.iter().copied());
    let detail = format!("{} versions were written concurrently; PUT one value with this context", live.len());
    let (name, value) = objects::quoted(etag.as_str());
    Problem::new(Kind::Siblings, detail)
        .raw_members(&members)
        .header(name, value)
        .header(SIBLINGS, HeaderValue::from(live.len()))
        .header(CONTEXT, objects::header_text(token))
        .header(objects::ACKS, objects::acks(read.acks, read.n))
        .header(objects::QUORUM, HeaderValue::from_static("strict"))
}

fn list(token: &str, live: &[&Sibling], unchanged: bool) -> Response<Full<Bytes>> {
    if unchanged {
        return not_modified();
    }
    let mut response = Response::new(Full::new(siblings::list(token, live.iter().copied())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(params::SIBLINGS_TYPE));
    response
}

/// One version as it was stored, or 304.
pub(crate) fn value(sibling: &Sibling, unchanged: bool) -> Response<Full<Bytes>> {
    let metadata = &sibling.metadata;
    let mut response = match &sibling.value {
        Some(value) if !unchanged => Response::new(Full::new(value.clone())),
        _ => not_modified(),
    };
    let headers = response.headers_mut();
    if !unchanged {
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
    }
    headers.insert(LAST_MODIFIED, http_date(metadata.modified_us));
    if metadata.expires_us != 0 {
        headers.insert(EXPIRES, objects::header_text(siblings::rfc3339(metadata.expires_us)));
    }
    response
}

fn not_modified() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
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

/// `If-None-Match`: what the client has already.
#[derive(Debug, Default)]
struct Unchanged<'a>(SmallVec<[&'a str; 2]>);

impl<'a> Unchanged<'a> {
    fn read(headers: &'a HeaderMap) -> Result<Self, Problem> {
        let mut known = SmallVec::new();
        for value in headers.get_all(IF_NONE_MATCH) {
            let shown = || String::from_utf8_lossy(value.as_bytes()).into_owned();
            let problem = || Problem::parameter("If-None-Match", &shown(), "* or ETags in double quotes");
            let text = value.to_str().map_err(|_| problem())?;
            for one in text.split(',').map(str::trim).filter(|_| !text.is_empty()) {
                known.push(etag_of(one).ok_or_else(problem)?);
            }
        }
        Ok(Self(known))
    }

    fn is(&self, etag: &str) -> bool {
        self.0.iter().any(|known| *known == "*" || *known == etag)
    }
}

/// What is between the quotes. Reads compare weakly (RFC 9110, section 13.1.2), so `W/` makes no difference.
fn etag_of(text: &str) -> Option<&str> {
    if text == "*" {
        return Some(text);
    }
    let opaque = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"')?.strip_suffix('"')?;
    (!opaque.contains('"') && opaque != "*").then_some(opaque)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unchanged(value: &'static str, etag: &str) -> Result<bool, Kind> {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static(value));
        Unchanged::read(&headers).map(|known| known.is(etag)).map_err(|problem| problem.kind())
    }

    #[test]
    fn what_the_client_has_is_compared_as_text() {
        assert_eq!(unchanged("\"a-1\"", "a-1"), Ok(true));
        assert_eq!(unchanged("\"b-1\", W/\"a-1\"", "a-1"), Ok(true));
        assert_eq!(unchanged("*", "a-1"), Ok(true));
        assert_eq!(unchanged("\"b-1\"", "a-1"), Ok(false));
        assert_eq!(unchanged("", "a-1"), Ok(false));
        for bad in ["a-1", "\"a-1", "\"\"\"", "\"a-1\",", "\"*\""] {
            assert_eq!(unchanged(bad, "a-1"), Err(Kind::BadParameter), "{bad}");
        }
    }

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(http_date(784_111_777_000_000), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn a_value_goes_out_as_it_was_stored() {
        use rondo_storage::versions::{ActorId, Dot, Metadata};
        let metadata = Metadata {
            content_type: Bytes::from_static(b"text/x"),
            content_encoding: Bytes::from_static(b"br"),
            user: SmallVec::from_vec(vec![(Bytes::from_static(b"a"), Bytes::from_static(b"1\xff"))]),
            expires_us: 1_000_000,
            ..Metadata::default()
        };
        let dot = Dot { actor: ActorId(1), counter: 1 };
        let sibling = Sibling { dot, value: Some(Bytes::from_static(b"v")), metadata };
        let response = value(&sibling, false);
        let header = |name: &str| response.headers()[name].as_bytes().to_vec();
        assert_eq!((header("content-type"), header("content-encoding")), (b"text/x".to_vec(), b"br".to_vec()));
        assert_eq!(
            (header("rondo-meta-a"), header("rondo-expires")),
            (b"1\xff".to_vec(), b"1970-01-01T00:00:01Z".to_vec())
        );
        let bare = Sibling { metadata: Metadata::default(), ..sibling };
        assert_eq!(value(&bare, false).headers()[CONTENT_TYPE], siblings::DEFAULT_TYPE);
        assert_eq!(value(&bare, true).status(), StatusCode::NOT_MODIFIED);
    }
}
