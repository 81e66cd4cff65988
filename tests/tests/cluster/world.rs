//! A cluster, its network and its clients: started, brought into trouble, healed and judged.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rondo_ring::NodeId;
use rondo_sim::history::{History, Label, Violation};
use rondo_sim::invariants::{self, answers, hints};
use rondo_storage::Key;
use rondo_storage::store::Stored;
use rondo_storage::versions::{ContextTokens, Dot, Object};
use rondo_tests::{Cluster, Node, eventually, holds, pace, request};
use serde_json::Value;

use super::client::Client;
use super::network::Network;
use super::stage::{Liar, Stage};
use super::tongue;

const BUCKET: &str = "histories";
const CLIENTS: usize = 6;
const KEYS: usize = 24;
const PROGRESS: Duration = Duration::from_secs(60);
const BACK: Duration = Duration::from_secs(120);
/// Looks, one every 200 ms, until everything has to be equal.
const HEALS_WITHIN: usize = 600;

/// Whether nobody deletes this key: then a listing has to have it.
pub(crate) fn stays(key: &Key) -> bool {
    key.key().starts_with("stays")
}

fn setting(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// How long a trouble lasts.
pub(crate) fn while_in_trouble() -> Duration {
    Duration::from_secs(setting("RONDO_CLUSTER_SECONDS", 2))
}

/// A cluster under test.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) network: Network,
    pub(crate) stage: Arc<Stage>,
    clients: Vec<JoinHandle<()>>,
    ids: BTreeMap<NodeId, usize>,
    looked: Instant,
}

/// What came of it.
pub(crate) struct Verdict {
    /// Shows its logs when a test fails.
    _cluster: Cluster,
    pub(crate) violations: Vec<Violation>,
    pub(crate) failures: Vec<String>,
}

impl World {
    pub(crate) fn start(nodes: usize) -> Self {
        Self::with_clients(nodes, Liar::Honest)
    }

    pub(crate) fn with_clients(nodes: usize, liar: Liar) -> Self {
        let network = Network::new(nodes);
        let mut cluster = Cluster::builder(nodes).advertise(network.addresses()).bind();
        network.lead_to(cluster.nodes().iter().map(Node::peer_addr).collect());
        cluster.nodes_mut().iter_mut().for_each(Node::wait_ready);
        let seen_by: Vec<usize> = (0..nodes).collect();
        cluster.settled(&seen_by, "healthy");
        let said = cluster[0].get("/v1/cluster").expect(200).json();
        let ids: BTreeMap<NodeId, usize> = said["members"].as_array().unwrap().iter().map(id_and_number).collect();
        network.know(ids.clone());
        make_bucket(&cluster);
        let id = u128::from_str_radix(said["cluster_id"].as_str().unwrap(), 16).unwrap();
        // A cluster of the harness has no secret.
        let tokens = ContextTokens::new(&[], id);
        let names = (0..KEYS).map(|number| format!("{}-{number}", if number % 4 == 0 { "stays" } else { "comes" }));
        let keys = names.map(|name| Key::new(BUCKET, &name).unwrap()).collect();
        let addresses = cluster.nodes().iter().map(Node::client_addr).collect();
        let stage = Arc::new(Stage::new(addresses, keys, tokens, liar));
        let mut world = Self { cluster, network, stage, clients: Vec::new(), ids, looked: Instant::now() };
        world.send_clients();
        world
    }

