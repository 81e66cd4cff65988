//! Starting and stopping a node.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rondo_config::Settings;
use rondo_coordinator::{Bucket, HedgeBudget};
use rondo_gossip::NodeInfo;
use rondo_gossip::bootstrap::FoundingOptions;
use rondo_ring::NodeId;
use rondo_storage::engine::disk::DiskEngine;
use rondo_storage::engine::{Engine, EngineError};
use rondo_storage::store::{DataDirectory, DirectoryError, Store};
use tokio::sync::watch;

use crate::http::{self, Http, Metrics};
use crate::peers::{AddressBook, Control, Identity, Network, PeerOptions, PeerServer, Peers, Secret};
use crate::server::again::start_again;
use crate::server::buckets::Buckets;
use crate::server::control::{Handler, PeerControl, Refusal};
use crate::server::disk::Disk;
use crate::server::drive::Driver;
use crate::server::exchange::{Exchange, Parts};
use crate::server::files::{self, Files};
use crate::server::handoff::{self, Delivering};
use crate::server::join::Joining;
use crate::server::mailbox::Acknowledgements;
use crate::server::membership::{self, Beginning, End};
use crate::server::pages::Pages;
use crate::server::staleness::Estimator;
use crate::server::stop::{Drain, Open, Told, drained};
use crate::server::time::{Clock, SystemClock};
use crate::server::workers::{Serve, Socket, Workers};
use crate::server::{descriptors, house, metrics};
use crate::service::{Readiness, Service, Shared};

/// Why the node could not start. Nothing was written but where the text says so.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Of the data directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A port in use, an address that is not this machine's.
    #[error("cannot listen for {what} on {address}: {source}")]
    Listen {
        /// clients or peers.
        what: &'static str,
        /// As it was set.
        address: SocketAddr,
        /// The system's word.
        source: std::io::Error,
    },
    /// Of the file with the cluster's secret.
    #[error(transparent)]
    Secret(#[from] rondo_config::SecretError),
    /// The directory of another cluster, or another secret: nobody whom it knows would have it back.
    #[error("{0}; nothing was written, and no node of this one's own cluster answered")]
    Refused(#[from] Refusal),
    /// This process took the place of a member that had lost its directory, and could not start again as that member.
    #[error(
        "the data directory is now that of member {node}, as which this process cannot start: {source}; start it again"
    )]
    TookPlace {
        /// Who that is.
        node: NodeId,
        /// The system's word.
        source: std::io::Error,
    },
    /// Two processes with one node id: the one that started last is the node.
    #[error(
        "another process is this node since its start {start}, at {address}: this one, of an older start, must not go on. \
         Two nodes must never have one data directory, or a copy of it, or one name"
    )]
    Succeeded {
        /// Where the other is.
        address: String,
        /// Its start.
        start: u64,
    },
    /// Threads, signals, files.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// Runs a node until it is told to stop. `Ok` after a drain that was asked for.
pub fn run(settings: Settings) -> Result<(), ServerError> {
    crate::server::log::begin(&settings.log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let told = Told::listen()?;
        Node::start(settings)?.run(told).await
    });
    // Not waiting for its threads: a name that is being looked up may take half a minute.
    runtime.shutdown_background();
    ended
}

/// Everything the control thread holds on to.
struct Node {
    settings: Settings,
    clock: Clock,
    store: Arc<Store>,
    shared: Arc<Shared>,
    ready: watch::Sender<Readiness>,
    drain: Drain,
    network: Arc<Network>,
    peers: Arc<PeerControl>,
    client: tokio::net::TcpListener,
    peer: tokio::net::TcpListener,
    workers: Arc<Workers>,
    metrics: Arc<Metrics>,
    open: Open,
}

