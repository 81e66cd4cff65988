//! The task that owns the membership machines.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rondo_gossip::bootstrap::{Belief, Request};
use rondo_gossip::registry::RegistryError;
use rondo_gossip::{Bootstrap, Entry, FoundingState, Gossip, GossipOptions, Message, NodeInfo, Registry};
use rondo_ring::{Layout, Liveness, NodeId, View};
use rondo_storage::store::{DirectoryError, Start, Store, WallClock};
use rondo_storage::versions::ActorId;
use tokio::sync::{mpsc, watch};

use super::{End, Network, OnReply, Published, Told};
use crate::server::buckets::Buckets;
use crate::server::files::Files;
use crate::server::time::{Clock, SystemClock};
use crate::service::{BucketError, MemberInfo, MemberState};

/// How often the task looks at the clock.
const TICK: Duration = Duration::from_millis(50);
/// Between two writes of the members' records: in a large cluster they change often while nodes restart.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Task {
    pub(super) this: NodeInfo,
    pub(super) seeds: Vec<String>,
    pub(super) options: GossipOptions,
    pub(super) files: Files,
    pub(super) bootstrap: Bootstrap,
    /// Once the cluster is formed.
    pub(super) gossip: Option<Gossip>,
    pub(super) layout: Option<Arc<Layout>>,
    pub(super) remembered: Vec<NodeInfo>,
    /// Until the cluster is formed; from then on it is the gossip's.
    pub(super) registry: Registry,
    pub(super) buckets: Arc<Buckets>,
    pub(super) network: Arc<dyn Network>,
    pub(super) store: Arc<Store>,
    pub(super) clock: Clock,
    pub(super) shown: Arc<ArcSwap<Published>>,
    pub(super) changed: watch::Sender<()>,
    pub(super) tell: mpsc::UnboundedSender<Told>,
    pub(super) serving: bool,
    pub(super) end: Option<End>,
    /// As last published.
    pub(super) states: HashMap<NodeId, Liveness>,
    /// Members whose start is not remembered yet.
    pub(super) unrecorded: BTreeSet<NodeId>,
    /// The members' records are not on disk as they are.
    pub(super) unkept: bool,
    pub(super) next_keep: Duration,
}

