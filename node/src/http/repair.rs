//! `/v1/repair`: what anti-entropy has done, and how this node stands with the others.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use rondo_ring::NodeId;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::http::body::{self, BodyLimits};
use crate::http::buckets::check_type;
use crate::http::problem::{Kind, Problem};
use crate::http::query::{Known, Query};
use crate::http::siblings::rfc3339;
use crate::http::surface::{Surface, json};
use crate::service::MemberInfo;

/// `{}` and white space.
const BODY_BYTES_MAX: usize = 1 << 10;

#[derive(Serialize)]
struct Repair {
    state: Work,
    /// When this node had last agreed with every other one that shares keys with it; `null` before.
    last_complete: Option<String>,
    exchanges: u64,
    keys_repaired: u64,
    bytes_sent: u64,
    bytes_received: u64,
    peers: Vec<Peer>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Work {
    Idle,
    Running,
}

#[derive(Serialize)]
struct Peer {
    name: String,
    in_sync: bool,
    last_success: Option<String>,
}

/// What was begun.
#[derive(Serialize)]
struct Begun {
    peers: Vec<String>,
}

/// `GET /v1/repair`
pub(crate) async fn read(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &Known::NONE)?;
    surface.view()?;
    let service = surface.service();
    let (status, members) = (service.repair_status(), service.members());
    let (now, wall_us) = (service.now(), service.wall_us());
    let shown = |at: Duration| rfc3339(wall_us.saturating_sub(now.saturating_sub(at).as_micros() as u64));
    let all: Option<Vec<Duration>> = status.peers.iter().map(|(_, standing)| standing.last_success).collect();
    let peer = |(id, standing): &(NodeId, rondo_antientropy::Standing)| Peer {
        name: name_of(*id, &members),
        in_sync: standing.in_sync,
        last_success: standing.last_success.map(shown),
    };
    let mut peers: Vec<Peer> = status.peers.iter().map(peer).collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(json(&Repair {
        state: if status.running { Work::Running } else { Work::Idle },
        last_complete: all.and_then(|all| all.into_iter().min()).map(shown),
        exchanges: status.exchanges,
        keys_repaired: status.keys_repaired,
        bytes_sent: status.bytes_sent,
        bytes_received: status.bytes_received,
        peers,
    }))
}

/// `POST /v1/admin/repair`: 202 with the nodes that are compared with.
pub(crate) async fn begin(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &Known::NONE)?;
    surface.view()?;
    let (parts, mut incoming) = request.into_parts();
    check_type(&parts.headers)?;
    let deadline = Instant::now() + Duration::from_millis(surface.limits().timeout_default_ms);
    let limits = BodyLimits { bytes_max: BODY_BYTES_MAX, deadline, stall: surface.limits().body_stall() };
    check_empty(&body::collect_small(&mut incoming, limits).await?)?;
    let members = surface.service().members();
    let mut peers: Vec<String> = surface.service().begin_repair().into_iter().map(|id| name_of(id, &members)).collect();
    peers.sort_unstable();
    let mut response = json(&Begun { peers });
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

fn check_empty(body: &[u8]) -> Result<(), Problem> {
    let problem = |what: String| {
        let detail = format!("the body is {what}; allowed: {{}} or nothing");
        Problem::new(Kind::BadRequest, detail).allowing("{}")
    };
    if body.is_empty() {
        return Ok(());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) if fields.is_empty() => Ok(()),
        Ok(_) => Err(problem("something else than an empty object".into())),
        Err(error) => Err(problem(format!("not JSON ({error})"))),
    }
}

/// The id of a member that this node has not heard of yet.
fn name_of(id: NodeId, members: &[MemberInfo]) -> String {
    members.iter().find(|info| info.id == id).map_or_else(|| id.to_string(), |info| info.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_says_nothing() {
        for body in [&b""[..], b"{}", b" { } "] {
            assert!(check_empty(body).is_ok());
        }
        for body in [&b"{\"node\":\"n1\"}"[..], b"[]", b"x"] {
            assert_eq!(check_empty(body).unwrap_err().kind(), Kind::BadRequest);
        }
    }
}
