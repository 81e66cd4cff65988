//! What must hold in every run, noted as it happens and judged at once where that is possible.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rondo_coordinator::{Failure, Now, Outcome, ReadAnswer, ReplicaRequest, Want, WriteAnswer};
use rondo_storage::Key;
use rondo_storage::versions::{CausalContext, Dot, Object};

use super::Node;

/// A write that some owner carried out in its store.
pub struct Coordinated {
    pub key: Key,
    /// Names the client's request: every one has its own.
    pub label: Bytes,
    pub deletes: bool,
    pub dot: Dot,
    pub replaces: CausalContext,
}

/// A client that waits for an answer.
struct Client {
    key: Key,
    deadline: Now,
    /// Of a write.
    label: Bytes,
    /// W of a write.
    required: u8,
    /// What a read must have seen.
    must_cover: Vec<Dot>,
    at_least: Option<CausalContext>,
}

/// A write a client was told is there.
pub struct Acknowledged {
    pub key: Key,
    pub label: Bytes,
    pub dot: Dot,
    pub required: u8,
}

#[derive(Default)]
pub struct Checks {
    clients: BTreeMap<u64, Client>,
    /// Their node was stopped: their answers may be late.
    stalled: BTreeSet<u64>,
    coordinated: Vec<Coordinated>,
    pub acknowledged: Vec<Acknowledged>,
    /// Labels that clients were told are nowhere.
    nowhere: BTreeSet<Bytes>,
    pub seen: Vec<(Key, CausalContext)>,
    pub damaged_nodes: usize,
    /// When requests were answered after they began, in ms, and with what.
    pub answers: Vec<(u64, Result<(), Failure>)>,
    begun_at: BTreeMap<u64, Now>,
    pub repairs: u64,
    pub hedges: u64,
    pub fetches: u64,
    pub forwards: u64,
    pub siblings: u64,
}

impl Checks {
    pub fn write_begins(&mut self, id: u64, key: &Key, label: &Bytes, required: u8, times: (Now, Now)) {
        self.begins(id, key, label.clone(), required, times, Vec::new(), None);
    }

    /// `r`: votes asked for; what must be covered is what was acknowledged with so many that the two overlap.
    pub fn read_begins(
        &mut self,
        id: u64,
        key: &Key,
        (r, n): (u8, u8),
        at_least: Option<CausalContext>,
        times: (Now, Now),
    ) {
        let overlaps = |a: &&Acknowledged| a.key == *key && a.required + r > n;
        let must_cover = self.acknowledged.iter().filter(overlaps).map(|a| a.dot).collect();
        self.begins(id, key, Bytes::new(), 0, times, must_cover, at_least);
    }

    #[allow(clippy::too_many_arguments)]
    fn begins(
        &mut self,
        id: u64,
        key: &Key,
        label: Bytes,
        required: u8,
        (now, deadline): (Now, Now),
        must_cover: Vec<Dot>,
        at_least: Option<CausalContext>,
    ) {
        self.begun_at.insert(id, now);
        let client = Client { key: key.clone(), deadline, label, required, must_cover, at_least };
        assert!(self.clients.insert(id, client).is_none());
    }

    pub fn clients_lost(&mut self, gone: &BTreeSet<u64>) {
        self.clients.retain(|id, _| !gone.contains(id));
    }

    pub fn clients_stalled(&mut self, stopped: &BTreeSet<u64>) {
        self.stalled.extend(stopped);
    }

    pub fn sent(&mut self, request: &ReplicaRequest) {
        match request {
            ReplicaRequest::Read { want: Want::Object, .. } => self.fetches += 1,
            ReplicaRequest::Forward(_) => self.forwards += 1,
            ReplicaRequest::Merge { .. }
            | ReplicaRequest::Read { want: Want::Digest | Want::Hinted, .. }
            | ReplicaRequest::Hint { .. }
            | ReplicaRequest::Deliver { .. }
            | ReplicaRequest::List(_) => {}
        }
    }

    pub fn coordinated(&mut self, write: Coordinated) {
        assert!(!self.nowhere.contains(&write.label), "C3: {:?} was said to be nowhere", write.label);
        self.coordinated.push(write);
    }

