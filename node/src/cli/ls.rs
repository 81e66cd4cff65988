//! `rondo ls`: the keys of a bucket, as they come.

use serde::Deserialize;

use super::arguments::LsArgs;
use super::client::{Lines, Request, encoded, open};
use super::failure::Failure;
use super::output::{Output, print_bytes};

/// Output is written when it is this long, and before anything is waited for.
const PIECE_BYTES: usize = 32 << 10;
/// Most that one request may be limited to; above, this end stops.
const LIMIT_MAX: u64 = 10_000;

/// A line of the stream: an item, the end, or what went wrong.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    key: String,
    siblings: u64,
    bytes: u64,
    modified: String,
    end: bool,
    error: Option<Problem>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
}

pub(super) async fn run(args: &LsArgs) -> Result<(), Failure> {
    let mut lines = open(&args.target.endpoint, &request(args)).await?;
    let mut out = String::new();
    if args.target.output == Output::Table {
        out.push_str(&row("BYTES", "SIBLINGS", "MODIFIED", "KEY"));
    }
    let listed = list(args, &mut lines, &mut out).await;
    print_bytes(out.as_bytes())?;
    listed
}

async fn list(args: &LsArgs, lines: &mut Lines, out: &mut String) -> Result<(), Failure> {
    let mut count = 0;
    while args.limit.is_none_or(|limit| count < limit) {
        if out.len() >= PIECE_BYTES || !lines.has_next() {
            print_bytes(out.as_bytes())?;
            out.clear();
        }
        let Some(text) = lines.next().await? else {
            return Err(Failure::Failed(format!("the listing was cut after {count} keys")));
        };
        let misread = |e| Failure::Failed(format!("the node's answer is not what this release understands: {e}"));
        let line: Line = serde_json::from_slice(&text).map_err(misread)?;
        if let Some(Problem { title, detail }) = line.error {
            return Err(Failure::Failed(format!("the listing ended after {count} keys: {title}: {detail}")));
        }
        if line.end {
            return Ok(());
        }
        match args.target.output {
            Output::Json => out.extend([&*String::from_utf8_lossy(&text), "\n"]),
            Output::Table => {
                let key = printable(&line.key);
                out.push_str(&row(&line.bytes.to_string(), &line.siblings.to_string(), &line.modified, &key));
            }
        }
        count += 1;
    }
    Ok(())
}

fn request(args: &LsArgs) -> Request {
    let mut path = format!("/v1/kv/{}", encoded(&args.bucket));
    let limit = args.limit.filter(|limit| *limit <= LIMIT_MAX).map(|limit| limit.to_string());
    let parameters =
        [("prefix", args.prefix.as_deref().filter(|prefix| !prefix.is_empty())), ("limit", limit.as_deref())];
    let given = parameters.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value?))));
    for (mark, parameter) in ["?", "&"].into_iter().zip(given) {
        path.extend([mark, &parameter]);
    }
    Request::get(path)
        .header("Accept", "application/x-ndjson")
        .optional("Rondo-R", args.r.as_deref())
        .optional("Rondo-Quorum", args.quorum.as_deref())
        .optional("Rondo-Timeout", args.timeout.as_deref())
}

/// The key comes last: it is the only column without a width.
fn row(bytes: &str, siblings: &str, modified: &str, key: &str) -> String {
    format!("{bytes:>10}  {siblings:>8}  {modified:<27}  {key}\n")
}

/// What would move the cursor of a terminal is shown as its number.
fn printable(key: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    key.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::{Arguments, Command};
    use clap::Parser;

    fn path(line: &str) -> String {
        let Command::Ls(args) = Arguments::parse_from(line.split(' ')).command else { panic!("ls") };
        request(&args).path
    }

    #[test]
    fn what_is_asked_for_is_in_the_path() {
        assert_eq!(path("rondo ls b"), "/v1/kv/b");
        assert_eq!(path("rondo ls b a/é& --limit 5"), "/v1/kv/b?prefix=a%2F%C3%A9%26&limit=5");
        assert_eq!(path("rondo ls b --limit 10001"), "/v1/kv/b", "more than a request may ask for");
    }

    #[test]
    fn a_key_stays_on_its_line() {
        assert_eq!(printable("a\nb\u{1b}[2Jé"), "a\\nb\\u{1b}[2Jé");
        assert!(row("5", "1", "2026-01-31T12:00:00Z", "apple").ends_with("apple\n"));
    }
}
