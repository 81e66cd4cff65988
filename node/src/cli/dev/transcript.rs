//! Requests as a newcomer would type them, and what came back.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;

use super::local::LocalCluster;
use crate::cli::client::{Answer, Connection, Endpoint, Request};
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::cli::problem::describe;

/// The server's own deadline is 5 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// Headers of an answer worth a line.
const SHOWN: [&str; 6] = ["Rondo-Acks", "Rondo-Siblings", "ETag", "Rondo-Context", "Rondo-Deleted", "Retry-After"];
/// Longer texts are cut.
const TEXT_CHARS_MAX: usize = 96;
const CONTEXT_CHARS_MAX: usize = 24;

/// A connection to each node.
pub(super) struct Curl {
    connections: Vec<Connection>,
}

/// An answer and how long it took.
pub(super) struct Timed {
    pub(super) answer: Answer,
    pub(super) took: Duration,
}

impl Curl {
    pub(super) fn new(cluster: &LocalCluster) -> Self {
        let connections = cluster.nodes.iter().map(|node| Connection::new(node.endpoint.clone())).collect();
        Self { connections }
    }

    /// Sends without a word.
    pub(super) async fn quietly(&mut self, node: usize, request: &Request) -> Result<Timed, Failure> {
        let started = Instant::now();
        let connection = &mut self.connections[node];
        let answer = connection.send(request, PATIENCE).await;
        let line = || curl_line(connection.endpoint(), request);
        let answer = answer.map_err(|error| Failure::Failed(format!("{error}: {}", line())))?;
        Ok(Timed { answer, took: started.elapsed() })
    }

    /// Shows the request and its answer; anything but `status` ends the demo.
    pub(super) async fn show(&mut self, node: usize, request: &Request, status: u16) -> Result<Answer, Failure> {
        let line = curl_line(self.connections[node].endpoint(), request);
        print(&format!("  $ {line}"))?;
        let Timed { answer, took } = self.quietly(node, request).await?;
        print(&in_short(&answer, took))?;
        expect(&answer, status, &line)?;
        Ok(answer)
    }

    /// The same without a word.
    pub(super) async fn check(&mut self, node: usize, request: &Request, status: u16) -> Result<Timed, Failure> {
        let timed = self.quietly(node, request).await?;
        expect(&timed.answer, status, &curl_line(self.connections[node].endpoint(), request))?;
        Ok(timed)
    }
}

fn expect(answer: &Answer, status: u16, line: &str) -> Result<(), Failure> {
    if answer.status.as_u16() == status {
        return Ok(());
    }
    Err(Failure::Failed(format!("expected {status}, got {}: {line}", describe(answer))))
}

/// The request as a command.
pub(super) fn curl_line(endpoint: &Endpoint, request: &Request) -> String {
    let mut words = vec!["curl -i".to_string()];
    if request.method != Method::GET && request.body.is_empty() {
        words.push(format!("-X {}", request.method));
    }
    let header = |(name, value): &(&str, String)| format!("-H {}", quoted(&format!("{name}: {}", cut(name, value))));
    words.extend(request.headers.iter().map(header));
    if !request.body.is_empty() {
        let method = if request.method == Method::POST { "" } else { "-X PUT " };
        words.push(format!("{method}--data-binary {}", quoted(&String::from_utf8_lossy(&request.body))));
    }
    words.push(quoted(&format!("{endpoint}{}", request.path)));
    words.join(" ")
}

/// A word for the shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/:%".contains(c);
    if text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Contexts are long and opaque.
fn cut(name: &str, value: &str) -> String {
    let most = if name.eq_ignore_ascii_case("Rondo-Context") { CONTEXT_CHARS_MAX } else { TEXT_CHARS_MAX };
    let short: String = value.chars().take(most).collect();
    if short.len() < value.len() { format!("{short}…") } else { short }
}

