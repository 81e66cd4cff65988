//! `rondo dev --demo`: loses a node and gets over it. Every request is a real one and every step is checked.

mod repair;
mod steps;

use std::io::Cursor;

use self::steps::Demo;
use super::local::LocalCluster;
use super::transcript::Curl;
use crate::cli::failure::Failure;
use crate::cli::load::lines::{Lines, Record};
use crate::cli::output::print;

/// 500 records of the Debian package index, as `rondo load` takes them.
const PACKAGES: &[u8] = include_bytes!("../../../fixtures/packages.jsonl");
/// What they may be at most.
const VALUE_BYTES_MAX: u64 = 64 << 10;
/// Where they go.
const BUCKET: &str = "packages";
/// Fewer nodes cannot lose one and still have two.
const NODES_MIN: usize = 3;

/// Runs the demo. An error says which step failed.
pub(super) async fn run(cluster: &mut LocalCluster) -> Result<(), Failure> {
    if cluster.nodes.len() < NODES_MIN {
        return Err(Failure::Usage(format!("the demo needs at least {NODES_MIN} nodes")));
    }
    let curl = Curl::new(cluster);
    let records = packages()?.map(|record| record.map_err(|e| Failure::Failed(e.to_string())));
    let records: Vec<Record> = records.collect::<Result<_, _>>()?;
    let mut demo = Demo { cluster, curl, records, missed: Vec::new() };
    let result = demo.all().await;
    match result {
        Ok(()) => print("\nEvery step did what it should."),
        Err(Failure::Failed(why)) => Err(Failure::Failed(format!("the demo failed: {why}"))),
        other => other,
    }
}

fn packages() -> Result<Lines, Failure> {
    let lines = Lines::over("packages.jsonl", Box::new(Cursor::new(PACKAGES)), BUCKET, VALUE_BYTES_MAX);
    lines.map_err(|e| Failure::Failed(format!("packages.jsonl: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_are_good_ones() {
        assert_eq!(packages().unwrap().check().unwrap().records, 500);
    }
}
