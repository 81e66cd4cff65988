//! Many operations in one request: each line is answered as its own request would have been.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::sync::Arc;

use rondo_tests::{Answer, Cluster, Node, Shared, request};
use serde_json::{Value, json};

static CLUSTER: Shared = Shared::new();

fn cluster() -> Arc<Cluster> {
    CLUSTER.get(|| Cluster::start(3))
}

fn send(node: &Node, body: impl Into<Vec<u8>>) -> Answer {
    request("POST", &node.url("/v1/batch")).header("Content-Type", "application/x-ndjson").body(body).send()
}

#[track_caller]
fn lines(node: &Node, lines: &[Value]) -> Vec<Value> {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let answer = send(node, body).expect(200);
    assert_eq!(answer.header("Content-Type"), Some("application/x-ndjson"));
    let answers: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), lines.len(), "{}", answer.text());
    answers
}

fn put(key: &str, value: &Value) -> Value {
    json!({"op": "put", "bucket": "batch", "key": key, "value": value})
}

fn get(key: &str) -> Value {
    json!({"op": "get", "bucket": "batch", "key": key})
}

fn statuses(answers: &[Value]) -> Vec<u64> {
    answers.iter().map(|answer| answer["status"].as_u64().unwrap()).collect()
}

#[test]
fn lines_do_what_their_requests_do_in_their_order() {
    let cluster = cluster();
    let answers = lines(
        &cluster[0],
        &[
            put("v", &json!({"n": 1})),
            json!({"op": "put", "bucket": "batch", "key": "t", "text": "hi\n", "w": "all"}),
            json!({"op": "put", "bucket": "batch", "key": "b", "base64": "/wA=", "w": 3}),
            get("v"),
            json!({"op": "get", "bucket": "batch", "key": "t", "r": 1}),
            json!({"op": "get", "bucket": "batch", "key": "b", "r": "all"}),
            put("v", &Value::Null),
            get("v"),
            json!({"op": "delete", "bucket": "batch", "key": "v"}),
            get("v"),
            get("never"),
        ],
    );
    assert_eq!(statuses(&answers), [204, 204, 204, 200, 200, 200, 204, 200, 204, 404, 404], "{answers:?}");
    assert_eq!((&answers[3]["value"], &answers[3]["content_type"]), (&json!({"n": 1}), &json!("application/json")));
    assert_eq!((&answers[3]["etag"], &answers[3]["key"]), (&answers[0]["etag"], &json!("v")));
    assert_eq!((&answers[4]["text"], &answers[4]["content_type"]), (&json!("hi\n"), &json!("text/plain")));
    assert_eq!((&answers[5]["base64"], &answers[5]["bucket"]), (&json!("/wA="), &json!("batch")));
    assert!(answers[7].as_object().unwrap().contains_key("value") && answers[7]["value"].is_null(), "{}", answers[7]);
    assert_eq!(answers[9]["error"]["type"], "urn:rondo:problem:deleted");
    assert!(answers[9]["context"].is_string() && answers[10]["context"].is_null());
    // What a batch wrote, a request reads.
    assert_eq!(cluster[1].object("GET", "batch", "t").send().expect(200).etag(), answers[1]["etag"].as_str().unwrap());
}

/// Every kind of error, each beside a line that is well; the others' order and answers do not suffer.
#[test]
fn a_bad_line_spoils_no_other() {
    let cluster = cluster();
    let node = &cluster[1];
    let big = "x".repeat((4 << 20) + 1);
    let first = node.object("PUT", "batch", "sib").w(3).body("1").send().expect(204);
    for (node, value) in cluster.nodes().iter().zip(["2", "3"]) {
        node.object("PUT", "batch", "sib").w(3).context(&first.context()).body(value).send().expect(204);
    }
    let bad = [
        (json!({"op": "copy", "bucket": "batch", "key": "k"}), 400, Some("op")),
        (json!({"op": "get", "bucket": "a b", "key": "k"}), 400, Some("bucket")),
        (json!({"op": "get", "bucket": "batch", "key": ""}), 400, Some("key")),
        (json!({"op": "get", "bucket": "batch", "key": "k".repeat(1_025)}), 414, None),
        (json!({"op": "get", "bucket": "batch", "key": "k", "r": 4}), 400, Some("r")),
        (json!({"op": "put", "bucket": "batch", "key": "k", "text": "x", "w": "most"}), 400, Some("w")),
        (json!({"op": "put", "bucket": "batch", "key": "k"}), 400, Some("value")),
        (json!({"op": "put", "bucket": "batch", "key": "k", "text": "x", "value": 1}), 400, Some("value")),
        (json!({"op": "put", "bucket": "batch", "key": "k", "base64": "?"}), 400, Some("base64")),
        (json!({"op": "put", "bucket": "batch", "key": "k", "text": "x", "context": "forged"}), 400, Some("context")),
        (json!({"op": "delete", "bucket": "batch", "key": "k", "ttl": 60}), 400, Some("ttl")),
        (json!({"op": "get", "bucket": "batch", "key": "k", "value": 1}), 400, Some("value")),
        (json!({"op": "put", "bucket": "batch", "key": "k", "text": big}), 413, None),
        (json!({"op": "get", "bucket": "batch", "key": "k", "colour": "red"}), 400, None),
        (json!({"op": "get", "bucket": "batch"}), 400, None),
        (json!([1]), 400, None),
        (get("sib"), 409, None),
    ];
    let mut sent = Vec::new();
    for (index, (line, ..)) in bad.iter().enumerate() {
        sent.extend([line.clone(), put(&format!("well{index}"), &json!(index))]);
    }
    let mut answers = lines(node, &sent);
    for (index, (line, status, parameter)) in bad.iter().enumerate() {
        let (answer, well) = (&answers[2 * index], &answers[2 * index + 1]);
        assert_eq!(answer["status"], *status, "{answer}");
        assert_eq!(answer["error"]["status"], *status, "{answer}");
        assert_eq!(answer["error"]["parameter"].as_str(), *parameter, "{answer}");
        if line["key"].is_string() && line["colour"].is_null() {
            assert_eq!(answer["key"], line["key"]);
        }
        assert_eq!((&well["status"], &well["key"]), (&json!(204), &json!(format!("well{index}"))));
    }
    let conflict = answers.swap_remove(sent.len() - 2);
    assert_eq!(conflict["siblings"].as_array().unwrap().len(), 2, "{conflict}");
    let resolved = json!({"op": "put", "bucket": "batch", "key": "sib", "text": "4", "context": conflict["context"]});
    assert_eq!(statuses(&lines(node, &[resolved, get("sib")])), [204, 200]);
    assert_eq!(node.object("GET", "batch", "k").send().status, 404, "a refused line wrote something");
}

