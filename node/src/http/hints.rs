//! `/v1/hints`: what this node keeps for others.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use rondo_ring::NodeId;
use serde::Serialize;

use crate::http::problem::Problem;
use crate::http::query::{Known, Query};
use crate::http::surface::{Surface, json};

#[derive(Serialize)]
struct Hints {
    total: Total,
    targets: Vec<Target>,
}

#[derive(Default, Serialize)]
struct Total {
    count: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Target {
    id: NodeId,
    /// `null` for a node that is no member any more.
    name: Option<String>,
    count: u64,
    bytes: u64,
    oldest_seconds: u64,
}

/// `GET /v1/hints`
pub(crate) async fn read(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &Known::NONE)?;
    let service = surface.service();
    let (members, now_us) = (service.members(), service.wall_us());
    let target = |(id, kept): (NodeId, rondo_storage::store::HintCount)| Target {
        id,
        name: members.iter().find(|member| member.id == id).map(|member| member.name.clone()),
        count: kept.count,
        bytes: kept.bytes,
        oldest_seconds: now_us.saturating_sub(kept.oldest_us) / 1_000_000,
    };
    let kept = service.hints().into_iter().filter(|(_, kept)| kept.count > 0);
    let targets: Vec<Target> = kept.map(target).collect();
    let add = |sum: Total, target: &Target| Total { count: sum.count + target.count, bytes: sum.bytes + target.bytes };
    let total = targets.iter().fold(Total::default(), add);
    Ok(json(&Hints { total, targets }))
}
