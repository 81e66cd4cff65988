//! What the store and the peer lanes count, on the metrics page.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use rondo_storage::store::{Store, StoreStatus};

use crate::http::Metrics;
use crate::http::metrics::{encode_engine, gauge, total};
use crate::peers::{Cause, Lane, LaneCounters, Network};
use crate::server::disk::Disk;

/// A total of the store and how to read it.
type Total = (&'static str, &'static str, fn(&StoreStatus) -> u64);
/// A present state of the store and how to read it.
type Present = (&'static str, &'static str, fn(&StoreStatus) -> f64);
/// A total of a lane and how to read it.
type LaneTotal = (&'static str, &'static str, fn(&LaneCounters) -> u64);

const TOTALS: [Total; 11] = [
    ("store_updates", "Client writes queued", |s| s.updates_total),
    ("store_merges", "Replica writes queued", |s| s.merges_total),
    ("store_merges_unchanged", "Replica writes that brought nothing new", |s| s.merges_unchanged_total),
    ("store_write_failures", "Writes that failed after they were queued", |s| s.write_failures_total),
    ("store_too_many_siblings", "Client writes refused for their siblings", |s| s.too_many_siblings_total),
    ("store_conditions_failed", "Client writes refused for their conditions", |s| s.conditions_failed_total),
    ("store_damaged", "Times a row or a range was found damaged", |s| s.damaged_total),
    ("store_repaired", "Damaged rows replaced by a healthy object", |s| s.repaired_total),
    ("hints_kept", "Writes kept for nodes that were away, merged ones included", |s| s.hints_kept_total),
    ("hints_refused", "Writes for nodes that were away, not kept for want of room", |s| s.hints_refused_total),
    ("hints_delivered", "Hints removed after they were delivered", |s| s.hints_delivered_total),
];

const PRESENTS: [Present; 9] = [
    ("store_untrusted_partitions", "Partitions whose reads count for nothing yet", |s| s.untrusted_partitions as f64),
    ("store_quarantined_engines", "Engines that would not open and were moved aside", |s| s.quarantined_engines as f64),
    ("store_digests_ready", "Partitions whose Merkle tree is ready", |s| s.digests_ready as f64),
    ("store_pending_writes", "Writes queued and not yet durable", |s| s.pending_writes as f64),
    ("store_low_disk", "1 while writes are refused for lack of disk", |s| f64::from(u8::from(s.low_disk))),
    ("hints", "Writes kept for nodes that are away", |s| s.hints as f64),
    ("hints_bytes", "What they take", |s| s.hints_bytes as f64),
    ("disk_used_bytes", "What the engine's files take", |s| s.disk_used_bytes as f64),
    ("disk_available_bytes", "What the file system has left", |s| s.disk_available_bytes as f64),
];

const LANE_TOTALS: [LaneTotal; 7] = [
    ("peer_batches", "Batches of replica operations sent", |c| c.batches),
    ("peer_operations", "Replica operations sent", |c| c.ops),
    ("peer_sent_bytes", "Bytes of batches sent", |c| c.sent_bytes),
    ("peer_received_bytes", "Bytes of answers to batches", |c| c.received_bytes),
    ("peer_not_sent", "Operations that never left this node", |c| c.not_sent),
    ("peer_lost", "Operations whose connection broke before the reply", |c| c.lost),
    ("peer_timed_out", "Operations without a reply in time", |c| c.timed_out),
];

/// Adds them all.
pub fn register(metrics: &Metrics, store: &Arc<Store>, network: &Arc<Network>) {
    let (stored, peers) = (Stored(store.clone()), Peers(network.clone()));
    metrics.register(|registry| {
        registry.register_collector(Box::new(stored));
        registry.register_collector(Box::new(peers));
    });
}

/// Adds the count of reads that asked one owner more than they need; the drivers count.
pub fn register_hedges(metrics: &Metrics) -> Arc<AtomicU64> {
    let hedged_total = Arc::new(AtomicU64::new(0));
    let read = hedged_total.clone();
    let help = "Reads that asked one owner more because another was late";
    metrics.register_total("hedged_reads", help, move || read.load(Ordering::Relaxed));
    hedged_total
}

/// Adds what the threads that wait for the disk count.
pub fn register_disk(metrics: &Metrics, disk: &Arc<Disk>) {
    let (jobs, refused) = (disk.clone(), disk.clone());
    let help = "Reads and writes of keys that memory could not say enough of";
    metrics.register_total("disk_jobs", help, move || jobs.jobs_total());
    let help = "Those of them refused, because the disk was slow or too many waited for it";
    metrics.register_total("disk_jobs_refused", help, move || refused.refused_total());
}

/// The store and its engine: asked once for all they say.
struct Stored(Arc<Store>);

impl Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("store")
    }
}

impl Collector for Stored {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.0.status();
        for (name, help, read) in TOTALS {
            total(&mut encoder, name, help, read(&status))?;
        }
        for (name, help, read) in PRESENTS {
            gauge(&mut encoder, name, help, None, read(&status))?;
        }
        encode_engine(&mut encoder, &status.engine)
    }
}

/// Everything the lanes count, by node and lane.
struct Peers(Arc<Network>);

impl Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("peers")
    }
}

impl Collector for Peers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let peers = self.0.health().all();
        for (name, help, read) in LANE_TOTALS {
            let total = ConstCounter::new(0_u64);
            let mut family = encoder.encode_descriptor(name, help, None, total.metric_type())?;
            for (node, stats) in peers.iter() {
                for lane in Lane::ALL {
                    let labels = [("node", node.to_string()), ("lane", lane.name().to_string())];
                    let value = ConstCounter::new(read(&stats.counters(lane)));
                    value.encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let refused = ConstCounter::new(0_u64);
        let help = "Peer handshakes refused, by either side";
        let mut family = encoder.encode_descriptor("peer_refused", help, None, refused.metric_type())?;
        for cause in Cause::ALL {
            ConstCounter::new(self.0.refused(cause)).encode(family.encode_family(&[("cause", cause.name())])?)?;
        }
        Ok(())
    }
}
