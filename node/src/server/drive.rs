//! Carries out what a coordinator machine asks for: the store here, the peers there, the clock.
//!
//! A request's machine runs where its client waits, and goes on in a task of its own after the answer (the third
//! replica, a repair) or when the client hangs up: nothing is left half-done.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rondo_coordinator::get::{Read, ReadRequest};
use rondo_coordinator::put::{Write, WriteRequest};
use rondo_coordinator::{
    Action, Actions, CoordinatorOptions, Event, Failure, HedgeBudget, Now, ReadAnswer, Replicas, Trace, WriteAnswer,
};
use rondo_ring::{NodeId, View};
use rondo_storage::store::{Hinted, Merged, Store, StoreDone, StoreError};
use smallvec::smallvec;

use crate::peers::Recent;
use crate::server::disk::{Disk, Merging, Reading, Updating};
use crate::server::mailbox::{Acknowledgements, Mailbox};
use crate::server::pages::Pages;
use crate::server::time::Clock;

/// What a machine's actions are carried out with. One per worker thread.
pub struct Driver {
    /// What this node holds.
    pub store: Arc<Store>,
    /// Waits for it where memory does not have it.
    pub disk: Arc<Disk>,
    /// The lanes to the other nodes.
    pub replicas: Arc<dyn Replicas + Send + Sync>,
    /// The monotonic clock.
    pub clock: Clock,
    /// Of the machines.
    pub options: CoordinatorOptions,
    /// This node's disk for listings.
    pub pages: Arc<Pages>,
    /// Of this worker's reads.
    pub hedges: HedgeBudget,
    /// Reads of all workers that asked one owner more than they need.
    pub hedged_total: Arc<AtomicU64>,
    /// How long this worker's writes took to be durable here.
    pub commits: Arc<Recent>,
    /// What the engine's writer says to this worker's machines.
    pub acks: Arc<Acknowledgements>,
}

/// The two kinds of machine, as their driver sees them.
trait Machine: Send + 'static {
    type Answer: Send + 'static;

    fn on_event(&mut self, event: Event, now: Now) -> Actions;
    fn is_finished(&self) -> bool;
    #[allow(clippy::result_large_err, reason = "an action that is no answer is only moved on")]
    /// Takes the action that answers this kind of request, gives back any other.
    fn answer(action: Action) -> Result<Result<Self::Answer, Failure>, Action>;
}

impl Machine for Write {
    type Answer = WriteAnswer;

    fn on_event(&mut self, event: Event, now: Now) -> Actions {
        Self::on_event(self, event, now)
    }

    fn is_finished(&self) -> bool {
        Self::is_finished(self)
    }

    #[allow(clippy::result_large_err, reason = "as in the trait")]
    fn answer(action: Action) -> Result<Result<WriteAnswer, Failure>, Action> {
        match action {
            Action::AnswerWrite(answer) => Ok(answer),
            other => Err(other),
        }
    }
}

impl Machine for Read {
    type Answer = ReadAnswer;

    fn on_event(&mut self, event: Event, now: Now) -> Actions {
        Self::on_event(self, event, now)
    }

    fn is_finished(&self) -> bool {
        Self::is_finished(self)
    }

    #[allow(clippy::result_large_err, reason = "as in the trait")]
    fn answer(action: Action) -> Result<Result<ReadAnswer, Failure>, Action> {
        match action {
            Action::AnswerRead(answer) => Ok(answer),
            other => Err(other),
        }
    }
}

impl Driver {
    /// A client's write, or one forwarded by another node. It has begun when this returns.
    pub fn write(
        self: &Arc<Self>,
        request: WriteRequest,
        view: &View,
        trace: Option<Arc<Trace>>,
    ) -> impl Future<Output = Result<WriteAnswer, Failure>> + Send + use<> {
        let now = self.clock.now();
        let (machine, actions) = Write::start(request, view, &self.options, now);
        self.run(machine, actions, trace, now)
    }

    /// A client's read. It has begun when this returns.
    pub fn read(
        self: &Arc<Self>,
        request: ReadRequest,
        view: &View,
        trace: Option<Arc<Trace>>,
    ) -> impl Future<Output = Result<ReadAnswer, Failure>> + Send + use<> {
        self.hedges.earn();
        let read_p95 = |node| self.replicas.read_p95(node);
        let now = self.clock.now();
        let (machine, actions) = Read::start(request, view, read_p95, &self.options, now);
        self.run(machine, actions, trace, now)
    }

    /// To go round a peer that answers nobody is no more work for the others than there is anyway: it costs no credit.
    fn may_hedge(&self, late: NodeId) -> bool {
        let may = self.replicas.is_silent(late) || self.hedges.spend();
        self.hedged_total.fetch_add(u64::from(may), Ordering::Relaxed);
        may
    }

