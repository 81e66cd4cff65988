//! `/openapi.json` is the interface: what real nodes answer is as it says.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rondo_tests::{Answer, Cluster, Shared, eventually, holds, request};
use serde_json::{Value, json};

static CLUSTER: Shared = Shared::new();
const METHODS: [&str; 8] = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE"];
const OBJECT: &str = "/v1/kv/{bucket}/{key}";

fn cluster() -> Arc<Cluster> {
    CLUSTER.get(|| Cluster::start(3))
}

/// The document as a node serves it, and which of its answers were seen.
struct Document {
    text: Value,
    seen: BTreeSet<(String, u16)>,
}

impl Document {
    fn of(cluster: &Cluster) -> Self {
        let answer = cluster[0].get("/openapi.json").expect(200);
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        Self { text: answer.json(), seen: BTreeSet::new() }
    }

    fn resolved<'a>(&'a self, part: &'a Value) -> &'a Value {
        let target = part["$ref"].as_str().map(|target| self.text.pointer(&target[1..]).unwrap());
        target.unwrap_or(part)
    }

    fn paths(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.text["paths"].as_object().unwrap().iter().map(|(path, item)| (path.as_str(), item))
    }

    /// What is wrong with a value by a schema of the document.
    fn wrong(&self, schema: &Value, value: &Value) -> Vec<String> {
        let whole = json!({"components": self.text["components"], "allOf": [schema]});
        let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&whole).unwrap();
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    /// Checks an answer to a request on a path, and passes it on.
    #[track_caller]
    fn check(&mut self, method: &str, path: &str, answer: Answer) -> Answer {
        let shown = format!("{method} {} gave {answer:?}\n{}", answer.url(), answer.text());
        let operation = &self.text["paths"][path][method.to_lowercase()];
        let response = &operation["responses"][answer.status.to_string()];
        assert!(response.is_object(), "a status that is not listed: {shown}");
        let response = self.resolved(response);
        self.check_headers(response, &answer, &shown);
        if method != "HEAD" {
            self.check_body(response, &answer, &shown);
        }
        self.seen.insert((operation["operationId"].as_str().unwrap().into(), answer.status));
        answer
    }

    /// Those that are listed are as they have to be, and of ours there is none that is not listed.
    #[track_caller]
    fn check_headers(&self, response: &Value, answer: &Answer, shown: &str) {
        let listed = response["headers"].as_object().unwrap();
        for (name, header) in listed {
            let header = self.resolved(header);
            let Some(value) = answer.header(name) else {
                assert_ne!(header["required"], true, "{name} is missing: {shown}");
                continue;
            };
            let is_number = header["schema"]["type"] == "integer";
            let value = if is_number { serde_json::from_str(value).unwrap() } else { json!(value) };
            let wrong = self.wrong(&header["schema"], &value);
            assert!(wrong.is_empty(), "{name}: {wrong:?} in {shown}");
        }
        let ours = |name: &&str| {
            let meta = name.starts_with("rondo-meta-");
            !meta && (name.starts_with("rondo-") || ["etag", "allow", "location", "retry-after"].contains(name))
        };
        let mut names = answer.header_names().filter(ours);
        let unlisted = names.find(|name| !listed.keys().any(|known| known.eq_ignore_ascii_case(name)));
        assert_eq!(unlisted, None, "a header that is not listed: {shown}");
    }

    #[track_caller]
    fn check_body(&self, response: &Value, answer: &Answer, shown: &str) {
        let Some(listed) = response["content"].as_object() else {
            assert!(answer.body.is_empty(), "a body where none is listed: {shown}");
            return;
        };
        let Some(sent) = answer.header("Content-Type") else {
            assert!(answer.body.is_empty(), "a body without a type: {shown}");
            return;
        };
        let media = listed.get(sent).or_else(|| listed.get("*/*"));
        let schema = &media.unwrap_or_else(|| panic!("a content type that is not listed: {shown}"))["schema"];
        let is_json = sent.ends_with("json") && listed.contains_key(sent);
        let body = match is_json {
            // Lines are described as the elements of an array.
            true if sent.ends_with("ndjson") => {
                answer.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect()
            }
            true => serde_json::from_slice(&answer.body).unwrap(),
            false => json!(answer.text()),
        };
        let wrong = self.wrong(schema, &body);
        assert!(wrong.is_empty(), "{wrong:?} in {shown}");
    }

