//! One `rondo server` process and what a test does to it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::children::{Child, Ended, command, tail};
use crate::http::{Answer, Request, request};
use crate::wait::{eventually, holds};

/// Founding, starting and refilling take a second or two; the machine may be busy.
pub(crate) const READY: Duration = Duration::from_secs(60);
/// The contract's bound on a drain.
const DRAINED: Duration = Duration::from_secs(30);
const LOG_LINES: usize = 40;

/// A node: its directory and settings stay over restarts, and so do its addresses once it has chosen them.
#[derive(Debug)]
pub struct Node {
    name: String,
    directory: PathBuf,
    log: PathBuf,
    ip: IpAddr,
    addresses: Option<(SocketAddr, SocketAddr)>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Node {
    pub(crate) fn new(root: &Path, name: &str, ip: IpAddr, environment: Vec<(String, String)>) -> Self {
        Self {
            name: name.into(),
            directory: root.join(name),
            log: root.join(format!("{name}.log")),
            ip,
            addresses: None,
            arguments: Vec::new(),
            environment,
            child: None,
        }
    }

    /// Flags in addition to those of every node.
    pub fn arguments(&mut self, arguments: impl IntoIterator<Item = String>) {
        self.arguments.extend(arguments);
    }

    /// Sets a flag's value for the next starts, in the place of an earlier one.
    pub fn flag(&mut self, flag: &str, value: &str) {
        if let Some(place) = self.arguments.iter().position(|argument| argument == flag) {
            self.arguments.drain(place..place + 2);
        }
        self.arguments([flag.to_string(), value.to_string()]);
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its data is.
    pub fn data_dir(&self) -> &Path {
        &self.directory
    }

    /// Where clients are served.
    pub fn client_addr(&self) -> SocketAddr {
        self.addresses.expect("a node has addresses once it was started").0
    }

    /// Where the other nodes are served.
    pub fn peer_addr(&self) -> SocketAddr {
        self.addresses.expect("a node has addresses once it was started").1
    }

    /// `http://address/path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.client_addr())
    }

    /// Starts the process and waits until it has bound its ports.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let published = self.directory.join("addresses.json");
        let _ = std::fs::remove_file(&published);
        let mut server = command(crate::binary());
        let port_0 = (SocketAddr::new(self.ip, 0), SocketAddr::new(self.ip, 0));
        let (client, peer) = self.addresses.unwrap_or(port_0);
        server.args(["server", "--name", &self.name, "--data-dir"]).arg(&self.directory);
        server.args(["--client-addr", &client.to_string(), "--peer-addr", &peer.to_string()]);
        server.args(&self.arguments).envs(self.environment.iter().cloned());
        let child = self.child.insert(Child::spawn(server, &self.log));
        let (name, log) = (&self.name, &self.log);
        self.addresses = Some(eventually(READY, "a bound node", || {
            assert!(child.ended().is_none(), "{name} has ended\n{}", tail(log, LOG_LINES));
            addresses(&published).ok_or_else(|| format!("{name} has not said where it listens"))
        }));
    }

    /// Waits until it takes requests.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        eventually(READY, "a ready node", || {
            let ended = self.child.as_mut().and_then(Child::ended);
            assert!(ended.is_none(), "{} has ended\n{}", self.name, self.log_tail());
            let answer = request("GET", &self.url("/readyz")).try_send()?;
            holds(answer.status == 200, || format!("{}: {}", self.name, answer.text()))
        });
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill();
        }
    }

    /// SIGKILL without waiting: several nodes can be killed at the same moment.
    pub fn begin_kill(&self) {
        self.running().signal(Signal::KILL);
    }

    /// SIGSTOP: the process hangs, its sockets stay open.
    pub fn pause(&self) {
        self.running().signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.running().signal(Signal::CONT);
    }

    /// Its next start takes other ports.
    pub fn forget_addresses(&mut self) {
        self.addresses = None;
    }

    /// SIGTERM without waiting.
    pub fn begin_terminate(&self) {
        self.running().signal(Signal::TERM);
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub fn terminate(&mut self) -> Ended {
        let mut child = self.child.take().expect("only a running node can be terminated");
        child.signal(Signal::TERM);
        child.wait(DRAINED)
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait_end(&mut self) -> Ended {
        self.child.take().expect("only a running node can end").wait(READY)
    }

    /// Kills it if it runs, starts it again at the same addresses, waits until it is ready.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        self.start();
        self.wait_ready();
    }

    /// Whether its process is there.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.ended().is_none())
    }

    /// The end of what it said.
    pub fn log_tail(&self) -> String {
        tail(&self.log, LOG_LINES)
    }

    /// Everything it has said so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Memory of its process.
    pub fn resident_bytes(&self) -> u64 {
        let status = format!("/proc/{}/status", self.running().pid().as_raw_nonzero());
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let kibibytes = |line: &str| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok();
        let resident = text.lines().find_map(kibibytes);
        resident.unwrap_or_else(|| panic!("no VmRSS in {status}: {text}")) * 1_024
    }

    fn running(&self) -> &Child {
        self.child.as_ref().expect("only a running node takes signals")
    }

    /// A request on an object; `key` as it is, not encoded.
    pub fn object(&self, method: &str, bucket: &str, key: &str) -> Request {
        request(method, &self.url(&format!("/v1/kv/{bucket}/{}", crate::encode(key))))
    }

    /// GET of any path.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        request("GET", &self.url(path)).send()
    }

    /// What its disk holds of a key, without asking anybody.
    #[track_caller]
    pub fn local(&self, bucket: &str, key: &str) -> Value {
        self.get(&format!("/v1/local/{bucket}/{}", crate::encode(key))).expect(200).json()
    }

    /// The value of a metric without labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").expect(200).text();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let parsed = value.and_then(|value| value.parse().ok());
        parsed.unwrap_or_else(|| panic!("no metric {name} in\n{page}"))
    }
}

fn addresses(published: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let text = std::fs::read(published).ok()?;
    let addresses: Value = serde_json::from_slice(&text).ok()?;
    let address = |name: &str| addresses[name].as_str()?.parse().ok();
    Some((address("client_addr")?, address("peer_addr")?))
}
