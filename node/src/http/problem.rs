//! Every error answer: `application/problem+json` (RFC 9457).

use std::fmt;

use axum::response::IntoResponse;
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use rondo_coordinator::Outcome;
use serde::Serialize;
use smallvec::SmallVec;

/// What kind of error. Its name is the end of the problem's `type`; scripts may rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BadRequest,
    BadParameter,
    BadContext,
    LaterRoute,
    NoSuchKey,
    Deleted,
    NoSuchVersion,
    NoSuchRoute,
    MethodNotAllowed,
    BodyStalled,
    Siblings,
    TooManySiblings,
    TooManyBuckets,
    ConditionFailed,
    ValueTooLarge,
    UriTooLong,
    MediaType,
    ExpectationFailed,
    HeadTooLarge,
    TooMuchMetadata,
    Busy,
    Unavailable,
    ContextNotReached,
    NotReady,
    NotStored,
    TimedOut,
    LowDisk,
}

impl Kind {
    /// Status, end of the `type`, title.
    pub(crate) fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BadRequest => (400, "bad-request", "The request is malformed"),
            Self::BadParameter => (400, "bad-parameter", "A header or parameter is not allowed as it was sent"),
            Self::BadContext => (400, "bad-context", "The context is not one of this key"),
            Self::LaterRoute => (501, "not-in-this-release", "This release does not have what was asked for"),
            Self::NoSuchKey => (404, "no-such-key", "There is no value under this key"),
            Self::Deleted => (404, "deleted", "The value under this key was deleted"),
            Self::NoSuchVersion => (404, "no-such-version", "The key has no such version"),
            Self::NoSuchRoute => (404, "no-such-route", "There is no such path"),
            Self::MethodNotAllowed => (405, "method-not-allowed", "The path does not take this method"),
            Self::BodyStalled => (408, "body-stalled", "The body did not come"),
            Self::Siblings => (409, "siblings", "The key has several versions"),
            Self::TooManySiblings => (409, "too-many-siblings", "The key would have too many versions"),
            Self::TooManyBuckets => (409, "too-many-buckets", "Too many buckets have properties"),
            Self::ConditionFailed => (412, "condition-failed", "What is there is not what the condition says"),
            Self::ValueTooLarge => (413, "too-large", "The body is too large"),
            Self::UriTooLong => (414, "key-too-long", "The key or path is too long"),
            Self::MediaType => (415, "media-type", "The body is of the wrong type"),
            Self::ExpectationFailed => (417, "expectation-failed", "The expectation cannot be met"),
            Self::HeadTooLarge => (431, "head-too-large", "The request's head is too large"),
            Self::TooMuchMetadata => (431, "too-much-metadata", "There is too much metadata"),
            Self::Busy => (429, "busy", "Too much is in work"),
            Self::Unavailable => (503, "quorum-unavailable", "Not enough of the key's owners can be reached"),
            Self::ContextNotReached => (503, "context-not-reached", "No reachable owner has what the context names"),
            Self::NotReady => (503, "not-ready", "The node is not ready"),
            Self::NotStored => (503, "not-stored", "The change could not be stored"),
            Self::TimedOut => (504, "timed-out", "The deadline passed"),
            Self::LowDisk => (507, "low-disk", "The disk is nearly full"),
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        StatusCode::from_u16(self.parts().0).expect("the codes of the table are from 100 to 999")
    }

    /// Whether the same request may succeed later, or at another node, unchanged.
    fn is_retryable(self) -> bool {
        matches!(self.parts().0, 408 | 429 | 503 | 504 | 507)
    }
}

/// An error answer in the making. Boxed: it travels in the `Err` of every handler.
#[derive(Clone)]
pub(crate) struct Problem(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    members: Members,
    headers: SmallVec<[(HeaderName, HeaderValue); 4]>,
    /// JSON members to append as they are, each with a comma before it.
    tail: Vec<u8>,
}

