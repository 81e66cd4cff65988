//! What an operator may set about the engine.

use serde::{Deserialize, Serialize};

use super::EngineError;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Options of the disk engine. Every size is in bytes, every time in milliseconds. The defaults suit a node with a
/// gigabyte of memory; [`EngineOptions::validate`] names the range of whatever is outside of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineOptions {
    /// Blocks of tables kept in memory, for all keyspaces together. 1 MiB to 1 TiB.
    pub cache_bytes: u64,
    /// A keyspace's memtable is written to a table when it reaches this. 4 KiB to 4 GiB. Each of the four keyspaces
    /// may hold one that fills and up to four that wait for the disk.
    pub memtable_bytes: u64,
    /// Tables are cut at about this size. 16 KiB to 4 GiB. Small ones make changes of the table list frequent, and
    /// readers wait for those.
    pub table_bytes: u64,
    /// Size of a commit log file. 16 KiB to 1 GiB. Files are written with zeros before use and used again.
    pub log_segment_bytes: u64,
    /// When the live commit log is longer, keyspaces that hold its oldest part back are written to tables: those with few
    /// writes, and those in which the same keys are written again and again. At least four segments; three times
    /// `memtable_bytes`, or memtables of new keys are written before they are full.
    pub log_bytes_max: u64,
    /// How long a write with `Durability::Interval` may stay out of reach of `fdatasync`. 1 to 60,000 ms.
    pub sync_interval_ms: u64,
    /// Batches waiting for the writer; one more is refused as busy. 1 to 65,536.
    pub queue_len: usize,
    /// Bytes of keys and values waiting for the writer; a batch beyond it is refused as busy, unless the queue is
    /// empty. 64 KiB to 4 GiB.
    pub queue_bytes: u64,
    /// Tables held open, each with two descriptors and one mapping. Of others every read takes the way over the disk's
    /// threads. 16 to 1,000,000.
    pub open_tables: usize,
    /// The longest a write waits for flushes and compactions that do nothing; ten times as long where they are at
    /// work. Beyond it the process ends: a node that is gone is healed around, one that hangs is not. 100 to
    /// 600,000 ms.
    pub stall_limit_ms: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 16 * MIB,
            memtable_bytes: 64 * MIB,
            table_bytes: 64 * MIB,
            log_segment_bytes: 16 * MIB,
            log_bytes_max: 192 * MIB,
            sync_interval_ms: 100,
            queue_len: 4_096,
            queue_bytes: 64 * MIB,
            open_tables: 512,
            stall_limit_ms: 10_000,
        }
    }
}

impl EngineOptions {
    /// Checks every range.
    ///
    /// # Errors
    /// [`EngineError::Unopenable`] with the name of the first option that is out of range and what is allowed.
    pub fn validate(&self) -> Result<(), EngineError> {
        between("cache_bytes", self.cache_bytes, MIB, 1024 * GIB)?;
        between("memtable_bytes", self.memtable_bytes, 4 * KIB, 4 * GIB)?;
        between("table_bytes", self.table_bytes, 16 * KIB, 4 * GIB)?;
        between("log_segment_bytes", self.log_segment_bytes, 16 * KIB, GIB)?;
        between("log_bytes_max", self.log_bytes_max, 4 * self.log_segment_bytes, 1024 * GIB)?;
        between("sync_interval_ms", self.sync_interval_ms, 1, 60_000)?;
        between("queue_len", self.queue_len as u64, 1, 65_536)?;
        between("queue_bytes", self.queue_bytes, 64 * KIB, 4 * GIB)?;
        between("open_tables", self.open_tables as u64, 16, 1_000_000)?;
        between("stall_limit_ms", self.stall_limit_ms, 100, 600_000)
    }

    /// Commit log files kept for use again: what two memtables fill. More become free at once where few keys are written
    /// again and again; to keep all of them made no difference (docs/decisions/0024).
    pub(super) fn spare_segments_max(&self) -> usize {
        usize::try_from(2 * self.memtable_bytes / self.log_segment_bytes).unwrap_or(usize::MAX).clamp(1, 8)
    }
}

fn between(name: &str, value: u64, low: u64, high: u64) -> Result<(), EngineError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(EngineError::Unopenable(format!("engine option {name} is {value}; allowed are {low} to {high}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed() {
        assert_eq!(EngineOptions::default().validate(), Ok(()));
    }

    #[test]
    fn an_option_out_of_range_is_named_with_what_is_allowed() {
        let options = EngineOptions { queue_len: 0, ..EngineOptions::default() };
        let text = options.validate().unwrap_err().to_string();
        assert!(text.contains("queue_len is 0; allowed are 1 to 65536"), "{text}");
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let error = serde_json::from_str::<EngineOptions>(r#"{"memtable": 1}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `memtable`"), "{error}");
    }
}
