//! Calls to other nodes: each ends exactly once, with a reply, a failure or its deadline (the port `Replicas`).

use std::collections::VecDeque;
use std::time::Duration;

use rondo_coordinator::{Event as Told, ListEvent, Now, ReplicaError, ReplicaReply};
use rondo_ring::NodeId;

use super::packet::{Body, Packet};
use crate::network::Fate;
use crate::world::{Event, Happens, World};

/// A batch that is unanswered for longer makes the peer suspect (`node/src/peers/options.rs`).
const SUSPECT_AFTER: Duration = Duration::from_millis(300);
/// Reads whose times are remembered of each peer.
const READS_MAX: usize = 64;
/// Fewer say nothing of its p95.
const READS_MIN: usize = 20;

/// One call that has not ended.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who was asked.
    pub to: NodeId,
    /// On the asking node's clock.
    pub began: Now,
    /// What waits for it.
    pub by: Caller,
}

/// What waits for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A read or a write.
    Machine(u64),
    /// A stream of a listing.
    List(u64, usize),
    /// The membership.
    Membership,
    /// The refill.
    Refill,
    /// An exchange.
    Exchange,
    /// The delivery of a hint.
    Handoff,
}

/// What a process knows of another node.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    last_success: Option<Now>,
    last_failure: Option<Now>,
    reads: VecDeque<Duration>,
}

impl Peer {
    /// Within which time it answers 95 of 100 reads.
    #[must_use]
    pub fn read_p95(&self) -> Option<Duration> {
        if self.reads.len() < READS_MIN {
            return None;
        }
        let mut times: Vec<_> = self.reads.iter().copied().collect();
        times.sort_unstable();
        Some(times[times.len() * 95 / 100])
    }

    fn succeeded(&mut self, now: Now) {
        self.last_success = Some(now);
    }

    fn failed(&mut self, now: Now) {
        self.last_failure = Some(now);
    }
}

impl World {
    /// Asks another node; `deadline` is on the asking node's clock. The number of the call.
    pub(crate) fn call(&mut self, node: usize, to: NodeId, body: Body, by: Caller, deadline: Now) -> u64 {
        let (call, began) = (self.serial(), self.clock(node));
        let process = self.nodes[node].running();
        process.calls.insert(call, Call { to, began, by });
        let (life, due) = (process.life, process.world_time(deadline));
        let overdue = Happens::Broke { call, error: ReplicaError::TimedOut };
        self.at_node(due, node, overdue);
        let to = self.index_of(to);
        let packet = Box::new(Packet { call, life, body });
        match self.network.fate(node, to, &self.rates, &mut self.random) {
            Fate::Lost => {}
            Fate::Arrives(after) if self.nodes[to].process.is_none() => {
                self.breaks(node, call, after, ReplicaError::NotSent);
            }
            Fate::Arrives(after) => self.at(self.now + after, Event::Arrives { from: node, to, packet }),
            Fate::Breaks { after, arrives } => {
                let lost = arrives.is_some() || self.random.chance(500);
                self.breaks(node, call, after, if lost { ReplicaError::Lost } else { ReplicaError::NotSent });
                if let Some(arrives) = arrives {
                    self.at(self.now + arrives, Event::Arrives { from: node, to, packet });
                }
            }
        }
        call
    }

    fn breaks(&mut self, node: usize, call: u64, after: Duration, error: ReplicaError) {
        self.at_node(self.now + after, node, Happens::Broke { call, error });
    }

    /// Answers a call of another node's process.
    pub(crate) fn reply(&mut self, node: usize, to: usize, (call, life): (u64, u64), body: Body) {
        let packet = Box::new(Packet { call, life, body });
        match self.network.fate(node, to, &self.rates, &mut self.random) {
            Fate::Lost => {}
            Fate::Arrives(after) => self.at(self.now + after, Event::Arrives { from: node, to, packet }),
            Fate::Breaks { after, .. } => {
                let broke = Happens::Broke { call, error: ReplicaError::Lost };
                self.at(self.now + after, Event::Process { node: to, life, what: broke });
            }
        }
    }

    /// A killed process's connections end at once; those of a machine without power do not.
    pub(crate) fn hang_up(&mut self, dead: usize) {
        let id = self.nodes[dead].id;
        for node in (0..self.nodes.len()).filter(|&node| node != dead) {
            let Some(process) = &self.nodes[node].process else { continue };
            let open: Vec<u64> = process.calls.iter().filter(|(_, call)| call.to == id).map(|(id, _)| *id).collect();
            for call in open {
                if let Fate::Arrives(after) = self.network.fate(dead, node, &self.rates, &mut self.random) {
                    self.breaks(node, call, after, ReplicaError::Lost);
                }
            }
        }
    }