    fn send_clients(&mut self) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = setting("RONDO_CLUSTER_SEED", now);
        println!("RONDO_CLUSTER_SEED={seed}");
        let client = |number: usize| Client::new(self.stage.clone(), number, seed);
        let threads = (0..CLIENTS).map(client).map(|client| std::thread::spawn(move || client.run()));
        self.clients = threads.collect();
    }

    /// Something happens to a node, which may fail meanwhile, and then it is well again.
    pub(crate) fn in_trouble(&mut self, node: usize, happens: impl FnOnce(&mut Self)) {
        self.stage.in_trouble(node);
        happens(self);
        self.stage.out_of_trouble(node);
    }

    /// Time passes, and requests are answered meanwhile.
    pub(crate) fn under_load(&mut self, at_least: Duration) {
        let answered = |world: &Self| world.stage.history().ops.values().filter(|op| op.ended.is_some()).count();
        let (began, before) = (Instant::now(), answered(self));
        eventually(PROGRESS + at_least, "requests answered", || {
            let done = answered(self) - before;
            holds(began.elapsed() >= at_least && done >= 100, || format!("{done} in {:?}", began.elapsed()))
        });
    }

    /// It has happened so often.
    pub(crate) fn count(&self, what: &'static str) {
        self.stage.history().count(what);
    }

    /// It loses its whole directory.
    pub(crate) fn wipe(&mut self, node: usize) {
        self.cluster[node].kill();
        // Before anybody is answered without what was there.
        self.stage.history().losses += 1;
        fs::remove_dir_all(self.cluster[node].data_dir()).unwrap();
        self.count("wipes");
    }

    /// Longer than any start takes: a member that has lost its place asks for it, and is refilled.
    pub(crate) fn until_ready(&mut self, node: usize) {
        eventually(BACK, "a node that is ready", || {
            assert!(self.cluster[node].is_running(), "it has ended\n{}", self.cluster[node].log_tail());
            let answer = request("GET", &self.cluster[node].url("/readyz?verbose")).try_send()?;
            holds(answer.status == 200, || answer.text())
        });
    }

    /// As everybody sees it.
    pub(crate) fn until_all_are_up(&self) {
        let all: Vec<usize> = (0..self.ids.len()).collect();
        self.cluster.settled(&all, "healthy");
    }

    /// Clients stop, everything heals, and the checkers have their say. `happened` is what makes the run worth anything.
    pub(crate) fn judge(mut self, happened: &[&'static str]) -> Verdict {
        self.stage.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("a client was answered as the contract says");
        }
        let asked = self.looked.elapsed();
        self.until_all_are_up();
        let healed = Instant::now();
        let equal = pace(HEALS_WITHIN, Duration::from_millis(200)).any(|_| self.has_healed());
        println!("equal: {equal}, {:?} after the last request", healed.elapsed());
        let (kept, held) = (self.kept(), self.held());
        let (mut history, at) = (self.stage.history(), self.stage.now());
        answers::in_the_end(&mut history, at);
        hints::in_the_end(&mut history, &kept, at);
        self.stage.suppose_unknown_writes(&mut history);
        for (key, held) in &held {
            invariants::of_key_in_the_end(&mut history, key, held, at);
        }
        println!("{} requests in {asked:?}: {:?}", history.ops.len(), history.happened);
        let always = ["writes acknowledged", "reads answered", "listings answered", "siblings shown"];
        for &what in always.iter().chain(happened) {
            assert!(history.times(what) > 0, "vacuous: there were no {what}");
        }
        let (violations, failures) = (history.violations.clone(), self.stage.failures().clone());
        drop(history);
        assert!(!happened.contains(&"partitions") || self.network.kept_back() > 0, "vacuous: nothing met a cut");
        Verdict { _cluster: self.cluster, violations, failures }
    }

    fn has_healed(&self) -> bool {
        let is_equal = |(_, held): &(Key, Vec<(usize, Stored)>)| held.windows(2).all(|two| two[0].1 == two[1].1);
        self.kept().is_empty() && self.held().iter().all(is_equal)
    }

    /// Hints: who keeps how many for whom.
    fn kept(&self) -> Vec<(usize, NodeId, u64)> {
        let of_node = |(number, node): (usize, &Node)| {
            let hints = node.get("/v1/hints").expect(200).json();
            let one = move |target: &Value| (number, id(&target["id"]), target["count"].as_u64().unwrap());
            hints["targets"].as_array().unwrap().iter().map(one).collect::<Vec<_>>()
        };
        self.cluster.nodes().iter().enumerate().flat_map(of_node).collect()
    }

    /// What the owners' disks hold.
    fn held(&self) -> Vec<(Key, Vec<(usize, Stored)>)> {
        let of_key = |key: &Key| {
            let nodes = self.cluster.nodes().iter().enumerate();
            let held = nodes.filter_map(|(number, node)| Some((number, self.held_by(node, key)?)));
            (key.clone(), held.collect())
        };
        self.stage.keys.iter().map(of_key).collect()
    }

    /// `None`: it is no owner.
    fn held_by(&self, node: &Node, key: &Key) -> Option<Stored> {
        let local = node.local(key.bucket(), key.key());
        if local["owner"] != true {
            return None;
        }
        if local["damaged"] == true {
            return Some(Stored::Unknown(None));
        }
        let Some(token) = local["context"].as_str() else { return Some(Stored::Missing) };
        let context = tongue::opened(&self.stage.tokens, key, token);
        let mut object = tongue::versions(&context, local["versions"].as_array().unwrap());
        let mut history = self.stage.history();
        self.stage.learn(&mut history, key, &object);
        self.name_tombstones(&mut history, key, &mut object);
        Some(Stored::Found(object.encode()))
    }

    /// Tombstones are kept without their label. One of which no client was told is any delete of which nobody was told,
    /// or the second dot of one that is not there under its first.
    fn name_tombstones(&self, history: &mut History, key: &Key, object: &mut Object) {
        let there: Vec<Dot> = object.siblings.iter().map(|sibling| sibling.dot).collect();
        for tombstone in object.siblings.iter_mut().filter(|sibling| sibling.value.is_none()) {
            let of_key = history.key(key);
            let deletes = || of_key.asked.values().filter(|asked| asked.deletes).map(|asked| &asked.label);
            let known = |label: &Label, dot: &Dot| of_key.dots.get(dot) == Some(label);
            let untold = || deletes().find(|label| !of_key.dots.values().any(|told| told == *label));
            let elsewhere = || deletes().find(|label| !there.iter().any(|dot| known(label, dot)));
            let label = of_key.dots.get(&tombstone.dot).or_else(untold).or_else(elsewhere).cloned();
            if let Some(label) = label {
                self.stage.has_dot(history, key, (&label, true), tombstone.dot);
                tombstone.metadata.content_type = label;
            }
        }
    }

    /// All but this one, by number.
    pub(crate) fn others(&self, node: usize) -> Vec<usize> {
        (0..self.ids.len()).filter(|&other| other != node).collect()
    }
}

