//! What a run came to, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::mix::Operation;
use super::tally::Tally;
use crate::cli::output::{bytes, table};

/// Everything, with the unit in each name.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) setup: Setup,
    /// Answers in the measured time.
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) sent_bytes_per_second: f64,
    pub(crate) received_bytes_per_second: f64,
    pub(crate) latency_us: BTreeMap<&'static str, Latency>,
    /// From when a request was due to when it was begun; with `rate_per_second` only.
    pub(crate) start_lag_us: Option<Latency>,
    /// Requests that were due and never begun: the rate was more than this could do.
    pub(crate) not_begun: u64,
    pub(crate) statuses: BTreeMap<&'static str, BTreeMap<u16, u64>>,
    /// Requests without an answer, by kind.
    pub(crate) no_answer: BTreeMap<&'static str, u64>,
    /// Requests with another answer than they should have had, or none.
    pub(crate) unexpected: u64,
    pub(crate) first_unexpected: Option<String>,
    pub(crate) cpu: Cpu,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Setup {
    pub(crate) endpoints: Vec<String>,
    pub(crate) bucket: String,
    pub(crate) mix: String,
    pub(crate) r: Option<String>,
    pub(crate) w: Option<String>,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    /// Of an open loop.
    pub(crate) rate_per_second: Option<u32>,
    pub(crate) keys: u64,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: String,
    pub(crate) distribution: String,
    pub(crate) preload: bool,
    pub(crate) warmup_seconds: f64,
    pub(crate) seed: u64,
}

/// Of requests, from the start to the end of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    #[serde(rename = "p99.9")]
    pub(crate) p99_9: u64,
    pub(crate) max: u64,
}

/// Processor time, user and system, of the measured time. A request costs all nodes together `nodes_us_per_request`.
#[derive(Debug, Serialize)]
pub(crate) struct Cpu {
    pub(crate) nodes: Vec<NodeCpu>,
    pub(crate) nodes_us_per_request: Option<f64>,
    pub(crate) generator_seconds: f64,
    pub(crate) generator_us_per_request: f64,
}

/// One node's; `None` where it does not say, or was started anew meanwhile.
#[derive(Debug, Serialize)]
pub(crate) struct NodeCpu {
    pub(crate) name: String,
    pub(crate) seconds: Option<f64>,
    pub(crate) us_per_request: Option<f64>,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            count: histogram.len(),
            mean: (histogram.mean() * 10.0).round() / 10.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: histogram.max(),
        }
    }
}

impl Cpu {
    /// `nodes` are names, and processor seconds before and after.
    pub(crate) fn new(nodes: Vec<(String, Option<f64>, Option<f64>)>, generator: Duration, requests: u64) -> Self {
        let per_request = |seconds: f64| round(seconds * 1e6 / requests.max(1) as f64, 100.0);
        let nodes: Vec<NodeCpu> = nodes
            .into_iter()
            .map(|(name, before, after)| {
                let seconds = before.zip(after).map(|(before, after)| after - before).filter(|spent| *spent >= 0.0);
                NodeCpu { name, seconds: seconds.map(|s| round(s, 1e6)), us_per_request: seconds.map(per_request) }
            })
            .collect();
        // A sum in which one is missing would flatter the cluster.
        let all: Option<Vec<f64>> = nodes.iter().map(|node| node.seconds).collect();
        Self {
            nodes_us_per_request: all.map(|seconds| per_request(seconds.iter().sum())),
            nodes,
            generator_seconds: round(generator.as_secs_f64(), 1e6),
            generator_us_per_request: per_request(generator.as_secs_f64()),
        }
    }
}

fn round(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale
}

