//! A node whose disk is nearly full takes no writes, and that is all that happens.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::time::Duration;

use rondo_tests::{Cluster, eventually, holds};

/// The disk guard looks once a second.
const NOTICED: Duration = Duration::from_secs(30);

#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    let mut cluster = Cluster::start(3);
    cluster[0].object("PUT", "b", "k").w(3).body("before").send().expect(204);
    // No disk has an exbibyte left.
    let full = cluster.directory().join("full.toml");
    std::fs::write(&full, format!("[disk]\nreserve_bytes = {}\n", 1_u64 << 60)).unwrap();
    cluster[1].flag("--config", full.to_str().unwrap());
    cluster[1].restart();
    cluster.settled(&[0, 1, 2], "healthy");
    let node = &cluster[1];
    assert_eq!(node.metric("rondo_store_low_disk"), 1.0);
    node.get("/readyz").expect(200);

    for (method, path) in [("PUT", "/v1/kv/b/k"), ("DELETE", "/v1/kv/b/k"), ("POST", "/v1/kv/b")] {
        let request = rondo_tests::request(method, &node.url(path));
        let request = if method == "DELETE" { request } else { request.body("x") };
        let refused = request.send().problem(507);
        assert!(refused["type"].as_str().unwrap().ends_with(":low-disk"), "{refused}");
        assert_eq!((&refused["outcome"], &refused["retryable"]), (&"not-applied".into(), &true.into()), "{method}");
    }
    for asked in cluster.nodes() {
        assert_eq!(asked.object("GET", "b", "k").send().expect(200).body, b"before", "reads go on");
    }
    // At the others it counts as a failed owner.
    cluster[0].object("PUT", "b", "k").body("after").send().expect(204);
    let failed = cluster[0].object("PUT", "b", "k").w(3).body("all").send().problem(503);
    assert_eq!((&failed["required"], &failed["outcome"]), (&3.into(), &"unknown".into()), "{failed}");
    assert_eq!(node.local("b", "k")["versions"][0]["text"], "before", "nothing is written on a full disk");
    assert_ne!(node.object("GET", "b", "k").send().expect(200).body, b"before", "others have what is newer");

    // Room again.
    std::fs::write(&full, "[disk]\nreserve_bytes = 0\n").unwrap();
    cluster[1].restart();
    cluster.settled(&[0, 1, 2], "healthy");
    eventually(NOTICED, "writes on all three again", || {
        let answer = cluster[1].object("PUT", "b", "k").w(3).body("again").try_send()?;
        holds(answer.status == 204, || answer.text())
    });
    let held = cluster[1].local("b", "k");
    let versions = held["versions"].as_array().unwrap();
    assert!(versions.iter().any(|version| version["text"] == "again"), "{held}");
}
