//! The task that owns the membership machines.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rondo_gossip::bootstrap::Request;
use rondo_gossip::registry::RegistryError;
use rondo_gossip::{Bootstrap, Entry, FoundingState, GossipOptions, Members, Message, NodeInfo, Registry};
use rondo_ring::{Layout, Liveness, NodeId, View};
use rondo_storage::store::{DirectoryError, Start, Store, WallClock};
use rondo_storage::versions::ActorId;
use tokio::sync::{mpsc, watch};

use super::{Network, OnReply, Published, Told};
use crate::server::buckets::Buckets;
use crate::server::files::Files;
use crate::server::time::{Clock, SystemClock};
use crate::service::{BucketError, MemberInfo, MemberState};

/// How often the task looks at the clock.
const TICK: Duration = Duration::from_millis(100);
/// How often it asks where silent members are.
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Task {
    pub(super) this: NodeInfo,
    pub(super) seeds: Vec<String>,
    pub(super) options: GossipOptions,
    pub(super) files: Files,
    pub(super) bootstrap: Bootstrap,
    /// Once the cluster is formed.
    pub(super) members: Option<Members>,
    pub(super) layout: Option<Arc<Layout>>,
    pub(super) remembered: Vec<NodeInfo>,
    pub(super) registry: Registry,
    pub(super) buckets: Arc<Buckets>,
    pub(super) network: Arc<dyn Network>,
    pub(super) store: Arc<Store>,
    pub(super) clock: Clock,
    pub(super) shown: Arc<ArcSwap<Published>>,
    pub(super) changed: watch::Sender<()>,
    pub(super) tell: mpsc::UnboundedSender<Told>,
    pub(super) serving: bool,
    /// As last published.
    pub(super) states: HashMap<NodeId, Liveness>,
    /// How often silent members have been asked for, and when they are next.
    pub(super) searches: usize,
    pub(super) next_search: Duration,
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
                if let Some(members) = &mut self.members {
                    members.set_disk(used_bytes, available_bytes);
                }
                // The others' disks have changed too, without a word of their own.
                self.show();
            }
        }
    }

    fn answer(&mut self, from: NodeId, message: Message) -> Message {
        match message {
            Message::Heartbeat { info, registry } => {
                self.heard_heartbeat(from, info, registry);
                if self.serving { self.heartbeat() } else { Message::Declined("still starting".into()) }
            }
            Message::Registry(entries) => self.exchange(entries),
            Message::AskMembers(info) => self.say_members(from, *info),
            Message::AskStart => {
                Message::LastSeen(self.store.last_start(from).map(|start| (start.instance.0, start.counter)))
            }
            founding => {
                let answer = self.bootstrap.handle(from, founding, self.clock.now());
                match self.keep_founding() {
                    Ok(()) => answer,
                    Err(why) => Message::Declined(why),
                }
            }
        }
    }

    fn replied(&mut self, from: NodeId, request: &Request, message: Message) {
        match message {
            Message::Heartbeat { info, registry } => self.heard_heartbeat(from, info, registry),
            Message::Registry(entries) => {
                self.take_entries(entries);
            }
            Message::Members(infos) => self.learned(infos),
            other => {
                self.bootstrap.reply(from, &request.message, other, self.clock.now());
                let _ = self.keep_founding();
            }
        }
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        let fresh = fresh_cluster_id();
        let requests = self.bootstrap.tick(now, fresh);
        // G1: nothing is sent before the state it follows from is durable.
        if self.keep_founding().is_ok() {
            requests.into_iter().for_each(|request| self.call(request));
        }
        self.look_for_silent();
        let Some(members) = self.members.as_mut().filter(|_| self.serving) else { return self.show() };
        members.look(now);
        let due = members.due(now);
        let heartbeat = self.heartbeat();
        for id in due {
            if let Some(address) = self.address_of(id) {
                self.call(Request { address, node: Some(id), message: heartbeat.clone() });
            }
        }
        self.publish_view();
    }

    /// A member that is silent at its known address may be at another, and so may this node: every address can have
    /// changed. The seeds know, or one of those that do answer, asked in turn. A starting node has heard nobody yet.
    fn look_for_silent(&mut self) {
        let now = self.clock.now();
        let Some(members) = self.members.as_ref().filter(|_| now >= self.next_search) else { return };
        let (up, others) = (members.up(now), members.infos().len() - 1);
        if self.serving && up.len() == others {
            return;
        }
        self.next_search = now + SEARCH_INTERVAL;
        self.searches += 1;
        let in_turn = up.get(self.searches % up.len().max(1)).and_then(|&id| Some((self.address_of(id)?, Some(id))));
        let seeds = self.seeds.iter().filter(|seed| **seed != self.this.peer_addr).map(|seed| (seed.clone(), None));
        let message = Message::AskMembers(Box::new(members.this().clone()));
        for (address, node) in seeds.chain(in_turn) {
            self.call(Request { address, node, message: message.clone() });
        }
    }

    fn heartbeat(&self) -> Message {
        let info = self.members.as_ref().map_or(&self.this, Members::this).clone();
        Message::Heartbeat { info, registry: self.registry.digest() }
    }

    fn serve(&mut self, start: Start) {
        self.serving = true;
        if let Some(members) = &mut self.members {
            members.begin(start.instance.0, start.counter);
        }
        self.publish_view();
        self.tick();
    }

    fn heard_heartbeat(&mut self, from: NodeId, info: NodeInfo, registry: u64) {
        if info.id != from {
            return;
        }
        self.bootstrap.informed(from);
        self.heard(info);
        if self.members.is_some() && registry != self.registry.digest() {
            self.send_registry(from);
        }
    }

    fn heard(&mut self, info: NodeInfo) {
        let now = self.clock.now();
        let Some(members) = &mut self.members else { return };
        let start = Start { counter: info.start, instance: ActorId(info.instance) };
        // Remembered before anything else is said to it; said again with every heartbeat until it is.
        if start.counter > 0
            && self.store.last_start(info.id) != Some(start)
            && let Err(error) = self.store.record_start(info.id, start)
        {
            tracing::warn!(%error, node = %info.id, "another node's start could not be remembered");
        }
        if members.heard(info, now) {
            self.keep_members();
        }
    }

    fn say_members(&mut self, from: NodeId, info: NodeInfo) -> Message {
        if self.members.is_none() || info.id != from {
            return Message::Declined("no member of a formed cluster".into());
        }
        self.learned(vec![info]);
        Message::Members(self.members.iter().flat_map(Members::infos).collect())
    }

    fn learned(&mut self, infos: Vec<NodeInfo>) {
        let Some(members) = &mut self.members else { return };
        let changed = infos.into_iter().filter(|info| members.learned(info.clone())).count();
        if changed > 0 {
            self.keep_members();
        }
    }

    fn keep_members(&mut self) {
        let infos: Vec<_> = self.members.iter().flat_map(Members::infos).collect();
        self.network.addresses(&infos);
        if let Err(error) = self.files.keep_members(&infos) {
            tracing::warn!(%error, "the members' addresses could not be stored");
        }
    }

    fn exchange(&mut self, entries: Vec<Entry>) -> Message {
        let newer = self.registry.newer_than(&entries);
        self.take_entries(entries);
        if newer.is_empty() { Message::Ok } else { Message::Registry(newer) }
    }

    fn take_entries(&mut self, entries: Vec<Entry>) {
        let mut merged = self.registry.clone();
        if merged.merge(entries, SystemClock.now_us())
            && let Err(error) = self.replace_registry(merged)
        {
            tracing::warn!(%error, "bucket properties could not be stored");
        }
    }

    /// Durable, then in force.
    fn replace_registry(&mut self, registry: Registry) -> Result<(), DirectoryError> {
        self.files.keep_registry(&registry.entries().collect::<Vec<_>>())?;
        self.registry = registry;
        self.buckets.take(self.registry.entries());
        Ok(())
    }

    fn set_bucket(&mut self, name: &str, value: Option<String>) -> Result<(), BucketError> {
        let mut changed = self.registry.clone();
        changed.set(name, value, self.this.id, SystemClock.now_us()).map_err(|error| match error {
            RegistryError::Full(most) => BucketError::TooMany(most),
            RegistryError::TooLarge(_) => BucketError::Storage(error.to_string()),
        })?;
        self.replace_registry(changed).map_err(|error| BucketError::Storage(error.to_string()))?;
        let others: Vec<_> = self.members.iter().flat_map(Members::infos).map(|info| info.id).collect();
        others.into_iter().filter(|&id| id != self.this.id).for_each(|id| self.send_registry(id));
        Ok(())
    }

    fn send_registry(&self, to: NodeId) {
        if let Some(address) = self.address_of(to) {
            let message = Message::Registry(self.registry.entries().cloned().collect());
            self.call(Request { address, node: Some(to), message });
        }
    }

    fn ask_starts(&self, answers: &mpsc::UnboundedSender<(NodeId, Option<Start>)>) {
        let infos = self.members.iter().flat_map(Members::infos);
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

    fn address_of(&self, id: NodeId) -> Option<String> {
        let infos = self.members.as_ref()?.infos();
        infos.into_iter().find(|info| info.id == id).map(|info| info.peer_addr)
    }

    /// Makes the founding state durable where it changed; until it is, nothing that follows from it is said.
    fn keep_founding(&mut self) -> Result<(), String> {
        let kept = self.files.keep_founding(self.bootstrap.state());
        if let Err(error) = kept {
            tracing::error!(%error, "the founding could not be stored");
            return Err(error.to_string());
        }
        self.became_formed();
        Ok(())
    }

    pub(super) fn became_formed(&mut self) {
        let FoundingState::Formed(founding) = self.bootstrap.state() else { return };
        if self.members.is_some() {
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
        self.members = Some(Members::new(self.this.clone(), known, self.options.clone(), self.clock.now()));
        self.show();
    }

    fn liveness(&self, id: NodeId) -> Liveness {
        let silence = self.members.as_ref().map_or(Liveness::Down, |members| members.liveness(id, self.clock.now()));
        let suspect = id != self.this.id && self.network.is_suspect(id);
        if suspect { silence.max(Liveness::Suspect) } else { silence }
    }

    /// A new view only where something changed: it invalidates nothing, but it is not free either.
    fn publish_view(&mut self) {
        let Some(members) = &self.members else { return };
        let states: HashMap<_, _> = members.infos().iter().map(|info| (info.id, self.liveness(info.id))).collect();
        let unchanged = states == self.states && self.shown.load().view.is_some() == self.serving;
        if !unchanged {
            for info in members.infos() {
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
        let mut members: Vec<_> = self.members.iter().flat_map(Members::infos).map(|i| self.member_info(i)).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let published = Published {
            founding: founding.map(|founding| Arc::new(founding.clone())),
            view,
            members: Arc::new(members),
            waiting_for: self.bootstrap.waiting_for(),
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

fn fresh_cluster_id() -> u128 {
    let mut id = [0; 16];
    getrandom::fill(&mut id).expect("the system gives random bytes");
    u128::from_le_bytes(id)
}
