//! How large and how long, by environment variables. They begin with `BENCH_`: `RONDO_` is for the nodes.

use std::env;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Result;

/// The sizes of all measurements.
#[derive(Debug)]
pub(crate) struct Sizes {
    /// `BENCH_DURATION`: of one run.
    pub(crate) duration: String,
    /// `BENCH_WARMUP`: before each run.
    pub(crate) warmup: String,
    /// `BENCH_ROUNDS`: runs of each kind; the median counts.
    pub(crate) rounds: usize,
    /// `BENCH_CONNECTIONS`.
    pub(crate) connections: u16,
    /// `BENCH_KEYS`: of the comparisons, and the few of the growth.
    pub(crate) keys: u64,
    /// `BENCH_KEYS_MANY`: the many of the growth.
    pub(crate) keys_many: u64,
    /// `BENCH_OBJECTS`: of the memory.
    pub(crate) objects: u64,
    /// `BENCH_PORT`: the first of some hundred that have to be free.
    pub(crate) port: u16,
    /// `BENCH_DIR`: data goes under it. By default beside the programs, which is hardly ever a file system in memory.
    pub(crate) directory: PathBuf,
}

impl Sizes {
    pub(crate) fn from_environment() -> Result<Self> {
        let beside = env::current_exe()?.ancestors().nth(3).map(PathBuf::from);
        Ok(Self {
            duration: read("BENCH_DURATION", "10s")?,
            warmup: read("BENCH_WARMUP", "2s")?,
            rounds: read("BENCH_ROUNDS", "3")?,
            connections: read("BENCH_CONNECTIONS", "64")?,
            keys: read("BENCH_KEYS", "10000")?,
            keys_many: read("BENCH_KEYS_MANY", "10000000")?,
            objects: read("BENCH_OBJECTS", "1000000")?,
            port: read("BENCH_PORT", "17700")?,
            directory: env::var_os("BENCH_DIR").map(PathBuf::from).or(beside).ok_or("BENCH_DIR is needed")?,
        })
    }
}

fn read<T: FromStr>(name: &str, default: &str) -> Result<T> {
    let text = env::var(name).unwrap_or_else(|_| default.into());
    text.parse().map_err(|_| format!("{name}: {text:?} does not fit; the default is {default}").into())
}