    fn run<M: Machine>(
        self: &Arc<Self>,
        machine: M,
        actions: Actions,
        trace: Option<Arc<Trace>>,
        began: Now,
    ) -> impl Future<Output = Result<M::Answer, Failure>> + Send + use<M> {
        let (driver, mailbox) = (self.clone(), Arc::default());
        let mut running = Box::new(Running { driver, machine, trace, mailbox, answer: None, wake_at: None, began });
        running.carry_out(actions);
        Asking(Some(running)).answer()
    }
}

/// A machine whose client waits. What it still has to do afterwards, or when the client hangs up, goes on in a task.
///
/// It is boxed because hyper and tokio move the futures that it is in, as long as they can become at their longest.
struct Asking<M: Machine>(Option<Box<Running<M>>>);

impl<M: Machine> Asking<M> {
    async fn answer(mut self) -> Result<M::Answer, Failure> {
        let running = self.0.as_mut().expect("invariant: it is there until this is dropped");
        loop {
            if let Some(answer) = running.answer.take() {
                return answer;
            }
            running.step().await;
        }
    }
}

impl<M: Machine> Drop for Asking<M> {
    fn drop(&mut self) {
        if let Some(running) = self.0.take().filter(|running| !running.machine.is_finished()) {
            tokio::spawn(running.finish());
        }
    }
}

struct Running<M: Machine> {
    driver: Arc<Driver>,
    machine: M,
    trace: Option<Arc<Trace>>,
    mailbox: Arc<Mailbox>,
    answer: Option<Result<M::Answer, Failure>>,
    wake_at: Option<Now>,
    began: Now,
}

impl<M: Machine> Running<M> {
    async fn finish(mut self: Box<Self>) {
        while !self.machine.is_finished() {
            self.step().await;
        }
    }

    /// Waits for events, or for the time the machine wants to be woken at, and does what follows.
    async fn step(&mut self) {
        let events = poll_fn(|context| self.mailbox.poll_take(context));
        let events = match self.wake_at {
            None => events.await,
            Some(at) => match tokio::time::timeout_at(self.driver.clock.instant(at), events).await {
                Ok(events) => events,
                Err(_) => {
                    self.wake_at = None;
                    smallvec![Event::Wake]
                }
            },
        };
        for event in events {
            let now = self.driver.clock.now();
            if matches!(event, Event::Durable(Ok(()))) {
                self.driver.commits.record(now, now.saturating_sub(self.began), 1);
            }
            let actions = self.machine.on_event(event, now);
            self.carry_out(actions);
        }
    }

    fn carry_out(&mut self, actions: Actions) {
        for action in actions {
            match M::answer(action) {
                Ok(answer) => self.answer = Some(answer),
                Err(action) => self.act(action),
            }
        }
    }

    /// Says something to this machine from another thread, together with what is said to others.
    fn later(&self) -> impl FnOnce(Event) + Send + use<M> {
        let (acks, mailbox) = (self.driver.acks.clone(), self.mailbox.clone());
        move |event| acks.tell(mailbox, event)
    }

