//! The process of a container: how it ends, and what it says where it cannot begin.

use std::time::{Duration, Instant};

use rondo_tests::{eventually, holds};

use super::cluster::{Pods, READY};
use super::engine::{Owned, docker, fresh_name, inspect, logs, try_docker};
use super::image::image;

/// The contract's bound on a drain.
const DRAINED: Duration = Duration::from_secs(30);

#[test]
#[ignore = "needs a container engine: make containers"]
fn process_1_drains_on_sigterm_and_its_data_outlives_the_container() {
    let mut pods = Pods::start(3);
    let written = pods.under_load(&[0, 1, 2], "kept", |_| {});
    let stopping = pods.under_load(&[0, 1], "stop", |pods| {
        let began = Instant::now();
        pods.tell("stop", 2);
        assert!(began.elapsed() < DRAINED, "{:?}", began.elapsed());
        let state = inspect(pods.container(2))["State"].clone();
        assert_eq!((state["ExitCode"].as_i64(), state["OOMKilled"].as_bool()), (Some(0), Some(false)), "{state}");
        assert!(logs(pods.container(2)).contains("stopped"), "{}", logs(pods.container(2)));
    });
    pods.move_to_a_free_address(2);
    pods.wait_ready(2);
    assert!(logs(pods.container(2)).contains("Confirmed"), "{}", logs(pods.container(2)));
    pods.verify(2, "kept", &written);
    pods.verify(2, "stop", &stopping);

    let ready = docker(&["exec", pods.container(2), "/usr/local/bin/rondo", "status", "--ready"]);
    assert_eq!(ready, "ready");
}

/// Also before it has found anybody: the kernel drops a signal that process 1 does not listen for.
#[test]
#[ignore = "needs a container engine: make containers"]
fn a_node_that_waits_for_others_is_unhealthy_and_ends_when_told() {
    let volume = Owned::volume(fresh_name(), "chown 65532:65532 /volume");
    let container = Owned::container(fresh_name());
    let mount = format!("--volume={}:/var/lib/rondo", volume.name());
    let loopback = ["--env=RONDO_CLIENT_ADDR=127.0.0.1:7700", "--env=RONDO_PEER_ADDR=127.0.0.1:7701"];
    let begin = ["run", "--detach", "--network=none", "--read-only", "--name", container.name(), &mount];
    docker(&[&begin[..], &loopback[..], &["--health-start-period=1ms", "--health-retries=1", image()]].concat());
    eventually(READY, "an unhealthy container", || {
        let health = inspect(container.name())["State"]["Health"].clone();
        holds(health["Status"] == "unhealthy", || health.to_string())
    });
    let waiting = try_docker(["exec", container.name(), "/usr/local/bin/rondo", "status", "--ready"]).unwrap_err();
    assert!(waiting.contains("exit status: 4") && waiting.contains("waiting for a cluster"), "{waiting}");
    docker(&["stop", "-t", "30", container.name()]);
    let state = inspect(container.name())["State"].clone();
    assert_eq!(state["ExitCode"], 0, "{state}");
}

/// What `docker run` of the image says with such a volume and such a secret, where it ends at once with 1.
#[track_caller]
fn refused(volume: &str, secret: &str) -> String {
    let (data, etc) = (Owned::volume(fresh_name(), volume), Owned::volume(fresh_name(), secret));
    let container = Owned::container(fresh_name());
    let mounts = [
        format!("--volume={}:/var/lib/rondo:nocopy", data.name()),
        format!("--volume={}:/etc/rondo:ro,nocopy", etc.name()),
    ];
    let begin = ["run", "--network=none", "--read-only", "--name", container.name(), &mounts[0], &mounts[1]];
    let settings = [
        "RONDO_CLUSTER_SECRET_FILE=/etc/rondo/secret",
        "RONDO_INSECURE=true",
        "RONDO_ADVERTISE=a:7701",
        "RONDO_ADVERTISE_CLIENT=a:7700",
    ];
    let settings = settings.map(|setting| format!("--env={setting}"));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let said = try_docker([&begin[..], &settings[..], &[image()][..]].concat()).expect_err("it runs");
    assert_eq!(inspect(container.name())["State"]["ExitCode"], 1, "{said}");
    said
}

#[test]
#[ignore = "needs a container engine: make containers"]
fn a_volume_or_a_secret_that_is_not_as_it_must_be_is_named() {
    let (good_volume, good_secret) = (
        "chown 65532:65532 /volume",
        "echo 0123456789abcdef > /volume/secret; \
        chown 65532:65532 /volume/secret; chmod 0400 /volume/secret",
    );
    let roots = refused("chown 0:0 /volume; chmod 0755 /volume", good_secret);
    let who =
        "this process is user 65532 and group 65532, and /var/lib/rondo belongs to user 0 and group 0 with mode 0755";
    assert!(roots.contains("/var/lib/rondo") && roots.contains(who), "{roots}");
    let strange = refused("chown 65532:65532 /volume; echo text > /volume/letter", good_secret);
    assert!(strange.contains("/var/lib/rondo holds other files"), "{strange}");
    let open = refused(good_volume, "echo 0123456789abcdef > /volume/secret; chmod 0644 /volume/secret");
    assert!(open.contains("/etc/rondo/secret") && open.contains("mode 0644"), "{open}");
    let foreign = refused(good_volume, "echo 0123456789abcdef > /volume/secret; chmod 0400 /volume/secret");
    assert!(foreign.contains("/etc/rondo/secret") && foreign.contains("Permission denied"), "{foreign}");
    let none = refused(good_volume, "true");
    assert!(none.contains("/etc/rondo/secret") && none.contains("No such file"), "{none}");
}
