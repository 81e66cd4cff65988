//! Contexts and siblings: nothing that a client has not seen is ever replaced by it.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::BTreeSet;
use std::sync::Arc;

use rondo_tests::{Answer, Cluster, Node, Shared, request};
use serde_json::{Value, json};

static CLUSTER: Shared = Shared::new();

fn cluster() -> Arc<Cluster> {
    CLUSTER.get(|| Cluster::start(3))
}

fn put(node: &Node, key: &str, value: &str) -> rondo_tests::Request {
    node.object("PUT", "c", key).header("Content-Type", "text/plain").body(value)
}

fn get(node: &Node, key: &str) -> Answer {
    node.object("GET", "c", key).r(2).send()
}

/// Two values written with the same context, through two nodes.
fn conflict(cluster: &Cluster, key: &str) -> (Answer, Answer) {
    let seen = put(&cluster[0], key, "one").send().expect(204).context();
    let two = put(&cluster[0], key, "two").context(&seen).send().expect(204);
    let three = put(&cluster[1], key, "three").context(&seen).send().expect(204);
    (two, three)
}

fn texts(siblings: &Value) -> BTreeSet<String> {
    siblings.as_array().unwrap().iter().map(|sibling| sibling["text"].as_str().unwrap().to_string()).collect()
}

#[test]
fn concurrent_writes_are_kept_shown_and_resolved() {
    let cluster = cluster();
    let (two, three) = conflict(&cluster, "k");
    assert_eq!(three.header("Rondo-Siblings"), Some("2"), "the second of them knows: {three:?}");
    let mut contexts = Vec::new();
    for node in cluster.nodes() {
        let both = get(node, "k").expect(409);
        assert_eq!((both.header("Rondo-Siblings"), both.header("Rondo-Quorum")), (Some("2"), Some("strict")));
        contexts.push(both.context());
        let set_etag = both.etag();
        assert!(set_etag != two.etag() && set_etag != three.etag());
        let problem = both.clone().problem(409);
        assert!(problem["type"].as_str().unwrap().ends_with(":siblings"));
        assert_eq!(problem["context"], both.context().as_str());
        let siblings = problem["siblings"].as_array().unwrap();
        for (answer, text) in [(&two, "two"), (&three, "three")] {
            let shown = siblings.iter().find(|sibling| sibling["etag"] == answer.etag().as_str());
            let shown = shown.unwrap_or_else(|| panic!("a sibling's ETag is its PUT's: {problem}"));
            assert_eq!((&shown["text"], &shown["bytes"]), (&json!(text), &json!(text.len())));
            assert_eq!(shown["content_type"], "text/plain");
            assert!(shown["modified"].as_str().unwrap().ends_with('Z'));
        }
        let list = node.get("/v1/kv/c/k?siblings=json").expect(200);
        assert_eq!(list.header("Content-Type"), Some("application/vnd.rondo.siblings+json"));
        assert_eq!(texts(&list.json()["siblings"]), texts(&problem["siblings"]));
        let accept = node.object("GET", "c", "k").header("Accept", "application/vnd.rondo.siblings+json").send();
        assert_eq!(accept.expect(200).json()["siblings"].as_array().unwrap().len(), 2);
        let head = node.object("HEAD", "c", "k").send().expect(409);
        assert!(head.body.is_empty() && head.header("Rondo-Siblings") == Some("2"));
    }
    // The context of one node's answer is good at another.
    let resolved = put(&cluster[2], "k", "two and three").context(&contexts[0]).send().expect(204);
    assert_eq!(resolved.header("Rondo-Siblings"), None);
    for node in cluster.nodes() {
        let one = get(node, "k").expect(200);
        assert_eq!((one.text(), one.etag()), ("two and three".to_string(), resolved.etag()));
    }
    let list = cluster[0].get("/v1/kv/c/k?siblings=json").expect(200).json();
    assert_eq!(
        texts(&list["siblings"]).into_iter().collect::<Vec<_>>(),
        ["two and three"],
        "one version is a list too"
    );
    cluster[0].get("/v1/kv/c/never?siblings=json").problem(404);
}

