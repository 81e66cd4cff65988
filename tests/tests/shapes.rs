//! The shapes in which a key's versions are read: raw, one of several, a JSON list, `multipart/mixed`; GET and HEAD.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::BTreeMap;
use std::sync::Arc;

use rondo_tests::{Answer, Cluster, Node, Shared, request};

static CLUSTER: Shared = Shared::new();
const JSON_LIST: &str = "application/vnd.rondo.siblings+json";
const MULTIPART: &str = "multipart/mixed";

fn cluster() -> Arc<Cluster> {
    CLUSTER.get(|| Cluster::start(3))
}

fn put(node: &Node, key: &str, value: impl Into<Vec<u8>>) -> rondo_tests::Request {
    node.object("PUT", "s", key).w(3).header("Content-Type", "text/plain").body(value)
}

fn get(node: &Node, key: &str, query: &str, accept: &str) -> Answer {
    request("GET", &node.url(&format!("/v1/kv/s/{key}{query}"))).r(3).header("Accept", accept).send()
}

/// Two versions, "two" and "three", by the ETags that their PUTs were answered with.
fn conflict(cluster: &Cluster, key: &str) -> BTreeMap<String, &'static str> {
    let seen = put(&cluster[0], key, "one").send().expect(204).context();
    let of = |node: &Node, value: &'static str| {
        let put = put(node, key, value).context(&seen).header("Rondo-Meta-Says", value);
        (put.send().expect(204).etag(), value)
    };
    BTreeMap::from([of(&cluster[0], "two"), of(&cluster[1], "three")])
}

struct Part {
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// As a client takes it apart (RFC 2046): by the boundary of its content type.
fn parts(answer: &Answer) -> Vec<Part> {
    let content_type = answer.header("Content-Type").unwrap();
    let boundary = content_type.strip_prefix("multipart/mixed; boundary=").unwrap();
    let delimiter = format!("\r\n--{boundary}");
    let all = [b"\r\n", &answer.body[..]].concat();
    let at =
        |from: usize, text: &[u8]| all[from..].windows(text.len()).position(|w| w == text).map(|place| place + from);
    let (mut parts, mut from) = (Vec::new(), at(0, delimiter.as_bytes()).unwrap() + delimiter.len());
    while all[from..].starts_with(b"\r\n") {
        let (head_end, end) = (at(from, b"\r\n\r\n").unwrap(), at(from, delimiter.as_bytes()).unwrap());
        let head = std::str::from_utf8(&all[from + 2..head_end]).unwrap();
        let one =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_string()));
        parts.push(Part {
            headers: head.lines().map(|line| one(line).unwrap()).collect(),
            body: all[head_end + 4..end].to_vec(),
        });
        from = end + delimiter.len();
    }
    assert_eq!(&all[from..], b"--\r\n", "it ends as it says");
    parts
}

#[test]
fn one_of_several_versions_is_read_by_its_name() {
    let cluster = cluster();
    let versions = conflict(&cluster, "named");
    let set = cluster[2].object("GET", "s", "named").r(3).send().expect(409);
    for (etag, value) in &versions {
        for node in cluster.nodes() {
            let one = get(node, "named", &format!("?sibling={etag}"), "*/*").expect(200);
            assert_eq!((one.text().as_str(), &one.etag()), (*value, etag));
            assert_eq!((one.header("Content-Type"), one.header("Rondo-Meta-Says")), (Some("text/plain"), Some(*value)));
            assert_eq!((one.header("Rondo-Siblings"), one.header("Rondo-Acks")), (Some("2"), Some("3/3")));
            assert!(one.header("Last-Modified").unwrap().ends_with(" GMT"));
            assert_ne!(one.context(), set.context(), "it covers what was shown");
        }
        let unchanged = request("GET", &cluster[0].url(&format!("/v1/kv/s/named?sibling=%22{etag}%22")));
        unchanged.header("If-None-Match", format!("\"{etag}\"")).send().expect(304);
    }
    for absent in [set.etag(), "1f-2e".into()] {
        let problem = get(&cluster[0], "named", &format!("?sibling={absent}"), "*/*").problem(404);
        assert_eq!(problem["type"], "urn:rondo:problem:no-such-version");
        assert_eq!((&problem["parameter"], &problem["value"]), (&"sibling".into(), &absent.as_str().into()));
        assert!(versions.keys().all(|etag| problem["allowed"].as_str().unwrap().contains(etag)), "{problem}");
    }
    let never = get(&cluster[0], "never", "?sibling=1f-2e", "*/*").problem(404);
    assert_eq!(never["type"], "urn:rondo:problem:no-such-key");
    // Whoever has seen one version replaces that one.
    let (etag, _) = versions.first_key_value().unwrap();
    let context = get(&cluster[1], "named", &format!("?sibling={etag}"), "*/*").context();
    put(&cluster[2], "named", "four").context(&context).send().expect(204);
    let left = get(&cluster[0], "named", "?siblings=json", "*/*").expect(200).json();
    let mut texts: Vec<&str> =
        left["siblings"].as_array().unwrap().iter().map(|s| s["text"].as_str().unwrap()).collect();
    texts.sort_unstable();
    let (_, kept) = versions.last_key_value().unwrap();
    let mut expected = ["four", kept];
    expected.sort_unstable();
    assert_eq!(texts, expected);
    let gone = get(&cluster[0], "named", &format!("?sibling={etag}"), "*/*").problem(404);
    assert_eq!(gone["type"], "urn:rondo:problem:no-such-version");
}

