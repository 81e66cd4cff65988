//! Few keys against many: what a request costs when the data has grown.

use crate::bench::{self, median, preload};
use crate::process::Cluster;
use crate::{Result, Sizes};

/// Reads come first: writes of many connections to few keys leave siblings.
const ROWS: [(&str, &str); 2] = [("GET R=2", "--mix get --r 2"), ("PUT W=2", "--mix put --w 2")];

pub(crate) fn run(sizes: &Sizes) -> Result<String> {
    let cluster = Cluster::start(sizes, 3)?;
    let (few, many) = (sizes.keys, sizes.keys_many);
    let asked = [
        ("few", few, "uniform", format!("all {few}")),
        ("many", few, "uniform", format!("{few} of {many}")),
        ("many", many, "zipf", format!("all {many}, zipf")),
        ("many", many, "uniform", format!("all {many}")),
    ];
    let of_bucket = |bucket: &str, keys| format!("--bucket {bucket} --keys {keys} --value-size 100");
    let mut table =
        "| keys asked for | | requests/s | CPU µs/request, all nodes | p99 ms |\n|---|---|---|---|---|".to_string();
    for (bucket, keys) in [("few", few), ("many", many)] {
        eprintln!("storing {keys} keys");
        preload(sizes, &cluster.endpoints(), &of_bucket(bucket, keys))?;
        for (_, keys, distribution, called) in asked.iter().filter(|(of, ..)| *of == bucket) {
            let common = format!("{} --distribution {distribution}", of_bucket(bucket, *keys));
            for (name, line) in ROWS {
                eprintln!("{called}: {name}");
                let line = format!("{common} {line}");
                let runs: Result<Vec<_>> =
                    (0..sizes.rounds).map(|_| bench::run(sizes, &cluster.endpoints(), &line)).collect();
                let found = median(&runs?);
                let (rate, cpu, p99) = (found.requests_per_second, found.cpu_us, found.p99_ms);
                table.push_str(&format!("\n| {called} | {name} | {rate:.0} | {cpu:.1} | {p99:.2} |"));
            }
        }
    }
    Ok(table)
}
