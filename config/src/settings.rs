//! The settings of a node.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread::available_parallelism;

use rondo_antientropy::AntiEntropyOptions;
use rondo_coordinator::CoordinatorOptions;
use rondo_gossip::GossipOptions;
use rondo_ring::{PartitionCount, ReplicationFactor};
use rondo_storage::engine::{EngineError, EngineOptions};
use rondo_storage::store::StoreOptions;
use serde::{Deserialize, Serialize};

use crate::http::HttpLimits;
use crate::secret::{ClusterSecret, SecretError};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What the node writes to stderr.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogOptions {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`; for a part of the program `rondo_node::peers=debug`; several
    /// with commas.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// Everything an operator may set. [`crate::Sources::load`] makes it; [`Settings::validate`] holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Unique in the cluster, 1 to 64 bytes of `[A-Za-z0-9._-]`. Default: the host name.
    pub name: String,
    /// Where everything durable is kept; made if it is missing.
    pub data_dir: PathBuf,
    /// Where clients are listened to. Port 0: any free one.
    pub client_addr: SocketAddr,
    /// Where the other nodes are listened to. Port 0: any free one.
    pub peer_addr: SocketAddr,
    /// host:port at which the other nodes reach `peer_addr`; needed where that is not one address (0.0.0.0).
    pub advertise: Option<String>,
    /// host:port at which clients reach `client_addr`; needed where that is not one address.
    pub advertise_client: Option<String>,
    /// host:port of peer listeners to find the cluster through, 64 at most; they may include this node.
    pub seeds: Vec<String>,
    /// Found a cluster together with so many nodes, this one included, 1 to 64; only where there is none yet.
    pub bootstrap_expect: Option<u8>,
    /// Failure domain, 1 to 64 bytes of `[A-Za-z0-9._-]`: the owners of a key are in different ones where possible.
    pub zone: String,
    /// Share of the keys relative to the other nodes, 1 to 1,000.
    pub weight: u32,
    /// File with the text every node of the cluster must know ([`ClusterSecret::read`]).
    pub cluster_secret_file: Option<PathBuf>,
    /// Listen beyond loopback although this release has neither TLS nor access tokens.
    pub insecure: bool,
    /// Q, the partitions of the ring: a power of two to 16,384, fixed when the cluster is founded.
    pub partitions: PartitionCount,
    /// N of buckets that were never set, 1 to 7; the same on every founder.
    pub n: ReplicationFactor,
    /// Threads that serve requests, 1 to 256. Default: one per core.
    pub worker_threads: u16,
    /// What is logged.
    pub log: LogOptions,
    /// Bounds of the client HTTP.
    pub limits: HttpLimits,
    /// How requests become replica operations.
    pub coordinator: CoordinatorOptions,
    /// Who is alive.
    pub gossip: GossipOptions,
    /// How replicas become equal.
    pub anti_entropy: AntiEntropyOptions,
    /// Commit log, memtables and tables: section `storage`.
    #[serde(rename = "storage")]
    pub engine: EngineOptions,
    /// What is kept free for everything else: section `disk`.
    #[serde(rename = "disk")]
    pub store: StoreOptions,
}

impl Default for Settings {
    fn default() -> Self {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            name: host_name(),
            data_dir: "rondo-data".into(),
            client_addr: loopback(7700),
            peer_addr: loopback(7701),
            advertise: None,
            advertise_client: None,
            seeds: Vec::new(),
            bootstrap_expect: None,
            zone: "default".into(),
            weight: 1,
            cluster_secret_file: None,
            insecure: false,
            partitions: PartitionCount::new(256).expect("256 is a power of two in range"),
            n: ReplicationFactor::new(3).expect("3 is from 1 to 7"),
            worker_threads: available_parallelism().map_or(1, |cores| cores.get().min(256) as u16),
            log: LogOptions::default(),
            limits: HttpLimits::default(),
            coordinator: CoordinatorOptions::default(),
            gossip: GossipOptions::default(),
            anti_entropy: AntiEntropyOptions::default(),
            engine: EngineOptions::default(),
            store: StoreOptions::default(),
        }
    }
}

/// A value that does not fit, or does not go together with the others.
#[derive(Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The setting's path, such as `gossip.heartbeat_ms`.
    pub key: String,
    /// What is wrong and what is allowed.
    pub allowed: String,
}

impl Settings {
    /// The secret of `cluster_secret_file`, read now and checked; `None` where there is no such file set.
    pub fn cluster_secret(&self) -> Result<Option<ClusterSecret>, SecretError> {
        self.cluster_secret_file.as_deref().map(ClusterSecret::read).transpose()
    }

    /// host:port the other nodes are told, once the peer listener is bound.
    pub fn advertised_peer(&self, bound: SocketAddr) -> String {
        self.advertise.clone().unwrap_or_else(|| bound.to_string())
    }

    /// host:port clients are told, once the client listener is bound.
    pub fn advertised_client(&self, bound: SocketAddr) -> String {
        self.advertise_client.clone().unwrap_or_else(|| bound.to_string())
    }

    /// Whether only this machine can reach the node.
    pub fn on_loopback(&self) -> bool {
        self.client_addr.ip().is_loopback() && self.peer_addr.ip().is_loopback()
    }

    /// Everything that does not fit.
    pub fn validate(&self) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        self.check_names(&mut misfits);
        self.check_numbers(&mut misfits);
        self.check_addresses(&mut misfits);
        self.check_exposure(&mut misfits);
        section(&mut misfits, "limits", self.limits.validate().map_err(|e| e.to_string()));
        section(&mut misfits, "coordinator", self.coordinator.validate().map_err(|e| e.to_string()));
        section(&mut misfits, "gossip", self.gossip.validate());
        section(&mut misfits, "anti_entropy", self.anti_entropy.validate().map_err(|e| e.to_string()));
        section(&mut misfits, "storage", self.engine.validate().map_err(engine_option));
        section(&mut misfits, "disk", self.store.validate());
        misfits
    }

    fn check_names(&self, misfits: &mut Vec<Misfit>) {
        for (key, value) in [("name", &self.name), ("zone", &self.zone)] {
            if !is_name(value) {
                misfit(misfits, key, "1 to 64 of A-Z a-z 0-9 . _ - are allowed");
            }
        }
        if self.data_dir.as_os_str().is_empty() {
            misfit(misfits, "data_dir", "a directory is needed");
        }
        if !self.log.level.split(',').all(is_directive) {
            let allowed = "off, error, warn, info, debug, trace, and part=level, separated by commas, are allowed";
            misfit(misfits, "log.level", allowed);
        }
    }

    fn check_numbers(&self, misfits: &mut Vec<Misfit>) {
        if !(1..=1_000).contains(&self.weight) {
            misfit(misfits, "weight", "1 to 1,000 is allowed");
        }
        if !(1..=256).contains(&self.worker_threads) {
            misfit(misfits, "worker_threads", "1 to 256 is allowed");
        }
        if self.bootstrap_expect.is_some_and(|k| !(1..=64).contains(&k)) {
            misfit(misfits, "bootstrap_expect", "1 to 64 is allowed");
        }
        if self.seeds.len() > 64 {
            misfit(misfits, "seeds", "at most 64 are allowed");
        }
    }

    fn check_addresses(&self, misfits: &mut Vec<Misfit>) {
        let named = [("advertise", &self.advertise), ("advertise_client", &self.advertise_client)];
        let named = named.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?)));
        for (key, value) in named.chain(self.seeds.iter().map(|seed| ("seeds", seed.as_str()))) {
            if !is_host_port(value) {
                misfit(misfits, key, &format!("{value:?} is not host:port with a port from 1 to 65,535"));
            }
        }
        let listeners = [
            ("peer_addr", self.peer_addr, "advertise", &self.advertise),
            ("client_addr", self.client_addr, "advertise_client", &self.advertise_client),
        ];
        for (key, addr, flag, advertised) in listeners {
            if addr.ip().is_unspecified() && advertised.is_none() {
                misfit(
                    misfits,
                    key,
                    &format!("every address of this machine: set {flag} to the host:port others reach"),
                );
            }
        }
        if self.client_addr == self.peer_addr && self.client_addr.port() != 0 {
            misfit(misfits, "peer_addr", "clients and nodes need two different addresses");
        }
    }

    /// F4.
    fn check_exposure(&self, misfits: &mut Vec<Misfit>) {
        if self.on_loopback() {
            return;
        }
        let key = if self.client_addr.ip().is_loopback() { "peer_addr" } else { "client_addr" };
        if self.cluster_secret_file.is_none() {
            misfit(misfits, key, "listening beyond loopback needs cluster_secret_file (--cluster-secret-file)");
        }
        if !self.insecure {
            let why = "listening beyond loopback needs insecure = true (--insecure): this release has neither TLS nor \
                       access tokens, so whoever reaches the client address may read, write and administer";
            misfit(misfits, key, why);
        }
    }
}

fn misfit(misfits: &mut Vec<Misfit>, key: &str, allowed: &str) {
    misfits.push(Misfit { key: key.into(), allowed: allowed.into() });
}

/// The sections' own checks answer with "setting = value: what is allowed".
fn section(misfits: &mut Vec<Misfit>, name: &str, checked: Result<(), String>) {
    if let Err(text) = checked {
        let (setting, rest) = text.split_once(" = ").unwrap_or(("", &text));
        let allowed = rest.split_once(": ").map_or(rest, |(_, allowed)| allowed);
        let setting = setting.strip_prefix(&format!("{name}.")).unwrap_or(setting);
        let key = if setting.is_empty() { name.into() } else { format!("{name}.{setting}") };
        misfits.push(Misfit { key, allowed: allowed.into() });
    }
}

/// The engine's "engine option NAME is VALUE; what is allowed" in the words of the others.
fn engine_option(error: EngineError) -> String {
    let EngineError::Unopenable(text) = error else { return error.to_string() };
    let parts = text.strip_prefix("engine option ").and_then(|text| text.split_once("; "));
    parts.map_or(text.clone(), |(option, allowed)| format!("{}: {allowed}", option.replacen(" is ", " = ", 1)))
}

fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// A level, or a level for a part of the program. A misspelt level would pass for a part that logs nothing.
fn is_directive(text: &str) -> bool {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let (part, level) = text.split_once('=').unwrap_or(("all", text));
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-');
    levels.contains(&level) && !part.is_empty() && part.bytes().all(allowed)
}

fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '/' | '@') && (bracketed || c != ':');
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    !host.is_empty()
        && host.len() <= 255
        && host.chars().all(plain)
        && digits
        && port.parse::<u16>().is_ok_and(|p| p > 0)
}

/// A host name that cannot be a node's name is no default: `node` is, and the cluster refuses a second one.
fn host_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy().into_owned();
    if is_name(&name) { name } else { "node".into() }
}
