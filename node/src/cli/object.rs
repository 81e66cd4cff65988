//! `rondo get | put | del`: for people; scripts use curl.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::arguments::{DelArgs, GetArgs, ObjectArgs, PutArgs};
use super::client::{Answer, Request, call, encoded};
use super::failure::Failure;
use super::output::{Output, print, print_bytes, print_json, say, table};
use super::problem::{describe, successful};

/// The server keeps deadlines; this bounds a server that does not answer at all (its longest deadline is 600 s).
const PATIENCE: Duration = Duration::from_secs(630);

pub(super) async fn get(args: &GetArgs) -> Result<(), Failure> {
    let mut request = request(Method::GET, &args.object).optional("Rondo-R", args.r.as_deref());
    if let Some(etag) = &args.sibling {
        request.path += &format!("?sibling={}", encoded(etag));
    }
    let answer = call(&args.object.target.endpoint, request, PATIENCE).await?;
    let json = args.object.target.output == Output::Json;
    match answer.status {
        StatusCode::CONFLICT if json => {
            print_json(&answer.json()?)?;
            Err(Failure::Failed("there are siblings; write with the context to resolve them".into()))
        }
        StatusCode::CONFLICT => Err(Failure::Failed(siblings(&answer)?)),
        StatusCode::NOT_FOUND => Err(Failure::Failed(missing(&args.object, &answer))),
        _ if json => print_json(&as_json(&args.object, &successful(answer)?)),
        _ => print_bytes(&successful(answer)?.body),
    }
}

pub(super) async fn put(args: &PutArgs) -> Result<(), Failure> {
    let (value, content_type) = value(args)?;
    let content_type = args.content_type.as_deref().unwrap_or(content_type);
    let request = request(Method::PUT, &args.object)
        .optional("Rondo-W", args.w.as_deref())
        .optional("Rondo-Ttl", args.ttl.as_deref())
        .optional("If-Match", args.if_match.as_deref().map(etags).as_deref())
        .optional("If-None-Match", args.if_none_match.as_deref());
    let request = request.header("Content-Type", content_type).body(value);
    written(&args.object, call(&args.object.target.endpoint, request, PATIENCE).await?)
}

pub(super) async fn del(args: &DelArgs) -> Result<(), Failure> {
    let request = request(Method::DELETE, &args.object)
        .optional("Rondo-W", args.w.as_deref())
        .optional("If-Match", args.if_match.as_deref().map(etags).as_deref());
    written(&args.object, call(&args.object.target.endpoint, request, PATIENCE).await?)
}

fn request(method: Method, object: &ObjectArgs) -> Request {
    Request::object(method, &object.bucket, &object.key)
        .optional("Rondo-Context", object.context.as_deref())
        .optional("Rondo-Quorum", object.quorum.as_deref())
        .optional("Rondo-Timeout", object.timeout.as_deref())
}

/// ETags as `If-Match` has them: these commands show them without the quotes that a shell would take away.
fn etags(given: &str) -> String {
    let quoted = |etag: &str| match etag.trim() {
        bare @ ("" | "*") => bare.to_owned(),
        quoted if quoted.contains('"') => quoted.to_owned(),
        bare => format!("\"{bare}\""),
    };
    given.split(',').map(quoted).collect::<Vec<_>>().join(", ")
}

/// The value with the media type it most likely has.
fn value(args: &PutArgs) -> Result<(Bytes, &'static str), Failure> {
    let binary = |bytes: Vec<u8>| (Bytes::from(bytes), "application/octet-stream");
    match (&args.file, args.value.as_deref()) {
        (Some(path), _) => {
            let unreadable = |e| Failure::Failed(format!("{}: the file cannot be read: {e}", path.display()));
            std::fs::read(path).map(binary).map_err(unreadable)
        }
        (None, Some("-") | None) => stdin().map(binary),
        (None, Some(text)) => Ok((text.to_owned().into(), "text/plain; charset=utf-8")),
    }
}

