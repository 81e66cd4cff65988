//! What the tests of the engine share.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::sync::mpsc;

use bytes::Bytes;
use rondo_storage::engine::{Batch, Durability, Engine, EngineError, EngineOptions, Keyspace, Write};

/// Options under which a few hundred rows flush, compact and turn the log over many times.
pub(crate) fn tiny() -> EngineOptions {
    EngineOptions {
        cache_bytes: 1 << 20,
        memtable_bytes: 8 << 10,
        table_bytes: 16 << 10,
        log_segment_bytes: 16 << 10,
        log_bytes_max: 256 << 10,
        ..EngineOptions::default()
    }
}

/// A row to set.
pub(crate) fn put(keyspace: Keyspace, key: &str, value: &str) -> Write {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Write { keyspace, key: bytes(key), value: Some(bytes(value)) }
}

/// A row to remove.
pub(crate) fn del(keyspace: Keyspace, key: &str) -> Write {
    Write { value: None, ..put(keyspace, key, "") }
}

/// Writes a batch and waits until it is on disk.
pub(crate) fn commit<E: Engine + ?Sized>(engine: &E, batch: Batch) -> Result<(), EngineError> {
    commit_with(engine, batch, Durability::Fsync)
}

/// Writes a batch and waits for the answer.
pub(crate) fn commit_with<E: Engine + ?Sized>(
    engine: &E,
    batch: Batch,
    durability: Durability,
) -> Result<(), EngineError> {
    let (done, result) = mpsc::channel();
    let done = Box::new(move |outcome| done.send(outcome).expect("the test waits for the answer"));
    engine.submit(engine.generation(), batch, durability, done)?;
    result.recv().expect("every accepted batch is answered")
}

/// A number from the environment, for longer runs.
pub(crate) fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// xorshift: enough for choosing keys and places to damage.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Copies a directory with everything in it.
pub(crate) fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("the copy's place can be made");
    for entry in std::fs::read_dir(from).expect("the directory can be read") {
        let path = entry.expect("the directory can be read").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("the file can be copied");
        }
    }
}
