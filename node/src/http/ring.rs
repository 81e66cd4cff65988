//! `/v1/ring`: where a key lives.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use rondo_ring::NodeId;
use rondo_storage::Key;
use serde::Serialize;

use crate::http::path;
use crate::http::problem::Problem;
use crate::http::query::{Known, Query};
use crate::http::surface::{Surface, json};
use crate::service::MemberInfo;

#[derive(Serialize)]
struct Place {
    token: String,
    partition: u16,
    epoch: u64,
    n: u8,
    owners: Vec<Node>,
    fallbacks: Vec<Node>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Node {
    id: NodeId,
    /// `null` for a member that this node has not heard of yet.
    name: Option<String>,
    zone: Option<String>,
}

/// `GET /v1/ring?bucket=&key=`
pub(crate) async fn read(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query(), &Known { values: &["bucket", "key"], flags: &[] })?;
    let key = Key::new(query.required("bucket")?, query.required("key")?).map_err(path::refused)?;
    let view = surface.view()?;
    let (members, n) = (surface.service().members(), surface.service().bucket(key.bucket()).n);
    Ok(json(&Place {
        token: format!("{:016x}", key.token().0),
        partition: view.partition_of(key.token()).0,
        epoch: view.layout().epoch().0,
        n: n.get(),
        owners: nodes(view.owners(key.token(), n), &members),
        fallbacks: nodes(view.fallbacks(key.token(), n), &members),
    }))
}

fn nodes(ids: &[NodeId], members: &[MemberInfo]) -> Vec<Node> {
    let node = |&id: &NodeId| {
        let info = members.iter().find(|info| info.id == id);
        Node { id, name: info.map(|info| info.name.clone()), zone: info.map(|info| info.zone.clone()) }
    };
    ids.iter().map(node).collect()
}
