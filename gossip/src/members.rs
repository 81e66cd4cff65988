//! The table of members: their records, and what is said against them. Tables that have heard the same are equal, in
//! whatever order they heard it (G4, G7).

use std::collections::{BTreeMap, BTreeSet};

use rondo_ring::NodeId;
use xxhash_rust::xxh3::xxh3_64;

use crate::node_info::{NodeInfo, Stamp};
use crate::rumour::{Digest, Rumour};
use crate::summary::Summary;

/// Most other members kept (G6).
pub const MEMBERS_MAX: usize = 4_096;
/// Parts of the table that are compared on their own.
const BUCKETS: usize = 32;
/// Accusers remembered of one zone, and of all: what matters is that there are two, and of two zones.
const ACCUSERS_PER_ZONE_MAX: usize = 2;
const ACCUSERS_MAX: usize = 8;
/// A node is down on the word of at least so many.
pub(crate) const SOURCES: usize = 2;

/// One other member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) info: NodeInfo,
    /// Who could not reach it in this life, in order of ids.
    pub(crate) accusers: Vec<NodeId>,
    /// Enough of them, for long enough.
    pub(crate) down: bool,
}

/// What a rumour was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nothing new.
    Known,
    /// It is about a record that is not here: to be asked for.
    Lacking,
    /// Of a member that was not known.
    Joined,
    /// A newer record, which clears the node of what was said.
    Renewed,
    /// Something more is said against it.
    Graver,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Members {
    this: NodeInfo,
    others: BTreeMap<NodeId, Member>,
    summary: Summary,
    /// Members whose records are not what they were when last asked.
    changed: BTreeSet<NodeId>,
}

fn row(info: &NodeInfo, down: bool) -> u64 {
    let Stamp { incarnation, heartbeat } = info.stamp();
    let numbers = [incarnation.to_le_bytes(), heartbeat.to_le_bytes(), u64::from(down).to_le_bytes()].concat();
    xxh3_64(&[&info.id.0.to_le_bytes()[..], &numbers].concat())
}

impl Members {
    /// `known`: the founding's members, or what was persisted since.
    pub fn new(this: NodeInfo, known: Vec<NodeInfo>) -> Self {
        let mut table =
            Self { this, others: BTreeMap::new(), summary: Summary::new(BUCKETS), changed: BTreeSet::new() };
        table.toggle(table.this.id);
        for info in known {
            if info.id == table.this.id {
                table.change_this(|this| {
                    // Of an earlier life of this node, or of a later one that this directory has forgotten.
                    this.incarnation = this.incarnation.max(info.incarnation);
                });
            } else {
                table.put(info, false);
            }
        }
        table.changed.clear();
        table
    }

    /// This node's own record.
    pub fn this(&self) -> &NodeInfo {
        &self.this
    }

    /// A record; this node's too.
    pub fn info(&self, node: NodeId) -> Option<&NodeInfo> {
        if node == self.this.id { Some(&self.this) } else { self.others.get(&node).map(|member| &member.info) }
    }

    /// All records, this node's included, in order of ids.
    pub fn infos(&self) -> Vec<NodeInfo> {
        let mut all: Vec<_> = self.others.values().map(|member| member.info.clone()).collect();
        all.push(self.this.clone());
        all.sort_by_key(|info| info.id);
        all
    }

