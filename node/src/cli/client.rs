//! A small HTTP client for the command line: one connection, one request at a time.
//!
//! On hyper itself and not on a client library with a URL type: those resolve `..` and `%2e%2e`, which are keys here.

use std::str::FromStr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failure::Failure;

/// A node that takes longer than this to accept a connection counts as unreachable.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Largest answer taken.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Longest line of an answer in lines, and the longest pause in it: a step's longest deadline is 600 s.
const LINE_BYTES_MAX: usize = 1 << 20;
const LINE_PATIENCE: Duration = Duration::from_secs(630);
/// What a bucket in a path, or a query parameter, may not show as it is. `.` is no part of it: no path of the contract
/// is ever resolved.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// A key may show its slashes.
const KEY: &AsciiSet = &NAME.remove(b'/');

/// host:port of a node's client listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint(String);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let authority = match text.split_once("://") {
            Some(("http", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some(_) => return Err("only http:// is in this release".into()),
            None => text,
        };
        let parsed: http::uri::Authority = authority.parse().map_err(|_| "http://HOST:PORT is needed".to_string())?;
        if parsed.host().is_empty() || authority.contains('@') {
            return Err("http://HOST:PORT is needed".into());
        }
        Ok(Self(if parsed.port().is_some() { authority.into() } else { format!("{authority}:80") }))
    }
}

