//! What PUT, GET, DELETE and POST on `/v1/kv` have in common.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ETAG, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use rondo_coordinator::{Bucket, Failure, Now, Outcome};
use rondo_storage::Key;
use rondo_storage::versions::{CausalContext, ContextTokens, ETag};
use tokio::time::Instant;

use crate::http::call::Call;
use crate::http::params::{Choices, RondoHeaders};
use crate::http::path::{self, Named};
use crate::http::problem::{Kind, Problem};
use crate::http::query::Query;
use crate::http::surface::Surface;
use crate::http::{body, objects_delete, objects_get, objects_put, request_id};

pub(crate) const ACKS: HeaderName = HeaderName::from_static("rondo-acks");
pub(crate) const CONTEXT: HeaderName = HeaderName::from_static("rondo-context");
pub(crate) const DELETED: HeaderName = HeaderName::from_static("rondo-deleted");
pub(crate) const HINTED: HeaderName = HeaderName::from_static("rondo-hinted");
pub(crate) const EXPIRES: HeaderName = HeaderName::from_static("rondo-expires");
pub(crate) const QUORUM: HeaderName = HeaderName::from_static("rondo-quorum");
pub(crate) const SIBLINGS: HeaderName = HeaderName::from_static("rondo-siblings");

/// The answers of the fast path.
pub(crate) type Answer = Result<Response<Full<Bytes>>, Problem>;

/// An object request, as far as all of them are alike: named, allowed, and with its choices made.
pub(crate) struct Asked {
    pub(crate) key: Key,
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) tokens: Arc<ContextTokens>,
    pub(crate) choices: Choices,
    pub(crate) context: Option<CausalContext>,
    /// Of a write: its name, where the client gave it one.
    pub(crate) write_id: Option<NonZeroU64>,
    /// When the time is up, by the coordinator's clock and by the runtime's.
    pub(crate) deadline: Now,
    pub(crate) deadline_at: Instant,
}

impl Asked {
    /// Checks everything that can be checked before a body is read.
    pub(crate) fn new(surface: &Surface, key: Key, parts: &Parts, query: &Query<'_>) -> Result<Self, Problem> {
        let headers = RondoHeaders::read(&parts.headers)?;
        let bucket = surface.service().bucket(key.bucket());
        if !matches!(parts.method, Method::PUT | Method::POST) {
            headers.refuse_ttl()?;
        }
        let choices = headers.choices(query, &bucket, surface.limits())?;
        // Before the cluster is found nothing is begun: an owner that is starting is not one that is busy.
        let write = !matches!(parts.method, Method::GET | Method::HEAD);
        let nothing_begun = |problem: Problem| if write { problem.outcome(Outcome::NotApplied) } else { problem };
        surface.view().map_err(nothing_begun)?;
        let tokens = surface.tokens()?;
        let context = headers.context.map(|token| opened(&tokens, &key, token)).transpose()?;
        let write_id = request_id::idempotency(&parts.headers)?;
        let (deadline, deadline_at) = (surface.service().now() + choices.timeout, Instant::now() + choices.timeout);
        Ok(Self { key, bucket, tokens, choices, context, write_id, deadline, deadline_at })
    }

    /// How long ago it was asked for.
    pub(crate) fn took(&self, surface: &Surface) -> Duration {
        (surface.service().now() + self.choices.timeout).saturating_sub(self.deadline)
    }
}

fn opened(tokens: &ContextTokens, key: &Key, token: &str) -> Result<CausalContext, Problem> {
    tokens.open(key, token).map_err(|error| {
        let shown: String = token.chars().take(100).collect();
        let detail = format!("Rondo-Context: {error}");
        Problem::new(Kind::BadContext, detail).naming("Rondo-Context", &shown).allowing("one of this key's answers")
    })
}

/// Everything under `/v1/kv/`; `rest` is what follows.
pub(crate) async fn answer(surface: &Surface, parts: Parts, mut incoming: Incoming, call: &mut Call) -> Answer {
    let rest = parts.uri.path().strip_prefix(super::surface::OBJECTS).unwrap_or_default();
    let answer = match path::parse(rest) {
        Err(problem) => Err(problem),
        Ok(Named::Bucket(bucket)) => match parts.method {
            Method::POST => objects_put::post(surface, &bucket, &parts, &mut incoming, call).await,
            _ => Err(not_allowed("GET, HEAD, POST")),
        },
        Ok(Named::Object(key)) => match parts.method {
            Method::GET | Method::HEAD => objects_get::get(surface, key, &parts, call).await,
            Method::PUT => objects_put::put(surface, key, &parts, &mut incoming, call).await,
            Method::DELETE => objects_delete::delete(surface, key, &parts, call).await,
            _ => Err(not_allowed("GET, HEAD, PUT, DELETE")),
        },
    };
    // A body that did not come in time is cut; what a refused client is sending already is read on.
    if answer.as_ref().is_err_and(|problem| !matches!(problem.kind(), Kind::TimedOut | Kind::BodyStalled)) {
        body::drain(incoming, parts.headers.contains_key(http::header::EXPECT));
    }
    answer
}