    /// Sends and checks.
    #[track_caller]
    fn get(&mut self, cluster: &Cluster, path: &str, target: &str, status: u16) -> Answer {
        self.check("HEAD", path, request("HEAD", &cluster[0].url(target)).send().expect(status));
        self.check("GET", path, cluster[1].get(target).expect(status))
    }
}

#[test]
fn every_path_takes_the_methods_that_are_described_and_says_so() {
    let cluster = cluster();
    let document = Document::of(&cluster);
    for (path, item) in document.paths() {
        let target = path.replace("{bucket}", "methods").replace("{key}", "k");
        let described: BTreeSet<&str> =
            METHODS.into_iter().filter(|method| item.get(method.to_lowercase()).is_some()).collect();
        for method in METHODS {
            let answer = request(method, &cluster[0].url(&target)).send();
            if described.contains(method) {
                assert!(answer.status != 405 && answer.status != 501, "{method} {path}: {answer:?}");
                continue;
            }
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            let allowed: BTreeSet<&str> = answer.header("Allow").unwrap().split(", ").collect();
            assert_eq!(allowed, described, "{method} {path}");
        }
    }
}

#[test]
fn objects_are_answered_as_it_says() {
    let cluster = cluster();
    let mut document = Document::of(&cluster);
    let (node, mut put) = (&cluster[0], Vec::new());
    let object = |method, key| node.object(method, "contract", key);
    for (content_type, value) in [("text/plain", "one"), ("application/json", "{\"a\":1}"), ("image/x", "\u{e9}")] {
        let sent = object("PUT", "k").header("Content-Type", content_type).header("Rondo-Meta-Note", "n").body(value);
        put.push(document.check("PUT", OBJECT, sent.send().expect(204)));
        document.check("GET", OBJECT, object("GET", "k").send().expect(200));
        document.check("HEAD", OBJECT, object("HEAD", "k").send().expect(200));
    }
    let known = object("GET", "k").header("If-None-Match", put[2].header("ETag").unwrap());
    document.check("GET", OBJECT, known.send().expect(304));
    let known = object("HEAD", "k").header("If-None-Match", "*");
    document.check("HEAD", OBJECT, known.send().expect(304));
    let posted = request("POST", &node.url("/v1/kv/contract")).body("posted").send().expect(201);
    let posted = document.check("POST", "/v1/kv/{bucket}", posted);
    document.check("GET", OBJECT, node.get(posted.header("Location").unwrap()).expect(200));

    let shown = |request: rondo_tests::Request| request.header("Prefer", "return=representation");
    let sent = shown(object("PUT", "r")).header("Rondo-Ttl", "1h").header("Content-Type", "text/plain").body("shown");
    let returned = document.check("PUT", OBJECT, sent.send().expect(200));
    document.check("GET", OBJECT, object("GET", "r").send().expect(200));
    document.check("PUT", OBJECT, object("PUT", "r").header("If-None-Match", "*").send().expect(412));
    document.check("PUT", OBJECT, object("PUT", "never").header("If-Match", "*").send().expect(412));
    let matching = |method, etag: &str| object(method, "r").header("If-Match", etag).send();
    document.check("DELETE", OBJECT, matching("DELETE", "\"a-1\"").expect(412));
    document.check("PUT", OBJECT, matching("PUT", returned.header("ETag").unwrap()).expect(204));

    let first = put[0].context();
    for value in [&b"two"[..], b"\xff"] {
        document.check("PUT", OBJECT, object("PUT", "k").context(&first).body(value).send().expect(204));
    }
    for method in ["GET", "HEAD"] {
        document.check(method, OBJECT, object(method, "k").send().expect(409));
        let listed = request(method, &node.url("/v1/kv/contract/k?siblings=json")).send().expect(200);
        document.check(method, OBJECT, listed);
    }
    let deleted = document.check("DELETE", OBJECT, object("DELETE", "k").context(&first).send().expect(204));
    assert_eq!(deleted.header("Rondo-Siblings"), Some("3"));
    document.check("DELETE", OBJECT, object("DELETE", "k").send().expect(204));
    for method in ["GET", "HEAD"] {
        document.check(method, OBJECT, object(method, "k").send().expect(404));
        document.check(method, OBJECT, object(method, "never").send().expect(404));
    }
    let bad = [("GET", "?colour=red", 400), ("HEAD", "?r=9", 400), ("PUT", "?w=9", 400), ("DELETE", "?w=0", 400)];
    for (method, query, status) in bad {
        let answer = request(method, &node.url(&format!("/v1/kv/contract/k{query}"))).send();
        document.check(method, OBJECT, answer.expect(status));
    }
    let long = "x".repeat(1_025);
    document.check("PUT", OBJECT, object("PUT", &long).send().expect(414));
    document.check("GET", OBJECT, object("GET", &long).send().expect(414));
    let forged = object("PUT", "k").context("AAAA").send().expect(400);
    document.check("PUT", OBJECT, forged);
    document.check("PUT", OBJECT, object("PUT", "k").body(vec![0; (4 << 20) + 1]).send().expect(413));
    let metadata = (0..33).fold(object("PUT", "k"), |put, i| put.header(&format!("Rondo-Meta-{i}"), "x"));
    document.check("PUT", OBJECT, metadata.send().expect(431));
    let limited = request("PUT", &node.url("/v1/buckets/contract-2")).body("{\"max_siblings\":1,\"n\":7}");
    document.check("PUT", "/v1/buckets/{bucket}", limited.send().expect(200));
    let beside = |body: &str| node.object("PUT", "contract-2", "k").w(1).context(&first).body(body);
    document.check("PUT", OBJECT, beside("foreign").send().expect(400));
    let one = node.object("PUT", "contract-2", "k").w(1).body("1").send().expect(204);
    let beside = |body: &str| node.object("PUT", "contract-2", "k").w(1).context(&one.context()).body(body).send();
    beside("2").expect(204);
    document.check("PUT", OBJECT, beside("3").expect(409));
    document.check("PUT", OBJECT, node.object("PUT", "contract-2", "k").w("all").send().expect(503));
    document.check("GET", OBJECT, node.object("GET", "contract-2", "k").r("all").send().expect(503));
    every_success_was_seen(&document, "Objects");
}

