//! `config/k8s`, `compose.yaml` and the `Dockerfile`: what must be so for a cluster to form, to survive and to be found,
//! and that a node takes the settings in them. `make k8s-validate` checks the shapes, `make containers` runs them.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rondo_tests::manifest::{Pod, kubernetes, object, yaml};
use rondo_tests::{rondo, workspace};
use serde_yaml_ng::Value;

const ZONE: &str = "topology.kubernetes.io/zone";

fn set() -> Value {
    object("StatefulSet", "rondo")["spec"].clone()
}

fn container() -> Value {
    set()["template"]["spec"]["containers"][0].clone()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_sequence().into_iter().flatten().map(|value| value.as_str().unwrap()).collect()
}

/// A node with these variables would start: the secret's file is one of the test's.
#[track_caller]
fn would_start(environment: &[(String, String)], secret: &Path) -> serde_json::Value {
    let with = |arguments: &[&str]| {
        let run = rondo(arguments).env("RONDO_CLUSTER_SECRET_FILE", secret.as_os_str());
        let others = environment.iter().filter(|(name, _)| name != "RONDO_CLUSTER_SECRET_FILE");
        let image = [("RONDO_CLIENT_ADDR", "0.0.0.0:7700"), ("RONDO_PEER_ADDR", "0.0.0.0:7701")];
        let run = image.into_iter().fold(run, |run, (name, value)| run.env(name, value));
        others.fold(run, |run, (name, value)| run.env(name, value)).run().expect(0)
    };
    with(&["config", "check"]);
    serde_json::from_str(&with(&["config", "show", "--output", "json"]).text()).unwrap()
}

#[track_caller]
fn setting<'a>(shown: &'a serde_json::Value, key: &str) -> &'a serde_json::Value {
    let rows = shown.as_array().unwrap();
    &rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("no {key} in {shown}"))["value"]
}

fn secret(directory: &Path) -> std::path::PathBuf {
    let file = directory.join("secret");
    rondo(["config", "secret", file.to_str().unwrap()]).run().expect(0);
    file
}

#[test]
fn a_node_takes_the_settings_of_every_pod() {
    let directory = tempfile::tempdir().unwrap();
    let secret = secret(directory.path());
    let replicas = set()["replicas"].as_u64().unwrap() as usize;
    let mut advertised = BTreeSet::new();
    for number in 0..replicas {
        let pod = Pod::of_stateful_set(number, "shop", &[(ZONE, "west-1")]);
        assert_eq!(pod.arguments, ["server"]);
        let shown = would_start(&pod.environment, &secret);
        assert_eq!(setting(&shown, "name"), &pod.name);
        assert_eq!(setting(&shown, "zone"), "west-1");
        assert_eq!(
            setting(&shown, "bootstrap_expect"),
            replicas,
            "all replicas found the cluster, no more and no fewer"
        );
        let host = pod.hosts.last().unwrap();
        assert_eq!(setting(&shown, "advertise"), &format!("{host}:7701"));
        assert_eq!(setting(&shown, "advertise_client"), &format!("{host}:7700"));
        advertised.insert(format!("{host}:7701"));
        let seeds = setting(&shown, "seeds").as_array().unwrap().clone();
        assert_eq!(seeds.len(), replicas);
        assert!(seeds.contains(setting(&shown, "advertise")), "{seeds:?}");
    }
    assert_eq!(advertised.len(), replicas);
    // Before Kubernetes 1.35 nobody sets the label.
    let unlabelled = Pod::of_stateful_set(0, "shop", &[]);
    assert_eq!(setting(&would_start(&unlabelled.environment, &secret), "zone"), "default");
}

#[test]
fn probes_ask_what_they_may_act_upon() {
    let container = container();
    let path = |probe: &str| container[probe]["httpGet"]["path"].as_str().unwrap().to_string();
    assert_eq!(path("livenessProbe"), "/livez", "a pod is not restarted for what other nodes do");
    assert_eq!(path("startupProbe"), "/livez");
    assert_eq!(path("readinessProbe"), "/readyz");
    for probe in ["livenessProbe", "startupProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "client");
    }
    let within = |probe: &str| {
        container[probe]["periodSeconds"].as_u64().unwrap() * container[probe]["failureThreshold"].as_u64().unwrap()
    };
    assert!(within("startupProbe") >= 600, "a log is replayed before /livez answers");
    assert!(within("livenessProbe") >= 60);
    let ports: Vec<_> = container["ports"].as_sequence().unwrap().iter().map(|p| &p["containerPort"]).collect();
    assert_eq!(ports, [7700, 7701]);
}

#[test]
fn pods_start_together_stop_in_order_and_keep_their_volumes() {
    let set = set();
    assert_eq!(set["podManagementPolicy"], "Parallel", "nodes become ready by finding each other");
    assert!(set["minReadySeconds"].as_u64().unwrap() >= 30, "resolvers keep the old address for as long");
    for when in ["whenDeleted", "whenScaled"] {
        assert_eq!(set["persistentVolumeClaimRetentionPolicy"][when], "Retain");
    }
    assert_eq!(set["volumeClaimTemplates"][0]["metadata"]["name"], "data");
    let pod = &set["template"]["spec"];
    let container = container();
    let notice = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() >= notice + 30, "a drain takes 30 s at most");
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(object("PodDisruptionBudget", "rondo")["spec"]["maxUnavailable"], 1);
    let spread = pod["topologySpreadConstraints"].as_sequence().unwrap();
    let keys: Vec<_> = spread.iter().map(|constraint| constraint["topologyKey"].as_str().unwrap()).collect();
    assert_eq!(keys, ["kubernetes.io/hostname", ZONE]);
}

