//! Anti-entropy of the two tables: rumours die out, and whoever missed one is found by the hash in the next exchange. Then
//! the hashes of the tables' parts are compared, then the rows of those that differ; only what one side lacks is sent.

use std::time::Duration;

use rondo_ring::NodeId;

use super::Gossip;
use super::exchange::RECORDS_MAX;
use crate::message::Message;
use crate::registry::EntryDigest;
use crate::rumour::Digest;

/// Between two comparisons of members begun by one node: most differences are news on their way and vanish by themselves.
const COMPARISON_INTERVAL: Duration = Duration::from_secs(1);
/// The same while this node has news to tell.
const COMPARISON_INTERVAL_BUSY: Duration = Duration::from_secs(5);
/// Between two comparisons of the registry, which is in force within a second everywhere.
const REGISTRY_COMPARISON_INTERVAL: Duration = Duration::from_millis(250);

impl Gossip {
    /// The hashes of the other node's tables, as it last said them.
    pub(super) fn notice_difference(&mut self, from: NodeId, members: u64, registry: u64) {
        let now = self.now();
        if members != self.members.summary().total() && now >= self.next_comparison {
            let interval = if self.rumours.is_empty() { COMPARISON_INTERVAL } else { COMPARISON_INTERVAL_BUSY };
            self.next_comparison = now + interval;
            self.send(from, Message::Summary(self.members.summary().hashes()));
        }
        let pending = !self.incoming.is_empty();
        if registry != self.registry.digest() && !pending && now >= self.next_registry_comparison {
            self.next_registry_comparison = now + REGISTRY_COMPARISON_INTERVAL;
            self.send(from, Message::RegistrySummary(self.registry.hashes()));
        }
    }

    pub(super) fn digests(&self, theirs: &[u64]) -> Message {
        let buckets = self.members.summary().differing(theirs);
        let digests = self.members.digests(&buckets);
        Message::Digests { buckets, digests }
    }

    pub(super) fn compare(&mut self, from: NodeId, buckets: &[u8], theirs: &[Digest]) {
        let (tell, mut ask) = self.members.compare(buckets, theirs);
        ask.truncate(RECORDS_MAX);
        if !tell.is_empty() || !ask.is_empty() {
            let message = self.exchange(Some(from), &tell, ask);
            self.send(from, message);
        }
    }

    pub(super) fn registry_digests(&self, theirs: &[u64]) -> Message {
        let (buckets, digests) = self.registry.digests(theirs);
        Message::RegistryDigests { buckets, digests }
    }

    pub(super) fn compare_registry(&mut self, from: NodeId, buckets: &[u8], theirs: &[EntryDigest]) {
        let (entries, wants) = self.registry.compare(buckets, theirs);
        if !entries.is_empty() || !wants.is_empty() {
            self.send(from, Message::Registry { entries, wants });
        }
    }
}
