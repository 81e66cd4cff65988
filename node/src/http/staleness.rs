//! `/v1/staleness`: how stale reads with R = 1 and 2 are here.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use rondo_ring::NodeId;
use serde::Serialize;

use crate::http::problem::Problem;
use crate::http::query::{Known, Query};
use crate::http::surface::{Surface, json};
use crate::server::staleness::{AGES_MS, Estimate, Report, SAMPLES_MIN};
use crate::service::MemberInfo;

#[derive(Serialize)]
struct Shown {
    n: usize,
    samples: u64,
    samples_needed: u64,
    since_seconds: u64,
    too_few: Vec<TooFew>,
    estimates: Vec<ShownEstimate>,
}

#[derive(Serialize)]
struct TooFew {
    id: NodeId,
    /// `null` for a member that has left meanwhile.
    name: Option<String>,
    samples: u64,
}

#[derive(Serialize)]
struct ShownEstimate {
    r: usize,
    w: usize,
    p_consistent: Vec<Point>,
    t_999_ms: f64,
}

#[derive(Serialize)]
struct Point {
    t_ms: f64,
    p: f64,
}

/// `GET /v1/staleness`
pub(crate) async fn read(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &Known { values: &[], flags: &[] })?;
    surface.view()?;
    let report = surface.service().staleness().await;
    Ok(json(&shown(&report, &surface.service().members())))
}

fn shown(report: &Report, members: &[MemberInfo]) -> Shown {
    let name = |id| members.iter().find(|member| member.id == id).map(|member| member.name.clone());
    let too_few = report.too_few.iter().map(|&(id, samples)| TooFew { id, name: name(id), samples });
    Shown {
        n: report.n,
        samples: report.samples,
        samples_needed: SAMPLES_MIN,
        since_seconds: report.window.as_secs(),
        too_few: too_few.collect(),
        estimates: report.estimates.iter().map(shown_estimate).collect(),
    }
}

fn shown_estimate(estimate: &Estimate) -> ShownEstimate {
    let points = AGES_MS.into_iter().zip(estimate.p_consistent);
    ShownEstimate {
        r: estimate.r,
        w: estimate.w,
        p_consistent: points.map(|(t_ms, p)| Point { t_ms, p: rounded(p, 1e4) }).collect(),
        t_999_ms: rounded(estimate.t_999_ms, 1e3),
    }
}

/// No more digits than mean something.
fn rounded(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn digits_that_mean_nothing_are_not_shown() {
        let mut p_consistent = [1.0; AGES_MS.len()];
        p_consistent[0] = 2.0 / 3.0;
        let estimate = Estimate { r: 1, w: 2, p_consistent, t_999_ms: 1.234_567 };
        let (window, too_few) = (Duration::from_millis(131_900), vec![(NodeId(1), 12)]);
        let report = Report { n: 3, samples: 12, window, too_few, estimates: vec![estimate] };
        let json = serde_json::to_value(shown(&report, &[])).unwrap();
        assert_eq!(json["estimates"][0]["p_consistent"][0], serde_json::json!({"t_ms": 0.0, "p": 0.6667}));
        assert_eq!((&json["estimates"][0]["t_999_ms"], &json["since_seconds"]), (&1.235.into(), &131.into()));
        assert_eq!((&json["too_few"][0]["samples"], &json["too_few"][0]["name"]), (&12.into(), &().into()));
    }
}
