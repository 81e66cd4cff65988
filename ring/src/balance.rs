//! Moving single units between nodes until every node holds what it should, with few moves.

use std::collections::VecDeque;

use crate::share::Share;

/// Something of which every node holds a number of units, one unit of a partition going from node to node at a time.
///
/// The permitted exchanges must be those of a flow network (a partition's choice is a matroid base): then a chain of
/// exchanges found by [`balance`] as a shortest path can be carried out link by link.
pub(crate) trait Exchange {
    /// Per node, what it should hold.
    fn shares(&self) -> &[Share];
    /// How much a node holds.
    fn load(&self, node: u16) -> usize;
    /// Whether a unit of any partition can be handed from one node to the other.
    fn possible(&self, from: u16, to: u16) -> bool;
    /// The partition whose unit is best handed from one node to the other, if there is any.
    fn best(&self, from: u16, to: u16) -> Option<u16>;
    /// Hands it over.
    fn hand_over(&mut self, partition: u16, from: u16, to: u16);
}

/// Brings every load between the floor and the ceiling of its share. Each step takes one unit from a node to another,
/// directly if possible, else over the shortest chain of nodes: the augmenting path of a maximum flow, so that what
/// can be balanced is balanced.
pub(crate) fn balance(units: &mut impl Exchange) {
    let over = |load: usize, share: &Share| load > share.ceil;
    let under = |load: usize, share: &Share| load < share.floor;
    while step(units, over, under) {}
    while step(units, over, |load, share| load < share.ceil) {}
    while step(units, |load, share| load > share.floor, under) {}
}

fn step<U: Exchange>(units: &mut U, source: fn(usize, &Share) -> bool, sink: fn(usize, &Share) -> bool) -> bool {
    let surplus = |node: u16| units.load(node) as f64 - units.shares()[usize::from(node)].exact;
    let select = |wanted: fn(usize, &Share) -> bool| -> Vec<u16> {
        let nodes = (0..units.shares().len() as u16).zip(units.shares());
        nodes.filter(|&(node, share)| wanted(units.load(node), share)).map(|(node, _)| node).collect()
    };
    let (mut sources, mut sinks) = (select(source), select(sink));
    if sources.is_empty() || sinks.is_empty() {
        return false;
    }
    sources.sort_by(|&a, &b| surplus(b).total_cmp(&surplus(a)));
    sinks.sort_by(|&a, &b| surplus(a).total_cmp(&surplus(b)));
    let first = sources[0];
    let direct = sinks.iter().find(|&&to| units.possible(first, to)).map(|&to| vec![(first, to)]);
    let chain = direct.unwrap_or_else(|| shortest_chain(units, &sources, &sinks));
    for &(from, to) in &chain {
        // As no shorter chain exists, no two links of it depend on each other: what was possible still is.
        let partition = units.best(from, to).expect("invariant: the links of a shortest chain are independent");
        units.hand_over(partition, from, to);
    }
    !chain.is_empty()
}

/// Breadth-first search from all sources at once; the links of the chain that ends in the first sink reached, the
/// last link first, or none.
fn shortest_chain(units: &impl Exchange, sources: &[u16], sinks: &[u16]) -> Vec<(u16, u16)> {
    let mut reached_from: Vec<Option<u16>> = vec![None; units.shares().len()];
    let mut unvisited: Vec<u16> = (0..units.shares().len() as u16).filter(|node| !sources.contains(node)).collect();
    let mut frontier: VecDeque<u16> = sources.iter().copied().collect();
    while let Some(from) = frontier.pop_front() {
        let reached: Vec<u16> = unvisited.iter().copied().filter(|&to| units.possible(from, to)).collect();
        unvisited.retain(|node| !reached.contains(node));
        for &to in &reached {
            reached_from[usize::from(to)] = Some(from);
            frontier.push_back(to);
        }
        if let Some(&sink) = sinks.iter().find(|sink| reached.contains(sink)) {
            let link = |to: u16| reached_from[usize::from(to)].map(|from| (from, to));
            return std::iter::successors(link(sink), |&(from, _)| link(from)).collect();
        }
    }
    Vec::new()
}
