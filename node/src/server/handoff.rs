//! Drives the delivery of hints (`antientropy/src/handoff.rs`): this disk, the peers, the clock.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rondo_antientropy::Handoff;
use rondo_antientropy::handoff::{Action, PAGE_BYTES_MAX, PAGE_ROWS_MAX, Parcel, Parcels, Reach, Sent};
use rondo_antientropy::{OldestHint, OldestHintAge};
use rondo_coordinator::{Refusal, ReplicaError, ReplicaReply, ReplicaRequest, Replicas};
use rondo_ring::{Liveness, NodeId, View};
use rondo_storage::Key;
use rondo_storage::engine::{Durability, EngineError};
use rondo_storage::store::{Hint, Store, WallClock};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::peers::{Network, Peers};
use crate::server::buckets::Buckets;
use crate::server::membership::Membership;
use crate::server::time::{Clock, SystemClock};

/// How often the machine looks round without having been told anything: a returned node is told at once.
const LOOK: Duration = Duration::from_millis(100);
/// How long a target may take for one hint.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// What the machine is told. As much as travels or is read at one time: bounded by the machine (O2).
enum Told {
    Page(NodeId, Option<Parcels>),
    Sent(NodeId, Bytes, Sent),
    Forgotten(NodeId),
}

/// What it takes to deliver.
#[derive(Clone)]
pub(super) struct Delivering {
    pub(super) store: Arc<Store>,
    pub(super) membership: Membership,
    pub(super) buckets: Arc<Buckets>,
    pub(super) clock: Clock,
    /// Older hints go to another owner, if there is one, and are left to anti-entropy from there.
    pub(super) age_max: Duration,
}

/// For as long as the process lives.
pub(super) async fn deliver(with: Delivering, network: Arc<Network>) {
    let replicas = Peers::new(&network);
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut changes = with.membership.changes();
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut handoff = Handoff::default();
    loop {
        let mut actions = tokio::select! {
            biased;
            Some(event) = told.recv() => with.tell(&mut handoff, event),
            // Err: the task behind it has ended, and the process with it.
            _ = changes.changed() => with.look(&mut handoff),
            _ = ticks.tick() => with.look(&mut handoff),
        };
        while let Ok(event) = told.try_recv() {
            actions.extend(with.tell(&mut handoff, event));
        }
        with.carry_out(actions, &replicas, &tell);
    }
}

impl Delivering {
    fn tell(&self, handoff: &mut Handoff, event: Told) -> Vec<Action> {
        let now = self.clock.now();
        match event {
            Told::Page(target, page) => handoff.page(target, page, now),
            Told::Sent(target, row, sent) => handoff.sent(target, &row, sent, now),
            Told::Forgotten(target) => handoff.forgotten(target, now),
        }
    }

    fn look(&self, handoff: &mut Handoff) -> Vec<Action> {
        let counts = self.store.hint_counts();
        let published = self.membership.now();
        let Some(view) = &published.view else { return Vec::new() };
        let oldest_wanted_us = SystemClock.now_us().saturating_sub(self.age_max.as_micros() as u64);
        let reach = |target, oldest_us| match view.liveness(target) {
            Liveness::Up => Reach::Target,
            _ if oldest_us < oldest_wanted_us || !is_member(view, target) => Reach::Others,
            _ => Reach::None,
        };
        let targets: Vec<_> =
            counts.into_iter().map(|(target, kept)| (target, reach(target, kept.oldest_us))).collect();
        handoff.look(&targets, self.clock.now())
    }

    fn carry_out(&self, actions: Vec<Action>, replicas: &Peers, tell: &mpsc::UnboundedSender<Told>) {
        let mut forget = Vec::new();
        for action in actions {
            match action {
                Action::Read { target, after } => self.read(target, after, tell.clone()),
                Action::Send { target, parcel } => self.send(target, parcel, replicas, tell.clone()),
                Action::Forget { target, row, digest } => forget.push((target, row, digest)),
            }
        }
        if !forget.is_empty() {
            self.forget(forget, tell.clone());
        }
    }

