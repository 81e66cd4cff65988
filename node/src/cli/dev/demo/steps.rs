//! The steps up to the node's return: load, read, lose a node, go on, make and resolve a conflict.

use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep};

use super::super::local::LocalCluster;
use super::super::transcript::Curl;
use super::{BUCKET, packages};
use crate::cli::client::{Answer, Request};
use crate::cli::cluster::Cluster;
use crate::cli::failure::Failure;
use crate::cli::load::lines::Record;
use crate::cli::load::send::{Plan, send};
use crate::cli::output::print;

/// Where the demo's own values go.
pub(super) const DEMO: &str = "demo";
/// Requests sent while a node is away.
const MEANWHILE: usize = 100;
/// A node's failure is seen, and its return known, within a few heartbeats; a busy machine takes longer.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);

/// The demo's state.
pub(super) struct Demo<'a> {
    pub(super) cluster: &'a mut LocalCluster,
    pub(super) curl: Curl,
    pub(super) records: Vec<Record>,
    /// Keys written while a node was away, with their values.
    pub(super) missed: Vec<(String, String)>,
}

impl Demo<'_> {
    pub(super) async fn all(&mut self) -> Result<(), Failure> {
        let last = self.cluster.nodes.len() - 1;
        self.load().await?;
        self.read().await?;
        self.kill(last).await?;
        self.go_on(last).await?;
        self.conflict(last).await?;
        self.bring_back(last).await?;
        self.verify().await
    }

    async fn load(&mut self) -> Result<(), Failure> {
        step("Load 500 Debian package records, each acknowledged by two disks")?;
        self.settled("healthy").await?;
        let endpoints: Vec<_> = self.cluster.nodes.iter().map(|node| node.endpoint.clone()).collect();
        let names: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        print(&format!("  $ rondo load packages.jsonl --bucket {BUCKET} --w 2 --endpoint {}", names.join(",")))?;
        let (bucket, w, retry_for) = (BUCKET.into(), Some("2".into()), SETTLE_WITHIN);
        let totals = packages()?.check()?;
        let summary = send(packages()?, totals, Plan { endpoints, bucket, w, concurrency: 32, retry_for }).await?;
        let (records, seconds) = (summary.totals.records, summary.duration.as_secs_f64());
        print(&format!("    {records} records in {seconds:.2} s, {:.0} records/s", records as f64 / seconds.max(1e-6)))
    }

    async fn read(&mut self) -> Result<(), Failure> {
        step("Read from any node; two replicas must agree")?;
        for node in 0..3 {
            let record = self.records[node * 7].clone();
            let answer = self.curl.show(node, &at_r2(BUCKET, &record.key), 200).await?;
            same(&answer, &record.value, &record.key)?;
        }
        Ok(())
    }

    async fn kill(&mut self, node: usize) -> Result<(), Failure> {
        let name = self.cluster.nodes[node].name.clone();
        step(&format!("Kill {name}"))?;
        let pid = self.cluster.nodes[node].kill().await?;
        print(&format!("  $ kill -9 {pid}"))
    }

    /// At once, before anybody has noticed.
    async fn go_on(&mut self, lost: usize) -> Result<(), Failure> {
        step("Two of three are a quorum: reads and writes go on at once")?;
        let mut slowest = Duration::ZERO;
        for i in 0..MEANWHILE {
            let (key, value) = (format!("meanwhile-{i}"), format!("written while a node was away, {i}"));
            let put = text(&key, &value).header("Rondo-W", "2");
            let get = at_r2(DEMO, &key);
            let (writer, reader) = (i % lost, (i + 1) % lost);
            if i == 0 {
                self.curl.show(writer, &put, 204).await?;
                self.curl.show(reader, &get, 200).await?;
            } else {
                slowest = slowest.max(self.curl.check(writer, &put, 204).await?.took);
                let read = self.curl.check(reader, &get, 200).await?;
                slowest = slowest.max(read.took);
                same(&read.answer, value.as_bytes(), &key)?;
            }
            self.missed.push((key, value));
        }
        let ms = 1e3 * slowest.as_secs_f64();
        print(&format!("    … {MEANWHILE} writes and {MEANWHILE} reads, all successful; the slowest took {ms:.1} ms"))?;
        step("Asking for all three is answered honestly")?;
        self.unsatisfiable().await
    }

    async fn unsatisfiable(&mut self) -> Result<(), Failure> {
        let (key, value) = ("all-three", "three disks or an honest answer");
        let answer = self.curl.show(0, &text(key, value).header("Rondo-W", "3"), 503).await?;
        let body: serde_json::Value = answer.json()?;
        if body["outcome"].as_str().is_none() {
            return Err(Failure::Failed("the answer does not say what became of the write".into()));
        }
        Ok(())
    }

    /// Two clients change the same version on two nodes.
    async fn conflict(&mut self, lost: usize) -> Result<(), Failure> {
        step("Two clients change the same value without knowing of each other")?;
        let key = "basket";
        let first = self.curl.show(0, &text(key, "apples").header("Rondo-W", "2"), 204).await?;
        let seen = context(&first)?;
        for (node, value) in [(0, "apples, pears"), (lost - 1, "apples, plums")] {
            let put = text(key, value).header("Rondo-W", "2").header("Rondo-Context", &seen);
            self.curl.show(node, &put, 204).await?;
        }
        print("  Neither is lost: a read gives both, as an error that no script can overlook.")?;
        let both = self.curl.show(0, &at_r2(DEMO, key), 409).await?;
        if both.header("Rondo-Siblings") != Some("2") {
            return Err(Failure::Failed("two siblings were expected".into()));
        }
        print("  A write with the context of that answer resolves them.")?;
        let value = "apples, pears, plums";
        let put = text(key, value).header("Rondo-W", "2").header("Rondo-Context", context(&both)?);
        self.curl.show(0, &put, 204).await?;
        let resolved = self.curl.show(lost - 1, &at_r2(DEMO, key), 200).await?;
        self.missed.push((key.into(), value.into()));
        same(&resolved, value.as_bytes(), key)
    }

    /// Waits until every running node sees the cluster so.
    pub(super) async fn settled(&mut self, health: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + SETTLE_WITHIN;
        for node in 0..self.cluster.nodes.len() {
            loop {
                let answer = self.curl.quietly(node, &Request::get("/v1/cluster")).await?.answer;
                let cluster = answer.json::<Cluster>();
                let whole =
                    cluster.as_ref().is_ok_and(|c| c.health == health && c.members.iter().all(|m| m.state == "up"));
                if whole {
                    break;
                }
                if Instant::now() > deadline {
                    let seen = cluster.map(|c| c.health).unwrap_or_else(|_| answer.status.to_string());
                    return Err(Failure::Failed(format!("n{} sees the cluster as {seen}, not {health}", node + 1)));
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }
}

pub(super) fn step(title: &str) -> Result<(), Failure> {
    print(&format!("\n== {title}"))
}

/// A PUT of one of the demo's own values.
fn text(key: &str, value: &str) -> Request {
    let put = Request::object(Method::PUT, DEMO, key).header("Content-Type", "text/plain");
    put.body(value.to_string())
}

pub(super) fn at_r2(bucket: &str, key: &str) -> Request {
    Request::object(Method::GET, bucket, key).header("Rondo-R", "2")
}

/// Byte for byte.
pub(super) fn same(answer: &Answer, value: &[u8], key: &str) -> Result<(), Failure> {
    if answer.body == value { Ok(()) } else { Err(Failure::Failed(format!("{key}: another value came back"))) }
}

fn context(answer: &Answer) -> Result<String, Failure> {
    let missing = || Failure::Failed("the answer has no Rondo-Context".into());
    answer.header("Rondo-Context").map(String::from).ok_or_else(missing)
}
