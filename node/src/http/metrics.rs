//! `/metrics`: what the HTTP surface counts, and the door for what others count.
//!
//! Each worker counts in a shard of its own: on a request's path there is nothing to wait for and no cache line shared.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use rondo_storage::engine::EngineStatus;

use crate::http::process::Process;

/// The format of [`Metrics::render`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Operation {
    Put,
    Get,
    Delete,
    Post,
    List,
    Batch,
    Bucket,
    Cluster,
    Local,
    Probe,
    Other,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        OPERATIONS[self as usize]
    }

    /// Whether it is about objects, one or many.
    pub(crate) fn is_of_objects(self) -> bool {
        matches!(self, Self::Put | Self::Get | Self::Delete | Self::Post | Self::List | Self::Batch)
    }
}

const OPERATIONS: [&str; 11] =
    ["put", "get", "delete", "post", "list", "batch", "bucket", "cluster", "local", "probe", "other"];

/// Statuses counted by themselves; any other is `other`.
const STATUSES: [u16; 20] =
    [200, 201, 204, 304, 400, 404, 405, 408, 409, 412, 413, 414, 415, 429, 431, 500, 501, 503, 504, 507];

/// Upper bounds of the latency buckets, µs.
const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// The counters of one worker.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    operations: [OperationCounters; OPERATIONS.len()],
}

#[derive(Debug, Default)]
struct OperationCounters {
    by_status: [AtomicU64; STATUSES.len() + 1],
    by_latency: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Shard {
    /// One request has its answer.
    pub(crate) fn record(&self, operation: Operation, status: u16, took: Duration) {
        let counters = &self.operations[operation as usize];
        let status = STATUSES.binary_search(&status).unwrap_or(STATUSES.len());
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < took_us);
        counters.by_status[status].fetch_add(1, Ordering::Relaxed);
        counters.by_latency[bucket].fetch_add(1, Ordering::Relaxed);
        counters.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }
}

/// Everything that is counted in this process.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Without the prefix.
    process: Registry,
    http: Arc<HttpCounters>,
}

/// What all workers count together.
#[derive(Debug, Default)]
pub(crate) struct HttpCounters {
    shards: Mutex<Vec<Arc<Shard>>>,
    connections: AtomicI64,
    connections_total: AtomicU64,
    connections_refused_total: AtomicU64,
    connections_sent_away_total: AtomicU64,
    heads_refused_total: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// With the counters of the HTTP surface, those of the process, and nothing else.
    pub fn new() -> Self {
        let (mut registry, mut process) = (Registry::with_prefix("rondo"), Registry::default());
        process.register_collector(Box::new(Process::starting()));
        let http = Arc::new(HttpCounters::default());
        registry.register_collector(Box::new(http.clone()));
        Self { registry: Mutex::new(registry), process, http }
    }

    /// Lets others add their metrics; names begin with `rondo_` by themselves.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    /// Adds a number that is read when it is asked for: a total that only grows.
    pub fn register_total(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.register(|registry| registry.register_collector(Box::new(Total { name, help, read })));
    }

    /// Adds a number that is read when it is asked for: a present state. `unit` is appended to the name.
    pub fn register_gauge(
        &self,
        name: &'static str,
        help: &'static str,
        unit: Option<Unit>,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.register(|registry| registry.register_collector(Box::new(Present { name, help, unit, read })));
    }

    /// Everything, in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let written = text::encode_registry(&mut text, &self.registry.lock())
            .and_then(|()| text::encode_registry(&mut text, &self.process))
            .and_then(|()| text::encode_eof(&mut text));
        written.expect("writing to a string cannot fail");
        text
    }

    /// Counters for one more worker.
    pub(crate) fn shard(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard::default());
        self.http.shards.lock().push(shard.clone());
        shard
    }

    /// How long requests on objects took so far: the upper bounds of the classes, and how many are in each; one class
    /// more has no bound.
    pub fn foreground(&self) -> (Vec<Duration>, Vec<u64>) {
        let mut counts = vec![0; BOUNDS_US.len() + 1];
        for shard in self.http.shards.lock().iter() {
            for counters in &shard.operations[..=Operation::Post as usize] {
                let classes = counters.by_latency.iter().map(|class| class.load(Ordering::Relaxed));
                counts.iter_mut().zip(classes).for_each(|(count, class)| *count += class);
            }
        }
        (BOUNDS_US.into_iter().map(Duration::from_micros).collect(), counts)
    }

    pub(crate) fn http(&self) -> &Arc<HttpCounters> {
        &self.http
    }
}