    /// The control thread waits for no disk.
    fn read(&self, target: NodeId, after: Option<Bytes>, tell: mpsc::UnboundedSender<Told>) {
        let with = self.clone();
        spawn_blocking(move || {
            let page = with.store.hint_page(target, after.as_deref(), PAGE_ROWS_MAX, PAGE_BYTES_MAX);
            let page = page.inspect_err(|error| tracing::warn!(%error, %target, "hints could not be read")).ok();
            let view = with.membership.now().view.clone();
            let parcels = page.zip(view).map(|(page, view)| Parcels {
                parcels: page.hints.into_iter().filter_map(|hint| with.parcel(&view, target, hint)).collect(),
                last: page.last,
                complete: page.complete,
            });
            // Nobody hears it while the process ends.
            let _ = tell.send(Told::Page(target, parcels));
        });
    }

    /// To its target while that owns the key and is there. A hint that is too old for a target that is away, or whose
    /// target owns the key no more, goes to an owner: with that, it is where anti-entropy finds it. `None`: it stays.
    fn parcel(&self, view: &View, target: NodeId, hint: Hint) -> Option<Parcel> {
        let owners = view.owners(hint.key.token(), self.buckets.get(hint.key.bucket()).n);
        let is_owner = owners.contains(&target);
        let oldest_wanted_us = SystemClock.now_us().saturating_sub(self.age_max.as_micros() as u64);
        let to = match view.liveness(target) {
            Liveness::Up if is_owner => target,
            _ if is_owner && hint.since_us >= oldest_wanted_us => return None,
            _ if owners.contains(&view.this()) => view.this(),
            _ => owners.iter().copied().find(|&owner| view.liveness(owner) == Liveness::Up)?,
        };
        Some(Parcel { row: hint.key.row().clone(), object: hint.object, digest: hint.digest, to })
    }

    fn send(&self, target: NodeId, parcel: Parcel, replicas: &Peers, tell: mpsc::UnboundedSender<Told>) {
        let Parcel { row, object, to, .. } = parcel;
        let Ok(key) = Key::from_row(row.clone()) else { return };
        if self.membership.now().view.as_ref().is_some_and(|view| view.this() == to) {
            return self.merge(target, key, object, tell);
        }
        let reply = Box::new(move |result| {
            let _ = tell.send(Told::Sent(target, row, outcome(&result)));
        });
        replicas.send(to, ReplicaRequest::Deliver { key, object }, None, self.clock.now() + SEND_LIMIT, reply);
    }

    /// This node is an owner itself.
    fn merge(&self, target: NodeId, key: Key, object: Bytes, tell: mpsc::UnboundedSender<Told>) {
        let store = self.store.clone();
        spawn_blocking(move || {
            let (row, later) = (key.row().clone(), tell.clone());
            let done = Box::new(move |result: Result<(), _>| {
                let sent = if result.is_ok() { Sent::Taken } else { Sent::Failed };
                let _ = later.send(Told::Sent(target, row, sent));
            });
            if store.merge(&key, &object, Durability::Fsync, done).is_err() {
                let _ = tell.send(Told::Sent(target, key.row().clone(), Sent::Failed));
            }
        });
    }

    fn forget(&self, forget: Vec<(NodeId, Bytes, u64)>, tell: mpsc::UnboundedSender<Told>) {
        let store = self.store.clone();
        spawn_blocking(move || {
            for (target, row, digest) in forget {
                let later = tell.clone();
                let done = Box::new(move |_: Result<(), EngineError>| drop(later.send(Told::Forgotten(target))));
                let key = Key::from_row(row);
                let begun = key.ok().is_some_and(|key| store.forget_hint(target, &key, digest, done).is_ok());
                if !begun {
                    let _ = tell.send(Told::Forgotten(target));
                }
            }
        });
    }
}

fn is_member(view: &View, node: NodeId) -> bool {
    view.layout().members().iter().any(|member| member.id == node)
}

fn outcome(result: &Result<ReplicaReply, ReplicaError>) -> Sent {
    match result {
        Ok(ReplicaReply::Merged) => Sent::Taken,
        Ok(ReplicaReply::Refused(Refusal::Busy)) => Sent::Busy,
        _ => Sent::Failed,
    }
}

/// The answer to whoever wants to reap a tombstone.
pub(super) fn oldest(store: &Store, asked: OldestHint) -> OldestHintAge {
    let age_ms = |oldest_us| SystemClock.now_us().saturating_sub(oldest_us) / 1_000 + 1;
    OldestHintAge { age_ms: store.oldest_hint(asked.partition).map(age_ms) }
}
