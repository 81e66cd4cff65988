//! Drives the membership, as `node/src/server/membership/task.rs` does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rondo_gossip::bootstrap::Request;
use rondo_gossip::{Gossip, GossipOptions, Message, NodeInfo, Registry};
use rondo_ring::{Liveness, NodeId, View};

use super::calls::Caller;
use super::packet::Body;
use crate::world::{Happens, World};

/// How often the membership looks at the clock.
const TICK: Duration = Duration::from_millis(50);
/// How long a message of the membership may take.
const CALL_LIMIT: Duration = Duration::from_secs(1);

/// Who is alive, as one process sees it.
#[derive(Debug)]
pub struct Membership {
    gossip: Gossip,
    /// Requests without an answer, by call.
    asked: BTreeMap<u64, Request>,
    /// As last published.
    states: BTreeMap<NodeId, Liveness>,
}

impl Membership {
    /// Of a process that starts, and serves at once.
    pub(crate) fn new(this: NodeInfo, all: Vec<NodeInfo>, now: Duration, seed: u64) -> Self {
        let (instance, start) = (this.instance, this.start);
        let seeds = all.iter().map(|info| info.peer_addr.clone()).collect();
        let options = GossipOptions::default();
        let mut gossip = Gossip::new(this, all, Registry::default(), seeds, options, now, seed);
        gossip.begin(instance, start);
        Self { gossip, asked: BTreeMap::new(), states: BTreeMap::new() }
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
            peer_addr: address(node),
            client_addr: format!("n{node}:7700"),
            incarnation: start,
            instance: start,
            start,
            version: String::new(),
            disk_used_bytes: 0,
            disk_available_bytes: 0,
            heartbeat: 0,
        }
    }

    pub(crate) fn membership_ticks(&mut self, node: usize) {
        let now = self.clock(node);
        self.nodes[node].running().membership.gossip.tick(now);
        self.send_gossip(node);
        self.publish_view(node);
        self.at_node(self.now + TICK, node, Happens::Tick);
    }

    /// What the gossip has decided to ask.
    fn send_gossip(&mut self, node: usize) {
        let now = self.clock(node);
        let gossip = &mut self.nodes[node].running().membership.gossip;
        gossip.take_changed();
        gossip.take_incoming();
        for request in gossip.take_requests() {
            let by_address = (0..self.nodes.len()).find(|&other| address(other) == request.address);
            let to = request.node.or_else(|| by_address.map(|other| self.nodes[other].id));
            if let Some(to) = to.filter(|&to| to != self.nodes[node].id) {
                let body = Body::Gossip(Box::new(request.message.clone()));
                let call = self.call(node, to, body, Caller::Membership, now + CALL_LIMIT);
                self.nodes[node].running().membership.asked.insert(call, request);
            }
        }
    }

    pub(crate) fn serve_gossip(&mut self, node: usize, from: usize, (call, life): (u64, u64), message: Message) {
        let (now, from_id) = (self.clock(node), self.nodes[from].id);
        let answer = self.nodes[node].running().membership.gossip.handle(from_id, message, now);
        self.reply(node, from, (call, life), Body::Gossiped(Box::new(answer)));
        self.send_gossip(node);
    }

    /// `None`: there is no answer, and time tells.
    pub(crate) fn gossip_replied(&mut self, node: usize, from: NodeId, call: u64, message: Option<Message>) {
        let now = self.clock(node);
        let membership = &mut self.nodes[node].running().membership;
        let (Some(request), Some(message)) = (membership.asked.remove(&call), message) else { return };
        membership.gossip.reply(from, &request, message, now);
        self.send_gossip(node);
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
        process.view = Arc::new(View::new(id, layout, |of| states.get(&of).copied().unwrap_or(Liveness::Suspect)));
        process.membership.states = states;
    }

    fn states_seen_by(&self, node: usize) -> BTreeMap<NodeId, Liveness> {
        let now = self.clock(node);
        let Some(process) = &self.nodes[node].process else { return BTreeMap::new() };
        let state = |other: usize| {
            let id = self.nodes[other].id;
            let heard = process.membership.gossip.liveness(id, now);
            let suspect = other != node && self.is_suspect(node, id);
            (id, if suspect { heard.max(Liveness::Suspect) } else { heard })
        };
        (0..self.nodes.len()).map(state).collect()
    }
}

fn address(node: usize) -> String {
    format!("n{node}:7701")
}
