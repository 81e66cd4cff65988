//! HTTP as a client's library speaks it.

use std::io::Read;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use reqwest::blocking::{Body, Client};
use serde_json::Value;

/// Far beyond the longest deadline a test asks for.
const PATIENCE: Duration = Duration::from_secs(30);

fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    let build = || Client::builder().no_proxy().timeout(PATIENCE).tcp_nodelay(true).build();
    CLIENT.get_or_init(|| build().expect("a client without options can be built"))
}

/// A key as it stands in a path: everything but letters, digits and `-._~` encoded.
pub fn encode(key: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    key.bytes().map(one).collect()
}

/// A request to a URL.
pub fn request(method: &str, url: &str) -> Request {
    let method = method.parse().expect("tests name methods that exist");
    Request { builder: client().request(method, url), shown: url.into() }
}

/// A request in the making.
#[derive(Debug)]
#[must_use]
pub struct Request {
    builder: reqwest::blocking::RequestBuilder,
    shown: String,
}

impl Request {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.builder = self.builder.header(name, value.to_string());
        self
    }

    /// `Rondo-W`.
    pub fn w(self, w: impl ToString) -> Self {
        self.header("Rondo-W", w)
    }

    /// `Rondo-R`.
    pub fn r(self, r: impl ToString) -> Self {
        self.header("Rondo-R", r)
    }

    /// `Rondo-Context`.
    pub fn context(self, token: &str) -> Self {
        self.header("Rondo-Context", token)
    }

    /// Sets the body, of known length.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.builder = self.builder.body(body.into());
        self
    }

    /// Sets the body, sent in chunks.
    pub fn chunked(mut self, body: impl Read + Send + 'static) -> Self {
        self.builder = self.builder.body(Body::new(body));
        self
    }

    /// The answer, or why there is none.
    pub fn try_send(self) -> Result<Answer, String> {
        let (began, shown) = (Instant::now(), self.shown);
        let failed = |error: reqwest::Error| format!("{shown}: {error:?}");
        let response = self.builder.send().map_err(failed)?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.bytes().map_err(failed)?.to_vec();
        Ok(Answer { status, headers, body, took: began.elapsed(), shown })
    }

    /// The answer; there has to be one.
    #[track_caller]
    pub fn send(self) -> Answer {
        self.try_send().unwrap_or_else(|why| panic!("no answer: {why}"))
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    headers: reqwest::header::HeaderMap,
    /// The body's bytes.
    pub body: Vec<u8>,
    /// From sending to the last byte.
    pub took: Duration,
    shown: String,
}

impl Answer {
    /// Panics with the whole answer unless it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {:?}\n{}", self.shown, self.headers, self.text());
        self
    }

    /// What was asked.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// A header, where it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The names of the headers, in lower case.
    pub fn header_names(&self) -> impl Iterator<Item = &str> {
        self.headers.keys().map(|name| name.as_str())
    }

    /// `Rondo-Context`; it has to be there.
    #[track_caller]
    pub fn context(&self) -> String {
        let missing = || panic!("no Rondo-Context: {self:?}");
        self.header("Rondo-Context").map_or_else(missing, String::from)
    }

    /// The ETag without its quotes; it has to be there.
    #[track_caller]
    pub fn etag(&self) -> String {
        let quoted = self.header("ETag").and_then(|etag| etag.strip_prefix('"')?.strip_suffix('"'));
        quoted.map_or_else(|| panic!("no ETag: {self:?}"), String::from)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Panics unless the status is one of these.
    #[track_caller]
    pub fn expect_any(self, statuses: &[u16]) -> Self {
        assert!(statuses.contains(&self.status), "none of {statuses:?}: {self:?}\n{}", self.text());
        self
    }

    /// Checks that this is a problem (RFC 9457) of that status, and gives its members.
    #[track_caller]
    pub fn problem(self, status: u16) -> Value {
        let answer = self.expect(status);
        assert_eq!(answer.header("Content-Type"), Some("application/problem+json"), "{answer:?}");
        let problem = answer.json();
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["type", "title", "detail", "request_id"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {problem}");
        }
        assert_eq!(problem["request_id"].as_str(), answer.header("X-Request-Id"), "{problem}");
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_odd_is_encoded() {
        assert_eq!(encode("a/b é%..~"), "a%2Fb%20%C3%A9%25..~");
    }
}