    /// Whose records are not what they were when this was last asked.
    pub fn take_changed(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn others(&self) -> &BTreeMap<NodeId, Member> {
        &self.others
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Member> {
        self.others.get(&node)
    }

    /// With the summary kept right.
    pub(crate) fn change_this(&mut self, change: impl FnOnce(&mut NodeInfo)) {
        self.toggle(self.this.id);
        change(&mut self.this);
        self.toggle(self.this.id);
        self.changed.insert(self.this.id);
    }

    /// What a node reports of its disk, as often as it speaks: no part of what is compared.
    pub(crate) fn set_disk(&mut self, node: NodeId, used_bytes: u64, available_bytes: u64) {
        let info =
            if node == self.this.id { Some(&mut self.this) } else { self.others.get_mut(&node).map(|m| &mut m.info) };
        if let Some(info) = info {
            (info.disk_used_bytes, info.disk_available_bytes) = (used_bytes, available_bytes);
        }
    }

    pub(crate) fn zone(&self, node: NodeId) -> &str {
        self.info(node).map_or("", |info| &info.zone)
    }

    /// Takes what is said of another member. What is said of this node is not for the table.
    pub(crate) fn take(&mut self, rumour: Rumour) -> Taken {
        let Rumour { node, stamp, accusers, down, info } = rumour;
        let info = info.filter(|info| info.id == node && info.stamp() == stamp);
        let down = down && accusers.len() >= SOURCES;
        let held = self.others.get(&node).map(|member| member.info.stamp());
        let taken = match (held, info) {
            (Some(held), _) if stamp < held => return Taken::Known,
            (Some(held), _) if stamp == held => Taken::Known,
            (_, None) => return Taken::Lacking,
            (Some(_), Some(info)) => {
                // A node that has not begun to serve is no more alive than it was.
                let still_down = !info.serves() && self.others[&node].down;
                self.put(*info, still_down);
                Taken::Renewed
            }
            (None, Some(_)) if self.others.len() >= MEMBERS_MAX => return Taken::Known,
            (None, Some(info)) => {
                self.put(*info, false);
                Taken::Joined
            }
        };
        match self.accuse(node, &accusers) | (down && self.condemn(node)) {
            true if taken == Taken::Known => Taken::Graver,
            _ => taken,
        }
    }

    fn put(&mut self, info: NodeInfo, down: bool) {
        let node = info.id;
        self.toggle(node);
        self.others.insert(node, Member { info, accusers: Vec::new(), down });
        self.toggle(node);
        self.changed.insert(node);
    }

    fn toggle(&mut self, node: NodeId) {
        let row = match self.others.get(&node) {
            _ if node == self.this.id => row(&self.this, false),
            Some(member) => row(&member.info, member.down),
            None => return,
        };
        self.summary.toggle(&node.0.to_le_bytes(), row);
    }

    /// Adds accusers; whether that was news.
    pub(crate) fn accuse(&mut self, node: NodeId, accusers: &[NodeId]) -> bool {
        let Some(member) = self.others.get(&node) else { return false };
        let all: BTreeSet<_> = member.accusers.iter().chain(accusers).copied().filter(|&by| by != node).collect();
        let mut of_zone = BTreeMap::<&str, usize>::new();
        let mut kept = Vec::new();
        for by in all {
            let of_zone = of_zone.entry(self.zone(by)).or_default();
            if *of_zone < ACCUSERS_PER_ZONE_MAX && kept.len() < ACCUSERS_MAX {
                *of_zone += 1;
                kept.push(by);
            }
        }
        let news = kept != member.accusers;
        self.others.get_mut(&node).expect("it is there").accusers = kept;
        news
    }

    /// Calls it down; whether that was news.
    pub(crate) fn condemn(&mut self, node: NodeId) -> bool {
        if self.others.get(&node).is_none_or(|member| member.down) {
            return false;
        }
        self.toggle(node);
        self.others.get_mut(&node).expect("it is there").down = true;
        self.toggle(node);
        true
    }

    /// What to tell of a member: what is said against it, or its record.
    pub(crate) fn rumour(&self, node: NodeId, whole: bool) -> Option<Rumour> {
        if node == self.this.id {
            return Some(Rumour::of(self.this.clone()));
        }
        let Member { info, accusers, down } = self.others.get(&node)?;
        let grave = *down || !accusers.is_empty();
        let record = (whole || !grave).then(|| Box::new(info.clone()));
        Some(Rumour { node, stamp: info.stamp(), accusers: accusers.clone(), down: *down, info: record })
    }

    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The rows of some buckets.
    pub(crate) fn digests(&self, buckets: &[u8]) -> Vec<Digest> {
        let this = Digest { node: self.this.id, stamp: self.this.stamp(), down: false };
        let others = self.others.iter().map(|(&node, m)| Digest { node, stamp: m.info.stamp(), down: m.down });
        let of = |digest: &Digest| buckets.contains(&self.summary.bucket_of(&digest.node.0.to_le_bytes()));
        others.chain([this]).filter(of).collect()
    }

    /// Compares the rows of some buckets with another table's: whom to tell it of, and whom to ask it for.
    pub(crate) fn compare(&self, buckets: &[u8], theirs: &[Digest]) -> (Vec<NodeId>, Vec<NodeId>) {
        let order = |digest: &Digest| (digest.node, (digest.stamp, digest.down));
        let ours: BTreeMap<_, _> = self.digests(buckets).iter().map(order).collect();
        let theirs: BTreeMap<_, _> = theirs.iter().map(order).collect();
        let newer = |a: &BTreeMap<NodeId, _>, b: &BTreeMap<NodeId, _>| {
            a.iter().filter(|(node, held)| b.get(node).is_none_or(|other| other < *held)).map(|(&n, _)| n).collect()
        };
        (newer(&ours, &theirs), newer(&theirs, &ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(id: u128, incarnation: u64, zone: &str) -> NodeInfo {
        NodeInfo {
            id: NodeId(id),
            name: format!("n{id}"),
            zone: zone.into(),
            weight: 1,
            peer_addr: format!("host{id}:{incarnation}"),
            client_addr: String::new(),
            version: String::new(),
            incarnation,
            instance: 1,
            start: 1,
            disk_used_bytes: 0,
            disk_available_bytes: 0,
            heartbeat: 0,
        }
    }

    fn members() -> Members {
        Members::new(info(1, 1, "a"), (1..=4).map(|id| info(id, 1, if id < 3 { "a" } else { "b" })).collect())
    }

    fn against(node: u128, stamp: Stamp, accusers: &[u128], down: bool) -> Rumour {
        let accusers = accusers.iter().copied().map(NodeId).collect();
        Rumour { node: NodeId(node), stamp, accusers, down, info: None }
    }

    const FIRST: Stamp = Stamp { incarnation: 1, heartbeat: 0 };

    #[test]
    fn a_new_address_replaces_the_old_and_never_the_other_way() {
        let mut table = members();
        assert_eq!(table.take(Rumour::of(info(2, 5, "a"))), Taken::Renewed);
        assert_eq!(table.take(Rumour::of(info(2, 4, "a"))), Taken::Known, "a record of an earlier life");
        assert_eq!(table.take(Rumour::of(info(9, 5, "a"))), Taken::Joined);
        let addresses: Vec<_> = table.infos().iter().map(|info| info.peer_addr.clone()).collect();
        assert_eq!(addresses, ["host1:1", "host2:5", "host3:1", "host4:1", "host9:5"]);
        assert_eq!(table.take_changed(), [NodeId(2), NodeId(9)].into());
        assert!(table.take_changed().is_empty());
    }

    #[test]
    fn what_is_said_of_an_unknown_life_is_asked_for() {
        let mut table = members();
        assert_eq!(table.take(against(2, Stamp { heartbeat: 3, ..FIRST }, &[3, 4], true)), Taken::Lacking);
        assert!(!table.get(NodeId(2)).unwrap().down);
    }

    #[test]
    fn tables_that_heard_the_same_are_equal_whatever_the_order() {
        let alive = Rumour::of(NodeInfo { heartbeat: 1, ..info(2, 1, "a") });
        let said = [against(2, FIRST, &[3], false), against(2, FIRST, &[1, 4], true), alive];
        let heard = |order: [usize; 3]| {
            let mut table = members();
            for i in order {
                table.take(said[i].clone());
            }
            let member = table.get(NodeId(2)).unwrap().clone();
            (table.summary.total(), member.accusers, member.down)
        };
        let expected = heard([0, 1, 2]);
        assert!(expected.1.is_empty() && !expected.2, "its own word is the last");
        for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            assert_eq!(heard(order), expected, "{order:?}");
        }
    }

    #[test]
    fn one_accuser_is_not_enough_to_be_called_down() {
        let mut table = members();
        assert_eq!(table.take(against(2, FIRST, &[3], true)), Taken::Graver);
        assert!(!table.get(NodeId(2)).unwrap().down);
        assert_eq!(table.take(against(2, FIRST, &[2, 3], false)), Taken::Known, "nobody accuses himself");
        assert_eq!(table.take(against(2, FIRST, &[3, 4], true)), Taken::Graver);
        assert!(table.get(NodeId(2)).unwrap().down);
    }

    #[test]
    fn accusers_of_every_zone_are_remembered_and_their_number_is_bounded() {
        let known = (1..=100).map(|id| info(id, 1, if id == 100 { "far" } else { "near" })).collect();
        let mut table = Members::new(info(1, 1, "near"), known);
        table.accuse(NodeId(50), &(1..=100).map(NodeId).collect::<Vec<_>>());
        assert_eq!(table.get(NodeId(50)).unwrap().accusers, [NodeId(1), NodeId(2), NodeId(100)]);
    }

    #[test]
    fn a_node_that_only_starts_is_not_back() {
        let mut table = members();
        table.take(against(2, FIRST, &[3, 4], true));
        assert_eq!(table.take(Rumour::of(NodeInfo { start: 0, ..info(2, 2, "a") })), Taken::Renewed);
        let member = table.get(NodeId(2)).unwrap();
        assert!(member.down && member.info.peer_addr == "host2:2");
        table.take(Rumour::of(NodeInfo { heartbeat: 1, ..info(2, 2, "a") }));
        assert!(!table.get(NodeId(2)).unwrap().down);
    }

    #[test]
    fn a_comparison_finds_what_each_lacks() {
        let (mut one, mut two) = (members(), members());
        one.take(Rumour::of(info(7, 1, "a")));
        one.take(against(3, FIRST, &[2, 4], true));
        two.take(Rumour::of(info(2, 9, "a")));
        let differing = one.summary.differing(&two.summary.hashes());
        assert!(!differing.is_empty() && differing.len() <= 3);
        let (tell, ask) = one.compare(&differing, &two.digests(&differing));
        assert_eq!((tell, ask), (vec![NodeId(3), NodeId(7)], vec![NodeId(2)]));
        assert_eq!(one.compare(&differing, &one.digests(&differing)), (vec![], vec![]));
    }

    #[test]
    fn the_size_is_bounded() {
        let mut table = members();
        for id in 10..10 + MEMBERS_MAX as u128 {
            table.take(Rumour::of(info(id, 1, "a")));
        }
        assert_eq!(table.others().len(), MEMBERS_MAX);
    }
}
