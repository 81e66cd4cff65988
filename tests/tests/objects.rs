//! PUT, GET, HEAD, DELETE and POST through every node.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use rondo_tests::{Cluster, RawClient, Shared, encode, eventually, holds, request};

static CLUSTER: Shared = Shared::new();
const SOON: Duration = Duration::from_secs(10);

fn cluster() -> Arc<Cluster> {
    CLUSTER.get(|| Cluster::start(3))
}

#[test]
fn what_one_node_takes_every_node_gives() {
    let cluster = cluster();
    let big: Vec<u8> = (0..1_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let values: [(&str, &[u8]); 5] =
        [("empty", b""), ("text", b"green"), ("zero", b"\0"), ("binary", b"\xff\xfe\r\n\r\n"), ("big", &big)];
    for (writer, node) in cluster.nodes().iter().enumerate() {
        for (name, value) in values {
            let key = format!("{name}-{writer}");
            let put = node.object("PUT", "round", &key).w(2).body(value).send().expect(204);
            assert!(put.body.is_empty());
            assert!(matches!(put.header("Rondo-Acks"), Some("2/3" | "3/3")), "{put:?}");
            assert_eq!((put.header("Rondo-Quorum"), put.header("Rondo-Siblings")), (Some("strict"), None));
            for reader in cluster.nodes() {
                let get = reader.object("GET", "round", &key).r(2).send().expect(200);
                assert!(get.body == value, "{key} read through {}", reader.name());
                assert_eq!(get.header("Content-Type"), Some("application/octet-stream"));
                assert_eq!((get.etag(), get.header("Rondo-Quorum")), (put.etag(), Some("strict")));
                assert_eq!((get.header("Rondo-Acks"), get.header("Rondo-Siblings")), (Some("2/3"), None));
                assert!(get.header("Last-Modified").unwrap().ends_with(" GMT") && !get.context().is_empty());
                let head = reader.object("HEAD", "round", &key).r(2).send().expect(200);
                assert!(head.body.is_empty());
                assert_eq!(head.header("Content-Length"), Some(value.len().to_string().as_str()));
                assert_eq!(head.header("Content-Length"), get.header("Content-Length"));
                assert_eq!((head.etag(), head.header("Last-Modified")), (get.etag(), get.header("Last-Modified")));
            }
        }
    }
}

#[test]
fn what_is_said_of_a_value_comes_back_with_it() {
    let cluster = cluster();
    let put = cluster[0].object("PUT", "meta", "k").header("Content-Type", "text/x; charset=latin1");
    let put = put.header("Content-Encoding", "br").header("Rondo-Meta-Owner", "me, myself").header("Rondo-Meta-b", "2");
    put.body("v").send().expect(204);
    let get = cluster[2].object("GET", "meta", "k").r(3).send().expect(200);
    assert_eq!(get.header("Content-Type"), Some("text/x; charset=latin1"));
    assert_eq!(get.header("Content-Encoding"), Some("br"));
    assert_eq!((get.header("Rondo-Meta-Owner"), get.header("Rondo-Meta-B")), (Some("me, myself"), Some("2")));
    // A new value has its own.
    cluster[1].object("PUT", "meta", "k").body("w").send().expect(204);
    let get = cluster[0].object("GET", "meta", "k").send().expect(200);
    assert_eq!((get.header("Rondo-Meta-Owner"), get.header("Content-Encoding")), (None, None));
}

#[test]
fn a_chunked_upload_is_stored_like_any_other() {
    let cluster = cluster();
    let value = vec![7_u8; 300_000];
    cluster[1].object("PUT", "chunked", "k").chunked(Cursor::new(value.clone())).send().expect(204);
    assert!(cluster[0].object("GET", "chunked", "k").send().expect(200).body == value);
}

#[test]
fn an_etag_names_the_version_on_every_node() {
    let cluster = cluster();
    let first = cluster[0].object("PUT", "etag", "k").body("1").send().expect(204).etag();
    for node in cluster.nodes() {
        let unchanged = node.object("GET", "etag", "k").header("If-None-Match", format!("\"{first}\"")).send();
        let unchanged = unchanged.expect(304);
        assert!(unchanged.body.is_empty() && unchanged.etag() == first);
        node.object("HEAD", "etag", "k").header("If-None-Match", format!("\"{first}\"")).send().expect(304);
        node.object("GET", "etag", "k").header("If-None-Match", "\"another\"").send().expect(200);
    }
    let second = cluster[2].object("PUT", "etag", "k").body("1").send().expect(204).etag();
    assert_ne!(first, second, "the same bytes written again are another version");
    let get = cluster[1].object("GET", "etag", "k").header("If-None-Match", format!("\"{first}\"")).send().expect(200);
    assert_eq!(get.etag(), second);
}

#[test]
fn a_deleted_key_is_remembered_and_a_key_that_never_was_is_not() {
    let cluster = cluster();
    let never = cluster[0].object("GET", "del", "never").send();
    assert_eq!((never.header("Rondo-Deleted"), never.header("Rondo-Context")), (None, None));
    assert!(never.problem(404)["type"].as_str().unwrap().ends_with(":no-such-key"));
    let nothing = cluster[1].object("DELETE", "del", "nothing").send().expect(204);
    assert!(nothing.header("ETag").is_none() && nothing.header("Rondo-Acks").is_some());

    cluster[0].object("PUT", "del", "k").w(3).body("v").send().expect(204);
    cluster[2].object("DELETE", "del", "k").w(3).send().expect(204);
    for node in cluster.nodes() {
        let gone = node.object("GET", "del", "k").r(1).send();
        assert_eq!(gone.header("Rondo-Deleted"), Some("true"));
        assert!(!gone.context().is_empty());
        assert!(gone.problem(404)["type"].as_str().unwrap().ends_with(":deleted"));
        let head = node.object("HEAD", "del", "k").send().expect(404);
        assert!(head.body.is_empty() && head.header("Rondo-Deleted") == Some("true"));
        let local = node.local("del", "k");
        assert_eq!((&local["found"], &local["etag"]), (&true.into(), &serde_json::Value::Null), "{local}");
        assert_eq!(local["versions"][0]["deleted"], true, "{local}");
    }
    // A new value follows the delete, and is no sibling of it.
    let context = cluster[1].object("GET", "del", "k").send().expect(404).context();
    let put = cluster[1].object("PUT", "del", "k").context(&context).body("again").send().expect(204);
    assert_eq!(put.header("Rondo-Siblings"), None);
    assert_eq!(cluster[0].object("GET", "del", "k").send().expect(200).body, b"again");
}

#[test]
fn post_chooses_keys() {
    let cluster = cluster();
    let mut seen = std::collections::BTreeSet::new();
    for (index, node) in cluster.nodes().iter().cycle().take(12).enumerate() {
        let post = request("POST", &node.url("/v1/kv/chosen")).header("Content-Type", "text/plain");
        let post = post.body(index.to_string()).send().expect(201);
        let location = post.header("Location").unwrap().to_string();
        assert!(location.starts_with("/v1/kv/chosen/") && seen.insert(location.clone()), "{location}");
        let get = cluster[(index + 1) % 3].get(&location).expect(200);
        assert_eq!((get.text(), get.etag()), (index.to_string(), post.etag()));
        assert_eq!(get.header("Content-Type"), Some("text/plain"));
    }
}

#[test]
fn any_text_is_a_key() {
    let cluster = cluster();
    let long = "é".repeat(512);
    let keys = [
        " ",
        "a b",
        "a+b",
        "%",
        "%41",
        "?",
        "#",
        "a?r=1",
        "ü/ö",
        "a//b",
        "/",
        "//",
        "x/",
        "~",
        "\0",
        "\r\n",
        "\u{1f600}",
        "a&b=c;d",
        "\\",
        "..x",
        "日本",
        &long,
    ];
    for (index, key) in keys.into_iter().enumerate() {
        cluster[index % 3].object("PUT", "odd", key).body(key).send().expect(204);
    }
    for (index, key) in keys.into_iter().enumerate() {
        let get = cluster[(index + 1) % 3].object("GET", "odd", key).send().expect(200);
        assert_eq!(get.text(), key);
    }
    // An encoded slash is a slash, in either case; letters need no encoding and may have one.
    cluster[0].object("PUT", "odd", "a/b").body("slash").send().expect(204);
    for path in ["/v1/kv/odd/a/b", "/v1/kv/odd/a%2Fb", "/v1/kv/odd/a%2fb", "/v1/kv/o%64d/%61/b"] {
        assert_eq!(cluster[1].get(path).expect(200).text(), "slash", "{path}");
    }
    let ring = cluster[0].get(&format!("/v1/ring?bucket=odd&key={}", encode("ü/ö"))).expect(200).json();
    assert_eq!(ring["owners"].as_array().unwrap().len(), 3);
}

/// Libraries resolve dots before they send: only bytes on a socket show that the node does not.
#[test]
fn no_path_is_resolved() {
    let cluster = cluster();
    for (index, key) in ["..", ".", "../../v1/cluster", "x/../y", "%2e%2e", "x/.%2E/y"].into_iter().enumerate() {
        let mut client = RawClient::connect(cluster[index % 3].client_addr());
        let put = format!("PUT /v1/kv/dots/{key} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{index}");
        assert_eq!(client.send(put).answer().unwrap().status, 204, "{key}");
        let mut other = RawClient::connect(cluster[(index + 1) % 3].client_addr());
        let got = other.send(format!("GET /v1/kv/dots/{key} HTTP/1.1\r\nHost: x\r\n\r\n")).answer().unwrap();
        assert_eq!((got.status, got.body), (200, index.to_string().into_bytes()), "{key}");
    }
    // `..` and `%2e%2e` are one key, written last as the latter.
    let mut client = RawClient::connect(cluster[0].client_addr());
    let got = client.send("GET /v1/kv/dots/.. HTTP/1.1\r\nHost: x\r\n\r\n").answer().unwrap();
    assert_eq!(got.body, b"4");
}

#[test]
fn headers_and_parameters_mean_the_same() {
    let cluster = cluster();
    let node = &cluster[0];
    for w in ["1", "2", "3", "one", "quorum", "all", "local-quorum", "each-quorum"] {
        node.object("PUT", "choice", "k").w(w).body("v").send().expect(204);
        let url = node.url(&format!("/v1/kv/choice/k?w={w}&timeout=2s&quorum=strict"));
        request("PUT", &url).w(w).header("Rondo-Timeout", "2000ms").body("v").send().expect(204);
        if w != "each-quorum" {
            node.object("GET", "choice", "k").r(w).send().expect(200);
            node.get(&format!("/v1/kv/choice/k?r={w}")).expect(200);
        }
    }
    let all = node.object("PUT", "choice", "k").w("all").body("v").send().expect(204);
    assert_eq!(all.header("Rondo-Acks"), Some("3/3"));
    let empty = node.object("GET", "choice", "k").header("Rondo-R", "").header("Rondo-Timeout", "").send();
    assert_eq!(empty.expect(200).header("Rondo-Acks"), Some("2/3"), "an empty header counts as absent");
}

#[test]
fn every_answer_is_named_as_the_client_wished() {
    let cluster = cluster();
    let named = cluster[0].object("GET", "ids", "k").header("X-Request-Id", "my-id-7").send();
    assert_eq!(named.header("X-Request-Id"), Some("my-id-7"));
    assert_eq!(named.problem(404)["request_id"], "my-id-7");
    let made = |path: &str| cluster[0].get(path).header("X-Request-Id").unwrap().to_string();
    assert_ne!(made("/v1/cluster"), made("/v1/cluster"));
    let traced = cluster[0].object("GET", "ids", "k");
    let traced = traced.header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").send();
    assert_eq!(traced.header("X-Request-Id"), Some("0af7651916cd43dd8448eb211c80319c"));
}

#[test]
fn all_owners_get_every_write_whatever_w() {
    let cluster = cluster();
    let put = cluster[0].object("PUT", "w1", "k").w(1).body("v").send().expect(204);
    for node in cluster.nodes() {
        eventually(SOON, "a write on every owner", || {
            let local = node.local("w1", "k");
            holds(local["etag"] == put.etag().as_str(), || format!("{}: {local}", node.name()))
        });
        let local = node.local("w1", "k");
        assert_eq!((&local["owner"], &local["hint_for"]), (&true.into(), &serde_json::Value::Null));
        assert_eq!(local["versions"][0]["text"], "v");
    }
}

#[test]
fn the_cluster_shows_itself() {
    let cluster = cluster();
    cluster.settled(&[0, 1, 2], "healthy");
    let shown = cluster[1].get("/v1/cluster").expect(200).json();
    let partitions = &shown["partitions"];
    assert_eq!((&partitions["total"], &partitions["all_owners"]), (&256.into(), &256.into()), "{shown}");
    assert_eq!((&partitions["quorum"], &partitions["below_quorum"]), (&0.into(), &0.into()));
    let members = shown["members"].as_array().unwrap();
    let names: Vec<&str> = members.iter().map(|member| member["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
    let owned: u64 = members.iter().map(|member| member["owned_partitions"].as_u64().unwrap()).sum();
    assert_eq!(owned, 256 * 3);
    for (member, node) in members.iter().zip(cluster.nodes()) {
        assert_eq!(member["client_addr"], node.client_addr().to_string().as_str());
        assert_eq!(member["peer_addr"], node.peer_addr().to_string().as_str());
        assert_eq!(member["id"].as_str().unwrap().len(), 32);
    }
    for path in ["/livez", "/readyz", "/readyz?verbose", "/metrics", "/"] {
        cluster[2].get(path).expect(200);
    }
}
