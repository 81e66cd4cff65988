//! The keys of a bucket: pages, cursors and streams, through every node, also while one dies.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::sync::Arc;

use rondo_tests::{Cluster, Node, Shared, encode, request, rondo};
use serde_json::{Value, json};

static CLUSTER: Shared = Shared::new();

fn cluster() -> Arc<Cluster> {
    CLUSTER.get(|| Cluster::start(3))
}

/// Stores so many small values; their keys.
fn load(cluster: &Cluster, bucket: &str, count: usize) -> BTreeSet<String> {
    let keys: BTreeSet<String> = (0..count)
        .map(|i| match i % 4 {
            0 => format!("a/{i}"),
            1 => format!("a\u{e9}/{}", i * 7_919 % count),
            2 => format!("b {}", i * i),
            _ => format!("{i:05}"),
        })
        .collect();
    let mut lines = String::new();
    keys.iter().for_each(|key| writeln!(lines, "{}", json!({"key": key, "value": key.len()})).unwrap());
    let file = cluster.directory().join(format!("{bucket}.jsonl"));
    fs::write(&file, lines).unwrap();
    rondo(["load", file.to_str().unwrap(), "--bucket", bucket, "--endpoint", &cluster.endpoints()]).run().expect(0);
    keys
}

fn path(bucket: &str, prefix: &str, limit: usize, cursor: Option<&str>) -> String {
    let mut path = format!("/v1/kv/{bucket}?limit={limit}");
    if !prefix.is_empty() {
        path += &format!("&prefix={}", encode(prefix));
    }
    cursor.iter().for_each(|cursor| path += &format!("&cursor={cursor}"));
    path
}

fn keys_of(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap().to_owned()).collect()
}

