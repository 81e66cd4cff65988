//! `rondo status | members | ring`.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::arguments::{RingArgs, Target};
use super::client::{Answer, Request, call, encoded};
use super::failure::Failure;
use super::output::{Output, bytes, print, print_json, say, table};
use super::problem::{describe, successful};

/// These answers need no quorum.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What `/v1/cluster` says, as far as it is shown here.
#[derive(Debug, Deserialize)]
pub(super) struct Cluster {
    cluster_id: String,
    pub(super) health: String,
    epoch: u64,
    partitions: Partitions,
    pub(super) members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Partitions {
    total: u32,
    all_owners: u32,
    quorum: u32,
    below_quorum: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct Member {
    id: String,
    pub(super) name: String,
    zone: String,
    weight: u32,
    pub(super) state: String,
    client_addr: String,
    peer_addr: String,
    owned_partitions: u32,
    share: f64,
    version: String,
    disk: Disk,
}

#[derive(Debug, Deserialize)]
struct Disk {
    used_bytes: u64,
    available_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Place {
    token: String,
    partition: u32,
    epoch: u64,
    n: u32,
    owners: Vec<Owner>,
    fallbacks: Vec<Owner>,
}

#[derive(Debug, Deserialize)]
struct Owner {
    id: String,
    name: String,
    zone: String,
}

/// What `/readyz?verbose` says, as far as it is shown here.
#[derive(Debug, Deserialize)]
struct Readiness {
    ready: bool,
    draining: bool,
    waiting_for: Option<String>,
}

pub(super) async fn status(target: &Target) -> Result<(), Failure> {
    let answer = call(&target.endpoint, Request::get("/v1/cluster"), PATIENCE).await?;
    if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        say(&format!("rondo: {}", describe(&answer)));
        return Err(Failure::Degraded);
    }
    let answer = successful(answer)?;
    let cluster: Cluster = answer.json()?;
    show(target, &answer, || format!("{}\n\n{}", summary(&cluster), short(&cluster.members)))?;
    if cluster.health == "healthy" { Ok(()) } else { Err(Failure::Degraded) }
}

/// One node's word about itself: what a health check asks.
pub(super) async fn ready(target: &Target) -> Result<(), Failure> {
    let answer = call(&target.endpoint, Request::get("/readyz?verbose"), PATIENCE).await?;
    let known = [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&answer.status);
    let answer = if known { answer } else { successful(answer)? };
    let readiness: Readiness = answer.json()?;
    show(target, &answer, || in_words(&readiness))?;
    if readiness.ready { Ok(()) } else { Err(Failure::Degraded) }
}

fn in_words(readiness: &Readiness) -> String {
    match (&readiness.waiting_for, readiness.draining) {
        _ if readiness.ready => "ready".into(),
        (_, true) => "draining".into(),
        (Some(what), _) => format!("waiting for {what}"),
        (None, _) => "not ready".into(),
    }
}

pub(super) async fn members(target: &Target) -> Result<(), Failure> {
    let answer = successful(call(&target.endpoint, Request::get("/v1/cluster"), PATIENCE).await?)?;
    let cluster: Cluster = answer.json()?;
    show(target, &answer, || long(&cluster.members))
}

pub(super) async fn ring(args: &RingArgs) -> Result<(), Failure> {
    let Some(key) = &args.key else {
        let answer = successful(call(&args.target.endpoint, Request::get("/v1/cluster"), PATIENCE).await?)?;
        let cluster: Cluster = answer.json()?;
        return show(&args.target, &answer, || division(&cluster));
    };
    let path = format!("/v1/ring?bucket={}&key={}", encoded(&args.bucket), encoded(key));
    let answer = successful(call(&args.target.endpoint, Request::get(path), PATIENCE).await?)?;
    let place: Place = answer.json()?;
    show(&args.target, &answer, || whereabouts(&place))
}

pub(super) fn show(target: &Target, answer: &Answer, text: impl FnOnce() -> String) -> Result<(), Failure> {
    match target.output {
        Output::Table => print(&text()),
        Output::Json => print_json(&answer.json::<Value>()?),
    }
}

fn summary(cluster: &Cluster) -> String {
    let Partitions { total, all_owners, quorum, below_quorum } = cluster.partitions;
    format!(
        "cluster {}: {}, epoch {}\n{total} partitions: {all_owners} with all owners, {quorum} with a quorum, \
         {below_quorum} below their quorum",
        cluster.cluster_id, cluster.health, cluster.epoch,
    )
}

fn short(members: &[Member]) -> String {
    let row =
        |m: &Member| vec![m.name.clone(), m.state.clone(), m.zone.clone(), m.client_addr.clone(), percent(m.share)];
    table(&["name", "state", "zone", "clients at", "share"], &members.iter().map(row).collect::<Vec<_>>())
}

fn long(members: &[Member]) -> String {
    let header =
        ["name", "id", "state", "zone", "weight", "clients at", "peers at", "share", "used", "free", "version"];
    let row = |m: &Member| {
        vec![
            m.name.clone(),
            m.id.clone(),
            m.state.clone(),
            m.zone.clone(),
            m.weight.to_string(),
            m.client_addr.clone(),
            m.peer_addr.clone(),
            percent(m.share),
            bytes(m.disk.used_bytes),
            bytes(m.disk.available_bytes),
            m.version.clone(),
        ]
    };
    table(&header, &members.iter().map(row).collect::<Vec<_>>())
}

fn division(cluster: &Cluster) -> String {
    let row = |m: &Member| vec![m.name.clone(), m.zone.clone(), m.owned_partitions.to_string(), percent(m.share)];
    let rows: Vec<_> = cluster.members.iter().map(row).collect();
    let members = table(&["name", "zone", "partition replicas", "share"], &rows);
    format!("{} partitions, epoch {}\n\n{members}", cluster.partitions.total, cluster.epoch)
}

fn whereabouts(place: &Place) -> String {
    let row = |role: &str, o: &Owner| vec![role.to_string(), o.name.clone(), o.zone.clone(), o.id.clone()];
    let owners = place.owners.iter().enumerate().map(|(i, owner)| row(&format!("owner {}", i + 1), owner));
    let fallbacks = place.fallbacks.iter().map(|node| row("fallback", node));
    let rows: Vec<_> = owners.chain(fallbacks).collect();
    let nodes = table(&["role", "name", "zone", "id"], &rows);
    format!("token {}, partition {}, N {}, epoch {}\n\n{nodes}", place.token, place.partition, place.n, place.epoch)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cluster() -> Cluster {
        let member = |name: &str, state: &str| {
            json!({"id": "00ff", "name": name, "zone": "a", "weight": 1, "state": state, "client_addr": "127.0.0.1:7700",
                "peer_addr": "127.0.0.1:7701", "owned_partitions": 256, "share": 0.3333, "version": "0.1.0",
                "disk": {"used_bytes": 2048, "available_bytes": 1048576}, "later": true})
        };
        let cluster = json!({"cluster_id": "c1", "health": "degraded", "epoch": 1, "members": [member("n1", "up"),
            member("n2", "down")], "partitions": {"total": 256, "all_owners": 0, "quorum": 256, "below_quorum": 0}});
        serde_json::from_value(cluster).unwrap()
    }

    #[test]
    fn the_summary_says_what_is_missing() {
        let text = summary(&cluster());
        assert!(
            text.starts_with("cluster c1: degraded, epoch 1\n256 partitions: 0 with all owners, 256 with a quorum")
        );
        let members = short(&cluster().members);
        assert!(members.lines().nth(2).unwrap().starts_with("n2    down   a     127.0.0.1:7700  33.3 %"), "{members}");
    }

    #[test]
    fn a_node_that_is_not_ready_says_why() {
        let words = |ready, draining, what: Option<&str>| {
            in_words(&Readiness { ready, draining, waiting_for: what.map(Into::into) })
        };
        assert_eq!(words(true, false, None), "ready");
        assert_eq!(words(false, true, None), "draining");
        assert_eq!(words(false, false, Some("its peers")), "waiting for its peers");
    }

    #[test]
    fn members_show_their_disks() {
        let text = long(&cluster().members);
        assert!(text.contains("2.00 KiB") && text.contains("1.00 MiB"), "{text}");
        assert!(division(&cluster()).contains("256                 33.3 %"), "{}", division(&cluster()));
    }

    #[test]
    fn a_key_has_owners_in_order() {
        let node = |name: &str| json!({"id": "00", "name": name, "zone": "a"});
        let place = json!({"token": "ab", "partition": 7, "epoch": 1, "n": 2, "owners": [node("n2"), node("n1")],
            "fallbacks": [node("n3")]});
        let text = whereabouts(&serde_json::from_value(place).unwrap());
        let roles: Vec<_> = text.lines().skip(3).map(|line| line.split("  ").next().unwrap()).collect();
        assert_eq!(roles, ["owner 1", "owner 2", "fallback"]);
    }
}
