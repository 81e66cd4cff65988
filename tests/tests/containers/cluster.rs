//! Pods of the StatefulSet as containers: the same settings, user, rights, names and mounts.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rondo_tests::manifest::Pod;
use rondo_tests::{Answer, Load, Seen, eventually, holds, request};
use serde_json::Value;
use tempfile::TempDir;

use super::engine::{Owned, docker, fresh_name, inspect, logs};
use super::image::image;

const NAMESPACE: &str = "shop";
/// Founding, starting, refilling; the machine may be busy.
pub(crate) const READY: Duration = Duration::from_secs(60);
/// As Kubernetes hands volumes to pods with an fsGroup.
const VOLUME: &str = "chown 0:65532 /volume; chmod 2775 /volume";
const SECRET: &str = "echo 'a secret among containers' > /volume/secret; chown 0:65532 /volume/secret; \
                      chmod 0440 /volume/secret";
const LOG_LINES: usize = 40;
/// Requests between two events.
const SOME: usize = 200;
/// A request waits at most so long for a node that has just failed. The machine may be busy.
const LONGEST: Duration = Duration::from_secs(3);

/// A pod, its volume, and its container where there is one.
struct Node {
    pod: Pod,
    // In the order in which they can be removed.
    container: Option<Owned>,
    volume: Owned,
    address: IpAddr,
}

/// Pods on a network of their own.
pub(crate) struct Pods {
    // In the order in which they can be removed.
    nodes: Vec<Node>,
    secret: Owned,
    network: Owned,
    prefix: String,
    next_address: u8,
    /// Where each pod looks names up, in the place of the engine's resolver: `hosts-0`, ….
    names: Option<TempDir>,
}

