//! Requests and answers of the history as HTTP, and back.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::{Failure, ListAnswer, ListItem, Outcome, ReadAnswer, WriteAnswer};
use rondo_storage::Key;
use rondo_storage::versions::{ActorId, CausalContext, ContextTokens, Dot, ETag, Metadata, Object, Sibling};
use rondo_tests::{Answer, Request, encode, request};
use serde_json::Value;

/// A request on an object, with what all have.
pub(crate) fn object(method: &str, node: SocketAddr, key: &Key, timeout: Duration) -> Request {
    let url = format!("http://{node}/v1/kv/{}/{}", key.bucket(), encode(key.key()));
    request(method, &url).header("Rondo-Timeout", format!("{}ms", timeout.as_millis()))
}

/// The first page of a bucket, which has fewer keys than that.
pub(crate) fn listing(node: SocketAddr, bucket: &str, r: u8, timeout: Duration) -> Request {
    let timeout = timeout.as_millis();
    request("GET", &format!("http://{node}/v1/kv/{bucket}?limit=1000&r={r}&timeout={timeout}ms"))
}

/// What a write came to.
pub(crate) fn written(tokens: &ContextTokens, key: &Key, answer: &Answer) -> Result<WriteAnswer, Failure> {
    if answer.status != 204 {
        return Err(failure(answer));
    }
    let context = opened(tokens, key, &answer.context());
    // A delete has no ETag. Its dot is above all that its owner and its client knew.
    let highest = || context.actors().max_by_key(|(_, counter)| *counter);
    let of_delete = || highest().map(|(actor, counter)| Dot { actor, counter });
    let dot = answer.header("ETag").and_then(|etag| dot(etag.trim_matches('"'))).or_else(of_delete);
    let (acks, n) = acks(answer);
    let number = |name| answer.header(name).map_or(0, |text| text.parse().unwrap());
    Ok(WriteAnswer {
        dot: dot.unwrap_or_else(|| panic!("a write without a name: {answer:?}")),
        context,
        siblings: number("Rondo-Siblings"),
        modified_us: 0,
        expires_us: 0,
        acks,
        n,
        hinted: number("Rondo-Hinted") as u8,
        sloppy: is_sloppy(answer),
    })
}

/// What a read came to, which was asked for the list of the siblings.
pub(crate) fn read(tokens: &ContextTokens, key: &Key, answer: &Answer) -> Result<ReadAnswer, Failure> {
    let object = match answer.status {
        200 => {
            let list = answer.json();
            let context = opened(tokens, key, list["context"].as_str().unwrap());
            versions(&context, list["siblings"].as_array().unwrap())
        }
        404 => {
            let context = answer.header("Rondo-Context").map(|token| opened(tokens, key, token));
            versions(&context.unwrap_or_default(), &[])
        }
        _ => return Err(failure(answer)),
    };
    let (acks, n) = acks(answer);
    Ok(ReadAnswer { object, acks, n, sloppy: is_sloppy(answer), store: None })
}

/// What a listing came to.
pub(crate) fn listed(answer: &Answer) -> Result<ListAnswer, Failure> {
    if answer.status != 200 {
        return Err(failure(answer));
    }
    let list = answer.json();
    let item = |item: &Value| ListItem {
        key: item["key"].as_str().unwrap().into(),
        etag: ETag::parse(item["etag"].as_str().unwrap()).unwrap(),
        siblings: item["siblings"].as_u64().unwrap() as usize,
        bytes: item["bytes"].as_u64().unwrap(),
        modified_us: 0,
    };
    let items = list["items"].as_array().unwrap().iter().map(item).collect();
    Ok(ListAnswer { items, next: list["next"].as_str().map(String::from) })
}

/// Versions as JSON shows them, here and in `/v1/local`. The content type is the write's label.
pub(crate) fn versions(context: &CausalContext, shown: &[Value]) -> Object {
    let sibling = |version: &Value| {
        let text = |name: &str| version[name].as_str().map(|text| Bytes::copy_from_slice(text.as_bytes()));
        let deleted = version["deleted"] == true;
        let content_type = text("content_type").filter(|_| !deleted).unwrap_or_default();
        let dot = dot(version["etag"].as_str().unwrap()).unwrap_or_else(|| panic!("no dot: {version}"));
        Sibling { dot, value: text("text"), metadata: Metadata { content_type, ..Metadata::default() } }
    };
    let mut object = Object::default();
    object.context.join(context);
    object.siblings.extend(shown.iter().map(sibling));
    object.siblings.sort_by_key(|sibling| sibling.dot);
    object
}

/// What a token says.
pub(crate) fn opened(tokens: &ContextTokens, key: &Key, token: &str) -> CausalContext {
    tokens.open(key, token).unwrap_or_else(|error| panic!("{key:?}: {token}: {error}"))
}

fn dot(etag: &str) -> Option<Dot> {
    let (actor, counter) = etag.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(Dot { actor: ActorId(number(actor)?), counter: number(counter)? })
}

fn acks(answer: &Answer) -> (u8, u8) {
    let both = answer.header("Rondo-Acks").and_then(|text| text.split_once('/'));
    both.and_then(|(acks, n)| Some((acks.parse().ok()?, n.parse().ok()?))).unwrap_or_default()
}

fn is_sloppy(answer: &Answer) -> bool {
    answer.header("Rondo-Quorum") == Some("sloppy")
}

/// A failure by its status. Anything else is not what the contract says, and ends the test.
fn failure(answer: &Answer) -> Failure {
    let problem = answer.json();
    let count = |name: &str| problem[name].as_u64().unwrap_or(0) as u8;
    let (required, acked, n) = (count("required"), count("acked"), count("n"));
    let outcome = if problem["outcome"] == "unknown" { Outcome::Unknown } else { Outcome::NotApplied };
    let kind = problem["type"].as_str().unwrap_or_default().rsplit(':').next().unwrap_or_default();
    match (answer.status, kind) {
        (409, "too-many-siblings") => Failure::TooManySiblings { count: 0, max: 0, context: CausalContext::default() },
        (412, _) => Failure::ConditionFailed { etag: None, context: CausalContext::default() },
        (429, _) => Failure::Busy,
        (503, "context-not-reached") => Failure::ContextNotReached,
        (503, "quorum-unavailable" | "not-ready") => Failure::Unavailable { required, acked, n, outcome },
        (504, _) => Failure::TimedOut { required, acked, n, outcome },
        (507, _) => Failure::LowDisk,
        _ => panic!("no answer of the contract: {} {}: {}", answer.url(), answer.status, answer.text()),
    }
}