#[test]
fn lines_on_one_key_are_carried_out_one_after_the_other() {
    let cluster = cluster();
    let writes: Vec<Value> = (0..200).map(|n| put("counter", &json!(n))).collect();
    let mut sent = writes.clone();
    sent.push(get("counter"));
    let answers = lines(&cluster[2], &sent);
    assert!(answers[..200].iter().all(|answer| answer["status"] == 204));
    assert_eq!((&answers[200]["status"], &answers[200]["value"]), (&json!(200), &json!(199)));
}

#[test]
fn a_batch_has_limits() {
    let cluster = cluster();
    let node = &cluster[0];
    let empty = send(node, "").expect(200);
    assert!(empty.body.is_empty());
    assert!(send(node, "\n \r\n").expect(200).body.is_empty());
    let line = format!("{}\n", put("many", &json!(1)));
    let problem = send(node, line.repeat(10_001)).problem(413);
    assert!(problem["detail"].as_str().unwrap().contains("10000 lines"), "{problem}");
    let problem = send(node, vec![b' '; (64 << 20) + 1]).problem(413);
    assert!(problem["detail"].as_str().unwrap().contains("67108864"), "{problem}");
    assert_eq!(node.object("GET", "batch", "many").send().status, 404, "a refused batch wrote something");
    let reads: String = (0..10_000).map(|n| format!("{}\n", get(&format!("no{n}")))).collect();
    assert_eq!(send(node, reads).expect(200).text().lines().count(), 10_000);

    let batch =
        |name: &str, value: &str| request("POST", &node.url("/v1/batch")).header(name, value).body(line.clone()).send();
    batch("Content-Type", "text/csv").problem(415);
    assert_eq!(batch("Rondo-W", "1").problem(400)["parameter"], "Rondo-W");
    assert_eq!(request("POST", &node.url("/v1/batch?w=1")).send().problem(400)["parameter"], "w");
    assert_eq!(request("GET", &node.url("/v1/batch")).send().expect(405).header("Allow"), Some("POST"));
}

/// A client that repeats a batch whose answer it never saw leaves one version of each line.
#[test]
fn a_repeated_batch_is_the_same_writes() {
    let cluster = cluster();
    let line = |key: &str| format!("{}\n", json!({"op": "put", "bucket": "again", "key": key, "text": key}));
    let properties = request("PUT", &cluster[0].url("/v1/buckets/again")).body(r#"{"blind_put":"sibling"}"#);
    properties.send().expect(200);
    let twice = |name: Option<&str>, key: &str| {
        for node in [&cluster[0], &cluster[1]] {
            let sent = request("POST", &node.url("/v1/batch")).body(line(key) + &line(&format!("{key}2")));
            let sent = name.into_iter().fold(sent, |sent, name| sent.header("Idempotency-Key", name));
            sent.send().expect(200);
        }
        cluster[2].object("GET", "again", key).r(3).send().status
    };
    rondo_tests::eventually(std::time::Duration::from_secs(10), "the property everywhere", || {
        let seen = cluster[1].get("/v1/buckets/again").json();
        rondo_tests::holds(seen["blind_put"] == "sibling", || seen.to_string())
    });
    assert_eq!(twice(Some("run-7"), "named"), 200);
    assert_eq!(twice(None, "nameless"), 409);
}