#[test]
fn a_context_covers_what_its_client_has_seen_and_nothing_else() {
    let cluster = cluster();
    let (two, three) = conflict(&cluster, "seen");
    // The answer to "three" says nothing of "two": its client has not seen it.
    let after_three = put(&cluster[2], "seen", "four").context(&three.context()).send().expect(204);
    assert_eq!(texts(&get(&cluster[0], "seen").problem(409)["siblings"]), ["four", "two"].map(String::from).into());
    let after_two = put(&cluster[1], "seen", "five").context(&two.context()).send().expect(204);
    assert_eq!(texts(&get(&cluster[2], "seen").problem(409)["siblings"]), ["five", "four"].map(String::from).into());
    // A delete with a context removes what it covers.
    let delete = cluster[0].object("DELETE", "c", "seen").w(2).context(&after_two.context()).send().expect(204);
    assert_eq!(delete.header("Rondo-Siblings"), Some("1"), "one is left: {delete:?}");
    assert_eq!(get(&cluster[1], "seen").expect(200).text(), "four");
    cluster[2].object("DELETE", "c", "seen").w(2).context(&after_three.context()).send().expect(204);
    assert_eq!(get(&cluster[0], "seen").expect(404).header("Rondo-Deleted"), Some("true"));
}

#[test]
fn an_old_context_never_brings_a_value_back_or_drops_a_new_one() {
    let cluster = cluster();
    let old = put(&cluster[0], "old", "first").send().expect(204).context();
    put(&cluster[1], "old", "second").context(&old).send().expect(204);
    let stale = put(&cluster[2], "old", "stale").context(&old).send().expect(204);
    assert_eq!(stale.header("Rondo-Siblings"), Some("2"));
    assert_eq!(texts(&get(&cluster[0], "old").problem(409)["siblings"]), ["second", "stale"].map(String::from).into());
}