#[test]
fn buckets_are_answered_as_it_says() {
    const PATH: &str = "/v1/buckets/{bucket}";
    let cluster = cluster();
    let mut document = Document::of(&cluster);
    let url = cluster[0].url("/v1/buckets/contract-b");
    let set = |content_type: &str, body: Value| {
        request("PUT", &url).header("Content-Type", content_type).body(body.to_string()).send()
    };
    let everything = json!({"n":3,"r":1,"w":"each-quorum","quorum":"strict","mode":"eventual","conflict":"siblings",
        "blind_put":"sibling","durability":"interval","ttl":"1h","max_siblings":7});
    document.check("PUT", PATH, set("application/json", everything).expect(200));
    document.check("PUT", PATH, set("application/json", json!({"conflict": "lww", "ttl": 7})).expect(200));
    document.get(&cluster, PATH, "/v1/buckets/contract-b", 200);
    document.get(&cluster, "/v1/buckets", "/v1/buckets", 200);
    document.check("PUT", PATH, set("application/json", json!({"n": 9, "colour": 1})).expect(400));
    document.check("PUT", PATH, set("application/json", json!([])).expect(400));
    document.check("PUT", PATH, set("text/xml", json!({})).expect(415));
    document.check("PUT", PATH, set("application/json", json!({"n": "x".repeat(70_000)})).expect(413));
    document.check("DELETE", PATH, request("DELETE", &url).send().expect(200));
    document.get(&cluster, PATH, "/v1/buckets/not%20a%20name", 400);
    every_success_was_seen(&document, "Buckets");
}

#[test]
fn the_rest_is_answered_as_it_says() {
    let cluster = cluster();
    let mut document = Document::of(&cluster);
    for path in [
        "/",
        "/livez",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/v1/cluster",
        "/v1/staleness",
        "/v1/repair",
        "/v1/hints",
    ] {
        document.get(&cluster, path, path, 200);
        document.get(&cluster, path, &format!("{path}?colour=red"), 400);
    }
    document.get(&cluster, "/readyz", "/readyz?verbose", 200);
    document.get(&cluster, "/v1/ring", "/v1/ring?bucket=fruit&key=a%2Fb", 200);
    document.get(&cluster, "/v1/ring", "/v1/ring?bucket=fruit", 400);
    let puts = |i| json!({"op": "put", "bucket": "contract-s", "key": format!("k{i}"), "value": i}).to_string();
    let lines = (0..2_000).map(puts).collect::<Vec<_>>().join("\n");
    request("POST", &cluster[1].url("/v1/batch")).body(lines).send().expect(200);
    eventually(Duration::from_secs(20), "an estimate", || {
        let answer = document.get(&cluster, "/v1/staleness", "/v1/staleness", 200);
        holds(!answer.json()["estimates"].as_array().unwrap().is_empty(), || answer.text())
    });
    const BEGIN: &str = "/v1/admin/repair";
    let begin = |body: Value| request("POST", &cluster[0].url(BEGIN)).body(body.to_string()).send();
    document.check("POST", BEGIN, begin(json!({})).expect(202));
    document.check("POST", BEGIN, begin(json!({"node": "n1"})).expect(400));
    document.check("POST", BEGIN, begin(json!({"x": "x".repeat(2_000)})).expect(413));
    const LOCAL: &str = "/v1/local/{bucket}/{key}";
    document.get(&cluster, LOCAL, "/v1/local/contract-l/k", 200);
    cluster[0].object("PUT", "contract-l", "k").w("all").header("Content-Type", "application/json").body("7").send();
    document.get(&cluster, LOCAL, "/v1/local/contract-l/k", 200);
    cluster[0].object("DELETE", "contract-l", "k").w("all").send().expect(204);
    document.get(&cluster, LOCAL, "/v1/local/contract-l/k", 200);
    for tag in ["Cluster", "Node"] {
        every_success_was_seen(&document, tag);
    }
}

