//! What a write may ask for: conditions, the value in the answer, a lifetime, and buckets of the last writer.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::sync::Arc;
use std::time::Duration;

use rondo_tests::{Answer, Cluster, Node, Request, Shared, eventually, holds, request};
use serde_json::{Value, json};

static CLUSTER: Shared = Shared::new();
/// A second of lifetime, and a machine that is busy.
const EXPIRED: Duration = Duration::from_secs(30);

fn cluster() -> Arc<Cluster> {
    CLUSTER.get(|| Cluster::start(3))
}

/// Acknowledged by all owners: whoever judges the next condition has it.
fn put(node: &Node, key: &str, value: &str) -> Request {
    node.object("PUT", "w", key).w(3).body(value)
}

fn text(node: &Node, bucket: &str, key: &str) -> String {
    node.object("GET", bucket, key).r(3).send().expect(200).text()
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// 412 with the same in headers and body.
#[track_caller]
fn failed(answer: Answer) -> (Option<String>, String) {
    let problem = answer.clone().problem(412);
    assert_eq!(problem["type"], "urn:rondo:problem:condition-failed");
    assert_eq!(problem["context"], answer.context().as_str());
    let etag = problem["etag"].as_str().map(String::from);
    assert_eq!(etag.as_deref().map(quoted).as_deref(), answer.header("ETag"), "{problem}");
    (etag, answer.context())
}

fn set(cluster: &Cluster, bucket: &str, properties: &Value) {
    let path = format!("/v1/buckets/{bucket}");
    let put = request("PUT", &cluster[0].url(&path)).header("Content-Type", "application/json");
    let wanted = put.body(properties.to_string()).send().expect(200).json();
    for node in cluster.nodes() {
        eventually(EXPIRED, "the bucket's properties everywhere", || {
            holds(node.get(&path).json() == wanted, || node.name().into())
        });
    }
}

#[test]
fn conditions_are_kept_or_refused_with_what_is_there() {
    let cluster = cluster();
    let [a, b, c] = [&cluster[0], &cluster[1], &cluster[2]];
    let missing = put(a, "cas", "x").header("If-Match", "*").send();
    assert_eq!(failed(missing).0, None);
    a.object("GET", "w", "cas").send().problem(404);

    let first = put(a, "cas", "1").header("If-None-Match", "*").send().expect(204);
    let (etag, context) = failed(put(b, "cas", "2").header("If-None-Match", "*").send());
    assert_eq!(etag, Some(first.etag()));
    let second = put(c, "cas", "2").header("If-Match", quoted(&first.etag())).send().expect(204);
    assert_eq!(failed(put(b, "cas", "3").header("If-Match", quoted(&first.etag())).send()).0, Some(second.etag()));
    failed(put(b, "cas", "3").header("If-Match", "\"of-another-server\"").send());
    let list = format!("{}, {}", quoted(&first.etag()), quoted(&second.etag()));
    put(b, "cas", "3").header("If-Match", list).send().expect(204);
    put(c, "cas", "4").header("If-Match", "*").send().expect(204);
    assert_eq!(text(a, "w", "cas"), "4");

    // What a refusal gives back is enough to go on.
    put(a, "cas", "5").context(&context).send().expect(204);
    let both = a.object("GET", "w", "cas").r(3).send().expect(409);
    let (etag, context) = failed(put(b, "cas", "6").header("If-None-Match", "*").send());
    assert_eq!(etag, Some(both.etag()), "of the set");
    let resolved = put(c, "cas", "6").header("If-Match", quoted(&both.etag())).context(&context).send().expect(204);
    assert_eq!(text(b, "w", "cas"), "6");

    let delete = |node: &Node, etag: &str| node.object("DELETE", "w", "cas").w(3).header("If-Match", etag).send();
    failed(delete(a, &quoted(&first.etag())));
    delete(b, &quoted(&resolved.etag())).expect(204);
    assert_eq!(failed(delete(c, "*")).0, None);
    put(a, "cas", "7").header("If-None-Match", "*").send().expect(204);
    assert_eq!(text(c, "w", "cas"), "7", "what was deleted may be created");
    for node in cluster.nodes() {
        assert!(node.metric("rondo_store_conditions_failed_total") >= 1.0, "{}", node.name());
    }
}

#[test]
fn a_repeated_conditional_write_recognises_itself() {
    let cluster = cluster();
    let create = |node: &Node, name: &str| {
        put(node, "once", "mine").header("If-None-Match", "*").header("Idempotency-Key", name).send()
    };
    let first = create(&cluster[0], "attempt-1").expect(204);
    for node in cluster.nodes() {
        assert_eq!(create(node, "attempt-1").expect(204).etag(), first.etag(), "{}", node.name());
        assert_eq!(failed(create(node, "attempt-2")).0, Some(first.etag()));
    }
    assert_eq!(text(&cluster[1], "w", "once"), "mine");
}

#[test]
fn bad_conditions_and_lifetimes_are_named_and_write_nothing() {
    let cluster = cluster();
    let node = &cluster[0];
    let named = |answer: Answer, name: &str| {
        let problem = answer.problem(400);
        assert_eq!(problem["parameter"], name, "{problem}");
        assert!(problem["allowed"].as_str().is_some_and(|allowed| !allowed.is_empty()), "{problem}");
    };
    for (name, bad) in [
        ("If-Match", &["", "x", "\"x", "W/\"1-1\"", "\"1-1\",", "*, \"1-1\""][..]),
        ("If-None-Match", &["", "\"1-1\"", "x"][..]),
        ("Rondo-Ttl", &["0", "-1", "1.5", "250ms", "1w", "3651d", "soon"][..]),
    ] {
        for value in bad {
            named(put(node, "bad", "v").header(name, value).send(), name);
        }
    }
    named(put(node, "bad", "v").header("If-Match", "*").header("If-None-Match", "*").send(), "If-None-Match");
    named(node.object("DELETE", "w", "bad").header("If-None-Match", "*").send(), "If-None-Match");
    for (name, value) in [("If-Match", "*"), ("If-None-Match", "*")] {
        named(request("POST", &node.url("/v1/kv/w")).header(name, value).body("v").send(), name);
    }
    for method in ["GET", "DELETE"] {
        named(node.object(method, "w", "bad").header("Rondo-Ttl", "60").send(), "Rondo-Ttl");
        named(request(method, &node.url("/v1/kv/w/bad?ttl=60")).send(), "ttl");
    }
    named(request("PUT", &node.url("/v1/kv/w/bad?ttl=0")).body("v").send(), "ttl");
    named(request("PUT", &node.url("/v1/kv/w/bad?ttl=1h")).header("Rondo-Ttl", "60").body("v").send(), "ttl");
    node.object("GET", "w", "bad").r(3).send().problem(404);
}

#[test]
fn the_value_comes_back_as_it_was_stored() {
    let cluster = cluster();
    for (index, node) in cluster.nodes().iter().enumerate() {
        let key = format!("represented-{index}");
        let put = put(node, &key, "{\"a\":1}").header("Prefer", "return=representation").header("Rondo-Ttl", "1h");
        let put = put.header("Content-Type", "application/json").header("Rondo-Meta-Color", "red").send().expect(200);
        assert_eq!((put.text(), put.header("Preference-Applied")), ("{\"a\":1}".into(), Some("return=representation")));
        let get = node.object("GET", "w", &key).r(3).send().expect(200);
        for name in ["ETag", "Content-Type", "Rondo-Meta-Color", "Last-Modified", "Rondo-Expires", "Rondo-Context"] {
            assert!(put.header(name).is_some() && put.header(name) == get.header(name), "{name}: {put:?}\n{get:?}");
        }
        assert_eq!(put.header("Rondo-Acks"), Some("3/3"));
    }
    let post = request("POST", &cluster[1].url("/v1/kv/w")).header("Prefer", "return=representation").body("made");
    let post = post.send().expect(201);
    assert_eq!((post.text(), post.header("Location").is_some()), ("made".into(), true));
    let minimal = put(&cluster[2], "minimal", "v").header("Prefer", "return=minimal").send().expect(204);
    assert_eq!((minimal.body.len(), minimal.header("Preference-Applied")), (0, None));
}

#[test]
fn values_expire_at_the_same_time_everywhere() {
    let cluster = cluster();
    let long = put(&cluster[0], "long", "v").header("Rondo-Ttl", "7d").send().expect(204);
    for node in cluster.nodes() {
        let shown = node.object("GET", "w", "long").r(3).send().expect(200);
        let held = node.local("w", "long")["versions"][0].clone();
        assert_eq!((held["expires"].as_str(), &held["etag"]), (shown.header("Rondo-Expires"), &json!(long.etag())));
        assert!(held["expires"].as_str() > held["modified"].as_str(), "{held}");
    }
    put(&cluster[1], "long", "v").send().expect(204);
    assert_eq!(cluster[2].object("GET", "w", "long").r(3).send().expect(200).header("Rondo-Expires"), None);

    // A lasting value, and a short one beside it.
    let seen = put(&cluster[0], "short", "old").send().expect(204).context();
    put(&cluster[0], "short", "lasting").context(&seen).send().expect(204);
    put(&cluster[1], "short", "short").context(&seen).header("Rondo-Ttl", 1).send().expect(204);
    request("PUT", &cluster[2].url("/v1/kv/w/alone?ttl=1s&w=3")).body("v").send().expect(204);
    for node in cluster.nodes() {
        eventually(EXPIRED, "the short one is gone", || {
            let left = node.object("GET", "w", "short").r(3).send();
            holds(left.status == 200 && left.text() == "lasting", || left.text())
        });
        eventually(EXPIRED, "nothing is left", || {
            let left = node.object("GET", "w", "alone").r(3).send();
            holds(left.status == 404 && left.header("Rondo-Deleted") == Some("true"), || left.text())
        });
        assert_eq!(node.local("w", "alone")["etag"], Value::Null);
    }
    put(&cluster[0], "alone", "again").header("If-None-Match", "*").send().expect(204);
    assert_eq!(text(&cluster[1], "w", "alone"), "again");
}

#[test]
fn a_buckets_lifetime_is_that_of_values_which_name_none() {
    let cluster = cluster();
    set(&cluster, "cache", &json!({"ttl": "1h"}));
    assert_eq!(cluster[2].get("/v1/buckets/cache").json()["ttl"], 3_600);
    let expires = |ttl: Option<&str>| {
        let put = cluster[1].object("PUT", "cache", "k").w(3).body("v").header("Prefer", "return=representation");
        let put = ttl.into_iter().fold(put, |put, ttl| put.header("Rondo-Ttl", ttl)).send().expect(200);
        put.header("Rondo-Expires").map(String::from)
    };
    let (own, of_bucket, longer) = (expires(Some("1m")), expires(None), expires(Some("2h")));
    assert!(own.is_some() && own < of_bucket && of_bucket < longer, "{own:?} {of_bucket:?} {longer:?}");
    cluster[0].object("DELETE", "cache", "k").w(3).send().expect(204);
    assert_eq!(cluster[0].local("cache", "k")["versions"][0]["expires"], Value::Null, "a delete is remembered");
    set(&cluster, "cache", &json!({"ttl": null}));
    assert_eq!(expires(None), None);
}

#[test]
fn in_a_bucket_of_the_last_writer_one_version_is_shown() {
    let cluster = cluster();
    let write = |node: &Node, value: &str, context: &str| {
        node.object("PUT", "last", "k").w(3).context(context).body(value).send().expect(204)
    };
    let seen = cluster[0].object("PUT", "last", "k").w(3).body("0").send().expect(204).context();
    write(&cluster[0], "1", &seen);
    let second = write(&cluster[1], "2", &seen);
    cluster[2].object("GET", "last", "k").r(3).send().expect(409);

    set(&cluster, "last", &json!({"conflict": "lww", "max_siblings": 1}));
    for node in cluster.nodes() {
        let one = node.object("GET", "last", "k").r(3).send().expect(200);
        assert_eq!((one.text(), one.etag(), one.header("Rondo-Siblings")), ("2".into(), second.etag(), None));
        assert_eq!(node.local("last", "k")["etag"], second.etag().as_str());
        let list = node.get("/v1/kv/last/k?siblings=json").expect(200).json();
        assert_eq!(list["siblings"].as_array().unwrap().len(), 1);
    }
    // The property decides what is shown and loses nothing by itself.
    set(&cluster, "last", &json!({"conflict": "siblings"}));
    cluster[1].object("GET", "last", "k").r(3).send().expect(409);
    set(&cluster, "last", &json!({"conflict": "lww"}));

    for (round, node) in (3..9).zip(cluster.nodes().iter().cycle()) {
        let put = write(node, &round.to_string(), &seen);
        assert_eq!(put.header("Rondo-Siblings"), None, "whatever its context");
    }
    for node in cluster.nodes() {
        assert_eq!(text(node, "last", "k"), "8");
        assert_eq!(node.local("last", "k")["versions"].as_array().unwrap().len(), 1, "replaced, not only hidden");
    }
    cluster[2].object("DELETE", "last", "k").w(3).context(&seen).send().expect(204);
    cluster[0].object("GET", "last", "k").r(3).send().problem(404);
}

/// Four nodes, three owners: a wish goes through the fourth unharmed, and so does the refusal.
#[test]
fn a_node_that_does_not_own_the_key_hands_every_wish_on() {
    let cluster = Cluster::start(4);
    let ring = cluster[0].get("/v1/ring?bucket=away&key=k").expect(200).json();
    let owns = |node: &&Node| ring["owners"].as_array().unwrap().iter().any(|owner| owner["name"] == node.name());
    let (owner, other) = (cluster.nodes().iter().find(owns), cluster.nodes().iter().find(|node| !owns(node)));
    let (owner, other) = (owner.unwrap(), other.unwrap());
    let put = |value: &str| other.object("PUT", "away", "k").w(3).body(value);

    let create = || put("1").header("If-None-Match", "*").header("Idempotency-Key", "create");
    let created = create().header("Rondo-Ttl", "1h").header("Prefer", "return=representation").send().expect(200);
    let shown = owner.object("GET", "away", "k").r(3).send().expect(200);
    for name in ["ETag", "Rondo-Expires", "Last-Modified"] {
        assert!(created.header(name).is_some() && created.header(name) == shown.header(name), "{name}: {created:?}");
    }
    assert_eq!(create().send().expect(204).etag(), created.etag());
    assert_eq!(failed(put("2").header("If-None-Match", "*").send()).0, Some(created.etag()));
    let list = format!("\"1-1\", {}", quoted(&created.etag()));
    put("2").header("If-Match", list).send().expect(204);
    let delete = || other.object("DELETE", "away", "k").w(3).header("If-Match", "*").send();
    delete().expect(204);
    assert_eq!(failed(delete()).0, None);

    set(&cluster, "away", &json!({"conflict": "lww"}));
    let seen = put("3").send().expect(204).context();
    for value in ["4", "5"] {
        assert_eq!(put(value).context(&seen).send().expect(204).header("Rondo-Siblings"), None);
    }
    assert_eq!(owner.local("away", "k")["versions"].as_array().unwrap().len(), 1);
    assert_eq!(text(owner, "away", "k"), "5");
}