/// 405 with what is allowed.
pub(crate) fn not_allowed(methods: &'static str) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("this path takes {methods}")).allow(methods)
}

/// What a failed request is answered with. `write`: whether an outcome is to be told.
pub(crate) fn failed(failure: Failure, asked: &Asked, write: Write) -> Problem {
    let telling = |problem: Problem, outcome| if write == Write::Yes { problem.outcome(outcome) } else { problem };
    match failure {
        Failure::Unavailable { required, acked, n, outcome } => {
            let detail = format!("{acked} of the {required} owners needed have answered, the others cannot be reached");
            telling(Problem::new(Kind::Unavailable, detail).counting(required, acked, n), outcome)
        }
        Failure::TimedOut { required, acked, n, outcome } => {
            let shown = shown_duration(asked.choices.timeout);
            let detail = format!("after {shown}, {acked} of the {required} owners needed have answered");
            telling(Problem::new(Kind::TimedOut, detail).counting(required, acked, n), outcome)
        }
        Failure::ContextNotReached => {
            Problem::new(Kind::ContextNotReached, "no owner that can be reached has the write that Rondo-Context names")
        }
        Failure::TooManySiblings { count, max, context } => too_many_siblings(count, max, &context, asked),
        Failure::ConditionFailed { etag, context } => condition_failed(etag.as_ref(), &context, asked),
        Failure::LowDisk => telling(
            Problem::new(Kind::LowDisk, "this node's disk is nearly full; nothing was written, reads go on"),
            Outcome::NotApplied,
        ),
        Failure::Busy => {
            telling(Problem::new(Kind::Busy, "too much is in work; nothing was begun"), Outcome::NotApplied)
        }
    }
}

/// Whether a request changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Yes,
    No,
}

fn too_many_siblings(count: u32, max: u16, context: &CausalContext, asked: &Asked) -> Problem {
    let token = asked.tokens.seal(&asked.key, context);
    let detail =
        format!("{count} versions would remain and {max} are allowed; write with this context to resolve them");
    Problem::new(Kind::TooManySiblings, detail).member("context", &token).header(CONTEXT, header_text(token))
}

/// 412 with what the next attempt needs: what is there, in headers and body.
fn condition_failed(etag: Option<&ETag>, context: &CausalContext, asked: &Asked) -> Problem {
    let token = asked.tokens.seal(&asked.key, context);
    let detail = match etag {
        Some(_) => "what is there has another ETag; read it, or write with its ETag or context",
        None => "nothing is there",
    };
    let problem = Problem::new(Kind::ConditionFailed, detail).member("etag", &etag.map(ETag::as_str));
    let problem = problem.member("context", &token).header(CONTEXT, header_text(token));
    match etag.map(|etag| quoted(etag.as_str())) {
        Some((name, value)) => problem.header(name, value),
        None => problem,
    }
}

fn shown_duration(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

/// Text made here: numbers, hex and base64.
pub(crate) fn header_text(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("what is made here is visible ASCII")
}

/// `2/3`.
pub(crate) fn acks(acks: u8, n: u8) -> HeaderValue {
    match (acks, n) {
        (0..=9, 0..=9) => HeaderValue::from_bytes(&[b'0' + acks, b'/', b'0' + n]).expect("two digits and a slash"),
        _ => header_text(format!("{acks}/{n}")),
    }
}

/// The headers that every answered object request has.
pub(crate) fn counted(response: &mut Response<Full<Bytes>>, acked: u8, n: u8, sloppy: bool) {
    response.headers_mut().insert(ACKS, acks(acked, n));
    response.headers_mut().insert(QUORUM, kind(sloppy));
}

/// Whether a node that is no owner was counted.
pub(crate) fn kind(sloppy: bool) -> HeaderValue {
    HeaderValue::from_static(if sloppy { "sloppy" } else { "strict" })
}

/// An ETag with its quotes.
pub(crate) fn quoted(etag: &str) -> (HeaderName, HeaderValue) {
    (ETAG, header_text(format!("\"{etag}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_are_a_fraction() {
        assert_eq!(acks(2, 3), "2/3");
        assert_eq!(acks(0, 7), "0/7");
        assert_eq!(acks(10, 3), "10/3");
    }

    #[test]
    fn an_etag_is_quoted() {
        assert_eq!(quoted("a-1"), (ETAG, HeaderValue::from_static("\"a-1\"")));
    }
}