fn stdin() -> Result<Vec<u8>, Failure> {
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        return Err(Failure::Usage("the value is missing: give it as an argument, with --file or on stdin".into()));
    }
    let mut bytes = Vec::new();
    let read = stdin.read_to_end(&mut bytes);
    read.map_err(|e| Failure::Failed(format!("the value cannot be read from stdin: {e}")))?;
    Ok(bytes)
}

/// What a write was answered with. One that was refused for what is there says what that is.
fn written(object: &ObjectArgs, answer: Answer) -> Result<(), Failure> {
    if !answer.status.is_success() {
        ["etag", "context"].into_iter().filter_map(|name| line(&answer, name)).for_each(|line| say(&line));
    }
    let answer = successful(answer)?;
    if object.target.output == Output::Json {
        return print_json(&Value::Object(facts(object, &answer)));
    }
    let named = ["acks", "etag", "siblings", "context"];
    print(&named.into_iter().filter_map(|name| line(&answer, name)).collect::<Vec<_>>().join("\n"))
}

fn line(answer: &Answer, name: &str) -> Option<String> {
    fact(answer, name).map(|value| format!("{name}: {value}"))
}

/// Headers of an answer, by the names that they have here.
const FACTS: [(&str, &str); 7] = [
    ("etag", "ETag"),
    ("context", "Rondo-Context"),
    ("acks", "Rondo-Acks"),
    ("siblings", "Rondo-Siblings"),
    ("content_type", "Content-Type"),
    ("modified", "Last-Modified"),
    ("expires", "Rondo-Expires"),
];

/// What a header says of an object. ETags are without their quotes.
fn fact<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let (_, header) = FACTS.into_iter().find(|(known, _)| *known == name)?;
    answer.header(header).map(|value| value.trim_matches('"'))
}

/// What the headers say of an object.
fn facts(object: &ObjectArgs, answer: &Answer) -> Map<String, Value> {
    let mut facts = Map::new();
    facts.insert("bucket".into(), json!(object.bucket));
    facts.insert("key".into(), json!(object.key));
    facts.insert("status".into(), json!(answer.status.as_u16()));
    let told = FACTS.into_iter().filter_map(|(name, _)| Some((name, fact(answer, name)?)));
    facts.extend(told.map(|(name, value)| match name {
        "modified" => (name.to_owned(), json!(rfc3339(value))),
        _ => (name.to_owned(), json!(value)),
    }));
    facts
}

/// The time of `Last-Modified` as all times in JSON are.
fn rfc3339(http_date: &str) -> String {
    jiff::fmt::rfc2822::parse(http_date).map_or_else(|_| http_date.to_owned(), |time| time.timestamp().to_string())
}

/// A value as the contract shows one in JSON: `value`, `text` or `base64`.
fn as_json(object: &ObjectArgs, answer: &Answer) -> Value {
    let mut facts = facts(object, answer);
    let is_json = answer.header("Content-Type").is_some_and(|kind| kind.split(';').next().is_some_and(is_json_type));
    let parsed = is_json.then(|| serde_json::from_slice::<Value>(&answer.body).ok()).flatten();
    let (name, value) = match (parsed, std::str::from_utf8(&answer.body)) {
        (Some(value), _) => ("value", value),
        (None, Ok(text)) => ("text", json!(text)),
        (None, Err(_)) => ("base64", json!(STANDARD.encode(&answer.body))),
    };
    facts.insert(name.into(), value);
    Value::Object(facts)
}

