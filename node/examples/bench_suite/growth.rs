//! Few keys against many: what a request costs when the data has grown.

use crate::bench::{self, preload};
use crate::process::Cluster;
use crate::{Result, Sizes};

/// Reads come first, whatever is asked for: writes of many connections to few keys leave siblings.
const KINDS: [(&str, &str); 2] = [("GET R=2", "--mix get --r 2"), ("PUT W=2", "--mix put --w 2")];

pub(crate) fn run(sizes: &Sizes) -> Result<String> {
    let cluster = Cluster::start(sizes, 3)?;
    let (few, many) = (sizes.keys, sizes.keys_many);
    store(sizes, &cluster, "few", few)?;
    store(sizes, &cluster, "many", many)?;
    let asked = [
        ("few", few, "uniform", format!("all {few}")),
        ("many", few, "uniform", format!("{few} of {many}")),
        ("many", many, "zipf", format!("all {many}, zipf")),
        ("many", many, "uniform", format!("all {many}")),
    ];
    let mut table =
        "| | keys asked for | requests/s | CPU µs/request, all nodes | p99 ms |\n|---|---|---|---|---|".to_string();
    for (kind, line) in KINDS {
        for (bucket, keys, distribution, called) in &asked {
            let line = format!("{} --distribution {distribution} {line}", of_bucket(bucket, *keys));
            let found = bench::rounds(sizes, &cluster.endpoints(), &line)?;
            let (rate, cpu, p99) = (found.requests_per_second, found.cpu_us, found.p99_ms);
            let row = format!("| {kind} | {called} | {rate:.0} | {cpu:.1} | {p99:.2} |");
            eprintln!("{row}");
            table.push_str(&format!("\n{row}"));
        }
    }
    Ok(table)
}

/// Many keys are stored sooner without an fsync each; what is measured has one.
fn store(sizes: &Sizes, cluster: &Cluster, bucket: &str, keys: u64) -> Result<()> {
    eprintln!("storing {keys} keys");
    cluster.rondo(&["bucket", "set", bucket, "durability=interval"])?;
    preload(sizes, &cluster.endpoints(), &of_bucket(bucket, keys))?;
    cluster.rondo(&["bucket", "set", bucket, "durability=fsync"])
}

fn of_bucket(bucket: &str, keys: u64) -> String {
    format!("--bucket {bucket} --keys {keys} --value-size 100")
}
