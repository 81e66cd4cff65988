//! What a change of the members costs: the time to compute the next layout, and the partition replicas that are
//! copied for buckets with N = 3, 2 and 1.
//!
//! `cargo run --release -p rondo-ring --example layout_cost`
#![allow(clippy::print_stdout, reason = "prints a table")]
#![allow(clippy::disallowed_methods, reason = "measures time")]

use std::time::{Duration, Instant};

use rondo_ring::{Layout, LayoutError, Member, NodeId, PartitionCount, ReplicationFactor};

fn main() -> Result<(), LayoutError> {
    println!("Q = 16,384, N = 3; copies for buckets with N = 3, 2, 1");
    println!("{:>28} {:>12} {:>12} {:>22}", "cluster", "change", "time", "copies");
    changes("100 equal, one zone", 100, |_| ("zone".into(), 1))?;
    changes("100, half in one of 5 zones", 100, |i| (format!("zone-{}", if i % 2 == 0 { 0 } else { i % 5 }), 1))?;
    changes("100, weights 1 to 9, 5 zones", 100, |i| (format!("zone-{}", i % 5), 1 + i as u32 * 11 % 9))?;
    changes("500 equal, 7 zones", 500, |i| (format!("zone-{}", i % 7), 1))
}

/// Founds a cluster and shows what a join, a leave, a doubling and a halving cost.
fn changes(name: &str, nodes: u128, place: impl Fn(u128) -> (String, u32)) -> Result<(), LayoutError> {
    let members = |ids: std::ops::Range<u128>| -> Vec<Member> {
        let member = |i: u128| {
            let (zone, weight) = place(i);
            // An odd factor: ids that look random and are distinct.
            Member { id: NodeId(i.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)), zone, weight }
        };
        ids.map(member).collect()
    };
    let (q, n) = (PartitionCount::new(PartitionCount::MAX)?, ReplicationFactor::new(3)?);
    let (time, layout) = timed(|| Layout::found(members(0..nodes), q, n))?;
    println!("{name:>28} {:>12} {:>12}", "founding", format!("{time:.0?}"));
    let doubled = layout.successor(members(0..2 * nodes))?;
    let all = [
        ("join", &layout, 0..nodes + 1),
        ("leave", &layout, 1..nodes),
        ("double", &layout, 0..2 * nodes),
        ("halve", &doubled, 0..nodes),
    ];
    for (change, before, ids) in all {
        let (time, after) = timed(|| before.successor(members(ids)))?;
        let mut copies = Vec::new();
        for replicas in [3, 2, 1] {
            copies.push(before.moves_of_bucket(&after, ReplicationFactor::new(replicas)?).count());
        }
        println!("{:>28} {change:>12} {:>12} {:>22}", "", format!("{time:.0?}"), format!("{copies:?}"));
    }
    Ok(())
}

fn timed(make: impl FnOnce() -> Result<Layout, LayoutError>) -> Result<(Duration, Layout), LayoutError> {
    let start = Instant::now();
    let layout = make()?;
    Ok((start.elapsed(), layout))
}