    fn act(&mut self, action: Action) {
        let mailbox = self.mailbox.clone();
        let tell = move |event| mailbox.put(event);
        match action {
            Action::UpdateHere { key, change, hint_for } => {
                let done = || -> StoreDone {
                    let later = self.later();
                    Box::new(move |result| later(Event::Durable(result)))
                };
                match self.driver.store.try_update_beside(&key, &change, &hint_for, done) {
                    Some(updated) => {
                        self.mailbox.put_first(Event::Updated(updated));
                        self.driver.acks.commit_soon(change.durability);
                    }
                    None => {
                        let (later, after) = (self.later(), self.later());
                        let updated = move |updated| later(Event::Updated(updated));
                        let durable = move |result| after(Event::Durable(result));
                        self.driver.disk.submit(Updating::new(key, change, hint_for, updated, durable));
                    }
                }
            }
            Action::UpdateHints { key, change, hint_for } => {
                let (later, after) = (self.later(), self.later());
                let updated = move |updated| later(Event::Updated(updated));
                let durable = move |result| after(Event::Durable(result));
                self.driver.disk.submit(Updating::hints(key, change, hint_for, updated, durable));
            }
            Action::HintHere { target, key, object, durability } => {
                let later = self.later();
                let kept = move |result| later(Event::Hinted(result));
                self.driver.disk.submit(Merging::hint(target, key, object, durability, kept));
            }
            Action::ReadHintsHere { key } => {
                let later = self.later();
                let read = move |read: Result<Hinted, _>| {
                    later(read.map_or(Event::NotReadHere, |hinted| Event::ReadHere(hinted.stored)));
                };
                self.driver.disk.submit(Reading::hinted(key, read));
            }
            Action::MergeHere { key, object, durability } => {
                let done = || -> StoreDone {
                    let later = self.later();
                    Box::new(move |result| later(Event::MergedHere(result.map_err(StoreError::from))))
                };
                match self.driver.store.try_merge(&key, &object, durability, done) {
                    Some(Ok(Merged::Queued | Merged::Unchanged)) => self.driver.acks.commit_soon(durability),
                    Some(Err(error)) => tell(Event::MergedHere(Err(error))),
                    None => {
                        let later = self.later();
                        let merged = move |result| later(Event::MergedHere(result));
                        self.driver.disk.submit(Merging::new(key, object, durability, merged));
                    }
                }
            }
            Action::ReadHere { key } => match self.driver.store.try_read(&key) {
                Some(stored) => tell(Event::ReadHere(stored)),
                None => {
                    let later = self.later();
                    let read = move |read: Result<_, _>| later(read.map_or(Event::NotReadHere, Event::ReadHere));
                    self.driver.disk.submit(Reading::new(key, read));
                }
            },
            Action::Send { to, request, deadline } => {
                let reply = Box::new(move |result| tell(Event::Reply { from: to, result }));
                self.driver.replicas.send(to, request, self.trace.as_deref(), deadline, reply);
            }
            Action::MayHedge { late } => tell(Event::MayHedge(self.driver.may_hedge(late))),
            Action::WakeAt(at) => self.wake_at = Some(at),
            Action::AnswerWrite(_) | Action::AnswerRead(_) => {
                unreachable!("a write machine answers writes, a read machine reads")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::time::SystemClock;
    use rondo_coordinator::{Origin, QuorumChoice, QuorumKind, ReplicaRequest, ReplyTo};
    use rondo_ring::{Layout, Liveness, Member, PartitionCount, ReplicationFactor};
    use rondo_storage::Key;
    use rondo_storage::engine::MemoryEngine;
    use rondo_storage::versions::ActorId;
    use std::num::NonZeroU64;
    use std::time::Duration;

    struct Nobody;

    impl Replicas for Nobody {
        fn send(&self, to: NodeId, _: ReplicaRequest, _: Option<&Trace>, _: Now, _: ReplyTo) {
            panic!("{to:?} is nobody");
        }

        fn read_p95(&self, _: NodeId) -> Option<Duration> {
            None
        }

        fn is_silent(&self, _: NodeId) -> bool {
            false
        }
    }

    /// The memory engine acknowledges before `update` returns, as the disk's writer may.
    #[tokio::test]
    async fn an_acknowledgement_that_overtakes_its_update_counts() {
        let (one, this) = (ReplicationFactor::new(1).unwrap(), NodeId(1));
        let partitions = PartitionCount::new(8).unwrap();
        let store = Store::over(Arc::new(MemoryEngine::new()), Arc::new(SystemClock), ActorId(1), partitions);
        let (store, clock) = (Arc::new(store), Clock::start());
        let driver = Arc::new(Driver {
            disk: Disk::start(store.clone(), clock, tokio::runtime::Handle::current()).unwrap(),
            acks: Acknowledgements::start(store.clone()),
            store,
            replicas: Arc::new(Nobody),
            clock,
            options: CoordinatorOptions::default(),
            pages: Pages::new(1),
            hedges: HedgeBudget::default(),
            hedged_total: Arc::default(),
            commits: Arc::default(),
        });
        let layout = Layout::found(vec![Member { id: this, zone: "z".into(), weight: 1 }], partitions, one).unwrap();
        let request = WriteRequest {
            key: Key::new("fruit", "apple").unwrap(),
            change: rondo_storage::store::Change {
                context: None,
                blind: rondo_storage::store::BlindPut::Overwrite,
                conflict: rondo_storage::versions::Conflict::Siblings,
                condition: None,
                value: Some("red".into()),
                metadata: rondo_storage::versions::Metadata::default(),
                ttl: None,
                siblings_max: 100,
                durability: rondo_storage::engine::Durability::Fsync,
            },
            n: one,
            w: QuorumChoice::Count(1),
            quorum: QuorumKind::Strict,
            deadline: driver.clock.now() + Duration::from_secs(5),
            origin: Origin::Client { write_id: NonZeroU64::MIN },
        };
        let view = View::new(this, Arc::new(layout), |_| Liveness::Up);
        let answer = driver.write(request, &view, None).await.unwrap();
        assert_eq!((answer.acks, answer.n), (1, 1));
    }
}