impl Node {
    /// Takes the data directory and the ports, and starts the threads; the cluster is looked for by [`Node::run`].
    fn start(settings: Settings) -> Result<Self, ServerError> {
        let clock = Clock::start();
        let secret = settings.cluster_secret()?;
        let directory = Arc::new(DataDirectory::open(&settings.data_dir)?);
        let client = listen("clients", settings.client_addr)?;
        let peer = listen("peers", settings.peer_addr)?;
        files::publish_addresses(&directory, client.local_addr()?, peer.local_addr()?)?;
        let store = open_store(&directory, &settings)?;
        let secret = Secret::new(secret.as_ref().map_or(&[], |secret| secret.as_bytes()));
        let identity = Arc::new(Identity::new(directory.node(), secret));
        let options = PeerOptions::default();
        let peers_max = options.server.connections_max as u64;
        // Each table is opened twice (`EngineOptions::open_tables`).
        let tables_max = 2 * settings.engine.open_tables as u64;
        descriptors::provide(settings.limits.connections, peers_max, tables_max);
        let network = Network::new(identity, Arc::new(AddressBook::new()), options, clock.origin());
        let control = Arc::new(Control::new(&network));
        let peers = Arc::new(PeerControl { control, network: network.clone(), standing: Arc::default() });
        let buckets = Arc::new(Buckets::new(Bucket { n: settings.n, ..Bucket::default() }));
        let beginning = Beginning {
            this: own_record(&settings, &directory, client.local_addr()?, peer.local_addr()?),
            founding: founding(&settings),
            seeds: settings.seeds.clone(),
            options: settings.gossip.clone(),
            files: Files::open(directory.clone())?,
            buckets: buckets.clone(),
        };
        let membership = membership::start(beginning, peers.clone(), store.clone(), clock)?;
        let (ready, readiness) = watch::channel(Readiness::Waiting("starting".into()));
        let registry = Arc::new(Metrics::new());
        let exchange = Exchange::new(Parts {
            options: settings.anti_entropy.clone(),
            node: directory.node(),
            store: store.clone(),
            peers: peers.clone(),
            membership: membership.clone(),
            buckets: buckets.clone(),
            clock,
            metrics: registry.clone(),
        });
        let (node, staleness) = (directory.node(), Estimator::new(network.clone()));
        let tokens = OnceLock::new();
        let shared = Arc::new(Shared { node, clock, membership, buckets, exchange, tokens, readiness, staleness });
        let drain = Drain { connections: watch::channel(false).0, listeners: watch::channel(false).0 };
        let draining = drain.connections.subscribe();
        metrics::register(&registry, &store, &network);
        let http = http::Shared::new(settings.limits.clone(), registry.clone());
        let open = Open::default();
        let hedged_total = metrics::register_hedges(&registry);
        let disk = Disk::start(store.clone(), clock, tokio::runtime::Handle::current())?;
        metrics::register_disk(&registry, &disk);
        let storage = (store.clone(), disk);
        let make = worker(&settings, &network, storage, &shared, &http, &hedged_total, draining);
        let workers = Workers::start(usize::from(settings.worker_threads), make)?;
        let (client, peer) = (tokio::net::TcpListener::from_std(client)?, tokio::net::TcpListener::from_std(peer)?);
        Ok(Self {
            settings,
            clock,
            store,
            shared,
            ready,
            drain,
            network,
            peers,
            client,
            peer,
            workers,
            metrics: registry,
            open,
        })
    }
}