#[derive(Clone, Default, Serialize)]
struct Members {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    required: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acked: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<String>,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (status, name, title) = kind.parts();
        let members = Members {
            kind: format!("urn:rondo:problem:{name}"),
            title,
            status,
            detail: detail.into(),
            retryable: kind.is_retryable(),
            ..Members::default()
        };
        let mut problem = Self(Box::new(Inner { kind, members, headers: SmallVec::new(), tail: Vec::new() }));
        if matches!(status, 429 | 503 | 504) {
            problem.0.headers.push((RETRY_AFTER, HeaderValue::from_static("1")));
        }
        problem
    }

    /// A header or parameter whose value is refused.
    pub(crate) fn parameter(name: &str, value: &str, allowed: impl Into<String>) -> Self {
        let allowed = allowed.into();
        let value: String = value.chars().take(100).collect();
        let detail = format!("{name}: {value:?} is not allowed; allowed: {allowed}");
        Self::new(Kind::BadParameter, detail).naming(name, &value).allowing(allowed)
    }

    pub(crate) fn naming(mut self, name: &str, value: &str) -> Self {
        self.0.members.parameter = Some(name.into());
        self.0.members.value = Some(value.into());
        self
    }

    pub(crate) fn allowing(mut self, allowed: impl Into<String>) -> Self {
        self.0.members.allowed = Some(allowed.into());
        self
    }

    /// How far a quorum came.
    pub(crate) fn counting(mut self, required: u8, acked: u8, n: u8) -> Self {
        (self.0.members.required, self.0.members.acked, self.0.members.n) = (Some(required), Some(acked), Some(n));
        self
    }

    /// What became of a write.
    pub(crate) fn outcome(mut self, outcome: Outcome) -> Self {
        self.0.members.outcome = Some(match outcome {
            Outcome::NotApplied => "not-applied",
            Outcome::Unknown => "unknown",
        });
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Methods for `Allow`.
    pub(crate) fn allow(self, methods: &'static str) -> Self {
        self.header(ALLOW, HeaderValue::from_static(methods))
    }

    /// The connection cannot go on after this answer.
    pub(crate) fn closing(self) -> Self {
        self.header(CONNECTION, HeaderValue::from_static("close"))
    }

    /// Appends a member.
    pub(crate) fn member(mut self, name: &str, value: &impl Serialize) -> Self {
        let tail = &mut self.0.tail;
        tail.push(b',');
        serde_json::to_writer(&mut *tail, name).expect("writing to a vector cannot fail");
        tail.push(b':');
        serde_json::to_writer(tail, value).expect("the members of a problem have string keys");
        self
    }

    /// Appends members that are JSON already: `"name":value,"name":value`.
    pub(crate) fn raw_members(mut self, json: &[u8]) -> Self {
        self.0.tail.push(b',');
        self.0.tail.extend_from_slice(json);
        self
    }

    /// The members that were appended, each with a comma before it.
    pub(crate) fn tail(&self) -> &[u8] {
        &self.0.tail
    }

    /// The text of a header of the answer.
    pub(crate) fn header_text(&self, name: &HeaderName) -> Option<&str> {
        self.0.headers.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.to_str().ok())
    }

    /// Names a header by the field that the client sent in its place.
    pub(crate) fn renaming(mut self, header: &str, field: &str) -> Self {
        let parameter = &mut self.0.members.parameter;
        if parameter.as_deref() == Some(header) {
            *parameter = Some(field.into());
        }
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The members that every problem may have, without those appended.
    pub(crate) fn common_json(&self, request_id: &str) -> Vec<u8> {
        let members = Members { request_id: request_id.into(), ..self.0.members.clone() };
        serde_json::to_vec(&members).expect("a problem has string keys and plain values")
    }

    /// The body.
    pub(crate) fn json(&self, request_id: &str) -> Vec<u8> {
        let mut json = self.common_json(request_id);
        if !self.0.tail.is_empty() {
            json.pop();
            json.extend_from_slice(&self.0.tail);
            json.push(b'}');
        }
        json
    }

    /// The whole answer.
    pub(crate) fn respond(self, request_id: &str) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.json(request_id))));
        *response.status_mut() = self.0.kind.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (name, value) in self.0.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }

    /// The whole answer as bytes, for a connection that hyper no longer drives.
    pub(crate) fn raw(self, request_id: &str) -> Bytes {
        let json = self.json(request_id);
        let status = self.0.kind.status();
        let mut raw = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
             connection: close\r\nx-request-id: {request_id}\r\n",
            json.len()
        )
        .into_bytes();
        if let Some((_, after)) = self.0.headers.iter().find(|(name, _)| name == RETRY_AFTER) {
            raw.extend_from_slice(b"retry-after: ");
            raw.extend_from_slice(after.as_bytes());
            raw.extend_from_slice(b"\r\n");
        }
        raw.extend_from_slice(b"\r\n");
        raw.extend_from_slice(&json);
        raw.into()
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.json("-")))
    }
}

