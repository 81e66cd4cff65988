//! PUT, and POST with a key that this node chooses.

use std::num::NonZeroU64;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use rondo_coordinator::WriteAnswer;
use rondo_coordinator::put::{Origin, WriteRequest};
use rondo_storage::Key;
use rondo_storage::store::{Change, Condition};
use rondo_storage::versions::{ETag, Metadata, Sibling};
use smallvec::SmallVec;

use crate::http::body::{self, BodyLimits, Upload};
use crate::http::call::Call;
use crate::http::conditions::{self, PREFERENCE_APPLIED, REPRESENTATION, Returns};
use crate::http::objects::{self, Answer, Asked, CONTEXT, HINTED, SIBLINGS};
use crate::http::objects_get;
use crate::http::params;
use crate::http::path;
use crate::http::problem::{Kind, Problem};
use crate::http::query::{Known, Query};
use crate::http::surface::Surface;

const KNOWN: Known = Known { values: &["r", "w", "quorum", "timeout", "ttl"], flags: &[] };

/// Most user metadata of one value.
const META_FIELDS_MAX: usize = 32;
const META_BYTES_MAX: usize = 4 << 10;
/// Longest `Content-Type` or `Content-Encoding`.
const TYPE_BYTES_MAX: usize = 1 << 10;

/// `PUT /v1/kv/{bucket}/{key...}`
pub(crate) async fn put<B: Upload>(
    surface: &Surface,
    key: Key,
    parts: &Parts,
    incoming: &mut B,
    call: &mut Call,
) -> Answer {
    let condition = conditions::of_put(&parts.headers)?;
    let put = write(surface, key, parts, incoming, condition, call).await?;
    let (code, response) = match &put.representation {
        Some(stored) => (StatusCode::OK, represented(stored)),
        None => (StatusCode::NO_CONTENT, empty()),
    };
    Ok(answer(code, response, &put))
}

/// `POST /v1/kv/{bucket}`: keys begin with the time, so that they list in the order of their making.
pub(crate) async fn post(
    surface: &Surface,
    bucket: &str,
    parts: &Parts,
    incoming: &mut Incoming,
    call: &mut Call,
) -> Answer {
    let chosen = format!("{:014x}{:016x}", surface.service().wall_us(), surface.ids().number());
    let key = Key::new(bucket, &chosen).map_err(path::refused)?;
    conditions::refuse_any(&parts.headers)?;
    let put = write(surface, key, parts, incoming, None, call).await?;
    let response = put.representation.as_ref().map_or_else(empty, represented);
    let mut response = answer(StatusCode::CREATED, response, &put);
    let location = format!("{}{bucket}/{chosen}", super::surface::OBJECTS);
    response.headers_mut().insert(LOCATION, objects::header_text(location));
    Ok(response)
}

/// A write that succeeded.
struct Put {
    asked: Asked,
    written: WriteAnswer,
    /// What was stored, where the client wants to see it.
    representation: Option<Sibling>,
}

async fn write<B: Upload>(
    surface: &Surface,
    key: Key,
    parts: &Parts,
    incoming: &mut B,
    condition: Option<Condition>,
    call: &mut Call,
) -> Result<Put, Problem> {
    let _admitted = surface.admission().admit()?;
    let query = Query::parse(parts.uri.query(), &KNOWN)?;
    let asked = Asked::new(surface, key, parts, &query)?;
    let metadata = metadata(&parts.headers)?;
    let mut held = surface.admission().hold();
    let limits = BodyLimits {
        bytes_max: surface.limits().value_bytes as usize,
        deadline: asked.deadline_at,
        stall: surface.limits().body_stall(),
    };
    let value = body::collect(incoming, limits, &mut held).await;
    call.body = Some(asked.took(surface));
    let value = value?;
    let wanted = (Returns::read(&parts.headers) == Returns::Representation).then(|| (value.clone(), metadata.clone()));
    let written = carry_out(surface, &asked, Writing { value: Some(value), metadata, condition }, call).await?;
    let representation = wanted.map(|(value, metadata)| stored(value, metadata, &written));
    Ok(Put { asked, written, representation })
}

fn stored(value: Bytes, metadata: Metadata, written: &WriteAnswer) -> Sibling {
    let WriteAnswer { dot, modified_us, expires_us, .. } = *written;
    Sibling { dot, value: Some(value), metadata: Metadata { modified_us, expires_us, ..metadata } }
}

/// What a write brings.
pub(crate) struct Writing {
    /// `None`: a delete.
    pub(crate) value: Option<Bytes>,
    pub(crate) metadata: Metadata,
    pub(crate) condition: Option<Condition>,
}

/// Hands a write or (without a value) a delete to the coordinator.
pub(crate) async fn carry_out(
    surface: &Surface,
    asked: &Asked,
    writing: Writing,
    call: &mut Call,
) -> Result<WriteAnswer, Problem> {
    let Writing { value, mut metadata, condition } = writing;
    let bucket = &asked.bucket;
    metadata.write_id = asked.write_id.map_or(0, NonZeroU64::get);
    let change = Change {
        context: asked.context.clone(),
        blind: bucket.blind_put,
        conflict: bucket.conflict,
        condition,
        value,
        metadata,
        ttl: asked.choices.ttl,
        siblings_max: bucket.max_siblings,
        durability: bucket.durability,
    };
    let request = WriteRequest {
        key: asked.key.clone(),
        change,
        n: bucket.n,
        w: asked.choices.w,
        quorum: asked.choices.quorum,
        deadline: asked.deadline,
        origin: Origin::Client { write_id: asked.write_id.unwrap_or_else(|| surface.ids().write_id()) },
    };
    let before = asked.took(surface);
    let written = surface.service().write(request, call.trace.clone()).await;
    call.quorum = Some(asked.took(surface).saturating_sub(before));
    written.map_err(|failure| objects::failed(failure, asked, objects::Write::Yes))
}

