//! The assignment function: members and the previous table in, the next table out.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::balance::balance;
use crate::layout::Member;
use crate::order;
use crate::share::{ROUNDING_TOLERANCE, Share, ZoneRules, shares};
use crate::table::{Owners, Table};

/// Up to this many members per replica every node may share partitions with every other.
const SMALL_CLUSTER: usize = 4;

/// How many times the founding layout deals out the members, each time in another order: once would give a node
/// about 2 (N − 1) neighbours, whose load grows much when it fails; each further deal adds as many.
const DEALS: usize = 2;

/// Deals for a small cluster, where the number of members bounds the neighbours anyway.
const DEALS_SMALL: usize = 8;

/// The table of a founding layout. `members` are sorted by id; each partition gets min(`n`, members) owners.
pub(crate) fn found(members: &[Member], partitions: usize, n: usize) -> Vec<Owners> {
    let rules = ZoneRules::new(members, n.min(members.len()));
    let shares = shares(members, &rules, partitions);
    let rows = deal(members, &rules, &shares, partitions);
    finish(Table::new(&rules, shares, rows))
}

/// The table after a change of members. `previous` names the owners as indexes into the new `members`; those that
/// left are missing (`None`).
pub(crate) fn succeed(members: &[Member], previous: &[Vec<Option<u16>>], n: usize) -> Vec<Owners> {
    let mut rules = ZoneRules::new(members, n.min(members.len()));
    let shares = shares(members, &rules, previous.len());
    rules.tighten(&shares, previous.len());
    let survivors: Vec<Owners> = previous.iter().map(|row| row.iter().flatten().copied().collect()).collect();
    let mut table = Table::new(&rules, shares, survivors);
    table.drop_disallowed();
    table.refill(previous);
    // First only what costs no copy: a place that is being refilled anyway can go to another node instead.
    table.permit_copies(false);
    balance(&mut table);
    table.permit_copies(true);
    finish(table)
}

/// Balances a table of complete, allowed rows and orders the owners in each.
fn finish(mut table: Table) -> Vec<Owners> {
    balance(&mut table);
    let (rules, mut rows) = table.into_rows();
    order::spread(rules, &mut rows);
    rows
}

/// McNaughton's wrap-around rule: every member's replicas in one run, the members of a zone side by side, the line
/// cut into `width` rows of equal length under each other; a column is a partition. A run is never longer than a row,
/// so no node meets itself in a column, and a zone's run covers each column as often as the rules allow. Nodes
/// share partitions only where their runs overlap: few neighbours.
///
/// The partitions are split into several such deals with different orders of the members.
fn deal(members: &[Member], rules: &ZoneRules, shares: &[Share], partitions: usize) -> Vec<Owners> {
    let small = members.len() <= SMALL_CLUSTER * rules.width();
    // Both numbers are powers of two: the deals are of equal size.
    let deals = if small { DEALS_SMALL } else { DEALS }.min(partitions);
    let length = partitions / deals;
    let line = replicas_in_line(rules, shares, partitions);
    let mut rows = Vec::with_capacity(partitions);
    for turn in 0..deals {
        // Every `deals`-th replica: each deal gets its part of every node and zone, rounded up or down.
        let mut dealt: Vec<u16> = line.iter().skip(turn).step_by(deals).copied().collect();
        dealt.sort_by_cached_key(|&node| {
            let member = &members[usize::from(node)];
            let zone = xxh3_64_with_seed(member.zone.as_bytes(), turn as u64);
            (zone, rules.zone_of(node), xxh3_64_with_seed(&member.id.0.to_be_bytes(), turn as u64), node)
        });
        for column in 0..length {
            let mut row: Owners = (0..rules.width()).map(|level| dealt[level * length + column]).collect();
            // A run lies in one row of the line: without turning, its node would always come at the same place.
            row.rotate_left(column % rules.width());
            rows.push(row);
        }
    }
    rows
}

/// All replicas, zone by zone and node by node, each node as often as its share says. Rounding the running total of
/// the fractions keeps both every node and every zone within one of its exact share.
fn replicas_in_line(rules: &ZoneRules, shares: &[Share], partitions: usize) -> Vec<u16> {
    let mut nodes: Vec<u16> = (0..shares.len() as u16).collect();
    nodes.sort_by_key(|&node| rules.zone_of(node));
    let mut line = Vec::with_capacity(rules.width() * partitions);
    let (mut fractions, mut rounded_up) = (0.0, 0);
    for node in nodes {
        let share = &shares[usize::from(node)];
        fractions += share.fraction();
        // The tolerance settles every half the same way, whatever the errors of the sum.
        let extra = (fractions + 0.5 + ROUNDING_TOLERANCE).floor() as usize - rounded_up;
        rounded_up += extra;
        line.extend(std::iter::repeat_n(node, share.floor + extra));
    }
    line
}
