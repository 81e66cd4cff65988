//! Where events wait for the machine they are for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use rondo_coordinator::Event;
use rondo_storage::engine::Durability;
use rondo_storage::store::Store;
use smallvec::SmallVec;
use tokio::sync::Notify;

/// Events on their way to one machine: from its own thread, from the peers, from the engine's writer.
#[derive(Default)]
pub struct Mailbox(Mutex<Inbox>);

#[derive(Default)]
struct Inbox {
    events: SmallVec<[Event; 1]>,
    waker: Option<Waker>,
}

impl Mailbox {
    pub(super) fn put(&self, event: Event) {
        let waker = {
            let mut inbox = self.0.lock();
            inbox.events.push(event);
            inbox.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// An `Updated` comes before its `Durable`, however quick the engine's writer is: the machine that takes both is
    /// the one that is being carried out, so what came meanwhile is still here.
    pub(super) fn put_first(&self, event: Event) {
        self.0.lock().events.insert(0, event);
    }

    /// All there are; waits for one.
    pub(super) fn poll_take(&self, context: &mut Context<'_>) -> Poll<SmallVec<[Event; 1]>> {
        let mut inbox = self.0.lock();
        if inbox.events.is_empty() {
            match &mut inbox.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut inbox.events))
    }
}

/// Acknowledgements of the engine's writer on their way to the machines of one worker.
///
/// The writer commits a group at a time. Were each machine woken from its thread, the worker's runtime would be woken
/// once for each write of the group (a system call, and a turn of the runtime for one event); so only the first is
/// told, and the worker hands out all there are. It cannot grow: each write that was accepted is told once.
///
/// Writes without an fsync the worker commits itself: the task that hands out comes last in the runtime's turn, so that
/// all writes of a turn are one group.
pub struct Acknowledgements {
    store: Arc<Store>,
    waiting: Mutex<Vec<(Arc<Mailbox>, Event)>>,
    first: Notify,
    to_commit: AtomicBool,
}

impl Acknowledgements {
    /// Hands acknowledgements out on the current runtime, as long as that lives.
    pub fn start(store: Arc<Store>) -> Arc<Self> {
        let (waiting, first, to_commit) = (Mutex::default(), Notify::new(), AtomicBool::new(false));
        let acks = Arc::new(Self { store, waiting, first, to_commit });
        tokio::spawn(acks.clone().hand_out());
        acks
    }

    /// Something was queued that is to be committed at the end of the turn.
    pub(super) fn commit_soon(&self, durability: Durability) {
        if durability == Durability::Interval && !self.to_commit.swap(true, Ordering::Relaxed) {
            self.first.notify_one();
        }
    }

    /// From any thread.
    pub(super) fn tell(&self, mailbox: Arc<Mailbox>, event: Event) {
        let is_first = {
            let mut waiting = self.waiting.lock();
            waiting.push((mailbox, event));
            waiting.len() == 1
        };
        if is_first {
            self.first.notify_one();
        }
    }

    async fn hand_out(self: Arc<Self>) {
        let mut told = Vec::new();
        loop {
            self.first.notified().await;
            if self.to_commit.swap(false, Ordering::Relaxed) {
                self.store.commit_queued();
            }
            std::mem::swap(&mut told, &mut *self.waiting.lock());
            told.drain(..).for_each(|(mailbox, event)| mailbox.put(event));
        }
    }
}
