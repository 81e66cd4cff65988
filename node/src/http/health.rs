//! `/livez`, `/readyz`, `/metrics`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Serialize;

use crate::http::metrics::CONTENT_TYPE;
use crate::http::problem::Problem;
use crate::http::query::{Known, Query};
use crate::http::surface::{Surface, json, with_type};
use crate::service::Readiness;

/// Whether this process answers, and nothing else: a probe that looked at load or at other nodes would have nodes
/// killed for what they cannot help.
pub(crate) async fn live(request: Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &Known::NONE)?;
    Ok(with_type("text/plain; charset=utf-8", "ok\n"))
}

#[derive(Serialize)]
struct Verbose {
    ready: bool,
    draining: bool,
    /// `null` when ready.
    waiting_for: Option<String>,
    cluster_formed: bool,
    epoch: Option<u64>,
    members: usize,
}

/// 200 once any request may be sent here.
pub(crate) async fn ready(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query(), &Known { values: &[], flags: &["verbose"] })?;
    let readiness = surface.service().readiness();
    if query.get("verbose").is_some() {
        return Ok(verbose(&surface, &readiness));
    }
    match readiness {
        Readiness::Ready => Ok(with_type("text/plain; charset=utf-8", "ready\n")),
        _ => Err(surface.not_ready()),
    }
}

fn verbose(surface: &Surface, readiness: &Readiness) -> Response {
    let view = surface.service().view();
    let ready = *readiness == Readiness::Ready;
    let mut response = json(&Verbose {
        ready,
        draining: *readiness == Readiness::Draining,
        waiting_for: match readiness {
            Readiness::Waiting(what) => Some(what.clone()),
            _ => None,
        },
        cluster_formed: view.is_some(),
        epoch: view.as_ref().map(|view| view.layout().epoch().0),
        members: view.map_or(0, |view| view.layout().members().len()),
    });
    if !ready {
        *response.status_mut() = surface.not_ready().kind().status();
    }
    response
}

/// OpenMetrics.
pub(crate) async fn metrics(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &Known::NONE)?;
    Ok(with_type(CONTENT_TYPE, surface.metrics().render()))
}