impl Verdict {
    /// Nothing was wrong, and nobody who could be served was not.
    #[track_caller]
    pub(crate) fn is_good(&self) {
        self.has_lost_nothing();
        let failures = &self.failures;
        assert!(failures.is_empty(), "{} that a quorum could have served: {failures:#?}", failures.len());
    }

    /// Nothing was wrong. More than one node was in trouble at a time, so that requests may have failed.
    #[track_caller]
    pub(crate) fn has_lost_nothing(&self) {
        let shown: Vec<String> = self.violations.iter().map(ToString::to_string).collect();
        assert!(shown.is_empty(), "{shown:#?}");
    }

    /// The checkers have seen it.
    #[track_caller]
    pub(crate) fn shows(&self, invariant: &str) {
        let seen: Vec<String> = self.violations.iter().map(ToString::to_string).collect();
        let there = self.violations.iter().any(|violation| violation.invariant == invariant);
        assert!(there, "not seen: {invariant}; what was: {seen:#?}");
    }
}

fn id(text: &Value) -> NodeId {
    text.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no node id: {text}"))
}

/// The harness calls them n1, n2 and so on.
fn id_and_number(member: &Value) -> (NodeId, usize) {
    (id(&member["id"]), member["name"].as_str().unwrap()[1..].parse::<usize>().unwrap() - 1)
}

/// A blind write replaces nothing in it: what each write replaces is then known from its client alone.
fn make_bucket(cluster: &Cluster) {
    let path = format!("/v1/buckets/{BUCKET}");
    let set = request("PUT", &cluster[0].url(&path)).header("Content-Type", "application/json");
    set.body(r#"{"blind_put":"sibling"}"#).send().expect(200);
    for node in cluster.nodes() {
        eventually(PROGRESS, "the properties on every node", || {
            let there = node.get(&path).expect(200).json();
            holds(there["blind_put"] == "sibling", || there.to_string())
        });
    }
}
