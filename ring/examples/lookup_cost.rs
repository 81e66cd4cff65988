//! What it costs to find the owners of a key: the token, the partition, the slice of the preference list. The lookup
//! returns borrowed slices; there is nothing in it that could allocate.
//!
//! `cargo run --release -p rondo-ring --example lookup_cost`
#![allow(clippy::print_stdout, reason = "prints a table")]
#![allow(clippy::disallowed_methods, reason = "measures time")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use rondo_ring::{Layout, LayoutError, Liveness, Member, NodeId, PartitionCount, ReplicationFactor, Token, View};

const LOOKUPS: u64 = 5_000_000;

fn main() -> Result<(), LayoutError> {
    let n = ReplicationFactor::new(3)?;
    println!("{:>8} {:>8} {:>16} {:>16} {:>16}", "nodes", "Q", "token (ns)", "owners (ns)", "by nearness (ns)");
    for (nodes, partitions) in [(3_u128, 256), (30, 1024), (100, 16_384)] {
        let member = |i: u128| Member { id: NodeId(i), zone: format!("zone-{}", i % 3), weight: 1 };
        let layout = Layout::found((0..nodes).map(member).collect(), PartitionCount::new(partitions)?, n)?;
        let view = View::new(NodeId(0), Arc::new(layout), |_| Liveness::Up);
        let key = |i: u64| Token::of(b"bucket", &i.to_be_bytes());
        // An odd multiple of the counter: tokens without the cost of hashing, and every partition in turn.
        let token = |i: u64| Token(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let hash = nanoseconds(key);
        let owners = nanoseconds(|i| view.owners(token(i), n));
        let nearness = nanoseconds(|i| view.owners_by_nearness(token(i), n));
        println!("{nodes:>8} {partitions:>8} {hash:>16.1} {owners:>16.1} {nearness:>16.1}");
    }
    Ok(())
}

/// Mean time of one call.
fn nanoseconds<T>(call: impl Fn(u64) -> T) -> f64 {
    let start = Instant::now();
    for i in 0..LOOKUPS {
        black_box(call(i));
    }
    start.elapsed().as_nanos() as f64 / LOOKUPS as f64
}