#[test]
fn a_node_that_waits_for_others_answers_as_it_says() {
    let pair = Cluster::start(2);
    let mut document = Document::of(&pair);
    pair[1].pause();
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let asked = pair[0].object(method, "fruit", "k").r(2).w(2).header("Rondo-Timeout", "100ms");
        // A hung owner is late until it is called suspect.
        document.check(method, OBJECT, asked.send().expect_any(&[503, 504]));
    }
    pair[1].resume();

    let alone = Cluster::builder(1).expect(2).bind();
    for target in ["/readyz", "/readyz?verbose", "/v1/cluster", "/v1/ring?bucket=fruit&key=k"] {
        let path = target.split('?').next().unwrap();
        document.check("GET", path, alone[0].get(target).expect(503));
    }
    document.check("GET", OBJECT, alone[0].object("GET", "fruit", "k").send().expect(503));
    document.check("PUT", OBJECT, alone[0].object("PUT", "fruit", "k").send().expect(503));
}

#[test]
fn listings_and_batches_are_answered_as_it_says() {
    let cluster = cluster();
    let mut document = Document::of(&cluster);
    let path = "/v1/kv/{bucket}";
    cluster[0].object("PUT", "listed", "k").body("v").send().expect(204);
    document.get(&cluster, path, "/v1/kv/listed?limit=5&prefix=k", 200);
    document.get(&cluster, path, "/v1/kv/listed?limit=0", 400);
    for target in ["/v1/kv/empty", "/v1/kv/listed", "/v1/kv/listed?limit=1"] {
        let stream = request("GET", &cluster[0].url(target)).header("Accept", "application/x-ndjson");
        document.check("GET", path, stream.send().expect(200));
    }
    let batch = |body: &str| request("POST", &cluster[0].url("/v1/batch")).body(body).send();
    let line = |rest: &str| format!(r#"{{"bucket":"listed","key":"b",{rest}}}"#) + "\n";
    let lines = [
        line(r#""op":"put","value":{"a":1},"w":"all""#),
        line(r#""op":"get","r":3"#),
        line(r#""op":"put","text":"v","if_none_match":"*""#),
        line(r#""op":"delete","if_match":"a-1""#),
        line(r#""op":"delete""#),
        line(r#""op":"get""#),
        line(r#""op":"put","base64":"/w==","if_match":"*""#),
        line(r#""op":"put""#),
        "{}\n".to_owned(),
    ];
    let answered = document.check("POST", "/v1/batch", batch(&lines.concat()).expect(200));
    let statuses: Vec<Value> =
        answered.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["status"].clone()).collect();
    assert_eq!(statuses, [204, 200, 412, 412, 204, 404, 412, 400, 400]);
    document.check("POST", "/v1/batch", batch(&"{}\n".repeat(10_001)).expect(413));
    every_success_was_seen(&document, "Many keys");
}

/// A description that no request was held against says nothing.
#[track_caller]
fn every_success_was_seen(document: &Document, tag: &str) {
    for (path, item) in document.paths() {
        for operation in item.as_object().unwrap().values().filter(|operation| operation["tags"][0] == tag) {
            let id = operation["operationId"].as_str().unwrap();
            let statuses = operation["responses"].as_object().unwrap().keys().map(|status| status.parse().unwrap());
            for status in statuses.filter(|status| *status < 400) {
                assert!(document.seen.contains(&(id.into(), status)), "no request gave {status} of {id} on {path}");
            }
        }
    }
}
