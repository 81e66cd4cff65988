//! Drives the membership, as `node/src/server/membership/task.rs` does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rondo_gossip::{GossipOptions, Members, Message, NodeInfo};
use rondo_ring::{Liveness, NodeId, View};

use super::calls::Caller;
use super::packet::Body;
use crate::world::{Happens, World};

/// How often the membership looks at the clock.
const TICK: Duration = Duration::from_millis(100);
/// How long a message of the membership may take.
const CALL_LIMIT: Duration = Duration::from_secs(1);

/// Who is alive, as one process sees it.
#[derive(Debug)]
pub struct Membership {
    members: Members,
    /// As last published.
    states: BTreeMap<NodeId, Liveness>,
}

impl Membership {
    /// Of a process that starts.
    pub(crate) fn new(this: NodeInfo, all: Vec<NodeInfo>, now: Duration) -> Self {
        Self { members: Members::new(this, all, GossipOptions::default(), now), states: BTreeMap::new() }
    }
}

impl World {
    /// What a node says of itself at its so-manieth start.
    pub(crate) fn info(&self, node: usize, start: u64) -> NodeInfo {
        NodeInfo {
            id: self.nodes[node].id,
            name: format!("n{node}"),
            zone: self.setup.zone(node),
            weight: 1,
            peer_addr: format!("n{node}:7701"),
            client_addr: format!("n{node}:7700"),
            version: String::new(),
            incarnation: start,
            instance: start,
            start,
            disk_used_bytes: 0,
            disk_available_bytes: 0,
        }
    }

    pub(crate) fn membership_ticks(&mut self, node: usize) {
        let now = self.clock(node);
        let members = &mut self.nodes[node].running().membership.members;
        members.look(now);
        let due = members.due(now);
        let heartbeat = Message::Heartbeat { info: members.this().clone(), registry: 0 };
        for to in due {
            self.call(node, to, Body::Gossip(Box::new(heartbeat.clone())), Caller::Membership, now + CALL_LIMIT);
        }
        self.publish_view(node);
        self.at_node(self.now + TICK, node, Happens::Tick);
    }

    pub(crate) fn serve_gossip(&mut self, node: usize, from: usize, (call, life): (u64, u64), message: Message) {
        let now = self.clock(node);
        let members = &mut self.nodes[node].running().membership.members;
        if let Message::Heartbeat { info, .. } = message {
            members.heard(info, now);
            let heartbeat = Message::Heartbeat { info: members.this().clone(), registry: 0 };
            self.reply(node, from, (call, life), Body::Gossiped(Box::new(heartbeat)));
        }
    }

    /// `None`: there is no answer, and time tells.
    pub(crate) fn gossip_replied(&mut self, node: usize, _from: NodeId, _call: u64, message: Option<Message>) {
        let now = self.clock(node);
        if let Some(Message::Heartbeat { info, .. }) = message {
            self.nodes[node].running().membership.members.heard(info, now);
        }
    }

    /// A new view only where something changed.
    fn publish_view(&mut self, node: usize) {
        let states = self.states_seen_by(node);
        let (id, layout) = (self.nodes[node].id, self.layout.clone());
        let process = self.nodes[node].running();
        if states == process.membership.states {
            return;
        }
        for (of, state) in &states {
            let was = process.membership.states.get(of);
            if was.is_some() && *state == Liveness::Down && was != Some(state) {
                self.history.count("members called down");
            }
        }
        let process = self.nodes[node].running();
        process.view = Arc::new(View::new(id, layout, |of| states.get(&of).copied().unwrap_or(Liveness::Suspect)));
        process.membership.states = states;
    }

    fn states_seen_by(&self, node: usize) -> BTreeMap<NodeId, Liveness> {
        let now = self.clock(node);
        let Some(process) = &self.nodes[node].process else { return BTreeMap::new() };
        let state = |other: usize| {
            let id = self.nodes[other].id;
            let silence = process.membership.members.liveness(id, now);
            let suspect = other != node && self.is_suspect(node, id);
            (id, if suspect { silence.max(Liveness::Suspect) } else { silence })
        };
        (0..self.nodes.len()).map(state).collect()
    }
}