impl Node {
    async fn run(self, mut told: Told) -> Result<(), ServerError> {
        let Self { settings, clock, store, shared, ready, drain, network, peers, client, peer, workers, metrics, open } =
            self;
        let (client_addr, peer_addr) = (client.local_addr()?, peer.local_addr()?);
        tracing::info!(name = settings.name, node = %shared.node, client = %client_addr, peer = %peer_addr,
            data = %settings.data_dir.display(), "listening");
        tokio::spawn(accept_peers(peer, workers.clone(), open.clone(), drain.connections.subscribe()));
        let (connections, closed) = (settings.limits.connections, drain.listeners.subscribe());
        let (dealing, entering) = (workers.clone(), open.clone());
        tokio::spawn(async move {
            let deal = |stream, seat| dealing.deal(Socket::Client(stream, seat, entering.enter()));
            http::accept(client, connections, &metrics, closed, deal).await;
        });
        tokio::spawn(house::keep_house(store.clone(), shared.membership.clone()));
        let delivering = Delivering {
            store: store.clone(),
            membership: shared.membership.clone(),
            buckets: shared.buckets.clone(),
            clock,
            age_max: Duration::from_secs(settings.store.hint_age_s.into()),
        };
        tokio::spawn(handoff::deliver(delivering, network.clone()));
        tokio::spawn(shared.exchange.clone().run());
        let membership = shared.membership.clone();
        let joining = Joining { settings, clock, store: store.clone(), shared: shared.clone(), network, peers };
        let ready = Arc::new(ready);
        let joined = tokio::spawn(joining.run(ready.clone()));
        tokio::select! {
            () = told.wait() => {}
            error = failed(joined) => return Err(error),
            end = membership.ended() => return match end {
                End::TookPlace(node) => {
                    tracing::info!(%node, "starting again as the member whose place was taken");
                    Err(ServerError::TookPlace { node, source: start_again(client_addr, peer_addr) })
                }
                End::Succeeded { address, start } => Err(ServerError::Succeeded { address, start }),
            },
        }
        tracing::info!("draining");
        ready.send_replace(Readiness::Draining);
        tokio::select! {
            () = drained(&drain, &open) => {}
            () = told.wait() => tracing::warn!("told a second time: stopping at once"),
        }
        // Not before: the threads end, and what they serve with them, when nobody can deal to them any more.
        drop(workers);
        store.close()?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Only an error ends it: a node that has joined goes on serving.
async fn failed(joined: tokio::task::JoinHandle<Result<Infallible, ServerError>>) -> ServerError {
    match joined.await {
        Ok(Err(error)) => error,
        Err(panic) => ServerError::System(std::io::Error::other(panic)),
    }
}

fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, ServerError> {
    let failed = |source| ServerError::Listen { what, address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn open_store(directory: &Arc<DataDirectory>, settings: &Settings) -> Result<Arc<Store>, DirectoryError> {
    let options = settings.engine.clone();
    let open = move |path: &std::path::Path| -> Result<Arc<dyn Engine>, EngineError> {
        Ok(Arc::new(DiskEngine::open(path, &options)?))
    };
    Ok(Arc::new(Store::open_with(directory.clone(), &settings.store, Arc::new(SystemClock), open)?))
}

fn founding(settings: &Settings) -> Option<FoundingOptions> {
    let (partitions, n) = (settings.partitions, settings.n);
    settings.bootstrap_expect.map(|expect| FoundingOptions { expect, partitions, n })
}

fn own_record(settings: &Settings, directory: &DataDirectory, client: SocketAddr, peer: SocketAddr) -> NodeInfo {
    NodeInfo {
        id: directory.node(),
        name: settings.name.clone(),
        zone: settings.zone.clone(),
        weight: settings.weight,
        peer_addr: settings.advertised_peer(peer),
        client_addr: settings.advertised_client(client),
        version: env!("CARGO_PKG_VERSION").into(),
        incarnation: directory.starts().counter(),
        instance: 0,
        start: 0,
        disk_used_bytes: 0,
        disk_available_bytes: 0,
        heartbeat: 0,
    }
}

/// What each worker makes for itself, on its own thread.
fn worker(
    settings: &Settings,
    network: &Arc<Network>,
    (store, disk): (Arc<Store>, Arc<Disk>),
    shared: &Arc<Shared>,
    http: &Arc<http::Shared>,
    hedged_total: &Arc<AtomicU64>,
    drain: watch::Receiver<bool>,
) -> impl Fn() -> Worker + Send + Sync + 'static {
    let (network, shared) = (network.clone(), shared.clone());
    let (http, options, hedged_total) = (http.clone(), settings.coordinator.clone(), hedged_total.clone());
    let pages = Pages::new(usize::from(settings.worker_threads));
    move || {
        let replicas = Peers::new(&network);
        let driver = Arc::new(Driver {
            store: store.clone(),
            disk: disk.clone(),
            replicas,
            clock: shared.clock,
            options: options.clone(),
            pages: pages.clone(),
            hedges: HedgeBudget::default(),
            hedged_total: hedged_total.clone(),
            commits: shared.staleness.shard(),
            acks: Acknowledgements::start(store.clone()),
        });
        let (membership, exchange) = (shared.membership.clone(), shared.exchange.clone());
        let handler = Arc::new(Handler { driver: driver.clone(), membership, exchange });
        Worker {
            peers: PeerServer::new(&network, handler),
            http: Http::new(Arc::new(Service::new(shared.clone(), driver)), http.clone()),
            drain: drain.clone(),
        }
    }
}

struct Worker {
    peers: Arc<PeerServer>,
    http: Arc<Http>,
    drain: watch::Receiver<bool>,
}

impl Serve for Worker {
    fn serve(&self, socket: Socket) {
        match socket {
            Socket::Client(stream, seat, entered) => {
                let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
                let (http, drain) = (self.http.clone(), self.drain.clone());
                tokio::spawn(async move {
                    http::serve_connection(stream, seat, http, drain).await;
                    drop(entered);
                });
            }
            Socket::Peer(stream, entered) => {
                let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
                let (peers, drain) = (self.peers.clone(), self.drain.clone());
                tokio::spawn(async move {
                    peers.serve_connection(stream, drain).await;
                    drop(entered);
                });
            }
        }
    }
}

/// Deals the peers' connections to the workers until `closed` becomes true.
async fn accept_peers(
    listener: tokio::net::TcpListener,
    workers: Arc<Workers>,
    open: Open,
    mut closed: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => workers.deal(Socket::Peer(stream, open.enter())),
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would only burn the processor.
                tracing::warn!(%error, "the peer port could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
