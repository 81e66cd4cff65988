//! What a run costs the nodes: the processor time that each says it has used.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::generator::Target;
use crate::cli::client::{Connection, Endpoint, Request, call};
use crate::cli::failure::Failure;

const PATIENCE: Duration = Duration::from_secs(5);
const CPU: &str = "process_cpu_seconds_total ";

/// A node whose metrics can be read.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    connection: Connection,
}

#[derive(Deserialize)]
struct Cluster {
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    name: String,
    client_addr: String,
}

/// Where each endpoint is. The one that cannot be reached is named.
pub(crate) async fn resolve(endpoints: &[Endpoint]) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    for endpoint in endpoints {
        call(std::slice::from_ref(endpoint), Request::get("/livez"), PATIENCE).await?;
        let address = address(endpoint).await;
        let unresolved = || Failure::Unreachable(format!("{endpoint}: the name has no address"));
        targets.push(Target { endpoint: endpoint.clone(), address: address.ok_or_else(unresolved)? });
    }
    Ok(targets)
}

async fn address(endpoint: &Endpoint) -> Option<SocketAddr> {
    let mut found: Vec<SocketAddr> = tokio::net::lookup_host(endpoint.authority()).await.ok()?.collect();
    // As nodes listen by default, where a name has both.
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied()
}

/// The endpoints and every other member of the cluster: a node costs processor time also where no request is sent to it.
pub(crate) async fn find(targets: &[Target]) -> Vec<Node> {
    let members = members(&targets[0].endpoint).await.unwrap_or_default();
    let mut nodes = Vec::new();
    let mut known = BTreeSet::new();
    for (name, endpoint) in members {
        let Some(address) = address(&endpoint).await else { continue };
        if known.insert(address) {
            nodes.push(Node { name, connection: Connection::new(endpoint) });
        }
    }
    for target in targets.iter().filter(|target| known.insert(target.address)) {
        let connection = Connection::new(target.endpoint.clone());
        nodes.push(Node { name: target.endpoint.authority().into(), connection });
    }
    nodes
}

async fn members(endpoint: &Endpoint) -> Option<Vec<(String, Endpoint)>> {
    let endpoints = std::slice::from_ref(endpoint);
    let answer = call(endpoints, Request::get("/v1/cluster"), PATIENCE).await.ok()?;
    let cluster: Cluster = answer.json().ok()?;
    let named = |member: Member| Some((member.name, member.client_addr.parse().ok()?));
    Some(cluster.members.into_iter().filter_map(named).collect())
}

/// Processor seconds each node has used so far; `None` of one that does not say.
pub(crate) async fn cpu_seconds(nodes: &mut [Node]) -> Vec<Option<f64>> {
    let mut seconds = Vec::new();
    for node in nodes {
        let answer = node.connection.send(&Request::get("/metrics"), PATIENCE).await;
        seconds.push(answer.ok().and_then(|answer| parse(&String::from_utf8_lossy(&answer.body))));
    }
    seconds
}

fn parse(metrics: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(CPU))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_among_the_metrics() {
        let text = "# TYPE process_cpu_seconds counter\nrondo_x_total 5\nprocess_cpu_seconds_total 1.25\n# EOF\n";
        assert_eq!(parse(text), Some(1.25));
        assert_eq!(parse("# EOF\n"), None);
    }
}
