//! The members of the formed cluster: their records, and when each was last heard.

use std::collections::BTreeMap;
use std::time::Duration;

use rondo_ring::{Liveness, NodeId};

use crate::node_info::NodeInfo;
use crate::options::GossipOptions;

/// One other member.
#[derive(Clone, Debug)]
struct Record {
    info: NodeInfo,
    /// When it was last heard; the start of this machine where it never was.
    heard: Duration,
    next_heartbeat: Duration,
}

/// The table. In this release its members are those of the founding.
#[derive(Clone, Debug)]
pub struct Members {
    this: NodeInfo,
    others: BTreeMap<NodeId, Record>,
    options: GossipOptions,
    /// When this node last looked, to know a pause of its own.
    looked: Duration,
}

impl Members {
    /// `known`: the founding's members, or what was persisted since.
    pub fn new(this: NodeInfo, known: Vec<NodeInfo>, options: GossipOptions, now: Duration) -> Self {
        let record = |info: NodeInfo| (info.id, Record { info, heard: now, next_heartbeat: now });
        let others = known.into_iter().filter(|info| info.id != this.id).map(record).collect();
        Self { this, others, options, looked: now }
    }

    /// This node's own record.
    pub fn this(&self) -> &NodeInfo {
        &self.this
    }

    /// Reports the state of this node's disk with the next heartbeats.
    pub fn set_disk(&mut self, used_bytes: u64, available_bytes: u64) {
        self.this.disk_used_bytes = used_bytes;
        self.this.disk_available_bytes = available_bytes;
    }

    /// This node has begun to serve: announced with its next heartbeats.
    pub fn begin(&mut self, instance: u64, start: u64) {
        (self.this.instance, self.this.start) = (instance, start);
        // An old copy of a directory begins above what the others saw of it.
        self.this.incarnation = self.this.incarnation.max(start);
    }

    /// All records, this node's included, in order of ids.
    pub fn infos(&self) -> Vec<NodeInfo> {
        let mut all: Vec<_> = self.others.values().map(|record| record.info.clone()).collect();
        all.push(self.this.clone());
        all.sort_by_key(|info| info.id);
        all
    }

    /// To be called with every tick, before anything is judged. A node that was itself stopped, or starved, has heard
    /// nobody meanwhile: that is no silence of theirs. Otherwise it would wake up with everybody down and fail what is
    /// asked of it (the idea of Lifeguard's local health, Dadgar et al., 2018).
    pub fn look(&mut self, now: Duration) {
        let away = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        if away >= Duration::from_millis(self.options.heartbeat_ms) {
            self.others.values_mut().for_each(|record| record.heard = now.min(record.heard + away));
        }
    }

    /// Those to whom a heartbeat is due, and marks them as spoken to.
    pub fn due(&mut self, now: Duration) -> Vec<NodeId> {
        let next = now + Duration::from_millis(self.options.heartbeat_ms);
        let due = self.others.iter_mut().filter(|(_, record)| record.next_heartbeat <= now);
        due.map(|(id, record)| {
            record.next_heartbeat = next;
            *id
        })
        .collect()
    }

    /// A member spoke. Whether its address or name changed, so that the record must be persisted; strangers and
    /// records of an earlier life are not taken (G4).
    pub fn heard(&mut self, info: NodeInfo, now: Duration) -> bool {
        let Some(record) = self.others.get_mut(&info.id) else { return false };
        record.heard = record.heard.max(now);
        self.learned(info)
    }

    /// The same at second hand: where a member is, and no sign of life.
    pub fn learned(&mut self, info: NodeInfo) -> bool {
        let Some(record) = self.others.get_mut(&info.id) else { return false };
        if info.incarnation < record.info.incarnation {
            return false;
        }
        let changed = info.incarnation > record.info.incarnation;
        record.info = info;
        changed
    }

    /// The other members that are not silent, in order of ids.
    pub fn up(&self, now: Duration) -> Vec<NodeId> {
        self.others.keys().copied().filter(|&id| self.liveness(id, now) == Liveness::Up).collect()
    }

