//! `GET /v1/kv/{bucket}`: the keys of a bucket, a page of them or all in a stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body_util::{Either, Full};
use rondo_coordinator::{Failure, ListAnswer, ListItem, ListRequest, Trace};
use rondo_storage::Key;
use serde::Serialize;

use crate::http::admission::Listing as Admitted;
use crate::http::call::Call;
use crate::http::params::{self, Choices, RondoHeaders};
use crate::http::problem::{Kind, Problem};
use crate::http::query::{Known, Query};
use crate::http::siblings::rfc3339;
use crate::http::stream::{self, NDJSON, Pieces};
use crate::http::surface::{Body, Surface};
use crate::http::{cursor, objects, shape};

const KNOWN: Known = Known { values: &["prefix", "limit", "cursor", "r", "quorum", "timeout"], flags: &[] };
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;
/// Keys of a stream that are looked for, and held, at once.
const STREAM_PAGE: usize = 1_000;

/// One listing, as far as its pages are alike.
struct Asked {
    bucket: String,
    prefix: String,
    after: Option<String>,
    limit: Option<usize>,
    choices: Choices,
    /// Goes with every page's questions to the peers.
    trace: Option<Arc<Trace>>,
}

/// What a client is shown of a key.
#[derive(Serialize)]
struct Item<'a> {
    key: &'a str,
    etag: &'a str,
    siblings: usize,
    bytes: u64,
    modified: String,
}

#[derive(Serialize)]
struct Page<'a> {
    items: Vec<Item<'a>>,
    next: Option<String>,
}

/// The last line of a stream.
#[derive(Serialize)]
struct End {
    end: bool,
    count: usize,
    /// Where it goes on, if a limit ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl<'a> Item<'a> {
    fn of(item: &'a ListItem) -> Self {
        let ListItem { key, etag, siblings, bytes, modified_us } = item;
        Self { key, etag: etag.as_str(), siblings: *siblings, bytes: *bytes, modified: rfc3339(*modified_us) }
    }
}

/// Whether the rest of an object's path names a bucket and no key, and its keys are asked for.
pub(crate) fn is_asked(method: &Method, rest: &str) -> bool {
    !rest.contains('/') && matches!(*method, Method::GET | Method::HEAD)
}

/// The first page decides the status; a stream goes on from there.
pub(crate) async fn answer(
    surface: &Arc<Surface>,
    bucket: String,
    parts: &Parts,
    id: &str,
    call: &mut Call,
) -> Result<Response<Body>, Problem> {
    let admitted = surface.admission().admit_listing()?;
    let asked = Asked::read(surface, bucket, parts, call.trace.clone())?;
    let as_lines = accepts_lines(&parts.headers);
    let began = surface.service().now();
    let first = asked.page(surface, asked.after.clone(), asked.page_limit(as_lines, 0)).await;
    call.quorum = Some(surface.service().now().saturating_sub(began));
    let first = first?;
    let mut response = match as_lines {
        false => asked.json(&first),
        true => {
            let (pieces, response) = stream::lines();
            if parts.method == Method::GET {
                tokio::spawn(asked.stream(surface.clone(), first, pieces, id.to_owned(), admitted));
            }
            response
        }
    };
    response.headers_mut().insert(objects::QUORUM, HeaderValue::from_static("strict"));
    Ok(response)
}

fn accepts_lines(headers: &HeaderMap) -> bool {
    shape::ranges(headers).any(|(essence, weight)| weight > 0 && essence.eq_ignore_ascii_case(NDJSON))
}

impl Asked {
    fn read(surface: &Surface, bucket: String, parts: &Parts, trace: Option<Arc<Trace>>) -> Result<Self, Problem> {
        let query = Query::parse(parts.uri.query(), &KNOWN)?;
        params::refuse_metadata(&parts.headers)?;
        let headers = RondoHeaders::read(&parts.headers)?.of_listing()?;
        let choices = headers.choices(&query, &surface.service().bucket(&bucket), surface.limits())?;
        let prefix = query.get("prefix").unwrap_or_default().to_owned();
        if prefix.len() > Key::KEY_BYTES_MAX {
            return Err(Problem::parameter("prefix", &prefix, "1 to 1,024 bytes"));
        }
        let limit = query.get("limit").map(limit).transpose()?;
        let place = |text: &str| {
            let allowed = "the `next` of an earlier page of the same bucket and prefix";
            cursor::open(&bucket, &prefix, text).ok_or_else(|| Problem::parameter("cursor", text, allowed))
        };
        let after = query.get("cursor").map(place).transpose()?;
        surface.view()?;
        Ok(Self { bucket, prefix, after, limit, choices, trace })
    }

