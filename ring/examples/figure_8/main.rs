//! Reproduces figure 8 of the Dynamo paper (SOSP 2007): how evenly its three placement strategies load 30 nodes with
//! N = 3, and how evenly the layout of this crate does. Run by `make figure-8`.
#![allow(clippy::print_stdout, reason = "prints a table")]

mod published;
mod simulation;

use simulation::{NODES, Random, arcs, efficiency, founded, mean_of_seeds, members, scatter};

/// Runs whose mean is shown.
const SEEDS: u64 = 20;

fn main() {
    println!("Load-balancing efficiency (mean load / maximal load), 30 nodes, N = 3; simulated (published)");
    println!("{:>8} {:>16} {:>16} {:>16} {:>16}", "tokens", "strategy 1", "strategy 2", "strategy 3", "Rondo");
    for point in published::FIGURE_8 {
        print_point(&point);
    }
    print_sizes();
    print_scatter();
}

fn print_point(point: &published::Point) {
    let tokens = point.tokens / NODES;
    let simulated = |strategy: fn(&mut Random, usize, usize) -> Vec<simulation::Arc>| {
        mean_of_seeds(SEEDS, |random| efficiency(&strategy(random, NODES, tokens), NODES))
    };
    let strategies = [simulation::strategy_1, simulation::strategy_2, simulation::strategy_3];
    let [one, two, three] = strategies.map(simulated);
    // The power of two next to the number of tokens, as far as this crate goes.
    let partitions = ((point.tokens as f64).log2().round().min(14.0).exp2()) as u16;
    let ours = efficiency(&arcs(&founded(members(NODES), partitions)), NODES);
    let [a, b, c] = point.strategies;
    let both = |simulated: f64, published: f64| format!("{simulated:.3} ({published:.3})");
    let (one, two, three) = (both(one, a), both(two, b), both(three, c));
    println!("{:>8} {one:>16} {two:>16} {three:>16} {:>16}", point.tokens, format!("{ours:.3} Q={partitions}"));
}

/// Loads are whole partitions: the mean rounded up is the least that the most loaded node can have.
fn print_sizes() {
    println!("\nRondo, N = 3, by number of equal nodes");
    println!("{:>8} {:>16} {:>16} {:>16} {:>16}", "nodes", "Q = 1,024", "best possible", "Q = 2,048", "best possible");
    let mut lowest = [(f64::INFINITY, 0); 2];
    for nodes in 5..=100 {
        let [a, b] = [1024_u16, 2048].map(|q| {
            let replicas = usize::from(q) * simulation::REPLICAS;
            let best = replicas as f64 / nodes as f64 / replicas.div_ceil(nodes) as f64;
            (efficiency(&arcs(&founded(members(nodes), q)), nodes), best)
        });
        for (lowest, reached) in lowest.iter_mut().zip([a.0, b.0]) {
            *lowest = if reached < lowest.0 { (reached, nodes) } else { *lowest };
        }
        if nodes <= 10 || nodes % 10 == 0 {
            println!("{nodes:>8} {:>16.3} {:>16.3} {:>16.3} {:>16.3}", a.0, a.1, b.0, b.1);
        }
    }
    let [(a, at_a), (b, at_b)] = lowest;
    println!("lowest of 5 to 100: {a:.3} at {at_a} nodes with Q = 1,024, {b:.3} at {at_b} nodes with Q = 2,048");
}

fn print_scatter() {
    const SIZE: usize = 60;
    let all = members(SIZE);
    let mut grown = founded(all[..3].to_vec(), 1024);
    for count in 4..=SIZE {
        grown = grown.successor(all[..count].to_vec()).expect("valid members");
    }
    let tokens = mean_of_seeds(3, |random| scatter(&simulation::strategy_1(random, SIZE, 256), SIZE));
    let greedy = mean_of_seeds(3, |random| scatter(&simulation::least_loaded(random, SIZE, 1024), SIZE));
    println!(
        "\nScatter (probability that two of 60 nodes share a partition; a double failure then costs a quorum), N = 3"
    );
    println!(
        "{:>48} {:>8.2}",
        "one token a node, replicas on the next nodes",
        scatter(&simulation::one_token(SIZE), SIZE)
    );
    println!("{:>48} {tokens:>8.2}", "256 random tokens a node");
    println!("{:>48} {greedy:>8.2}", "least-loaded table, Q = 1,024");
    println!("{:>48} {:>8.2}", "Rondo, founded with 60 nodes, Q = 1,024", scatter(&arcs(&founded(all, 1024)), SIZE));
    println!("{:>48} {:>8.2}", "Rondo, grown from 3 to 60 one by one", scatter(&arcs(&grown), SIZE));
    println!("{:>48} {:>8.3}", "its efficiency after that", efficiency(&arcs(&grown), SIZE));
}
