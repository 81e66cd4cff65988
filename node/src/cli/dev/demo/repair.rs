//! The steps after the node's return: what it missed is delivered, and every record from every node.

use std::time::Duration;

use http::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::BUCKET;
use super::steps::{DEMO, Demo, at_r2, same, step};
use crate::cli::client::Request;
use crate::cli::failure::Failure;
use crate::cli::output::print;

/// Hints are delivered within two seconds; a busy machine takes longer.
const DELIVERED_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

impl Demo<'_> {
    pub(super) async fn bring_back(&mut self, node: usize) -> Result<(), Failure> {
        let name = self.cluster.nodes[node].name.clone();
        step(&format!("Start {name} again"))?;
        self.cluster.restart(node).await?;
        self.settled("healthy").await?;
        print(&format!("  {name} is ready."))?;

        step("What it missed was kept for it by the others, and is delivered without a read")?;
        let (key, value) = self.missed[0].clone();
        self.held(node, &key, &value).await?;
        print("  What its own disk holds, without asking the others:")?;
        self.curl.show(node, &local(&key), 200).await?;
        for (key, value) in self.missed.clone() {
            self.held(node, &key, &value).await?;
            let all = Request::object(Method::GET, DEMO, &key).header("Rondo-R", "3");
            let read = self.curl.check(0, &all, 200).await?;
            same(&read.answer, value.as_bytes(), &key)?;
        }
        print(&format!("    … {name} now holds all {} values that were written without it", self.missed.len()))
    }

    /// Waits until a node's own disk holds a value.
    async fn held(&mut self, node: usize, key: &str, value: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + DELIVERED_WITHIN;
        loop {
            let answer = self.curl.check(node, &local(key), 200).await?.answer;
            if holds(&answer.json()?, value) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let name = &self.cluster.nodes[node].name;
                return Err(Failure::Failed(format!("{name} was not given what it missed: it lacks {DEMO}/{key}")));
            }
            sleep(LOOK).await;
        }
    }

    pub(super) async fn verify(&mut self) -> Result<(), Failure> {
        let nodes = self.cluster.nodes.len();
        step(&format!("Every record, from every node, byte for byte ({} reads)", nodes * self.records.len()))?;
        for node in 0..nodes {
            for record in self.records.clone() {
                let read = self.curl.check(node, &at_r2(BUCKET, &record.key), 200).await?;
                same(&read.answer, &record.value, &record.key)?;
            }
            print(&format!(
                "    {}: {} of {} equal",
                self.cluster.nodes[node].name,
                self.records.len(),
                self.records.len()
            ))?;
        }
        Ok(())
    }
}

/// What a node's disk holds of one of the demo's own values.
fn local(key: &str) -> Request {
    Request::get(format!("/v1/local/{DEMO}/{key}"))
}

/// Whether that is this text and nothing else.
fn holds(body: &Value, text: &str) -> bool {
    let versions = body["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    matches!(versions, [version] if version["text"].as_str() == Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_disk_holds_a_value_when_it_holds_nothing_else() {
        let version = |text: &str| json!({"text": text, "deleted": false});
        assert!(holds(&json!({"found": true, "versions": [version("a")]}), "a"));
        assert!(!holds(&json!({"found": true, "versions": [version("b")]}), "a"));
        assert!(!holds(&json!({"found": true, "versions": [version("a"), version("b")]}), "a"));
        assert!(!holds(&json!({"found": false}), "a"));
    }
}
