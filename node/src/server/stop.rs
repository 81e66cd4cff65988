//! Stopping a node in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// After SIGTERM the node answers "draining" for so long before it closes connections, and again before it closes its
/// listeners...
const DRAIN_NOTICE: Duration = Duration::from_millis(500);
/// ...and waits so long for requests in work.
const DRAIN_MAX: Duration = Duration::from_secs(20);

/// SIGTERM and SIGINT. Listened for before anything else is begun: process 1 of a container is never told of a signal
/// that it does not listen for, and would run on until it is killed.
pub(super) struct Told {
    terminate: Signal,
    interrupt: Signal,
}

impl Told {
    /// One that comes from now on is not lost, whenever it is waited for.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Until either has come since the last time.
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Connections that are open, of clients and of peers: what a drain waits for.
#[derive(Clone, Default)]
pub(super) struct Open(Arc<AtomicUsize>);

/// One of them, from the moment it is accepted until this is dropped.
pub struct Entered(Arc<AtomicUsize>);

impl Open {
    pub(super) fn enter(&self) -> Entered {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self.0.clone())
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The two things that are closed one after the other.
pub(super) struct Drain {
    pub(super) connections: watch::Sender<bool>,
    pub(super) listeners: watch::Sender<bool>,
}

/// `/readyz` has said so for a moment; then connections are closed as their requests end, those of clients that come
/// after it when they have had one, and peers are no longer accepted: they go elsewhere before this node is gone. Then
/// nothing listens any more.
pub(super) async fn drained(drain: &Drain, open: &Open) {
    tokio::time::sleep(DRAIN_NOTICE).await;
    drain.connections.send_replace(true);
    tokio::time::sleep(DRAIN_NOTICE).await;
    drain.listeners.send_replace(true);
    let ended = async {
        while open.count() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(DRAIN_MAX, ended).await.is_err() {
        tracing::warn!(connections = open.count(), "still open after the longest drain");
    }
}
