//! What this process costs its machine, under the names that every Prometheus dashboard knows.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::time::{ClockId, clock_gettime};

/// Reads the system when it is asked. Where there is no `/proc`, memory and descriptors are left out.
#[derive(Debug)]
pub(crate) struct Process {
    started: SystemTime,
}

impl Process {
    /// The process that is just starting.
    pub(crate) fn starting() -> Self {
        Self { started: SystemTime::now() }
    }
}

/// Processor time of all threads of this process so far, user and system, in nanoseconds' resolution.
pub(crate) fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Without the one that this looks through.
fn open_descriptors() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let cpu = ConstCounter::new(cpu_time().as_secs_f64());
        let seconds = Some(&Unit::Seconds);
        let help = "Processor time, user and system";
        cpu.encode(encoder.encode_descriptor("process_cpu", help, seconds, cpu.metric_type())?)?;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let resident = resident_bytes().map(|bytes| bytes as f64);
        let descriptors = open_descriptors().map(|count| count as f64);
        for (name, help, unit, value) in [
            ("process_start_time", "Unix time of the start", seconds, Some(started)),
            ("process_resident_memory", "Memory that is in RAM", Some(&Unit::Bytes), resident),
            ("process_open_fds", "Open file descriptors", None, descriptors),
        ] {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_processor_time() {
        let before = cpu_time();
        let mut sum = 0_u64;
        while cpu_time() < before + Duration::from_millis(2) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0 && cpu_time() > before);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_open_file_and_its_bytes_are_seen() {
        let before = open_descriptors().unwrap();
        assert!(before >= 3 && resident_bytes().unwrap() > 1 << 20, "{before}");
    }
}
