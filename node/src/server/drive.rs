//! Carries out what a coordinator machine asks for: the store here, the peers there, the clock.
//!
//! A request's machine runs in a task of its own, so that what must go on after the answer (the third replica, a
//! repair) does, and so that a client that hangs up leaves nothing half-done.

use std::sync::Arc;

use rondo_coordinator::get::{Read, ReadRequest};
use rondo_coordinator::put::{Write, WriteRequest};
use rondo_coordinator::{Action, Actions, CoordinatorOptions, Event, Failure, Now, ReadAnswer, Replicas, WriteAnswer};
use rondo_ring::View;
use rondo_storage::store::{Merged, Store};
use tokio::sync::{mpsc, oneshot};

use crate::server::time::Clock;

/// What a machine's actions are carried out with. One per worker thread.
pub struct Driver {
    /// This node's disk.
    pub store: Arc<Store>,
    /// The lanes to the other nodes.
    pub replicas: Arc<dyn Replicas + Send + Sync>,
    /// The monotonic clock.
    pub clock: Clock,
    /// Of the machines.
    pub options: CoordinatorOptions,
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
    /// A client's write, or one forwarded by another node.
    pub async fn write(self: &Arc<Self>, request: WriteRequest, view: &View) -> Result<WriteAnswer, Failure> {
        let (machine, actions) = Write::start(request, view, &self.options, self.clock.now());
        self.run(machine, actions).await
    }

    /// A client's read.
    pub async fn read(self: &Arc<Self>, request: ReadRequest, view: &View) -> Result<ReadAnswer, Failure> {
        let (machine, actions) = Read::start(request, view, &self.options, self.clock.now());
        self.run(machine, actions).await
    }

    async fn run<M: Machine>(self: &Arc<Self>, machine: M, actions: Actions) -> Result<M::Answer, Failure> {
        let (answer, answered) = oneshot::channel();
        let (events, received) = mpsc::unbounded_channel();
        let running = Running { driver: self.clone(), machine, events, answer: Some(answer), wake_at: None };
        tokio::spawn(running.run(actions, received));
        answered.await.expect("a machine answers before it finishes (C6)")
    }
}

struct Running<M: Machine> {
    driver: Arc<Driver>,
    machine: M,
    events: mpsc::UnboundedSender<Event>,
    answer: Option<oneshot::Sender<Result<M::Answer, Failure>>>,
    wake_at: Option<Now>,
}

impl<M: Machine> Running<M> {
    async fn run(mut self, actions: Actions, mut received: mpsc::UnboundedReceiver<Event>) {
        self.carry_out(actions);
        while !self.machine.is_finished() {
            let event = match self.wake_at {
                None => received.recv().await,
                Some(at) => match tokio::time::timeout_at(self.driver.clock.instant(at), received.recv()).await {
                    Ok(event) => event,
                    Err(_) => {
                        self.wake_at = None;
                        Some(Event::Wake)
                    }
                },
            };
            let event = event.expect("the machine's own sender keeps the channel open");
            let actions = self.machine.on_event(event, self.driver.clock.now());
            self.carry_out(actions);
        }
    }

    fn carry_out(&mut self, actions: Actions) {
        for action in actions {
            match M::answer(action) {
                Ok(answer) => {
                    // A client that hung up no longer listens; the request itself goes on.
                    let _ = self.answer.take().map(|to| to.send(answer));
                }
                Err(action) => self.act(action),
            }
        }
    }

    fn act(&mut self, action: Action) {
        let events = self.events.clone();
        // A machine that has finished no longer listens to what comes late.
        let tell = move |event| drop(events.send(event));
        match action {
            Action::UpdateHere { key, change } => {
                let later = self.events.clone();
                let done = Box::new(move |result| drop(later.send(Event::Durable(result))));
                tell(Event::Updated(self.driver.store.update(&key, change, done)));
            }
            Action::MergeHere { key, object, durability } => {
                let done_tell = tell.clone();
                let done = Box::new(move |result: Result<(), _>| {
                    done_tell(Event::MergedHere(result.map_err(rondo_storage::store::StoreError::from)));
                });
                match self.driver.store.merge(&key, &object, durability, done) {
                    Ok(Merged::Queued | Merged::Unchanged) => {}
                    Err(error) => tell(Event::MergedHere(Err(error))),
                }
            }
            Action::ReadHere { key } => tell(Event::ReadHere(self.driver.store.read(&key))),
            Action::Send { to, request, deadline } => {
                let reply = Box::new(move |result| tell(Event::Reply { from: to, result }));
                self.driver.replicas.send(to, request, deadline, reply);
            }
            Action::WakeAt(at) => self.wake_at = Some(at),
            Action::AnswerWrite(_) | Action::AnswerRead(_) => {
                unreachable!("a write machine answers writes, a read machine reads")
            }
        }
    }
}
