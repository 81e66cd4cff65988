//! Few keys against many: what a request costs when the data has grown.

use crate::bench::{self, preload};
use crate::memory::become_quiet;
use crate::process::Cluster;
use crate::{Result, Sizes};

/// Reads come first, whatever is asked for: writes of many connections to few keys leave siblings.
const KINDS: [(&str, &str); 2] = [("GET R=2", "--mix get --r 2"), ("PUT W=2", "--mix put --w 2")];

/// What is asked for, and what the table calls it.
struct Asked {
    bucket: &'static str,
    keys: u64,
    distribution: &'static str,
    called: String,
}

pub(crate) fn run(sizes: &Sizes) -> Result<String> {
    let cluster = Cluster::start(sizes, 3)?;
    let (few, many) = (sizes.keys, sizes.keys_many);
    let asked = |bucket, keys, distribution, called| Asked { bucket, keys, distribution, called };
    let alone = [asked("few", few, "uniform", format!("all {few}, and no others stored"))];
    let among_many = [
        asked("many", few, "uniform", format!("{few} of {many}")),
        asked("many", many, "zipf", format!("all {many}, zipf")),
        asked("many", many, "uniform", format!("all {many}")),
    ];
    let mut rows = KINDS.map(|_| Vec::new());
    for (bucket, keys, asked) in [("few", few, &alone[..]), ("many", many, &among_many[..])] {
        store(sizes, &cluster, bucket, keys)?;
        for ((kind, line), rows) in KINDS.iter().zip(&mut rows) {
            for asked in asked {
                rows.push(measured(sizes, &cluster, kind, line, asked)?);
            }
        }
    }
    let head = "| | keys asked for | requests/s | CPU µs/request, all nodes | p99 ms |\n|---|---|---|---|---|\n";
    Ok(head.to_string() + &rows.concat().join("\n"))
}

fn measured(sizes: &Sizes, cluster: &Cluster, kind: &str, line: &str, asked: &Asked) -> Result<String> {
    let line = format!("{} --distribution {} {line}", of_bucket(asked.bucket, asked.keys), asked.distribution);
    let found = bench::rounds(sizes, &cluster.endpoints(), &line)?;
    let (rate, cpu, p99) = (found.requests_per_second, found.cpu_us, found.p99_ms);
    let row = format!("| {kind} | {} | {rate:.0} | {cpu:.1} | {p99:.2} |", asked.called);
    eprintln!("{row}");
    Ok(row)
}

/// Many keys are stored sooner without an fsync each; what is measured has one, and nothing of what storing left to be done.
fn store(sizes: &Sizes, cluster: &Cluster, bucket: &str, keys: u64) -> Result<()> {
    eprintln!("storing {keys} keys");
    cluster.rondo(&["bucket", "set", bucket, "durability=interval"])?;
    preload(sizes, &cluster.endpoints(), &of_bucket(bucket, keys))?;
    cluster.rondo(&["bucket", "set", bucket, "durability=fsync"])?;
    become_quiet(cluster)
}

fn of_bucket(bucket: &str, keys: u64) -> String {
    format!("--bucket {bucket} --keys {keys} --value-size 100")
}