#[test]
fn all_versions_come_as_parts_with_headers_of_their_own() {
    let cluster = cluster();
    let versions = conflict(&cluster, "parts");
    let set = cluster[0].object("GET", "s", "parts").r(3).send().expect(409);
    let mut bodies = Vec::new();
    for node in cluster.nodes() {
        let all = get(node, "parts", "", MULTIPART).expect(200);
        assert_eq!((all.etag(), all.header("Rondo-Siblings")), (set.etag(), Some("2")));
        let parts = parts(&all);
        assert_eq!(parts.len(), 2);
        for Part { headers, body } in parts {
            let value = versions[headers["etag"].trim_matches('"')];
            assert_eq!((String::from_utf8(body).unwrap(), &headers["rondo-meta-says"]), (value.into(), &value.into()));
            assert_eq!(headers["content-type"], "text/plain");
            assert!(headers["last-modified"].ends_with(" GMT"));
        }
        bodies.push(all.body.clone());
        let known = node.object("GET", "s", "parts").r(3).header("Accept", MULTIPART);
        known.header("If-None-Match", format!("\"{}\"", all.etag())).send().expect(304);
        let resolves = all.context();
        assert!(!resolves.is_empty());
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "one ETag, the same bytes on every node");
    let context = get(&cluster[1], "parts", "", MULTIPART).context();
    let put = cluster[1].object("PUT", "s", "parts").w(3).context(&context).header("Content-Encoding", "br");
    let put = put.body(b"\r\n--\xff\r\n".to_vec()).send().expect(204);
    assert_eq!(put.header("Rondo-Siblings"), None, "the context covers every part");
    let one = get(&cluster[2], "parts", "", MULTIPART).expect(200);
    let only = parts(&one).pop().unwrap();
    assert_eq!((only.body, one.etag()), (b"\r\n--\xff\r\n".to_vec(), put.etag()), "one version is a part too");
    assert_eq!(only.headers["content-encoding"], "br");
    cluster[0].object("DELETE", "s", "parts").w(3).send().expect(204);
    let deleted = get(&cluster[1], "parts", "", MULTIPART);
    assert_eq!(deleted.header("Rondo-Deleted"), Some("true"));
    deleted.problem(404);
    get(&cluster[1], "never", "", MULTIPART).problem(404);
}

#[test]
fn accept_is_weighed_as_http_says() {
    let cluster = cluster();
    conflict(&cluster, "several");
    put(&cluster[0], "one", "v").send().expect(204);
    let (list, value) = (Some(JSON_LIST), Some("text/plain"));
    for (accept, of_one, of_several) in [
        ("*/*", value, None),
        ("application/json", value, None),
        (JSON_LIST, list, list),
        ("multipart/mixed;q=0.2, application/vnd.rondo.siblings+json;q=0.3", list, list),
        ("*/*, application/vnd.rondo.siblings+json;q=0.5", value, list),
        ("application/vnd.rondo.siblings+json;q=0, */*", value, None),
    ] {
        let one = get(&cluster[1], "one", "", accept).expect(200);
        assert_eq!(one.header("Content-Type"), of_one, "{accept}");
        let several = get(&cluster[1], "several", "", accept).expect(if of_several.is_some() { 200 } else { 409 });
        assert!(of_several.is_none() || several.header("Content-Type") == of_several, "{accept}");
    }
    let both = get(&cluster[0], "one", "?siblings=json&sibling=1f-2e", "*/*").problem(400);
    assert_eq!(both["parameter"], "sibling");
}

#[test]
fn head_is_get_without_the_body_in_every_shape() {
    let cluster = cluster();
    conflict(&cluster, "head");
    let etag = put(&cluster[0], "whole", "value").send().expect(204).etag();
    put(&cluster[0], "empty", "").send().expect(204);
    cluster[0].object("DELETE", "s", "deleted").w(3).send().expect(204);
    for (path, accept) in [
        ("whole", "*/*"),
        ("empty", "*/*"),
        ("deleted", "*/*"),
        ("never", "*/*"),
        ("whole?r=9", "*/*"),
        ("head", "*/*"),
        ("head?siblings=json", "*/*"),
        ("head", MULTIPART),
        ("empty", MULTIPART),
        (&format!("whole?sibling={etag}"), "*/*"),
    ] {
        let ask = |method| {
            let request = request(method, &cluster[1].url(&format!("/v1/kv/s/{path}")));
            request.header("Accept", accept).header("X-Request-Id", "the-same").send()
        };
        let (get, head) = (ask("GET"), ask("HEAD"));
        assert!(head.body.is_empty() && get.status == head.status, "{path} {accept}: {head:?}");
        assert_eq!(head.header("Content-Length"), Some(get.body.len().to_string().as_str()), "{path} {accept}");
        let names = "content-type content-length etag last-modified rondo-context rondo-acks rondo-quorum rondo-siblings \
                     rondo-deleted";
        for name in names.split(' ') {
            assert_eq!(head.header(name), get.header(name), "{name} of {path} {accept}");
        }
    }
}