/// The router's handlers do not know the request's id: the problem rides on an empty answer until it is known.
impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = self.kind().status();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The ends of all types, in order: what stands in the table of [`Kind::parts`].
    pub(crate) fn names() -> Vec<String> {
        let rows = include_str!("problem.rs").lines().filter(|line| line.trim_start().starts_with("Self::"));
        let mut names: Vec<String> =
            rows.filter_map(|row| Some(row.split_once("=> (")?.1.split('"').nth(1)?.to_owned())).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    #[test]
    fn the_documentation_has_every_problem_and_no_other() {
        assert!(names().len() > 20 && names().contains(&"too-many-siblings".into()), "{:?}", names());
        let page = include_str!("../../../docs/api.md");
        let table = page.split("| `type` |").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
        let name = |row: &'static str| row.split_once("| `")?.1.split_once("` |").map(|(name, _)| name);
        let mut listed: Vec<&str> = table.lines().filter_map(name).collect();
        listed.sort_unstable();
        assert_eq!(listed, names());
    }

    fn shown(problem: &Problem) -> Value {
        serde_json::from_slice(&problem.json("id-1")).unwrap()
    }

    #[test]
    fn a_refused_parameter_has_the_public_shape() {
        let shown = shown(&Problem::parameter("w", "9", "1 to 3"));
        let expected = json!({"type":"urn:rondo:problem:bad-parameter","status":400,"parameter":"w","value":"9",
            "title":"A header or parameter is not allowed as it was sent","allowed":"1 to 3","request_id":"id-1",
            "detail":"w: \"9\" is not allowed; allowed: 1 to 3","retryable":false});
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_failed_quorum_says_how_far_it_came_and_when_to_retry() {
        let problem = Problem::new(Kind::Unavailable, "no").counting(3, 2, 3).outcome(Outcome::Unknown);
        let shown = shown(&problem);
        assert_eq!((&shown["required"], &shown["acked"], &shown["n"]), (&json!(3), &json!(2), &json!(3)));
        assert_eq!((&shown["outcome"], &shown["retryable"]), (&json!("unknown"), &json!(true)));
        let response = problem.respond("id-1");
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn further_members_come_last() {
        let problem = Problem::new(Kind::Siblings, "two").member("a\"b", &[1, 2]).raw_members(br#""c":"d""#);
        let shown = shown(&problem);
        assert_eq!((&shown["a\"b"], &shown["c"]), (&json!([1, 2]), &json!("d")));
    }

    #[test]
    fn the_raw_form_is_a_whole_answer() {
        let raw = Problem::new(Kind::Busy, "full").raw("id-2");
        let text = std::str::from_utf8(&raw).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 429 Too Many Requests\r\n") && head.contains("\r\nretry-after: 1"));
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
        assert_eq!(serde_json::from_str::<Value>(body).unwrap()["request_id"], "id-2");
    }

    #[test]
    fn a_value_is_cut() {
        assert_eq!(shown(&Problem::parameter("r", &"x".repeat(500), "1"))["value"].as_str().unwrap().len(), 100);
    }
}
