//! Where commands are put, and who carries them out.
//!
//! The writer has a thread, which is woken by a bell. A write without an fsync is little work, though, and waking a thread
//! for it, which then wakes the one that has asked, costs more than the work itself. So whoever queues such writes may take
//! the writer for a moment ([`Desk::work_quickly`]): several writes are one group, and nobody is woken.

use crossbeam_channel::{Receiver, Sender, TrySendError};
use parking_lot::Mutex;

use super::writer::{Command, Writer};
use crate::engine::EngineError;

/// See the module.
pub(super) struct Desk {
    queue: Sender<Command>,
    /// Has room for one ring: the writer's thread has not begun to look, and will see everything.
    bell: Sender<()>,
    /// `None` once the engine is closed.
    writer: Mutex<Option<Writer>>,
}

impl Desk {
    pub(super) fn new(queue: Sender<Command>, bell: Sender<()>, writer: Writer) -> Self {
        Self { queue, bell, writer: Mutex::new(Some(writer)) }
    }

    /// On the writer's thread, until the engine is closed.
    pub(super) fn serve(&self, bell: &Receiver<()>) {
        if let Some(writer) = self.writer.lock().as_mut() {
            writer.start();
        }
        while bell.recv().is_ok() {
            let mut held = self.writer.lock();
            if !held.as_mut().is_some_and(Writer::work) {
                // With it goes the other end of the queue: nothing is taken any more.
                *held = None;
                return;
            }
        }
    }

    /// Queues a command. Nobody is told: [`ring`](Self::ring) does that, or it is done with whatever comes next.
    ///
    /// # Errors
    /// [`EngineError::Busy`]: there is no room. [`EngineError::Closed`]. The command is dropped.
    pub(super) fn put(&self, command: Command) -> Result<(), EngineError> {
        self.queue.try_send(command).map_err(|refused| match refused {
            TrySendError::Full(_) => EngineError::Busy,
            TrySendError::Disconnected(_) => EngineError::Closed,
        })
    }

    /// The same, waits for room, and tells the writer's thread.
    pub(super) fn put_and_wait(&self, command: Command) -> Result<(), EngineError> {
        // Nobody may have been told of what fills the queue.
        self.ring();
        self.queue.send(command).map_err(|_| EngineError::Closed)?;
        self.ring();
        Ok(())
    }

    /// Carries out what is queued from the front, as far as that waits for nobody; the rest is the writer's thread's.
    pub(super) fn work_quickly(&self) {
        let Some(mut held) = self.writer.try_lock() else { return self.ring() };
        let Some(writer) = held.as_mut() else { return };
        let is_done = writer.work_quickly();
        drop(held);
        if !is_done {
            self.ring();
        }
    }

    /// Wakes the writer for a [`Command::Tick`]. A writer whose queue is full looks after everything as it is.
    pub(super) fn tick(&self) {
        let _ = self.put(Command::Tick);
        self.ring();
    }

    /// Commands in the queue.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Wakes the writer's thread.
    pub(super) fn ring(&self) {
        let _ = self.bell.try_send(());
    }
}
