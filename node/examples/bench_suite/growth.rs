//! Few keys against many: what a request costs when the data has grown.

use crate::bench::{self, median, preload};
use crate::process::Cluster;
use crate::{Result, Sizes};

/// Reads come first: writes of many connections to few keys leave siblings.
const ROWS: [(&str, &str); 2] = [("GET R=2", "--mix get --r 2"), ("PUT W=2", "--mix put --w 2")];

pub(crate) fn run(sizes: &Sizes) -> Result<String> {
    let cluster = Cluster::start(sizes, 3)?;
    let mut table = "| keys | | requests/s | CPU µs/request, all nodes | p99 ms |\n|---|---|---|---|---|".to_string();
    for (bucket, keys) in [("few", sizes.keys), ("many", sizes.keys_many)] {
        let common = format!("--bucket {bucket} --keys {keys} --value-size 100");
        eprintln!("storing {keys} keys");
        preload(sizes, &cluster.endpoints(), &common)?;
        for (name, line) in ROWS {
            let line = format!("{common} {line}");
            let runs: Result<Vec<_>> =
                (0..sizes.rounds).map(|_| bench::run(sizes, &cluster.endpoints(), &line)).collect();
            let found = median(&runs?);
            let (rate, cpu, p99) = (found.requests_per_second, found.cpu_us, found.p99_ms);
            table.push_str(&format!("\n| {keys} | {name} | {rate:.0} | {cpu:.1} | {p99:.2} |"));
        }
    }
    Ok(table)
}