impl Task {
    pub(super) async fn run(mut self, mut told: mpsc::UnboundedReceiver<Told>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                message = told.recv() => match message {
                    Some(message) => self.told(message),
                    None => return,
                },
                _ = ticks.tick() => self.tick(),
            }
        }
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Message { from, message, reply } => {
                let answer = self.answer(from, message);
                // The asking connection may be gone.
                let _ = reply.send(answer);
            }
            Told::Reply { from, request, message } => self.replied(from, &request, message),
            Told::SetBucket { name, value, reply } => {
                let _ = reply.send(self.set_bucket(&name, value));
            }
            Told::AskStarts { answers } => self.ask_starts(&answers),
            Told::Serve(start) => self.serve(start),
            Told::Disk { used_bytes, available_bytes } => {
                if let Some(gossip) = &mut self.gossip {
                    gossip.set_disk(used_bytes, available_bytes);
                }
                // The others' disks have changed too, without a word of their own.
                self.show();
            }
        }
        self.carry_out();
    }

    fn answer(&mut self, from: NodeId, message: Message) -> Message {
        let now = self.clock.now();
        if let Message::Claim(claim) = &message {
            return self.bootstrap.claimed(from, claim, self.belief(claim.seat), now);
        }
        self.bootstrap.heard(from, now);
        if is_of_founding(&message) {
            let answer = self.bootstrap.handle(from, message, now);
            return self.keep_founding().map_or_else(Message::Declined, |()| answer);
        }
        if matches!(message, Message::AskStart) {
            return Message::LastSeen(self.store.last_start(from).map(|start| (start.instance.0, start.counter)));
        }
        // One that speaks as a member need not be told of the founding any more.
        self.bootstrap.informed(from);
        match &mut self.gossip {
            Some(gossip) => gossip.handle(from, message, now),
            None => Message::Declined("no member of a formed cluster".into()),
        }
    }

    /// What is believed here of the members, one of whose places is claimed.
    fn belief(&self, seat: NodeId) -> Belief {
        let Some(gossip) = &self.gossip else { return Belief::default() };
        let (now, members) = (self.clock.now(), gossip.members().infos());
        let down = members.iter().map(|info| info.id).filter(|&id| gossip.liveness(id, now) == Liveness::Down);
        // A start that did not come to serve was told as an incarnation only.
        let told = gossip.members().info(seat).map_or(0, |info| info.incarnation);
        let last_start = self.store.last_start(seat).map_or(0, |start| start.counter).max(told);
        Belief { serves: self.serving, down: down.collect(), last_start, members }
    }

    fn replied(&mut self, from: NodeId, request: &Request, message: Message) {
        let now = self.clock.now();
        self.bootstrap.heard(from, now);
        if is_of_founding(&request.message) {
            self.bootstrap.reply(from, &request.message, message, now);
            let _ = self.keep_founding();
        } else if let Some(gossip) = &mut self.gossip {
            self.bootstrap.informed(from);
            gossip.reply(from, request, message, now);
        }
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        let requests = self.bootstrap.tick(now, fresh_cluster_id());
        // G1: nothing is sent before the state it follows from is durable.
        if self.keep_founding().is_ok() {
            requests.into_iter().for_each(|request| self.call(request));
        }
        if let Some(gossip) = &mut self.gossip {
            gossip.tick(now);
        }
        self.carry_out();
        self.keep_members();
        self.publish_view();
    }

    /// What the gossip has decided: records to remember, properties to put in force, requests to send.
    fn carry_out(&mut self) {
        let Some(gossip) = &mut self.gossip else { return };
        if let Some(successor) = gossip.successor().filter(|_| self.end.is_none()) {
            self.end = Some(End::Succeeded { address: successor.peer_addr.clone(), start: successor.start });
            self.show();
            return;
        }
        let (changed, incoming) = (gossip.take_changed(), gossip.take_incoming());
        self.changed(changed);
        if !incoming.is_empty() {
            self.take_entries(incoming);
        }
        let requests = self.gossip.as_mut().map(Gossip::take_requests).unwrap_or_default();
        requests.into_iter().for_each(|request| self.call(request));
    }

    fn serve(&mut self, start: Start) {
        self.serving = true;
        if let Some(gossip) = &mut self.gossip {
            gossip.begin(start.instance.0, start.counter);
        }
        self.publish_view();
        self.tick();
    }

    fn changed(&mut self, changed: BTreeSet<NodeId>) {
        if changed.is_empty() && self.unrecorded.is_empty() {
            return;
        }
        let infos = self.infos_of(changed.iter());
        self.unkept |= !infos.is_empty();
        self.network.addresses(&infos);
        self.unrecorded.extend(changed);
        let unrecorded = std::mem::take(&mut self.unrecorded);
        self.unrecorded =
            self.infos_of(unrecorded.iter()).iter().filter(|i| !self.record_start(i)).map(|i| i.id).collect();
    }

    fn infos_of<'a>(&self, nodes: impl Iterator<Item = &'a NodeId>) -> Vec<NodeInfo> {
        let others = nodes.filter(|&&node| node != self.this.id);
        let Some(gossip) = &self.gossip else { return Vec::new() };
        others.filter_map(|&node| gossip.members().info(node)).cloned().collect()
    }

    /// Which start of a member was seen last; tried again until it is durable.
    fn record_start(&self, info: &NodeInfo) -> bool {
        let start = Start { counter: info.start, instance: ActorId(info.instance) };
        if start.counter == 0 || self.store.last_start(info.id) == Some(start) {
            return true;
        }
        let recorded = self.store.record_start(info.id, start);
        if let Err(error) = &recorded {
            tracing::warn!(%error, node = %info.id, "another node's start could not be remembered");
        }
        recorded.is_ok()
    }

    fn keep_members(&mut self) {
        let now = self.clock.now();
        let Some(gossip) = self.gossip.as_ref().filter(|_| self.unkept && now >= self.next_keep) else { return };
        (self.unkept, self.next_keep) = (false, now + KEEP_INTERVAL);
        if let Err(error) = self.files.keep_members(&gossip.members().infos()) {
            self.unkept = true;
            tracing::warn!(%error, "the members' addresses could not be stored");
        }
    }

    fn take_entries(&mut self, entries: Vec<Entry>) {
        let mut merged = self.registry().clone();
        let changed = merged.merge(entries, SystemClock.now_us());
        if changed.is_empty() {
            return;
        }
        match self.keep_registry(&merged) {
            Ok(()) => self.gossip.iter_mut().for_each(|gossip| gossip.adopt(merged.clone(), changed.clone())),
            Err(error) => tracing::warn!(%error, "bucket properties could not be stored"),
        }
    }

    fn registry(&self) -> &Registry {
        self.gossip.as_ref().map_or(&self.registry, Gossip::registry)
    }

    /// Durable, then in force.
    fn keep_registry(&mut self, registry: &Registry) -> Result<(), DirectoryError> {
        self.files.keep_registry(&registry.entries().collect::<Vec<_>>())?;
        self.buckets.take(registry.entries());
        Ok(())
    }

    fn set_bucket(&mut self, name: &str, value: Option<String>) -> Result<(), BucketError> {
        let mut changed = self.registry().clone();
        changed.set(name, value, self.this.id, SystemClock.now_us()).map_err(|error| match error {
            RegistryError::Full(most) => BucketError::TooMany(most),
            RegistryError::TooLarge(_) => BucketError::Storage(error.to_string()),
        })?;
        self.keep_registry(&changed).map_err(|error| BucketError::Storage(error.to_string()))?;
        match &mut self.gossip {
            Some(gossip) => gossip.publish(changed, name),
            None => self.registry = changed,
        }
        Ok(())
    }

    fn ask_starts(&self, answers: &mpsc::UnboundedSender<(NodeId, Option<Start>)>) {
        let infos = self.gossip.iter().flat_map(|gossip| gossip.members().infos());
        for info in infos.filter(|info| info.id != self.this.id) {
            let answers = answers.clone();
            let reply: OnReply = Box::new(move |from, message| {
                if let Message::LastSeen(seen) = message {
                    let start = |(instance, counter)| Start { counter, instance: ActorId(instance) };
                    let _ = answers.send((from, seen.map(start)));
                }
            });
            self.network.call(info.peer_addr, Some(info.id), Message::AskStart, reply);
        }
    }

    fn call(&self, request: Request) {
        let tell = self.tell.clone();
        let Request { address, node, message } = request.clone();
        let request = Box::new(request);
        let reply: OnReply = Box::new(move |from, message| drop(tell.send(Told::Reply { from, request, message })));
        self.network.call(address, node, message, reply);
    }

    /// Makes the founding state durable where it changed; until it is, nothing that follows from it is said.
    fn keep_founding(&mut self) -> Result<(), String> {
        let kept = self.files.keep_founding(self.bootstrap.state());
        if let Err(error) = kept {
            tracing::error!(%error, "the founding could not be stored");
            return Err(error.to_string());
        }
        self.became_formed();
        self.take_place()
    }

    /// The place that was granted, in `node.json`: from then on this process is nobody, until it starts again.
    fn take_place(&mut self) -> Result<(), String> {
        let Some(seat) = self.bootstrap.seat().filter(|_| self.end.is_none()) else { return Ok(()) };
        if let Err(error) = self.files.take_place(seat, &self.bootstrap.seat_members()) {
            tracing::error!(%error, "the place could not be taken");
            return Err(error.to_string());
        }
        self.end = Some(End::TookPlace(seat.node));
        self.show();
        Ok(())
    }

    pub(super) fn became_formed(&mut self) {
        let FoundingState::Formed(founding) = self.bootstrap.state() else { return };
        if self.gossip.is_some() {
            return;
        }
        let mut known: HashMap<_, _> = founding.members.iter().map(|info| (info.id, info.clone())).collect();
        for info in self.remembered.drain(..) {
            // Only members, and only what is newer than the founding (G4).
            known.entry(info.id).and_modify(|held| {
                if info.incarnation >= held.incarnation {
                    *held = info;
                }
            });
        }
        let known: Vec<_> = known.into_values().collect();
        self.network.addresses(&known);
        self.layout = Some(Arc::new(founding.layout.clone()));
        let registry = std::mem::take(&mut self.registry);
        let (this, seeds, options) = (self.this.clone(), self.seeds.clone(), self.options.clone());
        let seed = fresh_cluster_id() as u64;
        self.gossip = Some(Gossip::new(this, known, registry, seeds, options, self.clock.now(), seed));
        self.show();
    }

    fn liveness(&self, id: NodeId) -> Liveness {
        let heard = self.gossip.as_ref().map_or(Liveness::Down, |gossip| gossip.liveness(id, self.clock.now()));
        let suspect = id != self.this.id && self.network.is_suspect(id);
        if suspect { heard.max(Liveness::Suspect) } else { heard }
    }

    /// A new view only where something changed: it invalidates nothing, but it is not free either.
    fn publish_view(&mut self) {
        let (Some(gossip), Some(layout)) = (&self.gossip, &self.layout) else { return };
        let states: HashMap<_, _> =
            layout.members().iter().map(|member| (member.id, self.liveness(member.id))).collect();
        let unchanged = states == self.states && self.shown.load().view.is_some() == self.serving;
        if !unchanged {
            for info in gossip.members().infos() {
                let (was, is) = (self.states.get(&info.id), states.get(&info.id));
                say_change(&info, was.copied(), is.copied());
            }
            self.states = states;
            self.show();
        }
    }

    pub(super) fn show(&self) {
        let founding = self.bootstrap.formed();
        let view = self.layout.as_ref().filter(|_| self.serving).map(|layout| {
            let state = |id| self.states.get(&id).copied().unwrap_or(Liveness::Suspect);
            Arc::new(View::new(self.this.id, layout.clone(), state))
        });
        let infos = self.gossip.iter().flat_map(|gossip| gossip.members().infos());
        let mut members: Vec<_> = infos.map(|info| self.member_info(info)).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let published = Published {
            founding: founding.map(|founding| Arc::new(founding.clone())),
            view,
            members: Arc::new(members),
            waiting_for: self.bootstrap.waiting_for(),
            end: self.end.clone(),
        };
        self.shown.store(Arc::new(published));
        self.changed.send_replace(());
    }

    fn member_info(&self, info: NodeInfo) -> MemberInfo {
        let state = match self.states.get(&info.id) {
            _ if info.id == self.this.id => MemberState::Up,
            Some(Liveness::Up) => MemberState::Up,
            Some(Liveness::Down) => MemberState::Down,
            Some(Liveness::Suspect) | None => MemberState::Suspect,
        };
        MemberInfo {
            id: info.id,
            name: info.name,
            zone: info.zone,
            weight: info.weight,
            state,
            client_addr: info.client_addr,
            peer_addr: info.peer_addr,
            version: info.version,
            disk_used_bytes: info.disk_used_bytes,
            disk_available_bytes: info.disk_available_bytes,
        }
    }
}

/// Suspicion comes and goes; that a node is gone, and that it is back, is for an operator to know.
fn say_change(info: &NodeInfo, was: Option<Liveness>, is: Option<Liveness>) {
    let (name, address) = (&info.name, &info.peer_addr);
    match (was == Some(Liveness::Down), is == Some(Liveness::Down)) {
        (false, true) => tracing::warn!(name, address, node = %info.id, "a member is down"),
        (true, false) => tracing::info!(name, address, node = %info.id, "a member is back"),
        _ => {}
    }
}

/// Messages of the founding, and questions that its machine answers.
fn is_of_founding(message: &Message) -> bool {
    use Message::{AskOutcome, Claim, Commit, Formed, Introduce, Propose};
    matches!(message, Introduce(_) | Formed(_) | Propose(_) | Commit(_) | AskOutcome(_) | Claim(_))
}

fn fresh_cluster_id() -> u128 {
    let mut id = [0; 16];
    getrandom::fill(&mut id).expect("the system gives random bytes");
    u128::from_le_bytes(id)
}
