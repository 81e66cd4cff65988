//! `rondo repair`.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::arguments::RepairArgs;
use super::client::{Request, call};
use super::failure::Failure;
use super::output::{Output, bytes, print, print_json, say, table};
use super::problem::successful;

/// These answers need no quorum.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `/v1/repair` says.
#[derive(Debug, Deserialize)]
struct Repair {
    state: String,
    last_complete: Option<String>,
    exchanges: u64,
    keys_repaired: u64,
    bytes_sent: u64,
    bytes_received: u64,
    peers: Vec<Peer>,
}

#[derive(Debug, Deserialize)]
struct Peer {
    name: String,
    in_sync: bool,
    last_success: Option<String>,
}

pub(super) async fn run(args: &RepairArgs) -> Result<(), Failure> {
    let endpoint = &args.target.endpoint;
    if args.now {
        successful(call(endpoint, Request::new(Method::POST, "/v1/admin/repair"), PATIENCE).await?)?;
        say("rondo: comparing with all other nodes");
    }
    let answer = successful(call(endpoint, Request::get("/v1/repair"), PATIENCE).await?)?;
    match args.target.output {
        Output::Table => print(&shown(&answer.json()?)),
        Output::Json => print_json(&answer.json::<Value>()?),
    }
}

fn shown(repair: &Repair) -> String {
    let never = || "never".to_string();
    let summary = format!(
        "{}, all agreed last: {}\n{} exchanges, {} keys repaired here, {} sent, {} received",
        repair.state,
        repair.last_complete.clone().unwrap_or_else(never),
        repair.exchanges,
        repair.keys_repaired,
        bytes(repair.bytes_sent),
        bytes(repair.bytes_received),
    );
    let row = |peer: &Peer| {
        let in_sync = if peer.in_sync { "yes" } else { "no" };
        vec![peer.name.clone(), in_sync.to_string(), peer.last_success.clone().unwrap_or_else(never)]
    };
    let rows: Vec<_> = repair.peers.iter().map(row).collect();
    format!("{summary}\n\n{}", table(&["with", "in sync", "agreed last"], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_says_with_whom_the_node_agrees() {
        let repair = json!({"state": "idle", "last_complete": null, "exchanges": 7, "keys_repaired": 3,
            "bytes_sent": 2048, "bytes_received": 1, "peers": [{"name": "n2", "in_sync": true,
            "last_success": "2026-01-01T00:00:00Z"}, {"name": "n3", "in_sync": false, "last_success": null}]});
        let text = shown(&serde_json::from_value(repair).unwrap());
        assert!(
            text.starts_with("idle, all agreed last: never\n7 exchanges, 3 keys repaired here, 2.00 KiB sent"),
            "{text}"
        );
        assert!(text.contains("n2    yes      2026") && text.contains("n3    no       never"), "{text}");
    }
}