impl Endpoint {
    /// host:port.
    pub(super) fn authority(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// With the query, percent-encoded.
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// An object's path.
    pub(super) fn object(method: Method, bucket: &str, key: &str) -> Self {
        Self::new(method, format!("/v1/kv/{}/{}", encoded(bucket), utf8_percent_encode(key, KEY)))
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn optional(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    fn build(&self, authority: &str) -> Result<http::Request<Full<Bytes>>, CallError> {
        let mut builder = http::Request::builder().method(&self.method).uri(&self.path);
        builder = builder.header("Host", authority).header("User-Agent", concat!("rondo/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        builder.body(Full::new(self.body.clone())).map_err(|e| CallError::Unsendable(e.to_string()))
    }
}

/// A bucket in a path, or a query parameter.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NAME).to_string()
}

/// What came back, whatever its status.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// A header's text, if there is one.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let broken = |e| Failure::Failed(format!("the node's answer is not what this release understands: {e}"));
        serde_json::from_slice(&self.body).map_err(broken)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// It may have been carried out.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It may have been carried out.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// Nothing was sent.
    #[error("this cannot be sent: {0}")]
    Unsendable(String),
}

/// A connection to one node, opened when needed and kept.
#[derive(Debug)]
pub(super) struct Connection {
    endpoint: Endpoint,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, sender: None }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// One request, one answer, within `patience` (connecting has a bound of its own).
    pub(super) async fn send(&mut self, request: &Request, patience: Duration) -> Result<Answer, CallError> {
        let built = request.build(&self.endpoint.0)?;
        // The node may have closed a connection that was idle: that is no failure of this request.
        let kept = match self.sender.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let exchange = async {
            let broken = |e: hyper::Error| CallError::Broken(e.to_string());
            let (head, body) = sender.send_request(built).await.map_err(broken)?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|e| CallError::Broken(e.to_string()))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        let answer = timeout(patience, exchange).await.map_err(|_| CallError::TimedOut(patience))??;
        self.sender = Some(sender);
        Ok(answer)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, CallError> {
        let refused = |e: &dyn std::fmt::Display| CallError::Connect(e.to_string());
        let connecting = timeout(CONNECT_PATIENCE, TcpStream::connect(&self.endpoint.0)).await;
        let stream = connecting.map_err(|_| CallError::Connect(format!("no answer in {CONNECT_PATIENCE:?}")))?;
        let stream = stream.map_err(|e| refused(&e))?;
        stream.set_nodelay(true).map_err(|e| refused(&e))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| refused(&e))?;
        // It ends with the connection; what went wrong is told to the request.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

/// Sends to the first of the endpoints that can be connected to.
pub(super) async fn call(endpoints: &[Endpoint], request: Request, patience: Duration) -> Result<Answer, Failure> {
    let mut refusals = Vec::new();
    for endpoint in endpoints {
        match Connection::new(endpoint.clone()).send(&request, patience).await {
            Ok(answer) => return Ok(answer),
            Err(CallError::Unsendable(why)) => return Err(Failure::Usage(format!("this cannot be sent: {why}"))),
            Err(error @ CallError::Connect(_)) => refusals.push(format!("{endpoint}: {error}")),
            Err(error) if request.method == Method::GET => refusals.push(format!("{endpoint}: {error}")),
            Err(error) => {
                return Err(Failure::Unreachable(format!(
                    "{endpoint}: {error}; whether it was carried out is unknown"
                )));
            }
        }
    }
    Err(Failure::Unreachable(refusals.join("\n")))
}

/// An answer that is taken line by line.
#[derive(Debug)]
pub(super) struct Lines {
    body: Incoming,
    /// What has come and was not taken.
    rest: BytesMut,
}

impl Lines {
    /// Whether a whole line has come already.
    pub(super) fn has_next(&self) -> bool {
        self.rest.contains(&b'\n')
    }

    /// The next line, without its end; `None` at the end of the answer.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let failed = |why: String| Failure::Failed(format!("the answer broke off: {why}"));
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let line = self.rest.split_to(end + 1).freeze();
                return Ok(Some(line.slice(..end)));
            }
            if self.rest.len() > LINE_BYTES_MAX {
                return Err(failed(format!("a line of more than {LINE_BYTES_MAX} bytes")));
            }
            let Ok(frame) = timeout(LINE_PATIENCE, self.body.frame()).await else {
                return Err(failed(format!("nothing came for {} s", LINE_PATIENCE.as_secs())));
            };
            match frame.transpose().map_err(|e| failed(e.to_string()))? {
                None => return Ok(None),
                Some(frame) => frame.data_ref().into_iter().for_each(|data| self.rest.extend_from_slice(data)),
            }
        }
    }
}

/// Asks the first of the endpoints that can be connected to for an answer in lines.
pub(super) async fn open(endpoints: &[Endpoint], request: &Request) -> Result<Lines, Failure> {
    let mut refusals = Vec::new();
    for endpoint in endpoints {
        let unsendable = |e: CallError| Failure::Usage(e.to_string());
        let built = request.build(&endpoint.0).map_err(unsendable)?;
        let mut sender = match Connection::new(endpoint.clone()).connect().await {
            Ok(sender) => sender,
            Err(error) => {
                refusals.push(format!("{endpoint}: {error}"));
                continue;
            }
        };
        let unreachable = |why: String| Failure::Unreachable(format!("{endpoint}: {why}"));
        let Ok(response) = timeout(LINE_PATIENCE, sender.send_request(built)).await else {
            return Err(unreachable(CallError::TimedOut(LINE_PATIENCE).to_string()));
        };
        let (head, body) = response.map_err(|e| unreachable(e.to_string()))?.into_parts();
        if head.status.is_success() {
            return Ok(Lines { body, rest: BytesMut::new() });
        }
        let body = Limited::new(body, LINE_BYTES_MAX).collect().await.map_err(|e| unreachable(e.to_string()))?;
        let answer = Answer { status: head.status, headers: head.headers, body: body.to_bytes() };
        return Err(Failure::Failed(super::problem::describe(&answer)));
    }
    Err(Failure::Unreachable(refusals.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_http_urls_or_host_and_port() {
        let parsed = |text: &str| text.parse::<Endpoint>().map(|e| e.to_string());
        assert_eq!(parsed("http://127.0.0.1:7700/").unwrap(), "http://127.0.0.1:7700");
        assert_eq!(parsed("n1:7700").unwrap(), "http://n1:7700");
        assert_eq!(parsed("http://[::1]:7700").unwrap(), "http://[::1]:7700");
        assert_eq!(parsed("http://n1").unwrap(), "http://n1:80");
        assert!(parsed("https://n1:7700").unwrap_err().contains("only http://"));
        for bad in ["", "http://", "http://a/b", "a b", "u@h:1", "http://:7700"] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_path_is_ever_resolved() {
        let path = |key: &str| Request::object(Method::GET, "b", key).path;
        assert_eq!(path(".."), "/v1/kv/b/..");
        assert_eq!(path("a/../b c?#%é"), "/v1/kv/b/a/../b%20c%3F%23%25%C3%A9");
        assert_eq!(Request::object(Method::GET, "a/b", "c").path, "/v1/kv/a%2Fb/c");
        let built = Request::object(Method::GET, "b", "a/../c").build("h:1").unwrap();
        assert_eq!(built.uri().path(), "/v1/kv/b/a/../c");
    }

    #[test]
    fn a_header_that_no_request_can_carry_is_an_error() {
        let request = Request::get("/").header("Rondo-Context", "a\nb");
        assert!(matches!(request.build("h:1"), Err(CallError::Unsendable(_))));
    }
}
