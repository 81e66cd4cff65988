//! A replica's side, as `node/src/server/replica.rs` has it.

use rondo_coordinator::{ListQuery, Refusal, ReplicaReply, ReplicaRequest, ReplicaValue, Want};
use rondo_storage::Key;
use rondo_storage::engine::Durability;
use rondo_storage::store::Stored;
use rondo_storage::versions::{CausalContext, Object};

use super::disk::Waits;
use super::packet::Body;
use super::requests::AnswerTo;
use crate::mutant::Mutant;
use crate::world::World;

/// Most bytes of a page of a listing.
const PAGE_BYTES_MAX: usize = 512 << 10;
/// Writes in the queue above which a delivered hint is refused (`node/src/server/replica.rs`).
const BACKLOG_MAX: usize = 512;

impl World {
    pub(crate) fn serve_replica(
        &mut self,
        node: usize,
        from: usize,
        (call, life): (u64, u64),
        request: ReplicaRequest,
    ) {
        match request {
            ReplicaRequest::Merge { key, object, durability } => {
                self.serve_merge(node, from, (call, life), (&key, object, durability));
            }
            ReplicaRequest::Hint { target, key, object, durability } => {
                let (store, done) = self.store_and_done(node, Waits::Peer(from, call, life));
                if let Err(error) = store.keep_hint(target, &key, &object, durability, || Some(done)) {
                    let refused = ReplicaReply::to_merge(Err(error));
                    self.reply(node, from, (call, life), Body::Replied(Box::new(refused)));
                }
            }
            // The foreground first.
            ReplicaRequest::Deliver { .. } if self.nodes[node].running().store.backlog() > BACKLOG_MAX => {
                let refused = ReplicaReply::Refused(Refusal::Busy);
                self.reply(node, from, (call, life), Body::Replied(Box::new(refused)));
            }
            ReplicaRequest::Deliver { key, object } => {
                self.serve_merge(node, from, (call, life), (&key, object, Durability::Fsync));
            }
            ReplicaRequest::Read { key, want: Want::Hinted } => {
                let hinted = self.nodes[node].running().store.read_hinted(&key);
                let value = ReplicaValue::of(hinted.stored, Want::Hinted);
                self.reply(node, from, (call, life), Body::Replied(Box::new(ReplicaReply::Value(value))));
            }
            ReplicaRequest::Read { key, want } => {
                let value = self.value_of(node, &key, want);
                self.reply(node, from, (call, life), Body::Replied(Box::new(ReplicaReply::Value(value))));
            }
            ReplicaRequest::List(query) => {
                let page = self.page_of(node, &query).map_or_else(ReplicaReply::Refused, ReplicaReply::Listed);
                self.reply(node, from, (call, life), Body::Replied(Box::new(page)));
            }
            ReplicaRequest::Forward(write) => {
                let (age, now) = (self.nodes[node].pulse_age(self.now), self.clock(node));
                match write.into_request(age, now) {
                    Ok(request) => self.begin_write(node, request, AnswerTo::Peer(from, call, life)),
                    Err(refusal) => {
                        let refused = ReplicaReply::Refused(refusal);
                        self.reply(node, from, (call, life), Body::Replied(Box::new(refused)));
                    }
                }
            }
        }
    }

    fn serve_merge(
        &mut self,
        node: usize,
        from: usize,
        (call, life): (u64, u64),
        (key, mut object, durability): (&Key, bytes::Bytes, Durability),
    ) {
        if self.mutant == Mutant::ForgetsWhatWasReplaced
            && let Ok(decoded) = Object::decode(&object)
        {
            let mut bare = Object::default();
            bare.context = decoded.dots().collect::<CausalContext>();
            bare.siblings = decoded.siblings;
            object = bare.encode();
        }
        let (store, done) = self.store_and_done(node, Waits::Peer(from, call, life));
        if let Err(error) = store.merge(key, &object, durability, done) {
            let refused = ReplicaReply::to_merge(Err(error));
            self.reply(node, from, (call, life), Body::Replied(Box::new(refused)));
        }
    }

    fn value_of(&mut self, node: usize, key: &Key, want: Want) -> ReplicaValue {
        let store = self.nodes[node].running().store.clone();
        let mut stored = store.read(key);
        match (self.mutant, &stored) {
            (Mutant::FiltersTombstones, Stored::Found(envelope)) => {
                let object = Object::decode(envelope).unwrap_or_default();
                if object.siblings.iter().all(|sibling| sibling.value.is_none()) {
                    stored = Stored::Missing;
                }
            }
            (Mutant::MixesUpKeys, Stored::Found(_)) if self.random.chance(50) => {
                let other = self.random.index(self.setup.keys.len());
                stored = store.read(&self.setup.keys[other]);
            }
            _ => {}
        }
        ReplicaValue::of(stored, want)
    }

    pub(crate) fn page_of(
        &mut self,
        node: usize,
        query: &ListQuery,
    ) -> Result<Box<rondo_storage::store::ListPage>, Refusal> {
        let store = self.nodes[node].running().store.clone();
        let page = store.list(&query.range, query.rows_max as usize, PAGE_BYTES_MAX).map_err(|_| Refusal::Storage)?;
        let mut page = Box::new(page);
        if self.mutant == Mutant::ListsTooLittle {
            page.rows.pop();
        }
        Ok(page)
    }
}
