//! `GET /`: the first thing a newcomer tries.

use axum::extract::Request;
use axum::response::Response;
use http::header::HOST;

use crate::http::problem::Problem;
use crate::http::query::{Known, Query};
use crate::http::surface::with_type;

/// Five curl lines for the address the page was asked at.
pub(crate) async fn page(request: Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &Known::NONE)?;
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).filter(|host| is_address(host));
    Ok(with_type("text/plain; charset=utf-8", text(host.unwrap_or("127.0.0.1:7700"))))
}

fn text(host: &str) -> String {
    format!(
        "Rondo, a replicated key-value store. Try:\n\n\
         curl -i -X PUT --data-binary 'hello' http://{host}/v1/kv/demo/greeting\n\
         curl -i http://{host}/v1/kv/demo/greeting\n\
         curl -i -X DELETE http://{host}/v1/kv/demo/greeting\n\
         curl -s http://{host}/v1/cluster\n\
         curl -s 'http://{host}/v1/ring?bucket=demo&key=greeting'\n"
    )
}

/// Only what a host and port are made of goes back into a line that people copy into a shell.
fn is_address(host: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-' | b'[' | b']');
    (1..=255).contains(&host.len()) && host.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_five_lines_to_try() {
        let page = text("[::1]:7700");
        assert_eq!(
            page.lines().filter(|line| line.starts_with("curl ") && line.contains("http://[::1]:7700/")).count(),
            5
        );
    }

    #[test]
    fn nothing_for_a_shell_comes_back() {
        assert!(is_address("n1.example:7700") && is_address("[::1]:7700"));
        for host in ["", "a b", "a;rm", "$(x)", "a'b"] {
            assert!(!is_address(host), "{host}");
        }
    }
}