#[test]
fn a_write_without_a_context_does_what_its_bucket_says() {
    let cluster = cluster();
    let (_, three) = conflict(&cluster, "blind");
    let over = put(&cluster[0], "blind", "over").w(3).send().expect(204);
    assert_eq!(over.header("Rondo-Siblings"), None, "overwrite replaces what the owner holds");
    assert_eq!(get(&cluster[1], "blind").expect(200).text(), "over");
    assert_ne!(over.etag(), three.etag());

    let properties =
        request("PUT", &cluster[0].url("/v1/buckets/careful")).body(r#"{"blind_put":"sibling","max_siblings":3}"#);
    properties.send().expect(200);
    rondo_tests::eventually(std::time::Duration::from_secs(1), "the bucket's properties everywhere", || {
        let known = cluster.nodes().iter().all(|n| n.get("/v1/buckets/careful").json()["blind_put"] == "sibling");
        rondo_tests::holds(known, || "not yet".into())
    });
    for (index, node) in cluster.nodes().iter().enumerate() {
        let put = node.object("PUT", "careful", "k").w(3).body(index.to_string()).send().expect(204);
        let expected = (index > 0).then(|| (index + 1).to_string());
        assert_eq!(put.header("Rondo-Siblings").map(String::from), expected);
    }
    let before = cluster[0].object("GET", "careful", "k").r(3).send().expect(409);
    let refused = cluster[1].object("PUT", "careful", "k").body("one too many").send().expect(409);
    let problem = refused.clone().problem(409);
    assert!(problem["type"].as_str().unwrap().ends_with("too-many-siblings"), "{problem}");
    assert_eq!(problem["context"], refused.context().as_str());
    assert_eq!(cluster[2].object("GET", "careful", "k").r(3).send().expect(409).etag(), before.etag());
    // The refusal's own context is the way out.
    cluster[1].object("PUT", "careful", "k").w(3).context(&refused.context()).body("all").send().expect(204);
    assert_eq!(cluster[0].object("GET", "careful", "k").send().expect(200).text(), "all");
}

#[test]
fn siblings_are_shown_as_what_they_are() {
    let cluster = cluster();
    let first = cluster[0].object("PUT", "c", "kinds").body("x").send().expect(204).context();
    let values: [(&str, &[u8]); 4] = [
        ("application/json", br#"{"n":12345678901234567890123,"x":1.10}"#),
        ("text/plain; charset=utf-8", "grün\n".as_bytes()),
        ("image/png", b"\xff\x00"),
        ("application/json", b"{broken"),
    ];
    for (index, (content_type, value)) in values.into_iter().enumerate() {
        let put = cluster[index % 3].object("PUT", "c", "kinds").w(3).context(&first);
        put.header("Content-Type", content_type).body(value).send().expect(204);
    }
    let all = cluster[0].object("GET", "c", "kinds").r(3).send().expect(409);
    assert!(all.text().contains(r#""value":{"n":12345678901234567890123,"x":1.10}"#), "byte for byte: {}", all.text());
    let siblings = all.json()["siblings"].as_array().unwrap().clone();
    let has = |member: &str, value: &str| siblings.iter().any(|sibling| sibling[member] == value);
    assert_eq!(siblings.len(), 4);
    assert!(has("text", "grün\n") && has("base64", "/wA=") && has("text", "{broken"), "{siblings:?}");
}

#[test]
fn a_get_with_a_context_shows_nothing_older() {
    let cluster = cluster();
    for round in 0..30 {
        let (writer, reader) = (round % 3, (round + 1) % 3);
        let value = round.to_string();
        let put = put(&cluster[writer], "mine", &value).w(1).send().expect(204);
        let get = cluster[reader].object("GET", "c", "mine").r(1).context(&put.context()).send().expect(200);
        assert_eq!((get.text(), get.etag()), (value, put.etag()), "read your writes at W=1, R=1, on another node");
    }
}

#[test]
fn a_context_is_bound_to_its_key_and_cannot_be_forged() {
    let cluster = cluster();
    let node = &cluster[0];
    let token = put(node, "bound", "v").send().expect(204).context();
    let other_key = put(node, "bound2", "v").send().expect(204).context();
    let other_bucket = node.object("PUT", "c2", "bound").body("v").send().expect(204).context();
    let changed: String = token.char_indices().map(|(i, c)| if i == 30 { flipped(c) } else { c }).collect();
    let bad = [&token[..token.len() - 1], &token[1..], "x", "AAAA", &"A".repeat(4_096), &"A".repeat(5_000), &changed];
    for bad in bad.into_iter().chain([other_key.as_str(), other_bucket.as_str()]) {
        for method in ["PUT", "GET", "DELETE"] {
            let problem = cluster[1].object(method, "c", "bound").context(bad).send().problem(400);
            assert_eq!(problem["parameter"], "Rondo-Context", "{method} {bad}");
            assert!(problem["type"].as_str().unwrap().ends_with(":bad-context"), "{problem}");
        }
    }
    assert_eq!(get(node, "bound").expect(200).text(), "v", "nothing was written or removed");
    assert_eq!(get(node, "bound").context(), get(&cluster[2], "bound").context());
}

fn flipped(c: char) -> char {
    if c == 'A' { 'B' } else { 'A' }
}

#[test]
fn a_write_repeated_under_its_own_name_is_one_version() {
    let cluster = cluster();
    let seen = put(&cluster[0], "again", "first").w(3).send().expect(204).context();
    for node in cluster.nodes() {
        let put = put(node, "again", "second").w(3).context(&seen).header("Idempotency-Key", "write-7");
        put.send().expect(204);
    }
    for node in cluster.nodes() {
        assert_eq!(node.object("GET", "c", "again").r(3).send().expect(200).text(), "second", "{}", node.name());
    }
    put(&cluster[1], "again", "third").w(3).context(&seen).header("Idempotency-Key", "write-8").send().expect(204);
    assert_eq!(
        texts(&get(&cluster[0], "again").problem(409)["siblings"]),
        ["second", "third"].map(String::from).into()
    );
}

/// Two clients that always write with contexts one behind: as many siblings as writers, not as writes.
#[test]
fn siblings_do_not_explode() {
    let cluster = cluster();
    let mut contexts = [put(&cluster[0], "pingpong", "start").send().expect(204).context(), String::new()];
    contexts[1] = contexts[0].clone();
    for round in 0..40 {
        let client = round % 2;
        let answer =
            put(&cluster[round % 3], "pingpong", &round.to_string()).context(&contexts[client]).send().expect(204);
        let siblings: usize = answer.header("Rondo-Siblings").unwrap_or("1").parse().unwrap();
        assert!(siblings <= 2, "{siblings} after {round} writes of two clients");
        contexts[client] = answer.context();
    }
    assert_eq!(get(&cluster[0], "pingpong").problem(409)["siblings"].as_array().unwrap().len(), 2);
}
