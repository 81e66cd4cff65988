//! Delivers hints, as `node/src/server/handoff.rs` does.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rondo_antientropy::handoff::{Action, PAGE_BYTES_MAX, PAGE_ROWS_MAX, Parcel, Parcels, Reach, Sent};
use rondo_coordinator::{Refusal, ReplicaError, ReplicaReply, ReplicaRequest};
use rondo_ring::{Liveness, NodeId};
use rondo_storage::Key;
use rondo_storage::engine::Durability;

use super::calls::Caller;
use super::disk::Waits;
use super::packet::Body;
use crate::mutant::Mutant;
use crate::world::{Happens, World};

/// How often the machine looks round.
const LOOK: Duration = Duration::from_millis(100);
/// How long a target may take for one hint.
const SEND_LIMIT: Duration = Duration::from_secs(5);

impl World {
    pub(crate) fn look_at_hints(&mut self, node: usize) {
        let now = self.clock(node);
        if self.mutant != Mutant::KeepsHints {
            let process = self.nodes[node].running();
            // No hint of a run grows so old that it goes to anybody else.
            let reach = |target| match process.view.liveness(target) {
                Liveness::Up => Reach::Target,
                _ => Reach::None,
            };
            let targets: Vec<_> =
                process.store.hint_counts().into_iter().map(|(target, _)| (target, reach(target))).collect();
            let actions = process.handoff.look(&targets, now);
            self.carry_out_handoff(node, actions);
        }
        self.at_node(self.now + LOOK, node, Happens::Handoff);
    }

    fn carry_out_handoff(&mut self, node: usize, actions: Vec<Action>) {
        let now = self.clock(node);
        let mut left = VecDeque::from(actions);
        while let Some(action) = left.pop_front() {
            match action {
                Action::Read { target, after } => {
                    let page = self.parcels(node, target, after.as_deref());
                    left.extend(self.nodes[node].running().handoff.page(target, page, now));
                }
                Action::Send { target, parcel } => self.send_parcel(node, target, parcel),
                Action::Forget { target, row, digest } => {
                    let (store, done) = self.store_and_done(node, Waits::Forgotten(target));
                    let key = Key::from_row(row).ok();
                    if key.is_none_or(|key| store.forget_hint(target, &key, digest, done).is_err()) {
                        left.extend(self.nodes[node].running().handoff.forgotten(target, now));
                    }
                }
            }
        }
    }

    fn parcels(&mut self, node: usize, target: NodeId, after: Option<&[u8]>) -> Option<Parcels> {
        let replication = self.setup.replication();
        let process = self.nodes[node].running();
        let page = process.store.hint_page(target, after, PAGE_ROWS_MAX, PAGE_BYTES_MAX).ok()?;
        let owned = |key: &Key| process.view.owners(key.token(), replication).contains(&target);
        let there = process.view.liveness(target) == Liveness::Up;
        let hints = page.hints.into_iter().filter(|hint| there && owned(&hint.key));
        let parcel = |hint: rondo_storage::store::Hint| Parcel {
            row: hint.key.row().clone(),
            object: hint.object,
            digest: hint.digest,
            to: target,
        };
        Some(Parcels { parcels: hints.map(parcel).collect(), last: page.last, complete: page.complete })
    }

    fn send_parcel(&mut self, node: usize, target: NodeId, parcel: Parcel) {
        let now = self.clock(node);
        let Parcel { row, object, to, .. } = parcel;
        let Ok(key) = Key::from_row(row.clone()) else { return };
        if to == self.nodes[node].id {
            let (store, done) = self.store_and_done(node, Waits::Handed(target, row.clone()));
            if store.merge(&key, &object, Durability::Fsync, done).is_err() {
                self.handed(node, target, &row, Sent::Failed);
            }
            return;
        }
        self.history.count("hints sent");
        let body = Body::Replica(Box::new(ReplicaRequest::Deliver { key, object }));
        let call = self.call(node, to, body, Caller::Handoff, now + SEND_LIMIT);
        self.nodes[node].running().delivering.insert(call, (target, row));
    }

    pub(crate) fn parcel_arrived(&mut self, node: usize, call: u64, result: &Result<ReplicaReply, ReplicaError>) {
        let sent = match result {
            Ok(ReplicaReply::Merged) => Sent::Taken,
            Ok(ReplicaReply::Refused(Refusal::Busy)) => Sent::Busy,
            _ => Sent::Failed,
        };
        if let Some((target, row)) = self.nodes[node].running().delivering.remove(&call) {
            self.handed(node, target, &row, sent);
        }
    }

    pub(crate) fn handed(&mut self, node: usize, target: NodeId, row: &Bytes, sent: Sent) {
        let now = self.clock(node);
        let actions = self.nodes[node].running().handoff.sent(target, row, sent, now);
        self.carry_out_handoff(node, actions);
    }

    pub(crate) fn hint_forgotten(&mut self, node: usize, target: NodeId) {
        let now = self.clock(node);
        let actions = self.nodes[node].running().handoff.forgotten(target, now);
        self.carry_out_handoff(node, actions);
    }
}
