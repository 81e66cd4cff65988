//! An exchange: both sides say that they are alive and what is new to them, and get back what they lack.

use rondo_ring::NodeId;

use super::Gossip;
use crate::bootstrap::Request;
use crate::members::Taken;
use crate::message::{Exchange, Message};
use crate::registry::Entry;
use crate::rumour::Rumour;

/// News of members in one exchange, in bytes.
const RUMOURS_BYTES_MAX: usize = 1_024;
/// News of the registry in one exchange, in bytes.
const ENTRIES_BYTES_MAX: usize = 8 << 10;
/// Records asked for, or given on request, at once.
pub(super) const RECORDS_MAX: usize = 128;

impl Gossip {
    pub(super) fn answer_exchange(&mut self, from: NodeId, exchange: Exchange) -> Message {
        let mut asked = exchange.wants.clone();
        // Of a newer start than the one that speaks: it must know that it is not the member any more (G11).
        let outdated = |held: &crate::NodeInfo| held.incarnation > exchange.stamp.incarnation;
        asked.extend(self.members.info(from).filter(|held| outdated(held)).map(|held| held.id));
        let wants = self.hear(from, exchange);
        if !self.members.this().serves() {
            return Message::Declined("still starting".into());
        }
        self.exchange(Some(from), &asked, wants)
    }

    /// The answer may ask for records, and tell of ones that are not here.
    pub(super) fn exchanged(&mut self, from: NodeId, request: &Request, said: &Exchange, exchange: Exchange) {
        let asked = exchange.wants.clone();
        if self.probes.contains_key(&from) {
            self.health.better();
        }
        let wants = self.hear(from, exchange);
        // Once: who could not give a record when it was asked for it cannot now.
        let wants = if said.wants.is_empty() { wants } else { Vec::new() };
        if !asked.is_empty() || !wants.is_empty() {
            let message = self.exchange(Some(from), &asked, wants);
            self.outbox.push(Request { address: request.address.clone(), node: Some(from), message });
        }
    }

    /// Takes what the other side says; what is lacking here to understand it.
    fn hear(&mut self, from: NodeId, exchange: Exchange) -> Vec<NodeId> {
        let mut wants = self.take_rumours(exchange.rumours);
        self.take_entries(exchange.entries);
        match self.members.info(from).map(crate::NodeInfo::stamp) {
            Some(held) if held >= exchange.stamp => {}
            _ if wants.contains(&from) => {}
            _ => wants.push(from),
        }
        self.members.set_disk(from, exchange.disk_used_bytes, exchange.disk_available_bytes);
        self.arrived(from);
        self.notice_difference(from, exchange.members, exchange.registry);
        wants.truncate(RECORDS_MAX);
        wants
    }

    /// Which records are lacking.
    pub(super) fn take_rumours(&mut self, rumours: Vec<Rumour>) -> Vec<NodeId> {
        let mut lacking = Vec::new();
        for rumour in rumours {
            let node = rumour.node;
            if node == self.members.this().id {
                if self.answer_for_oneself(&rumour) {
                    lacking.push(node);
                }
                continue;
            }
            match self.members.take(rumour) {
                Taken::Known => {}
                Taken::Lacking => lacking.push(node),
                Taken::Joined => {
                    self.expect(node);
                    self.rumours.push(node);
                }
                Taken::Renewed => {
                    self.cleared(node);
                    self.rumours.push(node);
                }
                Taken::Graver => {
                    self.rumours.push(node);
                    self.heard_accused(node);
                }
            }
        }
        lacking
    }

    /// What is said against this node, or of a later life of it, is outdone: its own word is the last (G7). But where
    /// another process has begun to serve as this node, with a newer start, this one is not the member any more (G11).
    /// Whether the record is lacking that would tell one from the other.
    pub(super) fn answer_for_oneself(&mut self, rumour: &Rumour) -> bool {
        let this = self.members.this();
        let held = this.stamp();
        let info = rumour.info.as_ref().filter(|info| info.id == this.id && info.stamp() == rumour.stamp);
        if let Some(info) = info
            && this.serves()
            && info.is_newer_start(this)
        {
            self.successor = Some(info.clone());
            return false;
        }
        if this.serves() && info.is_none() && rumour.stamp.incarnation > held.incarnation {
            return true;
        }
        // While it only starts, it is not there, and the others may say so.
        if rumour.stamp < held || !this.serves() || rumour.stamp == held && !rumour.is_grave() {
            return false;
        }
        self.members.change_this(|this| {
            this.incarnation = rumour.stamp.incarnation.max(held.incarnation);
            this.heartbeat = rumour.stamp.heartbeat.max(held.heartbeat) + 1;
        });
        self.rumours.push(self.members.this().id);
        if rumour.is_grave() {
            self.health.worse(1);
        }
        false
    }

    pub(super) fn take_entries(&mut self, entries: Vec<Entry>) {
        let Self { registry, incoming, .. } = self;
        let news = entries.into_iter().filter(|entry| registry.lacks(entry));
        incoming.extend(news.take(crate::Registry::ENTRIES_MAX));
    }

    /// What to say to a node (`None`: whoever is at a seed's address), with the records it asked for.
    pub(super) fn exchange(&mut self, to: Option<NodeId>, asked: &[NodeId], wants: Vec<NodeId>) -> Message {
        let this = self.members.this();
        let mut exchange = Exchange {
            stamp: this.stamp(),
            disk_used_bytes: this.disk_used_bytes,
            disk_available_bytes: this.disk_available_bytes,
            members: self.members.summary().total(),
            registry: self.registry.digest(),
            rumours: Vec::new(),
            entries: Vec::new(),
            wants,
        };
        exchange.rumours.extend(asked.iter().take(RECORDS_MAX).filter_map(|&node| self.members.rumour(node, true)));
        // Whoever is accused must hear of it from everyone it speaks to.
        let against = to.and_then(|to| self.members.rumour(to, false)).filter(Rumour::is_grave);
        exchange.rumours.extend(against);
        exchange.rumours.extend(self.news(to));
        exchange.entries = self.entry_news();
        Message::Exchange(Box::new(exchange))
    }

    fn news(&mut self, to: Option<NodeId>) -> Vec<Rumour> {
        if self.rumours.is_empty() {
            return Vec::new();
        }
        let (times, Self { members, rumours, .. }) = (self.times_told(), self);
        let rumour = |node: &NodeId| members.rumour(*node, false);
        let told = rumours.take(times, RUMOURS_BYTES_MAX, |node| rumour(node).map_or(0, |rumour| rumour.bytes()));
        told.iter().filter(|&&node| Some(node) != to).filter_map(rumour).collect()
    }

    fn entry_news(&mut self) -> Vec<Entry> {
        if self.entry_rumours.is_empty() {
            return Vec::new();
        }
        let (times, Self { registry, entry_rumours, .. }) = (self.times_told(), self);
        let bytes = |name: &String| registry.get(name).map_or(0, Entry::bytes);
        let told = entry_rumours.take(times, ENTRIES_BYTES_MAX, bytes);
        told.iter().filter_map(|name| registry.get(name)).cloned().collect()
    }
}