    /// From silence alone; the caller adds what its requests say.
    pub fn liveness(&self, node: NodeId, now: Duration) -> Liveness {
        if node == self.this.id {
            return Liveness::Up;
        }
        let Some(record) = self.others.get(&node) else { return Liveness::Down };
        let silence_ms = now.saturating_sub(record.heard).as_millis() as u64;
        if silence_ms >= self.options.down_after_ms {
            Liveness::Down
        } else if silence_ms >= self.options.suspect_after_ms {
            Liveness::Suspect
        } else {
            Liveness::Up
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(id: u128, incarnation: u64) -> NodeInfo {
        NodeInfo {
            id: NodeId(id),
            name: format!("n{id}"),
            zone: "z".into(),
            weight: 1,
            peer_addr: format!("host{id}:{incarnation}"),
            client_addr: String::new(),
            version: String::new(),
            incarnation,
            instance: 0,
            start: 0,
            disk_used_bytes: 0,
            disk_available_bytes: 0,
        }
    }

    fn members() -> Members {
        Members::new(info(1, 1), vec![info(1, 1), info(2, 1), info(3, 1)], GossipOptions::default(), Duration::ZERO)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn silence_makes_suspect_then_down_and_a_word_makes_up() {
        let mut members = members();
        let states = |m: &Members, at| [2, 3].map(|id| m.liveness(NodeId(id), ms(at)));
        assert_eq!(states(&members, 899), [Liveness::Up; 2]);
        assert_eq!(states(&members, 900), [Liveness::Suspect; 2]);
        members.heard(info(3, 1), ms(4_000));
        assert_eq!(states(&members, 5_000), [Liveness::Down, Liveness::Suspect]);
        members.heard(info(2, 1), ms(5_001));
        assert_eq!(members.liveness(NodeId(2), ms(5_002)), Liveness::Up);
        assert_eq!(members.liveness(NodeId(1), ms(99_999)), Liveness::Up, "itself");
        assert_eq!(members.liveness(NodeId(9), ms(0)), Liveness::Down, "a stranger");
    }

    #[test]
    fn a_pause_of_its_own_is_no_silence_of_others() {
        let mut members = members();
        (1..=40).for_each(|tick| members.look(ms(100 * tick)));
        assert_eq!(members.liveness(NodeId(2), ms(4_000)), Liveness::Suspect, "it looked all the time");
        members.heard(info(3, 1), ms(4_000));
        members.look(ms(60_000));
        assert_eq!(members.liveness(NodeId(3), ms(60_000)), Liveness::Up);
        assert_eq!(members.liveness(NodeId(2), ms(60_000)), Liveness::Suspect, "as long as it was before");
        (1..=10).for_each(|tick| members.look(ms(60_000 + 100 * tick)));
        assert_eq!(members.liveness(NodeId(2), ms(61_000)), Liveness::Down, "what is dead is called so in the end");
    }

    #[test]
    fn a_new_address_replaces_the_old_and_never_the_other_way() {
        let mut members = members();
        assert!(members.heard(info(2, 5), ms(1)));
        assert!(!members.heard(info(2, 4), ms(2)), "a record of an earlier life");
        assert!(!members.heard(info(9, 5), ms(2)), "a stranger");
        assert_eq!(
            members.infos().iter().map(|i| i.peer_addr.as_str()).collect::<Vec<_>>(),
            ["host1:1", "host2:5", "host3:1"]
        );
    }

    #[test]
    fn an_address_at_second_hand_is_no_sign_of_life() {
        let mut members = members();
        assert!(members.learned(info(2, 5)));
        assert!(!members.learned(info(2, 5)), "known");
        assert!(!members.learned(info(9, 5)), "a stranger");
        assert_eq!(members.infos()[1].peer_addr, "host2:5");
        assert_eq!(members.liveness(NodeId(2), ms(900)), Liveness::Suspect);
        members.heard(info(3, 1), ms(900));
        assert_eq!(members.up(ms(900)), [NodeId(3)]);
    }

    #[test]
    fn heartbeats_are_due_once_an_interval() {
        let mut members = members();
        assert_eq!(members.due(ms(0)), [NodeId(2), NodeId(3)]);
        assert!(members.due(ms(299)).is_empty());
        assert_eq!(members.due(ms(300)).len(), 2);
    }
}