/// Every page through the next of these nodes.
#[track_caller]
fn walk(nodes: &[&Node], bucket: &str, prefix: &str, limit: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    for turn in 0.. {
        let page = nodes[turn % nodes.len()].get(&path(bucket, prefix, limit, cursor.as_deref())).expect(200).json();
        let keys = keys_of(&page);
        assert!(keys.len() == limit || page["next"].is_null(), "{} of {limit}: {}", keys.len(), page["next"]);
        all.extend(keys);
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    all
}

fn starting_with(keys: &BTreeSet<String>, prefix: &str) -> Vec<String> {
    keys.iter().filter(|key| key.starts_with(prefix)).cloned().collect()
}

#[test]
fn a_walk_gives_every_key_once_also_while_a_node_dies() {
    let mut cluster = Cluster::start(3);
    let mut keys = load(&cluster, "walk", 2_400);
    load(&cluster, "walk2", 5);
    for (index, key) in starting_with(&keys, "").into_iter().step_by(9).enumerate() {
        cluster[index % 3].object("DELETE", "walk", &key).send().expect(204);
        keys.remove(&key);
    }
    let nodes = [&cluster[0], &cluster[1], &cluster[2]];
    for (prefix, limit) in [("", 1_000), ("", 10_000), ("a/", 97), ("a\u{e9}/1", 7), ("b ", 400), ("nothing", 3)] {
        assert_eq!(walk(&nodes, "walk", prefix, limit), starting_with(&keys, prefix), "{prefix:?} by {limit}");
    }

    // Half a walk, a death, and the other half with a cursor that the dead node gave.
    let first = cluster[1].get(&path("walk", "", 1_000, None)).expect(200).json();
    cluster[1].kill();
    let mut all = keys_of(&first);
    let mut cursor = first["next"].as_str().map(str::to_owned);
    while let Some(place) = cursor {
        let page = cluster[all.len() % 2 * 2].get(&path("walk", "", 333, Some(&place))).expect(200).json();
        all.extend(keys_of(&page));
        cursor = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(all, starting_with(&keys, ""));
    // Two of three are left: all cannot be heard, one can.
    let problem = cluster[0].get("/v1/kv/walk?r=3&timeout=20s").problem(503);
    assert_eq!((&problem["required"], &problem["n"]), (&json!(3), &json!(3)));
    assert_eq!(keys_of(&cluster[0].get("/v1/kv/walk?r=1&limit=5").expect(200).json()), starting_with(&keys, "")[..5]);
    // Cursors outlive the process that made them.
    cluster[1].start();
    cluster[1].wait_ready();
    let again = cluster[1].get(&path("walk", "", 1_000, first["next"].as_str())).expect(200).json();
    assert_eq!(keys_of(&again), starting_with(&keys, "")[1_000..2_000]);
}

/// R + W > N: what was acknowledged through one node is in the next listing through any other, and gone from it.
#[test]
fn a_listing_has_what_was_acknowledged_before_it() {
    let cluster = cluster();
    for round in 0..60 {
        let (writer, reader) = (&cluster[round % 3], &cluster[(round / 3) % 3]);
        let (w, r) = [(2, 2), (3, 1), (1, 3)][round % 3];
        let key = format!("k{round}");
        let put = writer.object("PUT", "ryw", &key).w(w).body("12345").send().expect(204);
        let at = format!("/v1/kv/ryw?r={r}&prefix={key}");
        let page = reader.get(&at).expect(200).json();
        let item = &page["items"][0];
        assert_eq!((&item["key"], &item["etag"]), (&json!(key), &json!(put.etag())), "{page}");
        assert_eq!((&item["siblings"], &item["bytes"], &page["next"]), (&json!(1), &json!(5), &Value::Null));
        assert!(item["modified"].as_str().unwrap().starts_with("20"), "{item}");
        let before = writer.object("GET", "ryw", &key).r(3).send().expect(200);
        writer.object("DELETE", "ryw", &key).context(&before.context()).w(w).send().expect(204);
        assert_eq!(reader.get(&at).expect(200).json(), json!({"items":[],"next":null}));
    }
}

#[test]
fn a_key_with_siblings_is_one_item() {
    let cluster = cluster();
    let first = cluster[0].object("PUT", "sib", "k").w(3).body("1").send().expect(204);
    let mut bytes = 0;
    for (node, value) in cluster.nodes().iter().zip(["22", "333", "4444"]) {
        node.object("PUT", "sib", "k").w(3).context(&first.context()).body(value).send().expect(204);
        bytes += value.len();
    }
    let whole = cluster[0].object("GET", "sib", "k").send().expect(409);
    let page = cluster[1].get("/v1/kv/sib").expect(200).json();
    let item = &page["items"][0];
    let shown = (&item["etag"], &item["siblings"], &item["bytes"]);
    assert_eq!(shown, (&json!(whole.etag()), &json!(3), &json!(bytes)), "{page}");
}

fn lines(node: &Node, path: &str) -> Vec<Value> {
    let answer = request("GET", &node.url(path)).header("Accept", "application/x-ndjson").send().expect(200);
    assert_eq!(answer.header("Content-Type"), Some("application/x-ndjson"));
    assert!(answer.text().ends_with('\n'));
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_stream_has_the_whole_listing_and_says_where_it_ends() {
    let cluster = cluster();
    let keys: Vec<String> = load(&cluster, "stream", 2_500).into_iter().collect();
    for node in cluster.nodes() {
        let mut lines = lines(node, "/v1/kv/stream");
        assert_eq!(lines.pop().unwrap(), json!({"end": true, "count": keys.len()}));
        let shown: Vec<_> = lines.iter().map(|line| line["key"].as_str().unwrap()).collect();
        assert_eq!(shown, keys);
    }
    let mut some = lines(&cluster[0], "/v1/kv/stream?limit=1200&prefix=a");
    let end = some.pop().unwrap();
    assert_eq!((some.len(), &end["end"], &end["count"]), (1_200, &json!(true), &json!(1_200)));
    let rest = lines(&cluster[1], &format!("/v1/kv/stream?prefix=a&cursor={}", end["next"].as_str().unwrap()));
    let with_a = keys.iter().filter(|key| key.starts_with('a')).count();
    assert_eq!(rest.last().unwrap()["count"], with_a - 1_200);
    assert_eq!(lines(&cluster[2], "/v1/kv/never"), [json!({"end": true, "count": 0})]);
}

#[test]
fn bad_listings_are_refused_by_name() {
    let cluster = cluster();
    load(&cluster, "bad", 12);
    let node = &cluster[0];
    let next = node.get("/v1/kv/bad?limit=3&prefix=0").expect(200).json()["next"].as_str().unwrap_or("").to_owned();
    let other = node.get("/v1/kv/bad?limit=3").expect(200).json()["next"].as_str().unwrap().to_owned();
    let long = "x".repeat(1_025);
    for (query, parameter) in [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=", "limit"),
        ("limit=ten", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=x", "cursor"),
        (&format!("cursor={}", &other[..other.len() - 1]), "cursor"),
        (&format!("prefix=a&cursor={other}"), "cursor"),
        ("prefix=", "prefix"),
        (&format!("prefix={long}"), "prefix"),
        ("r=4", "r"),
        ("timeout=0s", "timeout"),
        ("w=1", "w"),
        ("ttl=60", "ttl"),
        ("after=x", "after"),
    ] {
        let problem = node.get(&format!("/v1/kv/bad?{query}")).problem(400);
        assert_eq!(problem["parameter"], parameter, "{query}: {problem}");
    }
    assert!(
        next.is_empty()
            || request("GET", &node.url(&format!("/v1/kv/bad?prefix=0&cursor={next}"))).send().status == 200
    );
    request("GET", &node.url(&format!("/v1/kv/elsewhere?cursor={other}"))).send().problem(400);
    for (name, value) in [("Rondo-W", "2"), ("Rondo-Context", "x"), ("Rondo-R", "9"), ("Rondo-Limit", "1")] {
        let problem = request("GET", &node.url("/v1/kv/bad")).header(name, value).send().problem(400);
        assert_eq!(problem["parameter"], name);
    }
    node.get("/v1/kv/b%20d").problem(400);
    node.get("/v1/kv").problem(404);
    let refused = request("PUT", &node.url("/v1/kv/bad")).send().expect(405);
    assert_eq!(refused.header("Allow"), Some("GET, HEAD, POST"));
    let head = request("HEAD", &node.url("/v1/kv/bad")).send().expect(200);
    assert!(head.body.is_empty() && head.header("Content-Type") == Some("application/json"));
}