impl Report {
    /// `unexpected` are the answers among the tally's that should have been others.
    pub(crate) fn new(setup: Setup, tally: &Tally, seconds: f64, cpu: Cpu, unexpected: u64) -> Self {
        let per_second = |count: u64| round(count as f64 / seconds.max(1e-9), 10.0);
        // Bytes are counted with every answer; those beyond the measured time do not belong to it.
        let share = tally.answers_in_time as f64 / tally.answers.max(1) as f64;
        let in_time = |bytes: u64| (bytes as f64 * share) as u64;
        let used = || Operation::ALL.into_iter().filter(|operation| !tally.of(*operation).latency_us.is_empty());
        let mut latency_us: BTreeMap<_, _> =
            used().map(|operation| (operation.name(), Latency::of(&tally.of(operation).latency_us))).collect();
        latency_us.insert("all", Latency::of(&tally.latency_us()));
        let no_answer = tally.no_answer();
        Self {
            requests: tally.answers_in_time,
            seconds: round(seconds, 1e3),
            requests_per_second: per_second(tally.answers_in_time),
            sent_bytes_per_second: per_second(in_time(tally.sent_bytes)),
            received_bytes_per_second: per_second(in_time(tally.received_bytes)),
            latency_us,
            start_lag_us: setup.rate_per_second.map(|_| Latency::of(&tally.lag_us)),
            not_begun: tally.not_begun,
            statuses: used().map(|operation| (operation.name(), tally.of(operation).statuses.clone())).collect(),
            unexpected: unexpected + no_answer.values().sum::<u64>() + tally.not_begun,
            first_unexpected: tally.complaint.clone(),
            no_answer,
            cpu,
            setup,
        }
    }

    /// For people.
    pub(crate) fn in_words(&self) -> String {
        let mut parts = vec![self.setup.in_words(), self.throughput(), self.latencies(), self.answers()];
        parts.push(self.cpu.in_words());
        parts.join("\n\n")
    }

    fn throughput(&self) -> String {
        let per_second = |count: f64| format!("{}/s", bytes(count as u64));
        format!(
            "{:.0} requests/s ({} in {:.1} s), {} sent, {} received",
            self.requests_per_second,
            self.requests,
            self.seconds,
            per_second(self.sent_bytes_per_second),
            per_second(self.received_bytes_per_second),
        )
    }

    fn latencies(&self) -> String {
        // One operation alone is all there is.
        let shown = self.latency_us.iter().filter(|(name, _)| self.latency_us.len() != 2 || **name != "all");
        let row = |(name, l): (&&str, &Latency)| {
            let times = [l.p50, l.p90, l.p99, l.p99_9, l.max].map(milliseconds);
            [vec![name.to_string()], times.to_vec()].concat()
        };
        table(&["milliseconds", "p50", "p90", "p99", "p99.9", "max"], &shown.map(row).collect::<Vec<_>>())
    }

    /// How well an open loop was kept.
    fn pace(&self) -> Vec<String> {
        let Some((rate, lag)) = self.setup.rate_per_second.zip(self.start_lag_us) else { return Vec::new() };
        let (p50, p99, max) = (milliseconds(lag.p50), milliseconds(lag.p99), milliseconds(lag.max));
        let mut lines = vec![format!("due {rate}/s, begun late by {p50} ms (p50), {p99} ms (p99), {max} ms at most")];
        if self.not_begun > 0 {
            lines.push(format!("never begun: {}; the rate was more than this could do", self.not_begun));
        }
        lines
    }

    fn answers(&self) -> String {
        let mut lines = self.pace();
        for (operation, statuses) in &self.statuses {
            let counts: Vec<String> = statuses.iter().map(|(status, count)| format!("{count} × {status}")).collect();
            lines.push(format!("{operation}: {}", counts.join(", ")));
        }
        let failed: Vec<String> = self.no_answer.iter().filter(|(_, count)| **count > 0).map(count_of).collect();
        if !failed.is_empty() {
            lines.push(format!("no answer: {}", failed.join(", ")));
        }
        lines.join("\n")
    }
}

fn count_of((name, count): (&&'static str, &u64)) -> String {
    format!("{count} × {name}")
}

fn milliseconds(us: u64) -> String {
    format!("{:.3}", us as f64 / 1e3)
}

impl Setup {
    fn in_words(&self) -> String {
        let quorum = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!(", {name}={value}"));
        format!(
            "{} in bucket {}{}{}: {} keys of {} bytes ({}), values of {} bytes; {} connections to {}",
            self.mix,
            self.bucket,
            quorum("R", &self.r).unwrap_or_default(),
            quorum("W", &self.w).unwrap_or_default(),
            self.keys,
            self.key_bytes,
            self.distribution,
            self.value_bytes,
            self.connections,
            self.endpoints.join(", "),
        )
    }
}

