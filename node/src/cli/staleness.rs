//! `rondo status --staleness`.

use serde::Deserialize;
use serde_json::Value;

use super::arguments::Target;
use super::client::{Request, call};
use super::cluster::PATIENCE;
use super::failure::Failure;
use super::output::{Output, print, print_json, table};
use super::problem::successful;

/// What `/v1/staleness` says.
#[derive(Debug, Deserialize)]
struct Staleness {
    n: u32,
    samples: u64,
    samples_needed: u64,
    since_seconds: u64,
    too_few: Vec<TooFew>,
    estimates: Vec<Estimate>,
}

#[derive(Debug, Deserialize)]
struct TooFew {
    id: String,
    name: Option<String>,
    samples: u64,
}

#[derive(Debug, Deserialize)]
struct Estimate {
    r: u32,
    w: u32,
    p_consistent: Vec<Point>,
    t_999_ms: f64,
}

#[derive(Debug, Deserialize)]
struct Point {
    t_ms: f64,
    p: f64,
}

pub(super) async fn staleness(target: &Target) -> Result<(), Failure> {
    let answer = successful(call(&target.endpoint, Request::get("/v1/staleness"), PATIENCE).await?)?;
    match target.output {
        Output::Table => print(&text(&answer.json()?)),
        Output::Json => print_json(&answer.json::<Value>()?),
    }
}

fn text(staleness: &Staleness) -> String {
    let seconds = staleness.since_seconds;
    if staleness.estimates.is_empty() {
        let few = |few: &TooFew| format!("\n{}: {}", few.name.as_ref().unwrap_or(&few.id), few.samples);
        let replicas: String = staleness.too_few.iter().map(few).collect();
        return format!(
            "not enough samples: {} writes through this node are needed on each of {} replicas, and in the last {seconds} s \
             there were{replicas}",
            staleness.samples_needed, staleness.n
        );
    }
    format!(
        "share of reads that see a write by its age, and the age at which 99.9 % do\n\
         N {}, from {} writes through this node in the last {seconds} s\n\n{}",
        staleness.n,
        staleness.samples,
        rows(&staleness.estimates)
    )
}

fn rows(estimates: &[Estimate]) -> String {
    let ages = estimates[0].p_consistent.iter().map(|point| format!("{} ms", point.t_ms));
    let header: Vec<String> = ["r".into(), "w".into()].into_iter().chain(ages).chain(["99.9 %".into()]).collect();
    let row = |estimate: &Estimate| {
        let shares = estimate.p_consistent.iter().map(|point| format!("{:.2} %", 100.0 * point.p));
        let quorum = [estimate.r.to_string(), estimate.w.to_string()];
        quorum.into_iter().chain(shares).chain([format!("{:.1} ms", estimate.t_999_ms)]).collect()
    };
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table(&header, &estimates.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn staleness(estimates: &Value) -> Staleness {
        let too_few = json!([{"id": "00", "name": "n2", "samples": 12}]);
        let shown = json!({"n": 3, "samples": 1200, "samples_needed": 1000, "since_seconds": 61, "too_few": too_few,
            "estimates": estimates});
        serde_json::from_value(shown).unwrap()
    }

    #[test]
    fn an_estimate_is_a_line() {
        let points = json!([{"t_ms": 0.0, "p": 0.9712}, {"t_ms": 5.0, "p": 1.0}]);
        let shown = text(&staleness(&json!([{"r": 1, "w": 2, "p_consistent": points, "t_999_ms": 1.84}])));
        let lines: Vec<_> = shown.lines().skip(3).map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[0], ["R", "W", "0", "MS", "5", "MS", "99.9", "%"]);
        assert_eq!(lines[1], ["1", "2", "97.12", "%", "100.00", "%", "1.8", "ms"]);
        assert!(shown.contains("N 3, from 1200 writes through this node in the last 61 s"), "{shown}");
    }

    #[test]
    fn too_few_samples_are_no_estimate() {
        let shown = text(&staleness(&json!([])));
        assert!(shown.starts_with("not enough samples: 1000 writes") && shown.ends_with("\nn2: 12"), "{shown}");
    }
}
