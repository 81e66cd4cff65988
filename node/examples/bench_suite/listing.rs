//! All keys of a large bucket, asked of one node: how long it takes, and how much that node's memory grows meanwhile.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::memory::filled;
use crate::process::{Cluster, program};
use crate::{Result, Sizes};

/// Between two looks at the memory of the node that is asked.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) fn run(sizes: &Sizes) -> Result<String> {
    let cluster = filled(sizes)?;
    let mut table =
        "| | s | keys/s | CPU µs/key, all nodes | the asked node's MiB, before | at most |\n|---|---|---|---|---|---|"
            .to_string();
    for r in ["1", "2"] {
        eprintln!("listing at R={r}");
        let (before, cpu, began) = (cluster.resident_mib(0)?, cluster.cpu_seconds()?, Instant::now());
        let (mut most, mut looked) = (before, began);
        list(&cluster, r, sizes.objects, || {
            if looked.elapsed() > LOOK {
                most = cluster.resident_mib(0)?.max(most);
                looked = Instant::now();
            }
            Ok(())
        })?;
        let took = began.elapsed().as_secs_f64();
        let (rate, each) = (sizes.objects as f64 / took, (cluster.cpu_seconds()? - cpu) * 1e6 / sizes.objects as f64);
        table.push_str(&format!("\n| R={r} | {took:.1} | {rate:.0} | {each:.2} | {before:.0} | {most:.0} |"));
    }
    Ok(table)
}

/// Fails where a key is missing or out of order. `each` is called between the keys.
fn list(cluster: &Cluster, r: &str, keys: u64, mut each: impl FnMut() -> Result<()>) -> Result<()> {
    let mut command = Command::new(program("rondo")?);
    command.args(["ls", "bench", "--output", "json", "--r", r, "--endpoint", &cluster.clients[0].to_string()]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let (mut last, mut count) = (String::new(), 0);
    for line in lines {
        let row: Value = serde_json::from_str(&line?)?;
        let key = row["key"].as_str().ok_or_else(|| format!("no key in {row}"))?.to_owned();
        if key <= last {
            return Err(format!("{key} comes after {last}").into());
        }
        (last, count) = (key, count + 1);
        each()?;
    }
    let status = child.wait()?;
    if status.success() && count == keys { Ok(()) } else { Err(format!("{status}: {count} of {keys} keys").into()) }
}
