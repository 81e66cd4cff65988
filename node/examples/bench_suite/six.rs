//! Six nodes on one machine beside three: what more nodes cost a request.

use crate::bench::{self, preload};
use crate::process::Cluster;
use crate::{Result, Sizes};

/// Reads come first: writes of many connections to few keys leave siblings.
const ROWS: [(&str, &str); 2] = [("GET R=2", "--mix get --r 2"), ("PUT W=2", "--mix put --w 2")];

pub(crate) fn run(sizes: &Sizes) -> Result<String> {
    let mut table = "| nodes | | requests/s | CPU µs/request, all nodes | p99 ms |\n|---|---|---|---|---|".to_string();
    for nodes in [3, 6] {
        let cluster = Cluster::start(sizes, nodes)?;
        preload(sizes, &cluster.endpoints(), &format!("--keys {}", sizes.keys))?;
        for (name, line) in ROWS {
            eprintln!("{nodes} nodes, {name}");
            let line = format!("--keys {} {line}", sizes.keys);
            let found = bench::rounds(sizes, &cluster.endpoints(), &line)?;
            let (rate, cpu, p99) = (found.requests_per_second, found.cpu_us, found.p99_ms);
            table.push_str(&format!("\n| {nodes} | {name} | {rate:.0} | {cpu:.1} | {p99:.2} |"));
        }
    }
    Ok(table)
}