impl HttpCounters {
    /// A connection opened; it counts until the result is dropped.
    pub(crate) fn connected(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.connections_total.fetch_add(1, Ordering::Relaxed);
        Connected(self.clone())
    }

    /// One connection too many.
    pub(crate) fn refused(&self) {
        self.connections_refused_total.fetch_add(1, Ordering::Relaxed);
    }

    /// An idle connection that made room for another.
    pub(crate) fn sent_away(&self) {
        self.connections_sent_away_total.fetch_add(1, Ordering::Relaxed);
    }

    /// A head that was refused before it was a request.
    pub(crate) fn head_refused(&self) {
        self.heads_refused_total.fetch_add(1, Ordering::Relaxed);
    }

    fn sum(&self, read: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.lock().iter().map(|shard| read(shard).load(Ordering::Relaxed)).sum()
    }
}

/// See [`HttpCounters::connected`].
pub(crate) struct Connected(Arc<HttpCounters>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Collector for HttpCounters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let open = self.connections.load(Ordering::Relaxed);
        gauge(&mut encoder, "http_connections", "Client connections open now", None, open as f64)?;
        let opened = load(&self.connections_total);
        total(&mut encoder, "http_connections_opened", "Client connections accepted", opened)?;
        let refused = load(&self.connections_refused_total);
        total(&mut encoder, "http_connections_refused", "Client connections beyond the limit", refused)?;
        let away = load(&self.connections_sent_away_total);
        let help = "Idle client connections closed at the limit, for newcomers";
        total(&mut encoder, "http_connections_sent_away", help, away)?;
        let refused = load(&self.heads_refused_total);
        total(&mut encoder, "http_heads_refused", "Requests refused before their head had ended", refused)?;
        self.encode_requests(&mut encoder)?;
        self.encode_latencies(&mut encoder)
    }
}

impl HttpCounters {
    fn encode_requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Client requests answered, by operation and status";
        let mut family = encoder.encode_descriptor("http_requests", help, None, MetricType::Counter)?;
        for (operation, name) in OPERATIONS.iter().enumerate() {
            for status in 0..=STATUSES.len() {
                let count = self.sum(|shard| &shard.operations[operation].by_status[status]);
                if count == 0 {
                    continue;
                }
                let code = STATUSES.get(status).map_or_else(|| "other".to_owned(), u16::to_string);
                let labels = [("operation", *name), ("status", code.as_str())];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn encode_latencies(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Time from a request's head to its answer, by operation";
        let name = "http_request_duration";
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (operation, name) in OPERATIONS.iter().enumerate() {
            let bound = |index: usize| BOUNDS_US.get(index).map_or(f64::MAX, |us| *us as f64 / 1e6);
            let buckets: Vec<(f64, u64)> = (0..=BOUNDS_US.len())
                .map(|index| (bound(index), self.sum(|shard| &shard.operations[operation].by_latency[index])))
                .collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            if count == 0 {
                continue;
            }
            let sum_s = self.sum(|shard| &shard.operations[operation].sum_us) as f64 / 1e6;
            let labels = [("operation", *name)];
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum_s, count, &buckets, None)?;
        }
        Ok(())
    }
}

struct Total<F> {
    name: &'static str,
    help: &'static str,
    read: F,
}

struct Present<F> {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    read: F,
}

impl<F> Debug for Total<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<F> Debug for Present<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<F: Fn() -> u64 + Send + Sync + 'static> Collector for Total<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        total(&mut encoder, self.name, self.help, (self.read)())
    }
}

