//! Bad input on the command line and at the start of a node: an error that names what is wrong and what is allowed, the
//! documented exit code, and nothing lost or half-written.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rondo_tests::{Cluster, Node, Output, Shared, eventually, holds, request, rondo};
use tempfile::TempDir;

static CLUSTER: Shared = Shared::new();
const VALUE_BYTES: usize = 4_096;
const SOON: Duration = Duration::from_secs(20);

fn cluster() -> Arc<Cluster> {
    CLUSTER.get(|| Cluster::builder(3).env("RONDO_LIMITS__VALUE_BYTES", VALUE_BYTES).start())
}

fn file(directory: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

fn line(key: &str, value: &str) -> String {
    format!("{{\"key\":{},\"value\":{value}}}\n", serde_json::to_string(key).unwrap())
}

/// `rondo load` with its own idea of the largest value: what the nodes say is tested by itself.
fn load(cluster: &Cluster, path: &Path, bucket: &str, value_bytes_max: usize) -> Output {
    let max = value_bytes_max.to_string();
    let to = ["--bucket", bucket, "--endpoint", &cluster.endpoints(), "--value-bytes-max", &max].map(String::from);
    rondo(["load".into(), path.to_str().unwrap().to_string()].into_iter().chain(to)).run()
}

#[test]
fn a_bad_line_is_named_and_nothing_of_its_file_is_written() {
    let (cluster, directory) = (cluster(), tempfile::tempdir().unwrap());
    let big = format!("\"{}\"", "x".repeat(VALUE_BYTES));
    let cases: [(&str, String, &[&str]); 9] = [
        ("not-json", "{\"key\":\"k\",\"value\":\n".into(), &["JSON"]),
        ("no-object", "[1,2]\n".into(), &["key", "value"]),
        ("no-key", "{\"value\":1}\n".into(), &["key"]),
        ("no-value", "{\"key\":\"k\"}\n".into(), &["value"]),
        ("extra-field", "{\"key\":\"k\",\"value\":1,\"ttl\":5}\n".into(), &["ttl"]),
        ("key-no-text", "{\"key\":7,\"value\":1}\n".into(), &["key"]),
        ("empty-key", line("", "1"), &["1,024"]),
        ("long-key", line(&"k".repeat(1_025), "1"), &["1,024"]),
        ("large-value", line("k", &big), &["4096"]),
    ];
    for (name, bad, parts) in cases {
        let text = [line("good-1", "1"), bad, line("good-2", "2")].concat();
        let path = file(&directory, &format!("{name}.jsonl"), text);
        let output = load(&cluster, &path, name, VALUE_BYTES).expect(1);
        let place = format!("{}:2: ", path.display());
        let output = output.says(&[&place, "nothing was written"]).says(parts);
        assert!(output.stdout.is_empty(), "{output:?}");
        for key in ["good-1", "good-2", "k"] {
            cluster[0].object("GET", name, key).r(3).send().problem(404);
        }
    }
    let ok = file(&directory, "ok.jsonl", [line("a", "1"), "\n".into(), line(&"k".repeat(1_024), "2")].concat());
    load(&cluster, &ok, "ok", VALUE_BYTES).expect(0);
    assert_eq!(cluster[1].object("GET", "ok", &"k".repeat(1_024)).send().expect(200).text(), "2");
}

#[test]
fn what_the_nodes_refuse_ends_a_load_with_its_line_and_what_is_allowed() {
    let (cluster, directory) = (cluster(), tempfile::tempdir().unwrap());
    let large = line("large", &format!("\"{}\"", "x".repeat(VALUE_BYTES)));
    let path = file(&directory, "f.jsonl", [line("first", "1"), large].concat());
    let output = load(&cluster, &path, "refused", 1 << 20).expect(1);
    output.says(&["line 2", "\"large\"", "413", &VALUE_BYTES.to_string(), "stopped after"]);
    cluster[0].object("GET", "refused", "large").r(3).send().problem(404);
    let ok = file(&directory, "ok.jsonl", line("a", "1"));
    load(&cluster, &ok, "bad bucket", 100).expect(1).says(&["bucket"]);
    let bad_w = ["load", ok.to_str().unwrap(), "--endpoint", &cluster.endpoints(), "--w", "9"];
    rondo(bad_w).run().expect(1).says(&["Rondo-W", "\"9\"", "1 to 3"]);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let (cluster, directory) = (cluster(), tempfile::tempdir().unwrap());
    let missing = directory.path().join("missing.jsonl");
    load(&cluster, &missing, "b", 100).expect(1).says(&[missing.to_str().unwrap()]);
    load(&cluster, directory.path(), "b", 100).expect(1).says(&["directory"]);
    let broken = file(&directory, "broken.gz", b"\x1f\x8b\x08\x00garbage");
    load(&cluster, &broken, "b", 100).expect(1).says(&[broken.to_str().unwrap()]);
}

#[test]
fn exit_codes_are_those_of_the_documentation() {
    let mut cluster = Cluster::start(3);
    let endpoint = cluster[0].url("");
    cluster.settled(&[0], "healthy");
    let at = |arguments: &[&str]| rondo(arguments.iter().copied().chain(["--endpoint", &endpoint])).run();
    at(&["status"]).expect(0);
    at(&["put", "k", "v"]).expect(0);
    assert_eq!(at(&["get", "k"]).expect(0).stdout, b"v", "nothing added");
    at(&["get", "missing"]).expect(1).says(&["missing"]);
    at(&["get", "k", "--r", "9"]).expect(1).says(&["Rondo-R", "1 to 3"]);
    at(&["put", "k", "v", "--context", "forged"]).expect(1).says(&["Rondo-Context"]);
    at(&["put", "", "v"]).expect(1).says(&["key"]);
    at(&["put", &"k".repeat(1_025), "v"]).expect(1).says(&["1,024"]);
    at(&["bucket", "set", "b", "n=9", "colour=1"]).expect(1).says(&["n", "colour", "1 to 7"]);
    assert_eq!(at(&["get", "k"]).expect(0).stdout, b"v");

    for usage in
        [&["frobnicate"][..], &["put"], &["status", "--output", "xml"], &["load"], &["server", "--colour", "1"]]
    {
        let output = rondo(usage).run().expect(2);
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{usage:?}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for command in [&["status"][..], &["get", "k"], &["put", "k", "v"], &["members"], &["bucket", "ls"]] {
        let output = rondo(command.iter().copied().chain(["--endpoint", &nobody])).run();
        output.expect(3).says(&[&nobody]);
    }
    cluster[2].kill();
    cluster.settled(&[0], "degraded");
    let shown = at(&["status", "--output", "json"]).expect(4);
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(json["health"], "degraded");
    at(&["members"]).expect(0);
}

#[test]
fn a_wrong_setting_is_named_with_its_place_and_a_suggestion() {
    let directory = tempfile::tempdir().unwrap();
    let bad = file(&directory, "bad.toml", "weight = \"heavy\"\n[storage]\ncache_byte = 1\n");
    let path = bad.to_str().unwrap();
    for command in [&["config", "check", "--config", path][..], &["server", "--config", path]] {
        rondo(command).run().expect(1).says(&[
            "bad.toml:1: weight = \"heavy\": a whole number",
            "bad.toml:3: there is no setting \"storage.cache_byte\"; did you mean \"storage.cache_bytes\"?",
        ]);
    }
    let broken = file(&directory, "broken.toml", "name = \n");
    rondo(["config", "check", "--config", broken.to_str().unwrap()]).run().expect(1).says(&["broken.toml", "line 1"]);
    let missing = directory.path().join("missing.toml");
    rondo(["config", "check", "--config", missing.to_str().unwrap()]).run().expect(1).says(&["missing.toml"]);
    rondo(["config", "check"]).env("RONDO_WEIGTH", "1").run().expect(1).says(&["RONDO_WEIGTH", "did you mean"]);
    rondo(["config", "check"])
        .env("RONDO_LIMITS__HEADER_FIELDS", "101")
        .run()
        .expect(1)
        .says(&["header_fields", "100"]);
    rondo(["config", "check", "--partitions"]).run().expect(2);
    let good = file(&directory, "good.toml", "weight = 2\n");
    let good = ["--config", good.to_str().unwrap(), "--name", "x"];
    rondo(["config", "check"].into_iter().chain(good)).run().expect(0);
    let shown = rondo(["config", "show"].into_iter().chain(good)).env("RONDO_ZONE", "z9").run().expect(0).text();
    for origin in ["good.toml", "--name", "RONDO_ZONE", "default"] {
        assert!(shown.contains(origin), "{origin} is not in\n{shown}");
    }
    let json = rondo(["config", "show", "--output", "json"].into_iter().chain(good)).run().expect(0);
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&json.stdout).unwrap();
    let row = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap();
    assert_eq!((&row("weight")["value"], &row("name")["origin"]), (&2.into(), &"--name".into()));
    assert!(row("weight")["origin"].as_str().unwrap().ends_with("good.toml:1"), "{json:?}");
}

/// `rondo server` that has to refuse to start, with everything set that a good one needs.
fn refused(data_dir: &Path, more: &[&str]) -> Output {
    let mut arguments =
        vec!["server", "--name", "x", "--data-dir", data_dir.to_str().unwrap(), "--bootstrap-expect", "1"];
    for (flag, value) in [("--client-addr", "127.0.0.1:0"), ("--peer-addr", "127.0.0.1:0")] {
        if !more.contains(&flag) {
            arguments.extend([flag, value]);
        }
    }
    rondo(arguments.into_iter().chain(more.iter().copied())).run().expect(1)
}

#[test]
fn a_port_in_use_is_named_and_the_directory_is_good_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&data, &["--client-addr", &address]).says(&["clients", &address, "in use"]);
    refused(&data, &["--peer-addr", &address]).says(&["peers", &address, "in use"]);
    refused(&data, &["--client-addr", "203.0.113.7:0"]).says(&["203.0.113.7"]);
}

