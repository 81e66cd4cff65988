//! What happened, in order: as a number to compare two runs, and as lines to read one.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Every event of a run goes through here. Equal runs have equal hashes; lines are kept only where they are wanted.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// One that keeps lines where they are wanted.
    #[must_use]
    pub fn new(readable: bool) -> Self {
        Self { hash: 0, events: 0, lines: readable.then(Vec::new) }
    }

    /// Something happened at `node`; `number` is what tells it from another event of its kind.
    pub fn event(&mut self, at: Duration, node: usize, kind: &'static str, number: u64, line: impl FnOnce() -> String) {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&(at.as_micros() as u64).to_le_bytes());
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        bytes[16..].copy_from_slice(&(node as u64).to_le_bytes());
        self.hash = xxh3_64_with_seed(kind.as_bytes(), xxh3_64_with_seed(&bytes, self.hash));
        self.events += 1;
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>10.6} n{node} {kind}: {}", at.as_secs_f64(), line()));
        }
    }

    /// Of everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The readable form; empty where none was wanted.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}
