//! The programs that are measured, as child processes that end with this one.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Result, Sizes};

const READY_WITHIN: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);

/// `rondo` or an example of this build.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let examples = std::env::current_exe()?.parent().map(Path::to_path_buf).ok_or("no directory")?;
    let path = if name == "rondo" { examples.join("..").join(name) } else { examples.join(name) };
    let there = path.exists().then_some(path.clone());
    there.ok_or_else(|| format!("{} is not built; `make bench` builds it", path.display()).into())
}

/// A child that is asked to end, and waited for, when it is dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already needs no signal.
        let _ = Pid::from_raw(self.0.id() as i32).map(|pid| kill_process(pid, Signal::TERM));
        let _ = self.0.wait();
    }
}

/// A cluster of `rondo dev`.
pub(crate) struct Cluster {
    _dev: Running,
    pub(crate) clients: Vec<SocketAddr>,
    pub(crate) directory: TempDir,
}

impl Cluster {
    pub(crate) fn start(sizes: &Sizes, nodes: u16) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("rondo-bench-").tempdir_in(&sizes.directory)?;
        let mut command = Command::new(program("rondo")?);
        command.args(["dev", "--nodes", &nodes.to_string(), "--base-port", &sizes.port.to_string(), "--data-dir"]);
        command.arg(directory.path());
        let mut dev = Running::start(command, &directory.path().join("dev.log"))?;
        let clients: Vec<_> = (0..nodes).map(|node| local(sizes.port + 10 * node)).collect();
        for client in &clients {
            ready(*client)?;
        }
        // What answers may be another cluster on the same ports.
        if dev.0.try_wait()?.is_some() {
            return Err(std::fs::read_to_string(directory.path().join("dev.log"))?.trim().into());
        }
        Ok(Self { _dev: dev, clients, directory })
    }

    /// Processor time of all nodes since they began, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.clients.iter().map(|client| metric(*client, "process_cpu_seconds_total")).sum()
    }

    /// Of one node's memory.
    pub(crate) fn resident_mib(&self, node: usize) -> Result<f64> {
        Ok(metric(self.clients[node], "process_resident_memory_bytes")? / f64::from(1 << 20))
    }

    /// As `rondo bench` takes them.
    pub(crate) fn endpoints(&self) -> String {
        self.clients.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// Runs another command of `rondo` on the cluster.
    pub(crate) fn rondo(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(program("rondo")?);
        let output = command.args(arguments).args(["--endpoint", &self.endpoints()]).output()?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
    }
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Bare axum, and where it listens.
pub(crate) fn bare_axum(sizes: &Sizes, directory: &Path) -> Result<(Running, String)> {
    let address = local(sizes.port + 500);
    let mut command = Command::new(program("bare_axum")?);
    command.arg(address.to_string());
    let running = Running::start(command, &directory.join("bare_axum.log"))?;
    wait(|| get(address, "/metrics").is_some_and(|page| page.starts_with("HTTP/1.1 200")), "bare axum is not ready")?;
    Ok((running, address.to_string()))
}

/// Waits until a node takes requests; says for how long.
pub(crate) fn ready(client: SocketAddr) -> Result<Duration> {
    let ready = || get(client, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"));
    wait(ready, &format!("the node at {client} is not ready"))
}

pub(crate) fn wait(done: impl Fn() -> bool, otherwise: &str) -> Result<Duration> {
    let begin = Instant::now();
    while !done() {
        if begin.elapsed() > READY_WITHIN {
            return Err(format!("{otherwise} after {READY_WITHIN:?}").into());
        }
        sleep(LOOK);
    }
    Ok(begin.elapsed())
}

/// A metric's value.
pub(crate) fn metric(client: SocketAddr, name: &str) -> Result<f64> {
    let page = get(client, "/metrics").ok_or_else(|| format!("{client} has no metrics"))?;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.ok_or_else(|| format!("{client} does not say {name}").into())
}

/// The whole answer as text, if there is one.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(READY_WITHIN)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
