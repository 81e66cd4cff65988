//! Becoming a member: founding or finding the cluster, then the peers' word on this start.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rondo_config::Settings;
use rondo_ring::{NodeId, View};
use rondo_storage::store::{Start, Store, judge_start};
use rondo_storage::versions::ContextTokens;
use tokio::sync::watch;

use crate::peers::Network;
use crate::server::control::{PeerControl, Standing};
use crate::server::time::Clock;
use crate::server::{ServerError, refill};
use crate::service::{Readiness, Shared};

/// How long a starting node waits for all its peers' word on its last start, and for the first of them.
const STARTS_ALL: Duration = Duration::from_secs(2);
const STARTS_ANY: Duration = Duration::from_secs(5);
/// How long a node that serves calls itself not ready because it is being refilled.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);
/// A node in no cluster that is still turned away after so long ends; one that is taken by anybody does not.
const REFUSED_AFTER: Duration = Duration::from_secs(5);
/// How often the node looks for partitions that have to be refilled.
const REFILL_INTERVAL: Duration = Duration::from_secs(1);

/// What it takes to become one.
pub(super) struct Joining {
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) store: Arc<Store>,
    pub(super) shared: Arc<Shared>,
    pub(super) network: Arc<Network>,
    pub(super) peers: Arc<PeerControl>,
}

impl Joining {
    pub(super) async fn run(self, ready: Arc<watch::Sender<Readiness>>) -> Result<Infallible, ServerError> {
        let founding = self.formed(&ready).await?;
        self.network.identity().set_cluster(founding.cluster);
        self.network.identity().set_epoch(founding.layout.epoch());
        let secret = self.settings.cluster_secret()?;
        let secret = secret.as_ref().map_or(&[][..], |secret| secret.as_bytes());
        let _ = self.shared.tokens.set(Arc::new(ContextTokens::new(secret, founding.cluster)));
        waiting(&ready, "its peers' word on its last start");
        let directory = self.store.directory().expect("a server's store has a directory").clone();
        let seen = self.seen_starts(founding.members.len() - 1).await;
        self.check_refused(seen.is_empty() && founding.members.len() > 1)?;
        let verdict = judge_start(&directory.starts(), seen);
        self.store.begin(verdict, founding.layout.partitions())?;
        tracing::info!(cluster = %format_args!("{:032x}", founding.cluster), ?verdict, "serving");
        self.shared.membership.serve(directory.start());
        let view = self.view().await;
        self.catch_up(&ready, &view).await;
        ready.send_if_modified(|now| {
            let starting = *now != Readiness::Draining;
            if starting {
                *now = Readiness::Ready;
            }
            starting
        });
        // For as long as the process lives: damage found later makes a partition untrusted again.
        loop {
            self.refill(&view).await;
            tokio::time::sleep(REFILL_INTERVAL).await;
        }
    }

    /// A node whose reads count for nothing would cost a quorum, were another one restarted on the word that this one is
    /// ready. But it takes any request, and a source that stays away must not keep it from that.
    async fn catch_up(&self, ready: &watch::Sender<Readiness>, view: &View) {
        let partitions = self.store.untrusted().len();
        if partitions > 0 {
            waiting(ready, &format!("the other owners to refill {partitions} partitions it may have lost writes of"));
            let _ = tokio::time::timeout(CATCH_UP_MAX, self.refill(view)).await;
        }
    }

    async fn refill(&self, view: &View) {
        let depth = usize::from(self.shared.buckets.n_max());
        refill::run(&self.store, &self.peers, view, depth, self.clock).await;
    }

    /// A node that only strangers answer would wait for ever: it says why, and ends.
    fn check_refused(&self, alone: bool) -> Result<(), ServerError> {
        match self.peers.standing.lock().clone() {
            Standing::Refused(refusal) if alone => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    async fn formed(&self, ready: &watch::Sender<Readiness>) -> Result<Arc<rondo_gossip::Founding>, ServerError> {
        let mut changes = self.shared.membership.changes();
        loop {
            changes.mark_unchanged();
            let published = self.shared.membership.now();
            if let Some(founding) = &published.founding {
                return Ok(founding.clone());
            }
            self.check_refused(self.clock.now() > REFUSED_AFTER)?;
            waiting(ready, &published.waiting_for);
            drop(published);
            // The task lives as long as the process.
            let _ = changes.changed().await;
        }
    }

    async fn view(&self) -> Arc<View> {
        let mut changes = self.shared.membership.changes();
        loop {
            changes.mark_unchanged();
            if let Some(view) = &self.shared.membership.now().view {
                return view.clone();
            }
            let _ = changes.changed().await;
        }
    }

    /// What the peers saw of this node's starts: of all of them if they answer soon, else of those that do.
    async fn seen_starts(&self, peers: usize) -> Vec<Option<Start>> {
        let mut seen = std::collections::BTreeMap::<NodeId, Option<Start>>::new();
        let begin = tokio::time::Instant::now();
        while seen.len() < peers {
            let patience = if seen.is_empty() { STARTS_ANY } else { STARTS_ALL };
            let left = (begin + patience).saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                break;
            }
            let mut answers = self.shared.membership.ask_starts();
            let round = async {
                while let Some((node, start)) = answers.recv().await {
                    seen.insert(node, start);
                }
                // Whoever did not answer may be starting too.
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            let _ = tokio::time::timeout(left, round).await;
        }
        seen.into_values().collect()
    }
}

fn waiting(ready: &watch::Sender<Readiness>, what: &str) {
    ready.send_if_modified(|now| {
        let waiting = Readiness::Waiting(what.into());
        let changed = *now != waiting && *now != Readiness::Draining;
        if changed {
            tracing::info!("waiting for {what}");
            *now = waiting;
        }
        changed
    });
}
