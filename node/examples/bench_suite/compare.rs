//! Three nodes beside bare axum, in turns.

use crate::bench::{self, Figures, median, preload};
use crate::process::{Cluster, bare_axum};
use crate::{Result, Sizes};

/// What the table calls it, and what it is. Reads come first: writes of many connections to few keys leave siblings.
const ROWS: [(&str, &str); 4] = [
    ("GET R=2", "--mix get --r 2"),
    ("GET R=1", "--mix get --r 1"),
    ("PUT W=2", "--mix put --w 2"),
    ("PUT W=2, durability interval", "--mix put --w 2 --bucket interval"),
];

pub(crate) fn run(sizes: &Sizes) -> Result<String> {
    let cluster = Cluster::start(sizes, 3)?;
    cluster.rondo(&["bucket", "set", "interval", "durability=interval"])?;
    let (_running, axum) = bare_axum(sizes, cluster.directory.path())?;
    for endpoints in [&cluster.endpoints(), &axum] {
        preload(sizes, endpoints, &format!("--keys {}", sizes.keys))?;
    }
    let rows = in_turns(sizes, &cluster, &axum)?;
    let head = "| | requests/s | bare axum | ratio | CPU µs/request, all nodes | bare axum | p99 ms | bare axum |\n\
                |---|---|---|---|---|---|---|---|\n";
    Ok(head.to_string() + &rows.join("\n"))
}

fn in_turns(sizes: &Sizes, cluster: &Cluster, axum: &str) -> Result<Vec<String>> {
    let mut rows = Vec::new();
    for (name, line) in ROWS {
        let line = format!("{line} --keys {}", sizes.keys);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=sizes.rounds {
            eprintln!("{name}, round {round} of {}", sizes.rounds);
            ours.push(bench::run(sizes, &cluster.endpoints(), &line)?);
            theirs.push(bench::run(sizes, axum, &line)?);
        }
        rows.push(row(name, median(&ours), median(&theirs)));
    }
    Ok(rows)
}

fn row(name: &str, ours: Figures, theirs: Figures) -> String {
    format!(
        "| {name} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} | {:.2} | {:.2} |",
        ours.requests_per_second,
        theirs.requests_per_second,
        ours.requests_per_second / theirs.requests_per_second.max(1.0),
        ours.cpu_us,
        theirs.cpu_us,
        ours.p99_ms,
        theirs.p99_ms,
    )
}