fn in_short(answer: &Answer, took: Duration) -> String {
    let mut text = if answer.status.is_client_error() || answer.status.is_server_error() {
        format!("    {}", describe(answer))
    } else {
        format!("    {}", answer.status)
    };
    text.push_str(&format!("  ({:.1} ms)", 1e3 * took.as_secs_f64()));
    let headers = SHOWN.iter().filter_map(|name| Some(format!("{name}: {}", cut(name, answer.header(name)?))));
    let headers: Vec<String> = headers.collect();
    if !headers.is_empty() {
        text.push_str(&format!("\n    {}", headers.join("   ")));
    }
    for line in body_lines(answer) {
        text.push_str(&format!("\n    {}", cut("", &line)));
    }
    text
}

/// The value, or each version where there may be several.
fn body_lines(answer: &Answer) -> Vec<String> {
    let body = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let several = [("siblings", "sibling"), ("versions", "version")];
    for (list, name) in several {
        if let Some(versions) = body.get(list).and_then(Value::as_array).filter(|list| !list.is_empty()) {
            return versions.iter().map(|version| format!("{name} {}", version_in_short(version))).collect();
        }
    }
    if answer.status.is_success() {
        String::from_utf8_lossy(&answer.body).lines().take(3).map(String::from).collect()
    } else {
        Vec::new()
    }
}

fn version_in_short(version: &Value) -> String {
    let etag = version["etag"].as_str().unwrap_or_default();
    let text = version["text"].as_str().map_or_else(|| version["value"].to_string(), String::from);
    format!("{etag}: {text}")
}

/// What to type next.
pub(super) fn to_try(cluster: &LocalCluster) -> String {
    let first = &cluster.nodes[0].endpoint;
    let last = &cluster.nodes[cluster.nodes.len() - 1].endpoint;
    let text = |request: Request| request.header("Content-Type", "text/plain");
    let put = text(Request::object(Method::PUT, "fruit", "apple")).header("Rondo-W", "2").body("red");
    let lines = [
        curl_line(first, &put),
        curl_line(last, &Request::object(Method::GET, "fruit", "apple").header("Rondo-R", "2")),
        curl_line(first, &Request::object(Method::DELETE, "fruit", "apple")),
        curl_line(first, &Request::get("/v1/cluster")),
        format!("rondo status --endpoint {first}"),
    ];
    format!("\nTry, in another terminal (Ctrl-C here stops the nodes):\n  {}", lines.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_command_that_can_be_typed() {
        let endpoint: Endpoint = "127.0.0.1:7700".parse().unwrap();
        let put = Request::object(Method::PUT, "fruit", "a b").header("Rondo-W", "2").body("it's red");
        let expected =
            r"curl -i -H 'Rondo-W: 2' -X PUT --data-binary 'it'\''s red' http://127.0.0.1:7700/v1/kv/fruit/a%20b";
        assert_eq!(curl_line(&endpoint, &put), expected);
        let get = Request::get("/v1/ring?bucket=b&key=k");
        assert_eq!(curl_line(&endpoint, &get), "curl -i 'http://127.0.0.1:7700/v1/ring?bucket=b&key=k'");
        let delete = Request::object(Method::DELETE, "b", "k");
        assert_eq!(curl_line(&endpoint, &delete), "curl -i -X DELETE http://127.0.0.1:7700/v1/kv/b/k");
    }

    #[test]
    fn an_answer_is_a_few_lines() {
        let mut headers = http::HeaderMap::new();
        headers.insert("rondo-acks", "2/3".parse().unwrap());
        headers.insert("rondo-context", "x".repeat(99).parse().unwrap());
        let body =
            r#"{"title":"Siblings","context":"c","siblings":[{"etag":"e1","text":"a"},{"etag":"e2","value":[1]}]}"#;
        let answer = Answer { status: http::StatusCode::CONFLICT, headers, body: body.into() };
        let expected = format!(
            "    409 Siblings  (1.5 ms)\n    Rondo-Acks: 2/3   Rondo-Context: {}…\n    sibling e1: a\n    sibling e2: [1]",
            "x".repeat(24)
        );
        assert_eq!(in_short(&answer, Duration::from_micros(1_500)), expected);
        assert!(expect(&answer, 409, "").is_ok() && expect(&answer, 200, "").is_err());
    }
}