fn answer(status: StatusCode, mut response: Response<Full<Bytes>>, put: &Put) -> Response<Full<Bytes>> {
    let written = &put.written;
    acknowledge(&mut response, &put.asked, written);
    *response.status_mut() = status;
    if let Some(etag) = ETag::of([written.dot]) {
        response.headers_mut().extend([objects::quoted(etag.as_str())]);
    }
    if written.siblings > 1 {
        response.headers_mut().insert(SIBLINGS, HeaderValue::from(written.siblings));
    }
    response
}

/// 204 without headers.
pub(crate) fn empty() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn represented(stored: &Sibling) -> Response<Full<Bytes>> {
    let mut response = objects_get::value(stored, false);
    response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static(REPRESENTATION));
    response
}

/// The headers that PUT and DELETE have alike.
pub(crate) fn acknowledge(response: &mut Response<Full<Bytes>>, asked: &Asked, written: &WriteAnswer) {
    objects::counted(response, written.acks, written.n, written.sloppy);
    if written.hinted > 0 {
        response.headers_mut().insert(HINTED, HeaderValue::from(u16::from(written.hinted)));
    }
    let token = asked.tokens.seal(&asked.key, &written.context);
    response.headers_mut().insert(CONTEXT, objects::header_text(token));
}

fn metadata(headers: &HeaderMap) -> Result<Metadata, Problem> {
    let content_type = bounded(headers, &CONTENT_TYPE)?;
    let content_encoding = bounded(headers, &CONTENT_ENCODING)?;
    Ok(Metadata { content_type, content_encoding, user: user_metadata(headers)?, ..Metadata::default() })
}

fn bounded(headers: &HeaderMap, name: &HeaderName) -> Result<Bytes, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(Bytes::new()) };
    let problem =
        |allowed: &str| Problem::parameter(&params::title(name), &String::from_utf8_lossy(value.as_bytes()), allowed);
    match value.as_bytes() {
        _ if values.next().is_some() => Err(problem("one header of this name")),
        long if long.len() > TYPE_BYTES_MAX => Err(problem("up to 1,024 bytes")),
        b"application/json" => Ok(Bytes::from_static(b"application/json")),
        other => Ok(Bytes::copy_from_slice(other)),
    }
}

/// `Rondo-Meta-…`, sorted by name.
fn user_metadata(headers: &HeaderMap) -> Result<SmallVec<[(Bytes, Bytes); 0]>, Problem> {
    let mut user = SmallVec::new();
    let mut bytes = 0;
    for (name, value) in headers {
        let Some(short) = name.as_str().strip_prefix("rondo-meta-") else { continue };
        if short.is_empty() {
            return Err(Problem::parameter("Rondo-Meta-", "", "a name after the last dash"));
        }
        bytes += short.len() + value.len();
        user.push((Bytes::copy_from_slice(short.as_bytes()), Bytes::copy_from_slice(value.as_bytes())));
    }
    if user.len() > META_FIELDS_MAX || bytes > META_BYTES_MAX {
        let detail = format!("{} Rondo-Meta-… headers with {bytes} bytes of names and values", user.len());
        let allowed = format!("{META_FIELDS_MAX} headers with {META_BYTES_MAX} bytes of names and values");
        return Err(Problem::new(Kind::TooMuchMetadata, detail).naming("Rondo-Meta-…", "").allowing(allowed));
    }
    user.sort();
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn metadata_is_kept_as_sent_and_sorted() {
        let sent = headers(&[
            ("content-type", "text/plain; charset=latin1"),
            ("content-encoding", "gzip"),
            ("rondo-meta-b", "2"),
            ("rondo-meta-a", "1"),
        ]);
        let kept = metadata(&sent).unwrap();
        assert_eq!(
            (&kept.content_type[..], &kept.content_encoding[..]),
            (&b"text/plain; charset=latin1"[..], &b"gzip"[..])
        );
        let names: Vec<_> = kept.user.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        assert_eq!(names, [(&b"a"[..], &b"1"[..]), (b"b", b"2")]);
        assert_eq!(metadata(&HeaderMap::new()).unwrap(), Metadata::default());
    }

    #[test]
    fn too_much_metadata_is_refused() {
        let names: Vec<String> = (0..33).map(|i| format!("rondo-meta-{i}")).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
        assert!(metadata(&headers(&pairs[..32])).is_ok());
        assert_eq!(metadata(&headers(&pairs)).unwrap_err().kind(), Kind::TooMuchMetadata);
        let full = "x".repeat(META_BYTES_MAX - 1);
        assert!(metadata(&headers(&[("rondo-meta-a", &full)])).is_ok());
        let more = "x".repeat(META_BYTES_MAX);
        assert_eq!(metadata(&headers(&[("rondo-meta-a", &more)])).unwrap_err().kind(), Kind::TooMuchMetadata);
        assert_eq!(metadata(&headers(&[("rondo-meta-", "x")])).unwrap_err().kind(), Kind::BadParameter);
    }

    #[test]
    fn types_are_bounded_and_single() {
        let long = "x".repeat(TYPE_BYTES_MAX + 1);
        assert_eq!(metadata(&headers(&[("content-type", &long)])).unwrap_err().kind(), Kind::BadParameter);
        let twice = headers(&[("content-type", "a/b"), ("content-type", "a/b")]);
        assert_eq!(metadata(&twice).unwrap_err().kind(), Kind::BadParameter);
    }
}
