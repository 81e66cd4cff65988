//! GET and HEAD.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use rondo_coordinator::ReadAnswer;
use rondo_coordinator::get::ReadRequest;
use rondo_storage::Key;
use rondo_storage::versions::{CausalContext, ETag, Object, Sibling};
use smallvec::SmallVec;

use crate::http::call::Call;
use crate::http::described::{describe, say_times};
use crate::http::multipart::{self, Multipart};
use crate::http::objects::{self, Answer, Asked, CONTEXT, DELETED, SIBLINGS};
use crate::http::params;
use crate::http::problem::{Kind, Problem};
use crate::http::query::{Known, Query};
use crate::http::shape::{Form, Shape};
use crate::http::siblings;
use crate::http::surface::Surface;

const KNOWN: Known = Known { values: &["r", "w", "quorum", "timeout", "siblings", "sibling"], flags: &[] };

/// `GET | HEAD /v1/kv/{bucket}/{key...}`
pub(crate) async fn get(surface: &Surface, key: Key, parts: &Parts, call: &mut Call) -> Answer {
    let _admitted = surface.admission().admit()?;
    let query = Query::parse(parts.uri.query(), &KNOWN)?;
    let shape = Shape::read(&parts.headers, &query)?;
    refuse_if_match(&parts.headers)?;
    params::refuse_metadata(&parts.headers)?;
    let known = Unchanged::read(&parts.headers)?;
    let asked = Asked::new(surface, key, parts, &query)?;
    let request = ReadRequest {
        key: asked.key.clone(),
        n: asked.bucket.n,
        r: asked.choices.r,
        quorum: asked.choices.quorum,
        at_least: asked.context.clone(),
        deadline: asked.deadline,
    };
    let read = surface.service().read(request, call.trace.clone()).await;
    call.quorum = Some(asked.took(surface));
    call.store = read.as_ref().ok().and_then(|read| read.store);
    let read = read.map_err(|failure| objects::failed(failure, &asked, objects::Write::No))?;
    answer(&asked, &read, surface.service().wall_us(), &shape, &known)
}

/// A condition of writes: a reader that has a version already says so with `If-None-Match`.
fn refuse_if_match(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(IF_MATCH) {
        Some(value) => {
            Err(Problem::parameter("If-Match", &String::from_utf8_lossy(value.as_bytes()), "on PUT and DELETE only"))
        }
        None => Ok(()),
    }
}

fn answer(asked: &Asked, read: &ReadAnswer, now_us: u64, shape: &Shape, known: &Unchanged<'_>) -> Answer {
    let live: SmallVec<[&Sibling; 4]> = read.object.shown(now_us, asked.bucket.conflict).collect();
    let Some(etag) = ETag::of(live.iter().map(|sibling| sibling.dot)) else {
        return Err(missing(asked, read));
    };
    let token = |context: &CausalContext| asked.tokens.seal(&asked.key, context);
    let (etag, response, token) = match (shape, live.as_slice()) {
        (Shape::Version(wanted), several) => {
            let one = named(wanted, several).ok_or_else(|| no_such_version(wanted, several, read))?;
            let context = if several.len() == 1 { read.object.context.clone() } else { covering(one) };
            (wanted.clone(), value(one, known.is(wanted.as_str())), token(&context))
        }
        (Shape::Value(_), [one]) => {
            let response = value(one, known.is(etag.as_str()));
            (etag, response, token(&read.object.context))
        }
        (Shape::Value(None), several) => {
            return Err(conflict(&etag, token(&read.object.context), several, read));
        }
        (Shape::List(form) | Shape::Value(Some(form)), all) => {
            let token = token(&read.object.context);
            let response = if known.is(etag.as_str()) { not_modified() } else { list(*form, &etag, &token, all) };
            (etag, response, token)
        }
    };
    Ok(finished(response, &etag, token, live.len(), read))
}

/// What all successes have.
fn finished(
    mut response: Response<Full<Bytes>>,
    etag: &ETag,
    token: String,
    versions: usize,
    read: &ReadAnswer,
) -> Response<Full<Bytes>> {
    if versions > 1 {
        response.headers_mut().insert(SIBLINGS, HeaderValue::from(versions));
    }
    objects::counted(&mut response, read.acks, read.n, read.sloppy);
    response.headers_mut().extend([objects::quoted(etag.as_str())]);
    response.headers_mut().insert(CONTEXT, objects::header_text(token));
    response
}

