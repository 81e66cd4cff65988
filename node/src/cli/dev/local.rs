//! The nodes of a local cluster as child processes.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::available_parallelism;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::ports::Ports;
use crate::cli::client::{Connection, Endpoint, Request};
use crate::cli::failure::Failure;
use crate::cli::output::table;
use crate::cli::problem::describe;

/// A node is started within a second or two; a busy machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at `/readyz`.
const LOOK: Duration = Duration::from_millis(50);
/// How long a node may drain before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Lines of a node's log shown when it fails.
const LOG_LINES: usize = 15;
/// Set for another purpose in the user's environment, these would give every node the same value.
const NOT_INHERITED: [&str; 4] = ["RONDO_CONFIG", "RONDO_ADVERTISE", "RONDO_ADVERTISE_CLIENT", "RONDO_ZONE"];

/// One node.
#[derive(Debug)]
pub(super) struct LocalNode {
    pub(super) name: String,
    pub(super) endpoint: Endpoint,
    directory: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
    /// Owners of a key: 3, or as many as there are nodes.
    n: usize,
    /// The nodes share the machine's cores.
    worker_threads: usize,
    child: Option<Child>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct LocalCluster {
    pub(super) nodes: Vec<LocalNode>,
}

impl LocalCluster {
    pub(super) fn new(directory: &Path, secret: &Path, ports: &Ports) -> Self {
        let seeds: Vec<String> = ports.0.iter().map(|(_, peer)| peer.to_string()).collect();
        let worker_threads = available_parallelism().map_or(1, |cores| cores.get().div_ceil(seeds.len()));
        let node = |(i, (client, peer)): (usize, &(std::net::SocketAddr, std::net::SocketAddr))| {
            let name = format!("n{}", i + 1);
            let data = directory.join(&name);
            let arguments = [
                ("--name", name.clone()),
                ("--data-dir", data.display().to_string()),
                ("--client-addr", client.to_string()),
                ("--peer-addr", peer.to_string()),
                ("--seeds", seeds.join(",")),
                ("--bootstrap-expect", seeds.len().to_string()),
                ("--cluster-secret-file", secret.display().to_string()),
            ];
            let flags = arguments.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]);
            let arguments = ["server", "--exit-with-parent"].map(String::from).into_iter().chain(flags).collect();
            let endpoint = client.to_string().parse().expect("an address with a port is an endpoint");
            let log = directory.join(format!("{name}.log"));
            let n = seeds.len().min(3);
            LocalNode { name, endpoint, directory: data, log, arguments, n, worker_threads, child: None }
        };
        Self { nodes: ports.0.iter().enumerate().map(node).collect() }
    }

    /// Starts every node and waits until all are ready.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            node.spawn()?;
        }
        for node in &mut self.nodes {
            node.ready().await?;
        }
        Ok(())
    }

    /// Starts one node again and waits until it is ready.
    pub(super) async fn restart(&mut self, index: usize) -> Result<(), Failure> {
        self.nodes[index].spawn()?;
        self.nodes[index].ready().await
    }

    /// SIGTERM to all, SIGKILL to those that take too long.
    pub(super) async fn stop(&mut self) {
        for node in &self.nodes {
            node.terminate();
        }
        for node in &mut self.nodes {
            let Some(mut child) = node.child.take() else { continue };
            if timeout(STOP_WITHIN, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }

    /// Waits until a node ends that should not have; says which. Never, when none runs.
    pub(super) async fn next_end(&mut self) -> String {
        loop {
            for node in &mut self.nodes {
                if let Some(status) = node.ended() {
                    return format!("{} has ended: {status}\n{}", node.name, node.last_lines());
                }
            }
            sleep(10 * LOOK).await;
        }
    }

    /// What runs where.
    pub(super) fn table(&self) -> String {
        let row = |node: &LocalNode| {
            let pid = node.child.as_ref().and_then(Child::id).map(|pid| pid.to_string()).unwrap_or_default();
            vec![node.name.clone(), pid, node.endpoint.to_string(), node.directory.display().to_string()]
        };
        table(&["node", "process", "clients at", "data"], &self.nodes.iter().map(row).collect::<Vec<_>>())
    }
}

impl LocalNode {
    fn spawn(&mut self) -> Result<(), Failure> {
        let failed =
            |what: &str, e: std::io::Error| Failure::Failed(format!("{} cannot be started: {what}: {e}", self.name));
        let program = std::env::current_exe().map_err(|e| failed("the program is not found", e))?;
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(|e| failed(&self.log.display().to_string(), e))?;
        let errors = log.try_clone().map_err(|e| failed(&self.log.display().to_string(), e))?;
        let mut command = Command::new(program);
        for variable in NOT_INHERITED {
            command.env_remove(variable);
        }
        for (variable, value) in [("RONDO_N", self.n), ("RONDO_WORKER_THREADS", self.worker_threads)] {
            if std::env::var_os(variable).is_none() {
                command.env(variable, value.to_string());
            }
        }
        command.args(&self.arguments);
        // Ctrl-C goes to the process group of the terminal: a node is stopped by us, not beside us.
        command.stdin(Stdio::piped()).stdout(log).stderr(errors).process_group(0).kill_on_drop(true);
        self.child = Some(command.spawn().map_err(|e| failed("", e))?);
        Ok(())
    }

    async fn ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        let mut connection = Connection::new(self.endpoint.clone());
        loop {
            if let Some(status) = self.ended() {
                return Err(self.failed(&format!("ended: {status}")));
            }
            let why = match connection.send(&Request::get("/readyz"), READY_WITHIN).await {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) => describe(&answer),
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                return Err(self.failed(&format!("is not ready after {} s: {why}", READY_WITHIN.as_secs())));
            }
            sleep(LOOK).await;
        }
    }

    fn failed(&self, what: &str) -> Failure {
        Failure::Failed(format!("{} {what}\n{}", self.name, self.last_lines()))
    }

    /// How it ended, once.
    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    fn last_lines(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        format!("the end of {}:\n{}", self.log.display(), tail(&String::from_utf8_lossy(&log), LOG_LINES))
    }

    fn terminate(&self) {
        let pid = self.child.as_ref().and_then(Child::id).and_then(|pid| Pid::from_raw(pid as i32));
        // One that has ended already needs no signal.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
    }

    /// SIGKILL, and wait until it is gone.
    pub(super) async fn kill(&mut self) -> Result<u32, Failure> {
        let mut child = self.child.take().ok_or_else(|| self.failed("has ended by itself"))?;
        let pid = child.id().unwrap_or_default();
        child.kill().await.map_err(|e| self.failed(&format!("cannot be killed: {e}")))?;
        Ok(pid)
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let shown = &all[all.len().saturating_sub(lines)..];
    shown.iter().map(|line| format!("  {line}\n")).collect::<String>().trim_end().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_its_own_ports_and_directory_and_the_same_seeds() {
        let ports = Ports::plan(7700, 3).unwrap();
        let cluster = LocalCluster::new(Path::new("/d"), Path::new("/d/cluster-secret"), &ports);
        let line = cluster.nodes[1].arguments.join(" ");
        let expected = "server --exit-with-parent --name n2 --data-dir /d/n2 --client-addr 127.0.0.1:7710 --peer-addr \
                        127.0.0.1:7711 --seeds 127.0.0.1:7701,127.0.0.1:7711,127.0.0.1:7721 --bootstrap-expect 3 \
                        --cluster-secret-file /d/cluster-secret";
        assert_eq!(line, expected);
        assert!(cluster.table().lines().nth(3).unwrap().starts_with("n3"));
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "  b\n  c");
        assert_eq!(tail("", 2), "");
    }
}