    pub fn committed(&self, object: &Object) {
        let mut labels = BTreeSet::new();
        for sibling in &object.siblings {
            let label = &sibling.metadata.content_type;
            assert!(labels.insert(label), "C1: two siblings of one request {label:?}");
            assert!(!self.nowhere.contains(label), "C3: {label:?} was said to be nowhere");
        }
    }

    /// C6: one answer for each client, in time.
    fn takes_answer(&mut self, id: u64, now: Now) -> Client {
        let client = self.clients.remove(&id).expect("C6: an answer for a client that has one already");
        assert!(self.stalled.contains(&id) || now <= client.deadline, "C6: answered after the deadline");
        client
    }

    fn note(&mut self, id: u64, now: Now, result: Result<(), Failure>) {
        let begun_at = self.begun_at[&id];
        self.answers.push(((now - begun_at).as_millis() as u64, result));
    }

    pub fn write_answered(
        &mut self,
        id: u64,
        now: Now,
        result: &Result<WriteAnswer, Failure>,
        nodes: &[Node],
        from_client: bool,
    ) {
        if let Ok(answer) = result {
            let holds = |node: &&Node| node.store.durable.values().any(|o| o.context.contains(answer.dot));
            let holders = nodes.iter().filter(holds).count() + self.damaged_nodes;
            assert!(holders >= usize::from(answer.acks), "C2: {} acks, {holders} holders", answer.acks);
        }
        if !from_client {
            return;
        }
        let client = self.takes_answer(id, now);
        self.note(id, now, result.as_ref().map(|_| ()).map_err(Clone::clone));
        match result {
            Ok(answer) => {
                assert!(answer.acks >= client.required, "C2");
                assert!(answer.context.contains(answer.dot));
                self.seen.push((client.key.clone(), answer.context.clone()));
                let Client { key, label, required, .. } = client;
                self.acknowledged.push(Acknowledged { key, label, dot: answer.dot, required });
            }
            Err(
                Failure::Unavailable { outcome: Outcome::Unknown, .. }
                | Failure::TimedOut { outcome: Outcome::Unknown, .. },
            ) => {}
            Err(_) => self.said_nowhere(&client.label, nodes),
        }
    }

    fn said_nowhere(&mut self, label: &Bytes, nodes: &[Node]) {
        let there = |o: &Object| o.siblings.iter().any(|s| s.metadata.content_type == *label);
        let found = nodes.iter().any(|node| node.store.durable.values().any(there));
        assert!(!found, "C3: {label:?} is said to be nowhere and is there");
        self.nowhere.insert(label.clone());
    }

    pub fn read_answered(&mut self, id: u64, now: Now, result: Result<ReadAnswer, Failure>) {
        let client = self.takes_answer(id, now);
        if let Ok(answer) = &result {
            self.committed(&answer.object);
            for dot in &client.must_cover {
                assert!(answer.object.context.contains(*dot), "R + W > N: {:?} lacks {dot:?}", client.key);
            }
            let covered = client.at_least.as_ref().is_none_or(|c| answer.object.context.covers(c));
            assert!(covered, "an answer older than what the client has seen");
            self.seen.push((client.key.clone(), answer.object.context.clone()));
        }
        self.note(id, now, result.map(|_| ()));
    }

    /// No acknowledged write is lost: what is not there any more was replaced by a write that had seen it.
    pub fn nothing_lost(&self, key: &Key, merged: &Object) {
        // What only the damaged node acknowledged may be gone with its row.
        let kept = |write: &&Acknowledged| write.key == *key && usize::from(write.required) > self.damaged_nodes;
        for write in self.acknowledged.iter().filter(kept) {
            assert!(merged.context.contains(write.dot), "{:?} is unknown to every replica", write.label);
            let mine: Vec<_> = self.coordinated.iter().filter(|c| c.label == write.label).collect();
            let there = merged.siblings.iter().any(|s| s.metadata.content_type == write.label);
            let replaced = self.coordinated.iter().any(|other| {
                other.key == *key && other.label != write.label && mine.iter().any(|c| other.replaces.contains(c.dot))
            });
            let deletes = mine.iter().any(|c| c.deletes);
            assert!(there || replaced || deletes, "{:?} was lost", write.label);
        }
    }

    pub fn no_client_waits(&self) {
        assert!(self.clients.is_empty(), "C6: a client without an answer");
    }
}
