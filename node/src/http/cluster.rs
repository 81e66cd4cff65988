//! `/v1/cluster`: who is there, and what that means for the data.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use rondo_coordinator::Bucket;
use rondo_ring::{Liveness, NodeId, PartitionId, View};
use serde::Serialize;

use crate::http::problem::Problem;
use crate::http::query::{Known, Query};
use crate::http::surface::{Surface, json};
use crate::service::{MemberInfo, MemberState};

#[derive(Serialize)]
struct Cluster {
    cluster_id: String,
    health: Health,
    epoch: u64,
    partitions: Partitions,
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    id: NodeId,
    name: String,
    zone: String,
    weight: u32,
    state: MemberState,
    client_addr: String,
    peer_addr: String,
    owned_partitions: usize,
    share: f64,
    version: String,
    disk: Disk,
}

#[derive(Serialize)]
struct Disk {
    used_bytes: u64,
    available_bytes: u64,
}

/// How the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    /// Every partition has all its owners.
    Healthy,
    /// A partition lacks an owner.
    Degraded,
    /// A partition is below its quorum.
    Unavailable,
}

/// How many partitions have how many of their owners. The three parts add up to the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Partitions {
    total: u32,
    all_owners: u32,
    /// A majority, but not all.
    quorum: u32,
    below_quorum: u32,
}

/// `GET /v1/cluster`
pub(crate) async fn read(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &Known::NONE)?;
    let view = surface.view()?;
    let service = surface.service();
    let partitions = partitions(&view);
    Ok(json(&Cluster {
        cluster_id: format!("{:032x}", service.cluster_id().ok_or_else(|| surface.not_ready())?),
        health: health(partitions, &view, service.buckets().iter().map(|(_, bucket)| &**bucket)),
        epoch: view.layout().epoch().0,
        partitions,
        members: members(service.members(), &view),
    }))
}

fn partitions(view: &View) -> Partitions {
    let (layout, mut counted) = (view.layout(), Partitions::default());
    let n = usize::from(layout.n().get());
    for partition in (0..layout.partitions().get()).map(PartitionId) {
        let there = layout.owners(partition).iter().filter(|&&owner| view.liveness(owner) != Liveness::Down).count();
        counted.total += 1;
        match there {
            _ if there == n => counted.all_owners += 1,
            _ if there > n / 2 => counted.quorum += 1,
            _ => counted.below_quorum += 1,
        }
    }
    counted
}

/// What the partitions say; a bucket that wants more owners than there are members lacks some, and that is all.
fn health<'a>(partitions: Partitions, view: &View, buckets: impl Iterator<Item = &'a Bucket>) -> Health {
    let of_partitions = match partitions {
        Partitions { below_quorum: 1.., .. } => Health::Unavailable,
        Partitions { quorum: 1.., .. } => Health::Degraded,
        _ => Health::Healthy,
    };
    let members = view.layout().members().len();
    let of_bucket = |bucket: &Bucket| match usize::from(bucket.n.get()) > members {
        true => Health::Degraded,
        false => Health::Healthy,
    };
    buckets.map(of_bucket).fold(of_partitions, Health::max)
}

fn members(infos: Vec<MemberInfo>, view: &View) -> Vec<Member> {
    let owned = |id| view.layout().owned_partitions(id);
    let replicas: usize = view.layout().members().iter().map(|member| owned(member.id)).sum();
    let shown = infos.into_iter().map(|info| Member {
        owned_partitions: owned(info.id),
        share: share(owned(info.id), replicas),
        id: info.id,
        name: info.name,
        zone: info.zone,
        weight: info.weight,
        state: info.state,
        client_addr: info.client_addr,
        peer_addr: info.peer_addr,
        version: info.version,
        disk: Disk { used_bytes: info.disk_used_bytes, available_bytes: info.disk_available_bytes },
    });
    shown.collect()
}

/// To six digits, which is more than anyone reads and short enough to read.
fn share(owned: usize, replicas: usize) -> f64 {
    (owned as f64 / replicas.max(1) as f64 * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use rondo_ring::{Layout, PartitionCount, ReplicationFactor};

    fn view(members: u128, n: u8, down: &[u128]) -> View {
        let member = |id| rondo_ring::Member { id: NodeId(id), zone: "z".into(), weight: 1 };
        let layout = Layout::found(
            (1..=members).map(member).collect(),
            PartitionCount::new(16).unwrap(),
            ReplicationFactor::new(n).unwrap(),
        );
        View::new(NodeId(1), Arc::new(layout.unwrap()), |node| {
            if down.contains(&node.0) { Liveness::Down } else { Liveness::Suspect }
        })
    }

    fn bucket(n: u8) -> Bucket {
        Bucket { n: ReplicationFactor::new(n).unwrap(), ..Bucket::default() }
    }

    fn health_of(view: &View, buckets: &[Bucket]) -> Health {
        health(partitions(view), view, buckets.iter())
    }

    #[test]
    fn the_parts_add_up_and_decide() {
        for (down, expected) in [
            (&[][..], (Health::Healthy, 16, 0, 0)),
            (&[2][..], (Health::Degraded, 0, 16, 0)),
            (&[2, 3][..], (Health::Unavailable, 0, 0, 16)),
        ] {
            let view = view(3, 3, down);
            let counted = partitions(&view);
            assert_eq!((health_of(&view, &[]), counted.all_owners, counted.quorum, counted.below_quorum), expected);
            assert_eq!(counted.total, 16);
        }
    }

    #[test]
    fn in_a_larger_cluster_only_some_partitions_suffer() {
        let view = view(6, 3, &[6]);
        let counted = partitions(&view);
        assert!(counted.quorum > 0 && counted.all_owners > 0 && counted.below_quorum == 0);
        assert_eq!(counted.quorum as usize, view.layout().owned_partitions(NodeId(6)));
    }

    #[test]
    fn a_cluster_smaller_than_n_is_degraded() {
        assert_eq!(health_of(&view(2, 3, &[]), &[]), Health::Degraded);
        assert_eq!(health_of(&view(1, 3, &[]), &[]), Health::Unavailable);
    }

    #[test]
    fn a_bucket_may_want_more_than_there_is() {
        let view = view(3, 3, &[]);
        assert_eq!(health_of(&view, &[bucket(3), bucket(1)]), Health::Healthy);
        assert_eq!(health_of(&view, &[bucket(5), bucket(1)]), Health::Degraded);
        assert_eq!(health_of(&view, &[bucket(7)]), Health::Degraded, "no partition is below its quorum");
    }

    #[test]
    fn shares_are_of_all_partition_replicas() {
        assert_eq!((share(16, 48), share(0, 0)), (0.333_333, 0.0));
    }
}