    /// How many keys the next page may have, when there are `count` already.
    fn page_limit(&self, as_lines: bool, count: usize) -> usize {
        match (as_lines, self.limit) {
            (false, limit) => limit.unwrap_or(LIMIT_DEFAULT),
            (true, None) => STREAM_PAGE,
            (true, Some(limit)) => STREAM_PAGE.min(limit - count),
        }
    }

    async fn page(&self, surface: &Surface, after: Option<String>, limit: usize) -> Result<ListAnswer, Problem> {
        let service = surface.service();
        let bucket = service.bucket(&self.bucket);
        let request = ListRequest {
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            after,
            limit,
            n: bucket.n,
            r: self.choices.r,
            conflict: bucket.conflict,
            now_us: service.wall_us(),
            deadline: service.now() + self.choices.timeout,
        };
        service.list(request, self.trace.clone()).await.map_err(|failure| failed(&failure, self.choices.timeout))
    }

    fn json(&self, page: &ListAnswer) -> Response<Body> {
        let next = page.next.as_ref().map(|key| self.cursor(key));
        let mut body = Vec::with_capacity(128 * page.items.len());
        push(&mut body, &Page { items: page.items.iter().map(Item::of).collect(), next });
        let mut response = Response::new(Either::Left(Full::new(Bytes::from(body))));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// Every page is looked for while the client takes the one before. Ends when the client has gone.
    async fn stream(self, surface: Arc<Surface>, mut page: ListAnswer, pieces: Pieces, id: String, _one: Admitted) {
        let mut count = 0;
        loop {
            count += page.items.len();
            let mut lines = Vec::with_capacity(128 * page.items.len());
            page.items.iter().for_each(|item| push(&mut lines, &Item::of(item)));
            let full = self.limit.is_some_and(|limit| count >= limit);
            let next = match page.next {
                Some(next) if !full => next,
                next => {
                    let next = next.map(|key| self.cursor(&key));
                    push(&mut lines, &End { end: true, count, next });
                    // The client may have gone; there is nobody else to tell.
                    return drop(pieces.send(lines.into()).await);
                }
            };
            if pieces.send(lines.into()).await.is_err() {
                return;
            }
            page = match self.page(&surface, Some(next), self.page_limit(true, count)).await {
                Ok(page) => page,
                Err(problem) => {
                    let line = [br#"{"error":"#, &problem.json(&id)[..], b"}\n"].concat();
                    return drop(pieces.send(line.into()).await);
                }
            };
        }
    }

    fn cursor(&self, key: &str) -> String {
        cursor::seal(&self.bucket, &self.prefix, key)
    }
}

/// A line of JSON.
fn push(out: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *out, line).expect("texts and numbers are always JSON");
    out.push(b'\n');
}

fn limit(text: &str) -> Result<usize, Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok().filter(|limit| digits && (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| Problem::parameter("limit", text, "1 to 10000"))
}

fn failed(failure: &Failure, timeout: Duration) -> Problem {
    match *failure {
        Failure::Unavailable { required, acked, n, .. } => {
            let detail = format!("of some keys {acked} of the {required} owners needed have answered, others cannot");
            Problem::new(Kind::Unavailable, detail).counting(required, acked, n)
        }
        Failure::TimedOut { required, acked, n, .. } => {
            let after = timeout.as_millis();
            let detail =
                format!("after {after} ms, of some keys {acked} of the {required} owners needed have answered");
            Problem::new(Kind::TimedOut, detail).counting(required, acked, n)
        }
        _ => Problem::new(Kind::Busy, "too much is in work; nothing was begun"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::ACCEPT;

    #[test]
    fn lines_are_given_to_whom_they_are_asked_by() {
        let accepts = |value: &'static str| {
            accepts_lines(&[(ACCEPT, HeaderValue::from_static(value))].into_iter().collect::<HeaderMap>())
        };
        assert!(accepts("application/x-ndjson") && accepts("text/html, Application/X-NDJSON; q=0.5"));
        assert!(!accepts("*/*") && !accepts("application/json") && !accepts("application/x-ndjson;q=0"));
    }

    #[test]
    fn limits_are_digits_in_their_range() {
        assert_eq!((limit("1").unwrap(), limit("10000").unwrap()), (1, 10_000));
        for bad in ["0", "10001", "-1", "+1", "1e3", "x", "99999999999999999999"] {
            assert_eq!(limit(bad).unwrap_err().kind(), Kind::BadParameter, "{bad}");
        }
    }
}