impl Cpu {
    fn in_words(&self) -> String {
        let shown = |value: Option<f64>| value.map_or_else(|| "-".into(), |us| format!("{us:.1}"));
        let mut rows: Vec<Vec<String>> =
            self.nodes.iter().map(|node| vec![node.name.clone(), shown(node.us_per_request)]).collect();
        rows.push(vec!["all nodes".into(), shown(self.nodes_us_per_request)]);
        rows.push(vec!["rondo bench".into(), shown(Some(self.generator_us_per_request))]);
        table(&["CPU time of", "microseconds/request"], &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::{NoAnswer, Taken};
    use super::super::tally::Done;
    use super::*;

    fn setup() -> Setup {
        Setup {
            endpoints: vec!["http://a:1".into()],
            bucket: "bench".into(),
            mix: "put".into(),
            r: None,
            w: Some("2".into()),
            connections: 4,
            threads: 1,
            rate_per_second: None,
            keys: 10,
            key_bytes: 16,
            value_bytes: "1024".into(),
            distribution: "uniform".into(),
            preload: false,
            warmup_seconds: 0.0,
            seed: 1,
        }
    }

    fn report(nodes: Vec<(String, Option<f64>, Option<f64>)>) -> Report {
        let mut tally = Tally::new();
        let (operation, latency) = (Operation::Put, Duration::from_millis(2));
        let mut record = |result, in_time| {
            tally.record(Done { operation, sent_bytes: 1_000, result, latency, lag: Duration::ZERO, in_time });
        };
        (0..1_000).for_each(|_| record(Ok(Taken { status: 204, bytes: 100 }), true));
        record(Ok(Taken { status: 503, bytes: 100 }), false);
        record(Err(NoAnswer::Broken), true);
        let cpu = Cpu::new(nodes, Duration::from_millis(5), tally.answers_in_time);
        Report::new(setup(), &tally, 2.0, cpu, 1)
    }

    #[test]
    fn figures_are_of_the_measured_time() {
        let nodes = vec![("n1".to_string(), Some(1.0), Some(1.2)), ("n2".into(), Some(3.0), Some(3.1))];
        let report = report(nodes);
        assert_eq!((report.requests, report.requests_per_second, report.unexpected), (1_000, 500.0, 2));
        assert_eq!((report.sent_bytes_per_second, report.received_bytes_per_second), (500_000.0, 50_000.0));
        assert_eq!((report.cpu.nodes_us_per_request, report.cpu.generator_us_per_request), (Some(300.0), 5.0));
        assert_eq!(report.latency_us["put"].p99_9, 2_000);
        assert_eq!(report.latency_us["put"].count, 1_001);
    }

    #[test]
    fn a_node_that_says_nothing_is_missing_from_the_sum() {
        let restarted = ("n2".to_string(), Some(3.0), Some(0.1));
        let cpu = report(vec![("n1".into(), Some(1.0), Some(1.5)), restarted, ("n3".into(), None, Some(1.0))]).cpu;
        assert_eq!(cpu.nodes_us_per_request, None);
        assert_eq!(cpu.nodes.iter().map(|node| node.us_per_request).collect::<Vec<_>>(), [Some(500.0), None, None]);
    }

    #[test]
    fn people_are_told_in_a_page() {
        let text = report(vec![("n1".into(), Some(1.0), Some(1.5))]).in_words();
        for part in [
            "put in bucket bench, W=2: 10 keys of 16 bytes (uniform), values of 1024 bytes; 4 connections to http://a:1",
            "500 requests/s (1000 in 2.0 s), 488.28 KiB/s sent",
            "put           2.000",
            "put: 1000 × 204, 1 × 503\nno answer: 1 × broken",
            "all nodes    500.0",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("\nall  "), "one operation alone is all there is\n{text}");
    }
}
