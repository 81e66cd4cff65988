//! What a node that holds many small objects takes of memory when nothing happens, and how soon it is back after SIGKILL.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::bench::preload;
use crate::process::{Cluster, Running, program, ready, wait};
use crate::{Result, Sizes};

/// Idle: the nodes used less than this share of a core each for this long. Memtables become tables after 5 s of rest, and
/// memory is given back every 10 s.
const QUIET: Duration = Duration::from_secs(20);
const QUIET_SHARE: f64 = 0.05;
const QUIET_WITHIN: Duration = Duration::from_secs(300);

pub(crate) fn run(sizes: &Sizes) -> Result<String> {
    let cluster = filled(sizes)?;
    let mut table = "| node | resident MiB, idle | after SIGKILL ready in s |\n|---|---|---|".to_string();
    let mib: Result<Vec<f64>> = (0..3).map(|node| cluster.resident_mib(node)).collect();
    let mib = mib?;
    let (_again, took) = kill_and_start(sizes, &cluster)?;
    table.push_str(&format!("\n| n1 | {:.0} | {:.2} |", mib[0], took.as_secs_f64()));
    for (node, mib) in mib.iter().enumerate().skip(1) {
        table.push_str(&format!("\n| n{} | {mib:.0} | |", node + 1));
    }
    Ok(table)
}

/// Three nodes at rest that hold many small objects.
pub(crate) fn filled(sizes: &Sizes) -> Result<Cluster> {
    let cluster = Cluster::start(sizes, 3)?;
    eprintln!("storing {} objects of 100 bytes", sizes.objects);
    preload(sizes, &cluster.endpoints(), &format!("--keys {} --value-size 100", sizes.objects))?;
    become_quiet(&cluster)?;
    Ok(cluster)
}

/// Flushes, compactions and repairs go on after the last write.
pub(crate) fn become_quiet(cluster: &Cluster) -> Result<()> {
    let begin = Instant::now();
    loop {
        let before = cluster.cpu_seconds()?;
        sleep(QUIET);
        if (cluster.cpu_seconds()? - before) / QUIET.as_secs_f64() < QUIET_SHARE * cluster.clients.len() as f64 {
            return Ok(());
        }
        if begin.elapsed() > QUIET_WITHIN {
            return Err(format!("the nodes are not idle after {QUIET_WITHIN:?}").into());
        }
    }
}

/// The first node, by the command that `rondo dev` had started it with.
fn kill_and_start(sizes: &Sizes, cluster: &Cluster) -> Result<(Running, Duration)> {
    let directory = cluster.directory.path();
    let log = std::fs::read_to_string(directory.join("dev.log"))?;
    let row = log.lines().find_map(|line| line.strip_prefix("n1 ")).ok_or("rondo dev shows no n1")?;
    let pid = row.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
    kill(pid.ok_or("rondo dev shows no process of n1")?)?;
    let seeds: Vec<String> = (0..3).map(|node| format!("127.0.0.1:{}", sizes.port + 10 * node + 1)).collect();
    let mut command = Command::new(program("rondo")?);
    command.args(["server", "--name", "n1", "--client-addr", &cluster.clients[0].to_string()]);
    command.args(["--peer-addr", &seeds[0], "--seeds", &seeds.join(","), "--bootstrap-expect", "3"]);
    command.arg("--data-dir").arg(directory.join("n1"));
    command.arg("--cluster-secret-file").arg(directory.join("cluster-secret"));
    let running = Running::start(command, &directory.join("n1.log"))?;
    Ok((running, ready(cluster.clients[0])?))
}

/// Waits for its end: until then it holds its directory.
fn kill(pid: Pid) -> Result<()> {
    kill_process(pid, Signal::KILL)?;
    wait(|| test_kill_process(pid).is_err(), "a killed node has not ended").map(drop)
}
