//! `rondo hints`.

use serde::Deserialize;

use super::arguments::Target;
use super::client::{Request, call};
use super::cluster::{PATIENCE, show};
use super::failure::Failure;
use super::output::{bytes, table};
use super::problem::successful;

/// What `/v1/hints` says.
#[derive(Debug, Deserialize)]
struct Hints {
    total: Total,
    targets: Vec<Kept>,
}

#[derive(Debug, Deserialize)]
struct Total {
    count: u64,
    bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Kept {
    id: String,
    name: Option<String>,
    count: u64,
    bytes: u64,
    oldest_seconds: u64,
}

pub(super) async fn run(target: &Target) -> Result<(), Failure> {
    let answer = successful(call(&target.endpoint, Request::get("/v1/hints"), PATIENCE).await?)?;
    let hints: Hints = answer.json()?;
    show(target, &answer, || text(&hints))
}

fn text(hints: &Hints) -> String {
    if hints.targets.is_empty() {
        return "nothing is kept here for other nodes".into();
    }
    let row = |kept: &Kept| {
        vec![
            kept.name.clone().unwrap_or_else(|| "(no member)".into()),
            kept.count.to_string(),
            bytes(kept.bytes),
            format!("{} s", kept.oldest_seconds),
            kept.id.clone(),
        ]
    };
    let rows: Vec<_> = hints.targets.iter().map(row).collect();
    let targets = table(&["kept for", "hints", "size", "oldest", "id"], &rows);
    format!("{} hints, {}\n\n{targets}", hints.total.count, bytes(hints.total.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_target_is_a_line() {
        let hints = json!({"total": {"count": 3, "bytes": 2048}, "targets": [
            {"id": "0a", "name": "n2", "count": 2, "bytes": 1024, "oldest_seconds": 9},
            {"id": "0b", "name": null, "count": 1, "bytes": 1024, "oldest_seconds": 0}]});
        let text = text(&serde_json::from_value(hints).unwrap());
        assert!(text.starts_with("3 hints, 2.00 KiB\n\nKEPT FOR"), "{text}");
        assert!(text.contains("n2           2      1.00 KiB  9 s     0a"), "{text}");
        assert!(text.contains("(no member)"), "{text}");
    }

    #[test]
    fn nothing_is_said_in_words() {
        let none = json!({"total": {"count": 0, "bytes": 0}, "targets": []});
        assert_eq!(text(&serde_json::from_value(none).unwrap()), "nothing is kept here for other nodes");
    }
}