impl Pods {
    /// So many pods, ready. The StatefulSet's own number is three.
    #[track_caller]
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, None)
    }

    /// The same with resolvers that know nothing new until they are told to look again.
    #[track_caller]
    pub(crate) fn start_with_caching_resolvers(count: usize) -> Self {
        Self::start_with(count, Some(tempfile::tempdir().unwrap()))
    }

    #[track_caller]
    fn start_with(count: usize, names: Option<TempDir>) -> Self {
        let name = fresh_name();
        let (network, prefix) = Owned::network(name.clone());
        let secret = Owned::volume(format!("{name}-secret"), SECRET);
        let mut pods = Self { nodes: Vec::new(), secret, network, prefix, next_address: 10, names };
        for number in 0..count {
            let mut pod = Pod::of_stateful_set(number, NAMESPACE, &[]);
            if count != 3 {
                let seed = |other| {
                    Pod::of_stateful_set(other, NAMESPACE, &[]).variable("RONDO_ADVERTISE").unwrap().to_string()
                };
                pod.set("RONDO_SEEDS", (0..count).map(seed).collect::<Vec<_>>().join(","));
                pod.set("RONDO_BOOTSTRAP_EXPECT", count);
            }
            pods.add(pod);
        }
        if pods.names.is_some() {
            (0..count).for_each(|number| pods.look_up_again(number));
        }
        (0..count).for_each(|number| pods.wait_ready(number));
        pods.settled();
        pods
    }

    /// Adds a pod with a new volume, and starts it.
    #[track_caller]
    pub(crate) fn add(&mut self, pod: Pod) {
        let volume = Owned::volume(format!("{}-{}", self.network.name(), pod.name), VOLUME);
        let address = self.free_address();
        self.nodes.push(Node { pod, container: None, volume, address });
        self.create(self.nodes.len() - 1);
    }

    fn free_address(&mut self) -> IpAddr {
        let address = format!("{}{}", self.prefix, self.next_address).parse().unwrap();
        self.next_address += 1;
        address
    }

    /// Makes a pod's container at the pod's address, and starts it.
    #[track_caller]
    fn create(&mut self, number: usize) {
        let node = &self.nodes[number];
        let name = format!("{}-{}", self.network.name(), node.pod.name);
        let mut arguments: Vec<String> =
            ["run", "--detach", "--no-healthcheck", "--name", &name].map(String::from).into();
        arguments.extend(["--hostname", &node.pod.name, "--network", self.network.name()].map(String::from));
        arguments.extend(self.whereabouts(number));
        if let Some(names) = &self.names {
            self.look_up_again(number);
            arguments.push(format!("--volume={}:/etc/hosts:ro", hosts_file(names, number).display()));
        }
        arguments.extend(restrictions(&node.pod));
        arguments.push(format!("--volume={}:/var/lib/rondo:nocopy", node.volume.name()));
        arguments.push(format!("--volume={}:/etc/rondo:ro", self.secret.name()));
        arguments.extend(node.pod.environment.iter().map(|(variable, value)| format!("--env={variable}={value}")));
        arguments.push(image().into());
        arguments.extend(node.pod.arguments.iter().cloned());
        // Owned before it is started: a container that cannot be started is there all the same.
        self.nodes[number].container = Some(Owned::container(name));
        docker(&arguments);
    }

    fn whereabouts(&self, number: usize) -> Vec<String> {
        let node = &self.nodes[number];
        let known = if self.names.is_none() { &node.pod.hosts[..] } else { &[] };
        let aliases = known.iter().map(|host| format!("--network-alias={host}"));
        aliases.chain([format!("--ip={}", node.address)]).collect()
    }

    /// Tells a pod's resolver where all pods are now.
    #[track_caller]
    pub(crate) fn look_up_again(&self, number: usize) {
        let line = |node: &Node| format!("{} {}\n", node.address, node.pod.hosts.join(" "));
        let lines: String = self.nodes.iter().map(line).collect();
        // The same file: the container has it, not its name.
        let names = self.names.as_ref().expect("pods with resolvers of the test's");
        fs::write(hosts_file(names, number), format!("127.0.0.1 localhost\n{lines}")).unwrap();
    }

    pub(crate) fn container(&self, number: usize) -> &str {
        self.nodes[number].container.as_ref().expect("a container that was made").name()
    }

    /// Where clients are served.
    pub(crate) fn client(&self, number: usize) -> SocketAddr {
        SocketAddr::new(self.nodes[number].address, 7700)
    }

    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// All but one.
    pub(crate) fn others(&self, but: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&number| number != but).collect()
    }

    /// A word of the engine's about a pod's container: `kill`, `pause`, `unpause`, `start`, `stop`.
    #[track_caller]
    pub(crate) fn tell(&self, word: &str, number: usize) {
        docker(&[word, self.container(number)]);
    }

    /// Takes it off the network: its connections break without a word.
    #[track_caller]
    pub(crate) fn cut_off(&self, number: usize) {
        docker(&["network", "disconnect", self.network.name(), self.container(number)]);
    }

    /// Puts it back, at the address it has now.
    #[track_caller]
    pub(crate) fn reconnect(&self, number: usize) {
        let whereabouts: Vec<String> =
            self.whereabouts(number).iter().map(|flag| flag.replace("--network-alias", "--alias")).collect();
        let connect = ["network", "connect"].map(String::from).into_iter().chain(whereabouts);
        let names = [self.network.name().to_string(), self.container(number).to_string()];
        docker(&connect.chain(names).collect::<Vec<_>>());
    }

    /// Removes its container; the volume stays.
    #[track_caller]
    pub(crate) fn remove(&mut self, number: usize) {
        self.nodes[number].container = None;
    }

    /// Its container at the address it has, where it was removed.
    #[track_caller]
    pub(crate) fn create_again(&mut self, number: usize) {
        self.create(number);
    }

    /// A new container for it, with the same volume at another address.
    #[track_caller]
    pub(crate) fn move_to_a_free_address(&mut self, number: usize) {
        self.remove(number);
        self.nodes[number].address = self.free_address();
        self.create(number);
    }

    /// All containers new, each at the address that the one before it had.
    #[track_caller]
    pub(crate) fn exchange_addresses(&mut self) {
        let mut addresses: Vec<IpAddr> = self.nodes.iter().map(|node| node.address).collect();
        addresses.rotate_right(1);
        (0..self.nodes.len()).for_each(|number| self.remove(number));
        for (number, address) in addresses.into_iter().enumerate() {
            self.nodes[number].address = address;
            self.create(number);
        }
    }

    /// Its container goes, and with it everything it had on its disk.
    #[track_caller]
    pub(crate) fn lose_volume(&mut self, number: usize) {
        self.remove(number);
        self.nodes[number].volume = Owned::volume(fresh_name(), VOLUME);
    }

    /// What it says of itself at `/readyz?verbose`.
    pub(crate) fn readiness(&self, number: usize) -> Result<Value, String> {
        Ok(self.ask(number, "/readyz?verbose")?.json())
    }

    /// GET of any path.
    pub(crate) fn ask(&self, number: usize, path: &str) -> Result<Answer, String> {
        request("GET", &format!("http://{}{path}", self.client(number))).try_send()
    }

    #[track_caller]
    pub(crate) fn wait_ready(&self, number: usize) {
        eventually(READY, "a ready pod", || {
            let state = inspect(self.container(number))["State"].clone();
            assert_eq!(state["Running"], true, "{}", logs(self.container(number)));
            let answer = self.ask(number, "/readyz")?;
            holds(answer.status == 200, || format!("pod {number}: {}", answer.text()))
        });
    }

    /// Waits until every pod sees all of them up.
    #[track_caller]
    pub(crate) fn settled(&self) {
        (0..self.nodes.len()).for_each(|number| self.sees_all(number, "up"));
    }

    #[track_caller]
    fn sees_all(&self, by: usize, state: &str) {
        (0..self.nodes.len()).for_each(|number| self.sees(by, number, state));
    }

    /// Waits until one pod sees another in this state.
    #[track_caller]
    pub(crate) fn sees(&self, by: usize, number: usize, state: &str) {
        let name = &self.nodes[number].pod.name;
        eventually(READY, "a state of a member", || {
            let cluster = self.ask(by, "/v1/cluster")?.json();
            let members = cluster["members"].as_array().cloned().unwrap_or_default();
            let member = members.iter().find(|member| member["name"] == name.as_str());
            holds(member.is_some_and(|member| member["state"] == state), || format!("pod {by} sees {cluster}"))
        });
    }

    /// The id of the cluster that a pod is in.
    #[track_caller]
    pub(crate) fn cluster_id(&self, number: usize) -> String {
        let cluster = self.ask(number, "/v1/cluster").unwrap().expect(200).json();
        cluster["cluster_id"].as_str().unwrap().into()
    }

    /// Quorum requests through these pods while `event` happens, until some more have been answered after it. None may
    /// fail or take long (K1); gives the keys that were written.
    #[track_caller]
    pub(crate) fn under_load(&mut self, through: &[usize], bucket: &str, event: impl FnOnce(&mut Self)) -> Seen {
        let addresses: Vec<SocketAddr> = through.iter().map(|&number| self.client(number)).collect();
        let load = Load::start(&addresses, bucket, 4);
        load.wait_for(SOME);
        event(self);
        load.wait_for(SOME);
        let seen = load.stop();
        println!("{bucket}: {} requests, the longest {:?}", seen.requests, seen.longest);
        assert!(seen.failures.is_empty(), "{bucket}: {} failed: {:#?}", seen.failures.len(), seen.failures);
        assert!(seen.longest < LONGEST, "{bucket}: a request took {:?}", seen.longest);
        seen
    }

    /// Reads every key at quorum through one pod (K2).
    #[track_caller]
    pub(crate) fn verify(&self, through: usize, bucket: &str, seen: &Seen) {
        assert!(!seen.written.is_empty());
        for key in &seen.written {
            let url = format!("http://{}/v1/kv/{bucket}/{key}", self.client(through));
            let get = request("GET", &url).r(2).send().expect(200);
            assert_eq!(&get.text(), key);
        }
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                let Some(container) = &node.container else { continue };
                let said = logs(container.name());
                let lines: Vec<&str> = said.lines().collect();
                let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
                eprintln!("--- {} at {}\n{}", node.pod.name, node.address, tail.join("\n"));
            }
        }
    }
}

fn hosts_file(names: &TempDir, number: usize) -> PathBuf {
    names.path().join(format!("hosts-{number}"))
}

/// The user and the rights of the pod's container, as flags.
fn restrictions(pod: &Pod) -> Vec<String> {
    let (whole, own) = (&pod.spec["securityContext"], &pod.spec["containers"][0]["securityContext"]);
    let id = |name: &str| whole[name].as_u64().expect("a number");
    let mut flags = vec![format!("--user={}:{}", id("runAsUser"), id("runAsGroup"))];
    flags.push(format!("--stop-timeout={}", pod.spec["terminationGracePeriodSeconds"].as_u64().expect("seconds")));
    flags.extend((own["readOnlyRootFilesystem"] == true).then(|| "--read-only".into()));
    flags.extend((own["allowPrivilegeEscalation"] == false).then(|| "--security-opt=no-new-privileges".into()));
    let dropped = own["capabilities"]["drop"].as_sequence().into_iter().flatten();
    flags.extend(dropped.map(|capability| format!("--cap-drop={}", capability.as_str().expect("a name"))));
    flags
}
