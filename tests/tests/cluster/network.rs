//! The network between the nodes: one proxy before each peer port, which can keep back what others send to it.
//!
//! A cut is what TCP makes of lost packets: bytes wait, connections stay open, nobody is told. Each connection begins with
//! its sender's id (docs/peers.md, "Handshake"), so that a cut can be between two nodes, and of the connections that one
//! of them makes only.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rondo_ring::NodeId;

/// From, to.
type Cut = (usize, usize);

#[derive(Default)]
struct State {
    /// The peer ports behind the proxies.
    targets: Vec<SocketAddr>,
    /// By id, once they are known.
    nodes: BTreeMap<NodeId, usize>,
    cuts: BTreeSet<Cut>,
    /// Pieces that had to wait.
    kept_back: u64,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Proxies; their threads end with their connections, and with the process.
pub(crate) struct Network {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
}

impl Network {
    /// So many proxies, whose nodes are to be told later.
    pub(crate) fn new(nodes: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let proxy = |to: usize| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let (address, shared) = (listener.local_addr().unwrap(), shared.clone());
            std::thread::spawn(move || serve(&listener, to, &shared));
            address
        };
        Self { addresses: (0..nodes).map(proxy).collect(), shared }
    }

    /// What the nodes say is theirs.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What is behind the proxies.
    pub(crate) fn lead_to(&self, targets: Vec<SocketAddr>) {
        self.change(|state| state.targets = targets);
    }

    /// The nodes' ids.
    pub(crate) fn know(&self, nodes: BTreeMap<NodeId, usize>) {
        self.change(|state| state.nodes = nodes);
    }

    /// From now on nothing goes over these connections, in either direction.
    pub(crate) fn cut(&self, cuts: impl IntoIterator<Item = Cut>) {
        self.change(|state| state.cuts.extend(cuts));
    }

    /// Everything goes on, what has waited too.
    pub(crate) fn heal(&self) {
        self.change(|state| state.cuts.clear());
    }

    /// How often something had to wait.
    pub(crate) fn kept_back(&self) -> u64 {
        self.shared.lock().kept_back
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes back when bytes may go between a sender, once it is known, and a node.
    fn pass(&self, from: Option<NodeId>, to: usize) {
        let is_cut = |state: &mut State| {
            let from = from.and_then(|id| state.nodes.get(&id));
            from.is_some_and(|&from| state.cuts.contains(&(from, to)))
        };
        let mut state = self.lock();
        if is_cut(&mut state) {
            state.kept_back += 1;
        }
        drop(self.changed.wait_while(state, is_cut));
    }

    fn target(&self, to: usize) -> SocketAddr {
        let state = self.changed.wait_while(self.lock(), |state| state.targets.is_empty());
        state.unwrap_or_else(PoisonError::into_inner).targets[to]
    }
}

fn serve(listener: &TcpListener, to: usize, shared: &Arc<Shared>) {
    for client in listener.incoming().map_while(Result::ok) {
        let shared = shared.clone();
        std::thread::spawn(move || connection(client, to, &shared));
    }
}

/// Until the sender is known nothing is passed on.
fn connection(mut client: TcpStream, to: usize, shared: &Arc<Shared>) -> Option<()> {
    let mut begun = Vec::new();
    let from = loop {
        let mut piece = [0; 1_024];
        let length = client.read(&mut piece).ok().filter(|length| *length > 0)?;
        begun.extend_from_slice(&piece[..length]);
        if let Some(from) = sender(&begun) {
            break from;
        }
    };
    shared.pass(Some(from), to);
    let mut server = TcpStream::connect(shared.target(to)).ok()?;
    for end in [&client, &server] {
        end.set_nodelay(true).ok()?;
    }
    server.write_all(&begun).ok()?;
    let (to_client, from_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
    let answers = shared.clone();
    std::thread::spawn(move || pump(from_server, to_client, from, to, &answers));
    pump(client, server, from, to, shared);
    Some(())
}

/// Behind the head of the first request: `RNDP`, version, purpose, and the id.
fn sender(begun: &[u8]) -> Option<NodeId> {
    let magic = begun.windows(4).position(|four| four == b"RNDP")?;
    let id = begun.get(magic + 6..magic + 22)?;
    Some(NodeId(u128::from_le_bytes(id.try_into().ok()?)))
}

fn pump(mut source: TcpStream, mut sink: TcpStream, from: NodeId, to: usize, shared: &Shared) {
    let mut piece = [0; 64 << 10];
    while let Ok(length @ 1..) = source.read(&mut piece) {
        shared.pass(Some(from), to);
        if sink.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    // That an end is closed is not heard through a cut either.
    shared.pass(Some(from), to);
    let _ = sink.shutdown(Shutdown::Both);
    let _ = source.shutdown(Shutdown::Both);
}