    pub(crate) fn arrives(&mut self, from: usize, to: usize, packet: Packet) {
        let Packet { call, life, body } = packet;
        if self.nodes[to].process.is_none() {
            let broke = Happens::Broke { call, error: ReplicaError::Lost };
            return self.at(self.now, Event::Process { node: from, life, what: broke });
        }
        match body {
            Body::Replica(request) => self.serve_replica(to, from, (call, life), *request),
            Body::Gossip(message) => self.serve_gossip(to, from, (call, life), *message),
            Body::Page(request) => self.serve_page(to, from, (call, life), &request),
            Body::Question(question) => self.serve_question(to, from, (call, life), *question),
            Body::Replied(_) | Body::Gossiped(_) | Body::Paged(_) | Body::Answer(_)
                if self.nodes[to].life() != Some(life) => {}
            Body::Replied(reply) => self.call_ended(to, call, Ok(Body::Replied(reply))),
            body @ (Body::Gossiped(_) | Body::Paged(_) | Body::Answer(_)) => self.call_ended(to, call, Ok(body)),
        }
    }

    pub(crate) fn call_broke(&mut self, node: usize, call: u64, error: ReplicaError) {
        self.call_ended(node, call, Err(error));
    }

    fn call_ended(&mut self, node: usize, call: u64, result: Result<Body, ReplicaError>) {
        let now = self.clock(node);
        let process = self.nodes[node].running();
        let Some(Call { to, began, by }) = process.calls.remove(&call) else { return };
        let peer = process.peers.entry(to).or_default();
        match &result {
            Ok(body) => {
                peer.succeeded(now);
                if let Body::Replied(reply) = body
                    && matches!(**reply, ReplicaReply::Value(_))
                {
                    peer.reads.push_back(now.saturating_sub(began));
                    if peer.reads.len() > READS_MAX {
                        peer.reads.pop_front();
                    }
                }
            }
            Err(ReplicaError::TimedOut) => {}
            Err(ReplicaError::NotSent | ReplicaError::Lost) => peer.failed(now),
        }
        match (by, result) {
            (Caller::Machine(machine), Ok(Body::Replied(reply))) => {
                self.tell(node, machine, Told::Reply { from: to, result: Ok(*reply) });
            }
            (Caller::Machine(machine), Err(error)) => {
                self.tell(node, machine, Told::Reply { from: to, result: Err(error) });
            }
            (Caller::List(list, stream), result) => {
                let page = match result {
                    Ok(Body::Replied(reply)) => match *reply {
                        ReplicaReply::Listed(page) => Some(page),
                        _ => None,
                    },
                    _ => None,
                };
                self.tell_list(node, list, ListEvent::Page { stream, page });
            }
            (Caller::Membership, Ok(Body::Gossiped(message))) => self.gossip_replied(node, to, call, Some(*message)),
            (Caller::Membership, _) => self.gossip_replied(node, to, call, None),
            (Caller::Refill, Ok(Body::Paged(page))) => self.refill_was_answered(node, page.map(|page| *page)),
            (Caller::Refill, _) => self.refill_was_answered(node, None),
            (Caller::Exchange, Ok(Body::Answer(answer))) => self.round_was_answered(node, to, Some(*answer)),
            (Caller::Exchange, _) => self.round_was_answered(node, to, None),
            (Caller::Handoff, Ok(Body::Replied(reply))) => self.parcel_arrived(node, call, &Ok(*reply)),
            (Caller::Handoff, result) => {
                let error = result.err().unwrap_or(ReplicaError::Lost);
                self.parcel_arrived(node, call, &Err(error));
            }
            (Caller::Machine(_), Ok(_)) => unreachable!("a replica answers as a replica"),
        }
    }

    /// Something is overdue, or it failed and has not answered since (`node/src/peers/stats.rs`).
    pub(crate) fn is_suspect(&self, node: usize, of: NodeId) -> bool {
        let Some(process) = &self.nodes[node].process else { return false };
        let now = self.clock(node);
        let late = |call: &Call| call.to == of && now.saturating_sub(call.began) > SUSPECT_AFTER;
        let overdue = process.calls.values().any(|call| matches!(call.by, Caller::Machine(_)) && late(call));
        let failed = process.peers.get(&of).is_some_and(|peer| peer.last_failure > peer.last_success);
        overdue || failed
    }
}
