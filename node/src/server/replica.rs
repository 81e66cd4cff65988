//! A replica's side: what another coordinator asks of this node's disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::message::Refusal;
use rondo_coordinator::{ForwardedWrite, ListQuery, ReplicaReply, ReplicaRequest, ReplicaValue, ReplyTo, Trace, Want};
use rondo_ring::View;
use rondo_storage::Key;
use rondo_storage::engine::{Durability, EngineError};
use rondo_storage::store::{Hinted, Merged, StoreDone, StoreError};

use crate::server::disk::{Merging, Reading};
use crate::server::drive::Driver;

/// With more batches waiting for the engine's writer no hint is taken: an eighth of what its queue holds by default.
const BACKLOG_MAX: usize = 512;

/// How long a forwarded write waited for a connection at its sender, which knew nothing of that when it said how much
/// time is left. Begun as if it had just been sent, it could come after the same write by another owner, and after
/// what has replaced that since.
pub fn queued(request: &ReplicaRequest, remaining: Duration) -> Duration {
    match request {
        ReplicaRequest::Forward(write) => Duration::from_millis(write.remaining_ms.into()).saturating_sub(remaining),
        ReplicaRequest::Merge { .. }
        | ReplicaRequest::Read { .. }
        | ReplicaRequest::List(_)
        | ReplicaRequest::Hint { .. }
        | ReplicaRequest::Deliver { .. } => Duration::ZERO,
    }
}

/// Serves one operation that was sent at most `age` ago; `reply` is called once, for a merge when it is durable.
pub fn serve(
    driver: &Arc<Driver>,
    view: Option<Arc<View>>,
    request: ReplicaRequest,
    age: Duration,
    trace: Option<Arc<Trace>>,
    reply: ReplyTo,
) {
    let Some(view) = view else { return reply(Ok(ReplicaReply::Refused(Refusal::Storage))) };
    match request {
        ReplicaRequest::Merge { key, object, durability } => merge(driver, key, object, durability, reply),
        ReplicaRequest::Hint { target, key, object, durability } => {
            let kept = move |result| reply(Ok(ReplicaReply::to_merge(result)));
            driver.disk.submit(Merging::hint(target, key, object, durability, kept));
        }
        // The foreground first: its sender has the hint safe, and comes again.
        ReplicaRequest::Deliver { .. } if driver.store.backlog() > BACKLOG_MAX => {
            reply(Ok(ReplicaReply::Refused(Refusal::Busy)));
        }
        ReplicaRequest::Deliver { key, object } => merge(driver, key, object, Durability::Fsync, reply),
        ReplicaRequest::Read { key, want: Want::Hinted } => {
            let value = |hinted: Hinted| ReplicaReply::Value(ReplicaValue::of(hinted.stored, Want::Hinted));
            driver.disk.submit(Reading::hinted(key, move |read: Result<_, _>| {
                reply(Ok(read.map_or(ReplicaReply::Refused(Refusal::Busy), value)));
            }));
        }
        ReplicaRequest::Read { key, want } => read(driver, key, want, reply),
        ReplicaRequest::List(query) => listed(driver.clone(), *query, reply),
        ReplicaRequest::Forward(write) => forwarded(driver, &view, *write, age, trace, reply),
    }
}

fn read(driver: &Driver, key: Key, want: Want, reply: ReplyTo) {
    let value = move |stored| ReplicaReply::Value(ReplicaValue::of(stored, want));
    match driver.store.try_read(&key) {
        Some(stored) => reply(Ok(value(stored))),
        None => driver.disk.submit(Reading::new(key, move |read: Result<_, _>| {
            reply(Ok(read.map_or(ReplicaReply::Refused(Refusal::Busy), value)));
        })),
    }
}

fn merge(driver: &Driver, key: Key, object: Bytes, durability: Durability, reply: ReplyTo) {
    // Either the store keeps `done`, or it refuses: the reply is shared between the two, and taken once.
    let reply = Arc::new(parking_lot::Mutex::new(Some(reply)));
    let done = || -> StoreDone {
        let later = reply.clone();
        Box::new(move |result: Result<(), EngineError>| answer(&later, result.map_err(StoreError::from)))
    };
    match driver.store.try_merge(&key, &object, durability, done) {
        Some(Ok(Merged::Queued | Merged::Unchanged)) => driver.acks.commit_soon(durability),
        Some(Err(error)) => answer(&reply, Err(error)),
        None => driver.disk.submit(Merging::new(key, object, durability, move |result| answer(&reply, result))),
    }
}

fn answer(reply: &parking_lot::Mutex<Option<ReplyTo>>, result: Result<(), StoreError>) {
    if let Some(reply) = reply.lock().take() {
        reply(Ok(ReplicaReply::to_merge(result)));
    }
}

fn listed(driver: Arc<Driver>, query: ListQuery, reply: ReplyTo) {
    tokio::spawn(async move {
        let page = driver.pages.read(&driver.store, query).await;
        reply(Ok(page.map_or_else(ReplicaReply::Refused, |page| ReplicaReply::Listed(Box::new(page)))));
    });
}

fn forwarded(
    driver: &Arc<Driver>,
    view: &View,
    write: ForwardedWrite,
    age: Duration,
    trace: Option<Arc<Trace>>,
    reply: ReplyTo,
) {
    match write.into_request(age, driver.clock.now()) {
        Err(refusal) => reply(Ok(ReplicaReply::Refused(refusal))),
        Ok(request) => {
            let writing = driver.write(request, view, trace);
            tokio::spawn(async { reply(Ok(ReplicaReply::Forwarded(writing.await))) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rondo_coordinator::{QuorumChoice, QuorumKind};
    use rondo_ring::ReplicationFactor;
    use rondo_storage::store::{BlindPut, Change};
    use rondo_storage::versions::{Conflict, Metadata};

    /// A write that lay in its sender's queue until the peer was back comes after the one another owner was asked for.
    #[test]
    fn what_waited_for_a_connection_is_as_old_as_that() {
        let change = Change {
            context: None,
            blind: BlindPut::Overwrite,
            conflict: Conflict::Siblings,
            condition: None,
            value: None,
            metadata: Metadata::default(),
            ttl: None,
            siblings_max: 100,
            durability: Durability::Fsync,
        };
        let write = ForwardedWrite {
            key: Key::new("b", "k").unwrap(),
            change,
            n: ReplicationFactor::new(3).unwrap(),
            w: QuorumChoice::Quorum,
            quorum: QuorumKind::Strict,
            remaining_ms: 5_000,
            start_within_ms: 400,
        };
        let request = ReplicaRequest::Forward(Box::new(write.clone()));
        let age = |remaining_ms| queued(&request, Duration::from_millis(remaining_ms));
        assert_eq!((age(5_000), age(4_601)), (Duration::ZERO, Duration::from_millis(399)));
        assert!(write.clone().into_request(age(4_601), Duration::ZERO).is_ok());
        assert_eq!(write.into_request(age(4_600), Duration::ZERO).unwrap_err(), Refusal::Expired);
    }
}
