//! Worker threads: one `current_thread` runtime per core, each with its own connections in and out. Sockets are dealt
//! to them in turn; nothing else is shared on a request's path but the store.

use std::net::TcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::http::Seat;
use crate::server::stop::Entered;

/// An accepted connection on its way to a worker.
pub enum Socket {
    /// From the client port, with the seat that limits their number.
    Client(TcpStream, Seat, Entered),
    /// From the peer port.
    Peer(TcpStream, Entered),
}

/// Threads that serve sockets until the sender side is gone and their connections have drained.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    inboxes: Vec<mpsc::UnboundedSender<Socket>>,
    next: std::sync::atomic::AtomicUsize,
}

/// What a worker does with a socket; made on the worker's own thread, inside its runtime.
pub trait Serve: 'static {
    /// Begins to serve; must not block.
    fn serve(&self, socket: Socket);
}

impl Workers {
    /// Starts `count` threads; `make` runs once on each.
    pub fn start<S: Serve>(count: usize, make: impl Fn() -> S + Send + Sync + 'static) -> std::io::Result<Arc<Self>> {
        let make = Arc::new(make);
        let (mut threads, mut inboxes) = (Vec::new(), Vec::new());
        for index in 0..count.max(1) {
            // Bounded by the seats the sockets carry.
            let (sender, mut inbox) = mpsc::unbounded_channel();
            let make = make.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                runtime.block_on(async move {
                    let server = make();
                    while let Some(socket) = inbox.recv().await {
                        server.serve(socket);
                    }
                });
            })?;
            threads.push(thread);
            inboxes.push(sender);
        }
        Ok(Arc::new(Self { threads, inboxes, next: 0.into() }))
    }

    /// Deals a socket to the next worker.
    pub fn deal(&self, socket: Socket) {
        let turn = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // A worker ends only with the process; a socket dealt during shutdown is simply closed.
        let _ = self.inboxes[turn % self.inboxes.len()].send(socket);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }
}