#[test]
fn listening_beyond_loopback_needs_a_secret_and_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    refused(&data, &["--client-addr", "0.0.0.0:0"]).says(&["cluster_secret_file", "insecure"]);
    refused(&data, &["--peer-addr", "0.0.0.0:0", "--insecure"]).says(&["cluster_secret_file"]);
    let secret = |name: &str, text: &str, mode: u32| {
        let path = file(&directory, name, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_string()
    };
    let short = secret("short", "fifteen letters\n", 0o600);
    refused(&data, &["--cluster-secret-file", &short]).says(&[&short, "15", "16"]);
    let open = secret("open", "sixteen letters!\n", 0o644);
    refused(&data, &["--cluster-secret-file", &open]).says(&[&open, "chmod 600"]);
    refused(&data, &["--cluster-secret-file", "/nowhere/secret"]).says(&["/nowhere/secret"]);
    assert!(!data.exists(), "nothing is made before the settings are good");
}

#[test]
fn a_directory_that_is_not_this_nodes_is_refused_and_left_as_it_is() {
    let mut cluster = Cluster::start(1);
    cluster[0].object("PUT", "b", "k").w(1).body("v").send();
    let data = cluster[0].data_dir().to_path_buf();
    refused(&data, &[]).says(&["in use by another process", data.to_str().unwrap()]);
    assert_eq!(cluster[0].terminate().code(), Some(0));

    let format = fs::read_to_string(data.join("FORMAT")).unwrap();
    fs::write(data.join("FORMAT"), "rondo-data 99\n").unwrap();
    refused(&data, &[]).says(&["format 99", "up to format 1"]);
    fs::write(data.join("FORMAT"), "something else\n").unwrap();
    refused(&data, &[]).says(&["FORMAT", "rondo-data 1"]);
    fs::write(data.join("FORMAT"), format).unwrap();

    let home = tempfile::tempdir().unwrap();
    let letter = file(&home, "letter.txt", "dear");
    refused(home.path(), &[]).says(&["holds other files", home.path().to_str().unwrap()]);
    assert_eq!(fs::read_to_string(letter).unwrap(), "dear");
    let a_file = file(&home, "file", "");
    refused(&a_file, &[]).says(&[a_file.to_str().unwrap()]);
    refused(&not_writable(&home), &[]).says(&["cannot create"]);

    cluster[0].start();
    cluster[0].wait_ready();
    let get = request("GET", &cluster[0].url("/v1/kv/b/k?r=1")).send().expect(200);
    assert_eq!(get.text(), "v", "nothing of it was touched");
}

