//! Several nodes that found a cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Index, IndexMut};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::node::Node;
use crate::wait::{eventually, holds};

/// Failure detection takes some three seconds, and seven for a lone survivor; the machine may be busy.
const SETTLED: Duration = Duration::from_secs(30);

/// Running nodes and their directory. Dropping it kills and removes everything.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    directory: TempDir,
}

/// A cluster in the making.
#[derive(Debug, Default)]
pub struct Builder {
    nodes: usize,
    environment: Vec<(String, String)>,
    zones: Vec<String>,
    arguments: Vec<String>,
    expect: Option<usize>,
    advertised: Vec<SocketAddr>,
}

impl Builder {
    /// A variable of every node, such as `RONDO_LIMITS__IDLE_MS`.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.into(), value.to_string()));
        self
    }

    /// The nodes' zones, in their order.
    #[must_use]
    pub fn zones(mut self, zones: &[&str]) -> Self {
        self.zones = zones.iter().map(ToString::to_string).collect();
        self
    }

    /// Flags of every node.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// How many founders each node waits for, where that is not how many are started.
    #[must_use]
    pub fn expect(mut self, founders: usize) -> Self {
        self.expect = Some(founders);
        self
    }

    /// Where the others reach each node, in their order, where that is not its own peer port.
    #[must_use]
    pub fn advertise(mut self, addresses: &[SocketAddr]) -> Self {
        self.advertised = addresses.to_vec();
        self
    }

    /// Starts the nodes and waits until all are ready.
    #[track_caller]
    pub fn start(self) -> Cluster {
        let mut cluster = self.bind();
        cluster.nodes.iter_mut().for_each(Node::wait_ready);
        cluster
    }

    /// Starts the nodes and waits only until their ports are bound.
    #[track_caller]
    pub fn bind(self) -> Cluster {
        let directory = tempfile::Builder::new().prefix("rondo-test-").tempdir();
        let directory = directory.expect("there is room for temporary files");
        let ip = own_ip();
        let names = (1..=self.nodes).map(|number| format!("n{number}"));
        let make = |name: String| Node::new(directory.path(), &name, ip, self.environment.clone());
        let mut nodes: Vec<Node> = names.map(make).collect();
        let mut seeds = Vec::new();
        for (index, node) in nodes.iter_mut().enumerate() {
            node.arguments(["--bootstrap-expect".into(), self.expect.unwrap_or(self.nodes).to_string()]);
            node.arguments(seeds.iter().cloned());
            node.arguments(self.arguments.iter().cloned());
            let zone = self.zones.get(index).map(|zone| ["--zone".into(), zone.clone()]);
            node.arguments(zone.into_iter().flatten());
            let advertised = self.advertised.get(index);
            node.arguments(advertised.into_iter().flat_map(|address| ["--advertise".into(), address.to_string()]));
            node.start();
            if index == 0 {
                let first = advertised.copied().unwrap_or_else(|| node.peer_addr());
                seeds = vec!["--seeds".to_string(), first.to_string()];
            }
        }
        Cluster { nodes, directory }
    }
}

impl Cluster {
    /// A cluster of so many nodes with the default settings, ready.
    #[track_caller]
    pub fn start(nodes: usize) -> Self {
        Self::builder(nodes).start()
    }

    /// To set more.
    pub fn builder(nodes: usize) -> Builder {
        Builder { nodes, ..Builder::default() }
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All nodes.
    pub fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// A directory of its own, for a test's files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Client addresses as the command line takes them.
    pub fn endpoints(&self) -> String {
        let all: Vec<String> = self.nodes.iter().map(|node| node.url("")).collect();
        all.join(",")
    }

    /// Starts the nodes that do not run, then waits until all are ready.
    #[track_caller]
    pub fn start_missing(&mut self) {
        for node in &mut self.nodes {
            if !node.is_running() {
                node.kill();
                node.start();
            }
        }
        self.nodes.iter_mut().for_each(Node::wait_ready);
    }

    /// Waits until every given node sees the cluster in this health, and every member as `up` where it is healthy.
    #[track_caller]
    pub fn settled(&self, seen_by: &[usize], health: &str) {
        for &index in seen_by {
            eventually(SETTLED, "a settled cluster", || {
                let cluster = crate::request("GET", &self.nodes[index].url("/v1/cluster")).try_send()?.json();
                let members = cluster["members"].as_array().cloned().unwrap_or_default();
                let whole = health != "healthy" || members.iter().all(|member| member["state"] == "up");
                holds(cluster["health"] == health && whole, || format!("n{} sees {cluster}", index + 1))
            });
        }
    }
}

impl Index<usize> for Cluster {
    type Output = Node;

    fn index(&self, index: usize) -> &Node {
        &self.nodes[index]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.nodes.iter().for_each(|node| eprintln!("{}", node.log_tail()));
        }
    }
}

/// A loopback address that no other cluster of these tests has, where the system has more than one. Nodes keep their
/// ports over restarts: on an address that outgoing connections also use, one of those could take a port meanwhile.
fn own_ip() -> IpAddr {
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    if !cfg!(target_os = "linux") {
        return Ipv4Addr::LOCALHOST.into();
    }
    let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed) % 60;
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + cluster as u8, high, low.max(1)).into()
}
