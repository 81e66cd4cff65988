//! The curl lines of the documentation do what they say, as they stand.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test helpers")]

use std::fs;
use std::process::Command;

use rondo_tests::{Cluster, workspace};

/// The ```` ```sh ```` blocks that have a curl line, in their order.
fn examples(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match (&mut block, line.trim_end()) {
            (None, "```sh") => block = Some(String::new()),
            (Some(_), "```") => blocks.extend(block.take()),
            (Some(lines), line) => *lines += &format!("{line}\n"),
            (None, _) => {}
        }
    }
    blocks.retain(|block| block.lines().any(|line| line.starts_with("curl") || line.contains("$(curl")));
    blocks
}

/// Every curl also notes the status it was given. A document is one script: later lines use what earlier ones set.
const NOTING: &str = r#"set -eu
curl() { command curl --no-progress-meter --max-time 20 -w '%{stderr}status %{http_code}\n' "$@"; }
"#;

/// Runs a document's examples against a cluster; the statuses in order.
fn run(document: &str, cluster: &Cluster) -> Vec<u16> {
    let text = fs::read_to_string(workspace().join(document)).unwrap();
    let blocks = examples(&text);
    assert!(!blocks.is_empty(), "{document} has no examples");
    let mut script = blocks.concat();
    for (index, node) in cluster.nodes().iter().enumerate() {
        script = script.replace(&format!("127.0.0.1:77{index}0"), &node.client_addr().to_string());
    }
    run_script(document, &script)
}

fn run_script(document: &str, lines: &str) -> Vec<u16> {
    let script = format!("{NOTING}{lines}");
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let (said, noted) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{document}: {}\n{noted}\n{said}", output.status);
    let statuses: Vec<u16> = noted.lines().filter_map(|line| line.strip_prefix("status ")?.parse().ok()).collect();
    assert_eq!(
        statuses.len(),
        lines.matches("curl ").count(),
        "{document}: an example that was not run, or not to its end\n{noted}"
    );
    statuses
}

fn has_curl() -> bool {
    let has = Command::new("curl").arg("--version").output().is_ok();
    if !has {
        println!("SKIPPED: curl is not installed, so the documentation's examples were not run");
    }
    has
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|&&s| s == status).count()
}

#[test]
fn the_examples_work_as_they_stand() {
    if !has_curl() {
        return;
    }
    let cluster = Cluster::start(3);
    cluster.settled(&[0, 1, 2], "healthy");
    let api = run("docs/api.md", &cluster);
    // What the page shows as errors, and nothing else: a bad w, an unknown parameter, a missing key; a conflict, once
    // in full and once for its context; a key that is created twice.
    assert_eq!((count(&api, 400), count(&api, 404), count(&api, 409)), (2, 1, 2), "{api:?}");
    assert_eq!(count(&api, 412), 1, "{api:?}");
    assert!(api.iter().all(|status| [200, 201, 204, 400, 404, 409, 412].contains(status)), "{api:?}");
    assert!(count(&api, 201) == 1 && count(&api, 204) >= 6, "{api:?}");
    for document in ["README.md", "docs/consistency.md"] {
        let statuses = run(document, &cluster);
        assert!(statuses.iter().all(|status| [200, 204].contains(status)), "{document}: {statuses:?}");
    }
    let page = cluster[2].get("/").expect(200).text();
    let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(run_script("GET /", &lines.join("\n")), [204, 200, 204, 200, 200], "{page}");
}

/// `rondo_…` in backticks.
fn metrics_named(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).filter(|word| word.starts_with("rondo_") && !word.contains(['{', '…'])).collect()
}

#[test]
fn every_metric_of_the_tuning_page_is_there() {
    let cluster = Cluster::start(2);
    cluster[0].object("PUT", "fruit", "apple").body("green").send().expect(204);
    let page = cluster[0].get("/metrics").expect(200).text();
    let text = fs::read_to_string(workspace().join("docs/tuning.md")).unwrap();
    let names: Vec<&str> = metrics_named(&text).into_iter().filter(|name| !name.contains("::")).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(page.lines().any(|line| line.starts_with(name)), "there is no metric {name} in\n{page}");
    }
}

#[test]
fn a_block_without_curl_is_no_example() {
    let text = "```sh\ncargo run\n```\n```sh\ncurl a\n```\ntext\n```json\ncurl b\n```\n```sh\nx=$(curl c)\n```\n";
    assert_eq!(examples(text), ["curl a\n", "x=$(curl c)\n"]);
}