#[test]
fn everything_selects_the_pods() {
    let set = set();
    let labels = &set["template"]["metadata"]["labels"];
    let pods = set["template"]["spec"]["topologySpreadConstraints"].as_sequence().unwrap();
    let budget = object("PodDisruptionBudget", "rondo");
    let policy = object("NetworkPolicy", "rondo");
    let mut selectors = vec![&set["selector"], &budget["spec"]["selector"], &policy["spec"]["podSelector"]];
    selectors.extend(pods.iter().map(|constraint| &constraint["labelSelector"]));
    selectors.push(&policy["spec"]["ingress"][0]["from"][0]["podSelector"]);
    assert!(selectors.iter().all(|selector| selector["matchLabels"] == *labels), "{selectors:?}");
    assert_eq!(policy["spec"]["ingress"][0]["ports"][0]["port"], "peer", "peers only from peers");

    let (clients, headless) = (object("Service", "rondo"), object("Service", "rondo-headless"));
    assert_eq!(set["serviceName"], headless["metadata"]["name"]);
    for service in [&clients, &headless] {
        assert_eq!(&service["spec"]["selector"], labels);
    }
    assert_eq!(headless["spec"]["clusterIP"], "None");
    assert_eq!(headless["spec"]["publishNotReadyAddresses"], true, "unready nodes have to find each other");
    assert!(clients["spec"]["publishNotReadyAddresses"].is_null(), "clients go to ready nodes only");
    assert_eq!(kubernetes().len(), 5);
}

#[test]
fn a_pod_has_no_more_rights_than_it_needs_and_can_read_its_secret() {
    let set = set();
    let (pod, container) = (&set["template"]["spec"], container());
    let user = pod["securityContext"]["runAsUser"].as_u64().unwrap();
    assert!(user > 0 && pod["securityContext"]["runAsNonRoot"] == true);
    assert_eq!(pod["securityContext"]["fsGroup"].as_u64(), Some(user));
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(texts(&container["securityContext"]["capabilities"]["drop"]), ["ALL"]);

    let volume = &pod["volumes"][0];
    assert_eq!(volume["secret"]["defaultMode"].as_u64(), Some(0o440), "others must not read it, the group has to");
    let mounts = container["volumeMounts"].as_sequence().unwrap();
    let path = |name: &str| mounts.iter().find(|mount| mount["name"] == name).unwrap()["mountPath"].as_str().unwrap();
    let file = Pod::of_stateful_set(0, "shop", &[]).variable("RONDO_CLUSTER_SECRET_FILE").unwrap().to_string();
    assert_eq!(Path::new(&file).parent().unwrap(), Path::new(path("secret")));

    let image = fs::read_to_string(workspace().join("Dockerfile")).unwrap();
    assert!(image.contains(&format!("\nUSER {user}:{user}\n")), "the image and the pods have one user");
    assert!(image.contains(&format!("RONDO_DATA_DIR={} ", path("data"))));
    assert!(image.contains(&format!("VOLUME {}\n", path("data"))));
}

#[test]
fn a_node_takes_the_settings_of_every_service_of_compose() {
    let directory = tempfile::tempdir().unwrap();
    let secret = secret(directory.path());
    let compose = yaml("compose.yaml").remove(0);
    let volumes: BTreeSet<_> = compose["volumes"].as_mapping().unwrap().keys().map(|v| v.as_str().unwrap()).collect();
    for name in ["n1", "n2", "n3"] {
        let service = &compose["services"][name];
        let pair =
            |(key, value): (&Value, &Value)| (key.as_str().unwrap().to_string(), value.as_str().unwrap().to_string());
        let environment: Vec<_> = service["environment"].as_mapping().unwrap().iter().map(pair).collect();
        let shown = would_start(&environment, &secret);
        assert_eq!(setting(&shown, "name"), name);
        assert_eq!(setting(&shown, "bootstrap_expect"), 3);
        assert_eq!(setting(&shown, "advertise"), &format!("{name}:7701"));
        assert!(setting(&shown, "seeds").as_array().unwrap().contains(setting(&shown, "advertise")));
        let mounts = texts(&service["volumes"]);
        assert_eq!(mounts, [format!("{name}:/var/lib/rondo"), "secret:/etc/rondo:ro".to_string()]);
        assert!(mounts.iter().all(|mount| volumes.contains(mount.split(':').next().unwrap())));
        assert!(texts(&service["ports"]).iter().all(|port| port.starts_with("127.0.0.1:")), "it is open to everybody");
        assert_eq!(service["read_only"], true);
        assert_eq!(service["depends_on"]["secret"]["condition"], "service_completed_successfully");
    }
    assert_eq!(texts(&compose["services"]["secret"]["command"]), ["config", "secret", "/etc/rondo/secret"]);
}

#[test]
fn a_secret_is_made_once_and_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let file = secret(directory.path());
    let made = fs::read_to_string(&file).unwrap();
    assert_eq!((made.trim().len(), fs::metadata(&file).unwrap().permissions().mode() & 0o777), (64, 0o600));
    rondo(["config", "secret", file.to_str().unwrap()]).run().expect(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), made);
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    rondo(["config", "secret", file.to_str().unwrap()]).run().expect(1).says(&["mode 0644", "chmod 600"]);
    let nowhere = directory.path().join("no/secret");
    rondo(["config", "secret", nowhere.to_str().unwrap()]).run().expect(1).says(&["cannot be made", "no/secret"]);
}