fn is_json_type(kind: &str) -> bool {
    let kind = kind.trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

#[derive(Debug, Deserialize)]
struct Siblings {
    context: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    etag: String,
    modified: String,
    bytes: u64,
    value: Option<Value>,
    text: Option<String>,
}

/// The versions of a key with the context that resolves them.
fn siblings(answer: &Answer) -> Result<String, Failure> {
    let Ok(found) = serde_json::from_slice::<Siblings>(&answer.body) else { return Ok(describe(answer)) };
    let row = |sibling: &Sibling| {
        let value = sibling.value.as_ref().map(ToString::to_string).or_else(|| sibling.text.clone());
        let start: String = value.unwrap_or_else(|| "(binary)".into()).chars().take(40).collect();
        vec![sibling.etag.clone(), sibling.modified.clone(), sibling.bytes.to_string(), start]
    };
    let rows: Vec<_> = found.siblings.iter().map(row).collect();
    let versions = table(&["etag", "modified", "bytes", "value"], &rows);
    let context = found.context;
    Ok(format!("{} concurrent versions:\n{versions}\nresolve them: rondo put … --context {context}", rows.len()))
}

fn missing(object: &ObjectArgs, answer: &Answer) -> String {
    let ObjectArgs { bucket, key, .. } = object;
    match answer.header("Rondo-Deleted").zip(answer.header("Rondo-Context")) {
        Some((_, context)) => {
            say(&format!("context: {context}"));
            format!("{bucket}/{key} was deleted")
        }
        None => format!("{bucket}/{key}: {}", describe(answer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::{Arguments, Command};
    use clap::Parser;

    fn object() -> ObjectArgs {
        let line = ["rondo", "get", "k", "--bucket", "b"];
        let Command::Get(args) = Arguments::parse_from(line).command else { panic!("get") };
        args.object
    }

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &'static [u8]) -> Answer {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::from_static(body) }
    }

    #[test]
    fn json_shows_a_value_as_what_it_is() {
        let kind = |kind| [("ETag", "\"e1\""), ("Content-Type", kind)];
        let shown = |kind_of, body| as_json(&object(), &answer(200, &kind(kind_of), body));
        assert_eq!(shown("application/json; charset=utf-8", b"{\"a\":1}")["value"], json!({"a": 1}));
        assert_eq!(shown("application/json", b"{")["text"], "{");
        assert_eq!(shown("text/plain", b"hi")["text"], "hi");
        let binary = shown("application/octet-stream", &[0xff]);
        assert_eq!((&binary["base64"], &binary["etag"], &binary["key"]), (&json!("/w=="), &json!("e1"), &json!("k")));
    }

    #[test]
    fn siblings_are_listed_with_the_context_that_resolves_them() {
        let body = br#"{"title":"Siblings","context":"CTX","siblings":[
            {"etag":"e1","content_type":"text/plain","modified":"2026-01-01T00:00:00Z","bytes":2,"text":"hi"},
            {"etag":"e2","content_type":"x/y","modified":"2026-01-01T00:00:01Z","bytes":1,"base64":"/w=="}]}"#;
        let text = siblings(&answer(409, &[], body)).unwrap();
        assert!(text.starts_with("2 concurrent versions:\n"), "{text}");
        assert!(text.contains("hi") && text.contains("(binary)") && text.ends_with("--context CTX"));
    }

    #[test]
    fn times_in_json_are_those_of_the_contract() {
        assert_eq!(rfc3339("Sat, 28 Nov 2026 22:14:00 GMT"), "2026-11-28T22:14:00Z");
        assert_eq!(rfc3339("yesterday"), "yesterday");
    }

    #[test]
    fn etags_get_their_quotes() {
        assert_eq!(etags("a-1"), "\"a-1\"");
        assert_eq!(etags("a-1,\"b-2\""), "\"a-1\", \"b-2\"");
        assert_eq!((&*etags("*"), &*etags("W/\"a-1\"")), ("*", "W/\"a-1\""));
    }

    #[test]
    fn a_deleted_key_is_told_from_one_that_never_was() {
        let deleted = answer(404, &[("Rondo-Deleted", "true"), ("Rondo-Context", "C")], b"");
        assert_eq!(missing(&object(), &deleted), "b/k was deleted");
        assert_eq!(missing(&object(), &answer(404, &[], b"")), "b/k: 404 Not Found");
    }
}