fn named<'a>(wanted: &ETag, live: &[&'a Sibling]) -> Option<&'a Sibling> {
    live.iter().copied().find(|sibling| ETag::of([sibling.dot]).as_ref() == Some(wanted))
}

/// Of one among several: a client that writes with this replaces the version it has seen and none of the others.
fn covering(sibling: &Sibling) -> CausalContext {
    let mut context = CausalContext::default();
    context.insert(sibling.dot);
    context
}

fn no_such_version(wanted: &ETag, live: &[&Sibling], read: &ReadAnswer) -> Problem {
    let names: Vec<String> = live.iter().take(NAMED_MAX).map(|sibling| siblings::etag(sibling)).collect();
    let more = if live.len() > NAMED_MAX { ", …" } else { "" };
    let detail = format!("{wanted} is not among the {} versions of this key", live.len());
    let allowed = format!("{}{more}", names.join(", "));
    counted(Problem::new(Kind::NoSuchVersion, detail).naming("sibling", wanted.as_str()).allowing(allowed), read)
}

/// Most versions that an error names.
const NAMED_MAX: usize = 10;

fn counted(problem: Problem, read: &ReadAnswer) -> Problem {
    let acks = objects::acks(read.acks, read.n);
    problem.header(objects::ACKS, acks).header(objects::QUORUM, objects::kind(read.sloppy))
}

/// 404; with a context where a delete is remembered, so that a new value can say what it follows.
fn missing(asked: &Asked, read: &ReadAnswer) -> Problem {
    if read.object == Object::default() {
        let problem = Problem::new(Kind::NoSuchKey, "nothing was ever stored under this key, or nothing is left of it");
        return counted(problem, read);
    }
    let token = asked.tokens.seal(&asked.key, &read.object.context);
    counted(Problem::new(Kind::Deleted, "the value was deleted or has expired"), read)
        .header(DELETED, HeaderValue::from_static("true"))
        .header(CONTEXT, objects::header_text(token))
}

/// 409, so that a script that knows nothing of siblings stops instead of taking one at random.
fn conflict(etag: &ETag, token: String, live: &[&Sibling], read: &ReadAnswer) -> Problem {
    let members = siblings::list_members(&token, live.iter().copied());
    let detail = format!("{} versions were written concurrently; PUT one value with this context", live.len());
    let (name, value) = objects::quoted(etag.as_str());
    counted(Problem::new(Kind::Siblings, detail).raw_members(&members), read)
        .header(name, value)
        .header(SIBLINGS, HeaderValue::from(live.len()))
        .header(CONTEXT, objects::header_text(token))
}

fn list(form: Form, etag: &ETag, token: &str, live: &[&Sibling]) -> Response<Full<Bytes>> {
    let (content_type, body) = match form {
        Form::Json => (HeaderValue::from_static(siblings::LIST_TYPE), siblings::list(token, live.iter().copied())),
        Form::Multipart => {
            let Multipart { content_type, body } = multipart::list(etag, live);
            (objects::header_text(content_type), body)
        }
    };
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Room for every header of a usual answer, so that the map does not grow on the way.
const HEADERS_USUAL: usize = 12;

/// One version as it was stored, or 304.
pub(crate) fn value(sibling: &Sibling, unchanged: bool) -> Response<Full<Bytes>> {
    let mut response = match &sibling.value {
        Some(value) if !unchanged => Response::new(Full::new(value.clone())),
        _ => not_modified(),
    };
    let headers = response.headers_mut();
    headers.reserve(HEADERS_USUAL);
    match unchanged {
        true => say_times(headers, sibling),
        false => describe(headers, sibling),
    }
    response
}

fn not_modified() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
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
    fn what_the_client_has_is_not_sent_again() {
        use rondo_storage::versions::{ActorId, Dot, Metadata};
        let dot = Dot { actor: ActorId(1), counter: 1 };
        let sibling = Sibling { dot, value: Some(Bytes::from_static(b"v")), metadata: Metadata::default() };
        assert_eq!(value(&sibling, false).headers()[CONTENT_TYPE], siblings::DEFAULT_TYPE);
        let unchanged = value(&sibling, true);
        assert_eq!(unchanged.status(), StatusCode::NOT_MODIFIED);
        assert!(!unchanged.headers().contains_key(CONTENT_TYPE) && unchanged.headers().contains_key("last-modified"));
    }
}
