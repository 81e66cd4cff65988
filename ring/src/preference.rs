//! Preference lists: the owners, then the nodes that stand in for them.

use std::cmp::Reverse;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::ids::NodeId;
use crate::layout::Member;
use crate::table::Owners;

/// The longest preference list: seven owners and as many stand-ins as a request could ever try.
pub(crate) const PREFERENCE_LIST_MAX: usize = 12;

/// All lists one after the other, each min(members, 12) long.
///
/// Fallbacks come by rendezvous hashing (Thaler and Ravishankar, 1998) of node and partition, so that a change of
/// the members moves few of them; among the nodes left, those in the zones that the list so far has least of.
pub(crate) fn preference_lists(members: &[Member], rows: &[Owners]) -> Vec<NodeId> {
    let length = members.len().min(PREFERENCE_LIST_MAX);
    let zones = zone_indexes(members);
    let keys: Vec<u64> = members.iter().map(|m| xxh3_64_with_seed(&m.id.0.to_be_bytes(), 0)).collect();
    let mut lists = Vec::with_capacity(rows.len() * length);
    for (partition, row) in rows.iter().enumerate() {
        let mut list = row.clone();
        let mut seen = vec![0_u8; zones.len()];
        list.iter().for_each(|&node| seen[zones[usize::from(node)]] += 1);
        let mut rest: Vec<(u64, u16)> = (0..members.len() as u16)
            .filter(|node| !row.contains(node))
            .map(|node| (score(keys[usize::from(node)], partition), node))
            .collect();
        while list.len() < length {
            let rank = |&(_, &(score, node)): &(usize, &(u64, u16))| (seen[zones[usize::from(node)]], Reverse(score));
            let Some((at, &(_, node))) = rest.iter().enumerate().min_by_key(rank) else { break };
            rest.swap_remove(at);
            seen[zones[usize::from(node)]] += 1;
            list.push(node);
        }
        lists.extend(list.iter().map(|&node| members[usize::from(node)].id));
    }
    lists
}

/// Per member, the number of its zone in order of the names.
pub(crate) fn zone_indexes(members: &[Member]) -> Vec<usize> {
    let mut names: Vec<&str> = members.iter().map(|m| m.zone.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    members.iter().map(|m| names.partition_point(|&zone| zone < m.zone.as_str())).collect()
}

/// The finaliser of SplitMix64 over both: a bijection of the sum, so that equal scores need equal keys.
fn score(key: u64, partition: usize) -> u64 {
    let mut mixed = key.wrapping_add((partition as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