/// A path where nothing can be made, also not by root, to whom permissions are nothing.
fn not_writable(directory: &TempDir) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/proc/rondo/data".into();
    }
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    closed.join("data")
}

/// Neither a node with another secret nor one with the directory of another cluster gets in, and both sides say why.
#[test]
fn strangers_are_kept_out_and_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        let path = file(&directory, name, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (right, wrong) = (secret("right", "the secret of these nodes"), secret("wrong", "the secret of others"));
    let cluster = Cluster::builder(2).arguments(&["--cluster-secret-file", &right]).start();
    let id = |cluster: &Cluster| cluster[0].get("/v1/cluster").expect(200).json()["cluster_id"].clone();
    let seeds = cluster[0].peer_addr().to_string();

    let stranger = Cluster::builder(1).arguments(&["--cluster-secret-file", &wrong, "--seeds", &seeds]);
    let mut stranger = stranger.expect(2).bind();
    for node in [&stranger[0], &cluster[0]] {
        eventually(SOON, "the reason in the log", || {
            holds(node.log_tail().contains("different cluster secrets"), || node.log_tail())
        });
    }
    stranger[0].get("/readyz").problem(503);
    stranger[0].object("PUT", "b", "k").w(1).body("v").send().problem(503);
    turned_away(&mut stranger.nodes_mut()[0]);

    // A node of another cluster, started again among these.
    let mut other = Cluster::builder(2).arguments(&["--cluster-secret-file", &right]).start();
    assert_ne!(id(&other), id(&cluster));
    other.nodes_mut().iter_mut().for_each(Node::kill);
    other[1].flag("--seeds", &seeds);
    other[1].start();
    for node in [&other[1], &cluster[0]] {
        eventually(SOON, "the reason in the log", || {
            holds(node.log_tail().contains("belong to different clusters"), || node.log_tail())
        });
    }
    turned_away(&mut other.nodes_mut()[1]);
    let members = cluster[0].get("/v1/cluster").expect(200).json()["members"].as_array().unwrap().len();
    assert_eq!(members, 2, "nobody came in");
    cluster[1].object("PUT", "b", "after").w(2).body("v").send().expect(204);
}

/// Whom only strangers answer does not wait for ever.
fn turned_away(node: &mut Node) {
    assert_eq!(node.wait_end().code(), Some(1));
    assert!(node.log_tail().contains("refused by the node at"), "{}", node.log_tail());
}