impl<F: Fn() -> f64 + Send + Sync + 'static> Collector for Present<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        gauge(&mut encoder, self.name, self.help, self.unit.as_ref(), (self.read)())
    }
}

/// What the storage engine counts.
pub(crate) fn encode_engine(encoder: &mut DescriptorEncoder<'_>, status: &EngineStatus) -> fmt::Result {
    for (name, help, value) in [
        ("engine_batches", "Batches written", status.batches_total),
        ("engine_groups", "Groups of batches written together", status.groups_total),
        ("engine_log_written_bytes", "Bytes written to the commit log", status.log_bytes_total),
        ("engine_fsyncs", "Waits for the disk", status.fsyncs_total),
        ("engine_flushes", "Memtables written to tables", status.flushes_total),
        ("engine_compactions", "Merges of tables", status.compactions_total),
        ("engine_stall_milliseconds", "Time the writer waited for flushes and compactions", status.stall_ms_total),
    ] {
        total(encoder, name, help, value)?;
    }
    let bytes = Some(&Unit::Bytes);
    for (name, help, unit, value) in [
        ("engine_memtable", "Size of the memtables", bytes, status.memtable_bytes),
        ("engine_log", "Size of the commit log", bytes, status.log_bytes),
        ("engine_tables", "Size of the tables", bytes, status.table_bytes),
        ("engine_queued_batches", "Batches waiting for the writer", None, status.queue_len as u64),
        ("engine_failing", "1 while writes fail", None, u64::from(status.failing)),
    ] {
        gauge(encoder, name, help, unit, value as f64)?;
    }
    Ok(())
}

/// A number that only grows.
pub(crate) fn total(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

/// A number that goes up and down.
pub(crate) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_operation_and_status_over_all_workers() {
        let metrics = Metrics::new();
        let (one, other) = (metrics.shard(), metrics.shard());
        one.record(Operation::Put, 204, Duration::from_micros(300));
        other.record(Operation::Put, 204, Duration::from_secs(2));
        other.record(Operation::Get, 418, Duration::from_secs(100));
        let text = metrics.render();
        for line in [
            r#"rondo_http_requests_total{operation="put",status="204"} 2"#,
            r#"rondo_http_requests_total{operation="get",status="other"} 1"#,
            r#"rondo_http_request_duration_seconds_bucket{le="0.0005",operation="put"} 1"#,
            r#"rondo_http_request_duration_seconds_bucket{le="+Inf",operation="put"} 2"#,
            r#"rondo_http_request_duration_seconds_count{operation="get"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn connections_count_while_they_last() {
        let metrics = Metrics::new();
        let open = metrics.http().connected();
        assert!(metrics.render().contains("rondo_http_connections 1"));
        drop(open);
        let text = metrics.render();
        assert!(text.contains("rondo_http_connections 0") && text.contains("rondo_http_connections_opened_total 1"));
    }

    #[test]
    fn others_add_theirs() {
        let metrics = Metrics::new();
        metrics.register_total("peer_messages", "Messages", || 7);
        metrics.register_gauge("disk_available", "Free", Some(Unit::Bytes), || 5.0);
        let text = metrics.render();
        for line in ["rondo_peer_messages_total 7", "rondo_disk_available_bytes 5.0"] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_process_goes_by_the_names_of_the_field() {
        let text = Metrics::new().render();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        assert!(value("process_cpu_seconds_total ").is_some_and(|seconds| seconds > 0.0), "{text}");
        assert!(value("process_start_time_seconds ").is_some_and(|seconds| seconds > 1.7e9), "{text}");
        assert_eq!(text.matches("# EOF").count(), 1);
    }

    #[test]
    fn statuses_and_bounds_are_in_order() {
        assert!(STATUSES.is_sorted() && BOUNDS_US.is_sorted());
        assert_eq!(OPERATIONS[Operation::Other as usize], "other");
    }
}
