//! The listing machine against a model: replicas that miss rows, damaged and distrusted ones, one that is down or
//! hangs, pages of a few rows.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::{
    CoordinatorOptions, Failure, List, ListAction, ListActions, ListAnswer, ListEvent, ListQuery, ListRequest, Now,
    QuorumChoice,
};
use rondo_ring::{
    Layout, Liveness, Member, NodeId, PartitionCount, PartitionId, PartitionSet, ReplicationFactor, Token, View,
};
use rondo_storage::store::{ListPage, Listed};
use rondo_storage::versions::{ActorId, CausalContext, Conflict, Dot, Metadata, Object, Sibling};

const DEADLINE: Now = Duration::from_secs(5);
const NOW_US: u64 = 1_000;
const BUCKET: &str = "fruit";

/// Random numbers (SplitMix64), the same in every run of a seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u8) -> Self {
        Self(u64::from(seed) << 32)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed >> 33) % bound as u64) as usize
    }
}

fn view(nodes: u128, this: u128, down: Option<NodeId>) -> View {
    let members = (1..=nodes).map(|i| Member { id: NodeId(i), zone: "z".into(), weight: 1 }).collect();
    let n = ReplicationFactor::new(3).unwrap();
    let layout = Arc::new(Layout::found(members, PartitionCount::new(16).unwrap(), n).unwrap());
    View::new(NodeId(this), layout, |node| if Some(node) == down { Liveness::Down } else { Liveness::Up })
}

fn write(object: &mut Object, context: &CausalContext, dot: u64, value: Option<usize>, expires_us: u64) {
    let value = value.map(|bytes| Bytes::from(vec![b'v'; bytes]));
    let metadata = Metadata { modified_us: dot, expires_us, ..Metadata::default() };
    object.update(context, Sibling { dot: Dot { actor: ActorId(dot % 5), counter: dot }, value, metadata });
}

/// What every replica holds, and what a listing has to show.
#[derive(Default)]
struct World {
    replicas: BTreeMap<NodeId, BTreeMap<String, Object>>,
    merged: BTreeMap<String, Object>,
    damaged: BTreeSet<(NodeId, String)>,
    distrusted: BTreeSet<(NodeId, PartitionId)>,
    /// Gives no page.
    broken: Option<NodeId>,
    /// Does not answer.
    hung: Option<NodeId>,
}

impl World {
    /// Each key is written a few times; each write reaches two or three of its three owners.
    fn random(dice: &mut Dice, view: &View, keys: usize) -> Self {
        let mut world = Self::default();
        let n = ReplicationFactor::new(3).unwrap();
        let mut dot = 1;
        for number in 0..keys {
            let key = format!("{}{}", ["a", "b", "ba", "bé", "c"][dice.below(5)], number * 7 % 101);
            let owners = view.owners(Token::of(BUCKET.as_bytes(), key.as_bytes()), n).to_vec();
            for _ in 0..=dice.below(3) {
                let missing = dice.below(5);
                let base =
                    world.replicas.entry(owners[dice.below(3)]).or_default().get(&key).cloned().unwrap_or_default();
                let mut object = base;
                let seen = if dice.below(3) == 0 { CausalContext::default() } else { object.context.clone() };
                let value = (dice.below(4) > 0).then(|| dice.below(50));
                let expires_us = [0, NOW_US, NOW_US + 1][dice.below(3)];
                write(&mut object, &seen, dot, value, expires_us);
                dot += 1;
                world.merged.entry(key.clone()).or_default().merge(object.clone());
                for (index, owner) in owners.iter().enumerate() {
                    if index != missing {
                        world.replicas.entry(*owner).or_default().entry(key.clone()).or_default().merge(object.clone());
                    }
                }
            }
        }
        world
    }

    /// Key, versions and bytes, as the model has it.
    fn expected(&self, prefix: &str) -> Vec<(String, usize, u64)> {
        let shown = self.merged.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(key, object)| {
            let live: Vec<_> = object.live(NOW_US).collect();
            let bytes = live.iter().map(|sibling| sibling.value.as_ref().unwrap().len() as u64).sum();
            (key.clone(), live.len(), bytes)
        });
        shown.filter(|(_, siblings, _)| *siblings > 0).collect()
    }

    fn page(&self, node: NodeId, query: &ListQuery, rows_max: usize) -> Option<Box<ListPage>> {
        if self.broken == Some(node) {
            return None;
        }
        let range = &query.range;
        let partition = |key: &str| range.partitions.of().partition_of(Token::of(BUCKET.as_bytes(), key.as_bytes()));
        let mut untrusted = PartitionSet::empty(range.partitions.of());
        let mine = self.distrusted.iter().filter(|(distrusting, _)| *distrusting == node);
        mine.filter(|(_, p)| range.partitions.contains(*p)).for_each(|(_, p)| untrusted.insert(*p));
        let none = BTreeMap::new();
        let held = self.replicas.get(&node).unwrap_or(&none);
        let inside =
            |key: &String| key.starts_with(&range.prefix) && range.after.as_ref().is_none_or(|after| key > after);
        let keys: Vec<&String> = held.keys().filter(|key| inside(key)).collect();
        let through = (keys.len() > rows_max).then(|| keys[rows_max - 1].clone());
        let rows = keys.into_iter().take(rows_max).filter(|key| {
            let partition = partition(key);
            range.partitions.contains(partition) && !untrusted.contains(partition)
        });
        let outline =
            |key: &String| (!self.damaged.contains(&(node, key.clone()))).then(|| held[key].clone().outline());
        let rows = rows.map(|key| Listed { key: key.clone(), outline: outline(key) }).collect();
        Some(Box::new(ListPage { rows, through, untrusted }))
    }
}

/// Runs a listing until it answers. Answers come in random order; the hung node's never do.
fn run(world: &World, view: &View, dice: &mut Dice, request: ListRequest) -> (Result<ListAnswer, Failure>, Now) {
    let (mut list, mut actions) = List::start(request, view, &CoordinatorOptions::default(), Now::ZERO);
    let (mut now, mut wake_at) = (Now::ZERO, DEADLINE);
    let mut pending: VecDeque<(NodeId, usize, Box<ListQuery>)> = VecDeque::new();
    loop {
        if let Some(answer) = carry_out(actions, &mut pending, &mut wake_at) {
            assert!(list.is_finished() && list.on_event(ListEvent::Wake, DEADLINE).is_empty(), "answered twice");
            return (answer, now);
        }
        pending.retain(|(from, ..)| Some(*from) != world.hung);
        let event = match pending.len() {
            0 => {
                now = wake_at;
                ListEvent::Wake
            }
            several => {
                let (from, stream, query) = pending.remove(dice.below(several)).unwrap();
                ListEvent::Page { stream, page: world.page(from, &query, 1 + dice.below(5)) }
            }
        };
        actions = list.on_event(event, now);
    }
}

fn carry_out(
    actions: ListActions,
    pending: &mut VecDeque<(NodeId, usize, Box<ListQuery>)>,
    wake_at: &mut Now,
) -> Option<Result<ListAnswer, Failure>> {
    for action in actions {
        match action {
            ListAction::Ask { from, stream, query, .. } => pending.push_back((from, stream, query)),
            ListAction::WakeAt(at) => *wake_at = at,
            ListAction::Answer(answer) => return Some(answer),
        }
    }
    None
}

fn request(prefix: &str, after: Option<String>, limit: usize, r: QuorumChoice) -> ListRequest {
    let n = ReplicationFactor::new(3).unwrap();
    let (bucket, prefix) = (BUCKET.to_string(), prefix.to_string());
    let conflict = Conflict::Siblings;
    ListRequest { bucket, prefix, after, limit, n, r, conflict, now_us: NOW_US, deadline: DEADLINE }
}

/// All pages of a listing: key, versions, bytes.
fn walk(world: &World, view: &View, dice: &mut Dice, prefix: &str, r: QuorumChoice) -> Vec<(String, usize, u64)> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let limit = 1 + dice.below(9);
        let (answer, _) = run(world, view, dice, request(prefix, after, limit, r));
        let ListAnswer { items, next } = answer.unwrap();
        assert!(items.len() <= limit);
        assert!(next.is_none() || items.len() == limit, "short although more follow");
        all.extend(items.into_iter().map(|item| (item.key, item.siblings, item.bytes)));
        match next {
            Some(key) => after = Some(key),
            None => return all,
        }
    }
}

/// C8: with R + W > N a listing has every acknowledged write, whatever one replica lacks, and nothing that is deleted
/// or has expired; from any node, in any order of the answers.
#[test]
fn every_page_walk_gives_what_the_model_holds() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let view = view(3 + u128::from(seed % 4), 1 + u128::from(seed % 3), None);
        let world = World::random(&mut dice, &view, 120);
        for prefix in ["", "b", "bé", "zz"] {
            assert_eq!(walk(&world, &view, &mut dice, prefix, QuorumChoice::Quorum), world.expected(prefix), "{seed}");
        }
        assert_eq!(walk(&world, &view, &mut dice, "", QuorumChoice::All), world.expected(""), "{seed}");
    }
}

/// One node that is down, refuses, hangs, is damaged or distrusted changes nothing.
#[test]
fn one_node_is_never_missed() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let nodes = 3 + usize::from(seed % 4);
        let victim = NodeId(1 + dice.below(nodes) as u128);
        let down = (seed % 5 == 0).then_some(victim);
        let view = view(nodes as u128, 1 + dice.below(nodes) as u128, down);
        let mut world = World::random(&mut dice, &view, 80);
        match seed % 5 {
            0 | 1 => world.broken = Some(victim),
            2 => world.hung = Some(victim),
            3 => {
                let mine = world.replicas.get(&victim).into_iter().flat_map(BTreeMap::keys);
                world.damaged = mine.filter(|_| dice.below(4) == 0).map(|key| (victim, key.clone())).collect();
            }
            _ => {
                let some = (0..16).map(PartitionId).filter(|_| dice.below(3) == 0);
                world.distrusted = some.map(|partition| (victim, partition)).collect();
                // What it holds of them is less than it acknowledged.
                let of = view.layout().partitions();
                let partition = |key: &str| of.partition_of(Token::of(BUCKET.as_bytes(), key.as_bytes()));
                let lost = world.distrusted.clone();
                let held = world.replicas.entry(victim).or_default();
                held.retain(|key, _| !lost.contains(&(victim, partition(key))));
            }
        }
        // Each write is on two owners at least: the two that are left hold everything, by one of them at least.
        let expected = world.expected("");
        assert_eq!(walk(&world, &view, &mut dice, "", QuorumChoice::Quorum), expected, "seed {seed}, {victim}");
    }
}

/// A hung owner costs its patience once an answer, not the deadline.
#[test]
fn a_hung_owner_is_no_visible_stall() {
    let mut dice = Dice::new(7);
    let view = view(3, 1, None);
    let mut world = World::random(&mut dice, &view, 200);
    world.hung = Some(NodeId(2));
    let (answer, took) = run(&world, &view, &mut dice, request("", None, 50, QuorumChoice::Quorum));
    assert_eq!(answer.unwrap().items.len(), 50);
    assert!(took <= Duration::from_millis(CoordinatorOptions::default().page_patience_ms.into()), "{took:?}");
}

/// C4: less than R votes is no answer, and that is said at once.
#[test]
fn two_owners_that_do_not_vote_make_it_fail() {
    let mut dice = Dice::new(3);
    let view = view(3, 1, None);
    let mut world = World::random(&mut dice, &view, 50);
    world.broken = Some(NodeId(2));
    world.distrusted = [(NodeId(3), PartitionId(4))].into();
    let (answer, took) = run(&world, &view, &mut dice, request("", None, 10, QuorumChoice::Quorum));
    let Err(Failure::Unavailable { required, n, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!((required, n, took), (2, 3, Now::ZERO));
    let (answer, _) = run(&world, &view, &mut dice, request("", None, 10, QuorumChoice::One));
    assert!(answer.is_ok(), "{answer:?}");
}

/// C6: by the deadline, with what there is.
#[test]
fn a_listing_that_cannot_go_on_ends_at_its_deadline() {
    let mut dice = Dice::new(3);
    let view = view(3, 1, None);
    let mut world = World::random(&mut dice, &view, 50);
    (world.broken, world.hung) = (Some(NodeId(2)), Some(NodeId(3)));
    let (answer, took) = run(&world, &view, &mut dice, request("", None, 10, QuorumChoice::Quorum));
    let Err(Failure::TimedOut { required, acked, n, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!((required, acked, n, took), (2, 1, 3, DEADLINE));
}

/// A page that is none (out of order, outside of what was asked for, or no further) counts as no page.
#[test]
fn a_replica_that_makes_no_sense_is_not_believed() {
    let view = view(3, 1, None);
    let row = |key: &str| Listed { key: key.into(), outline: Some(Object::default()) };
    let of = view.layout().partitions();
    let page = |keys: &[&str], through: Option<&str>, q: PartitionCount| ListPage {
        rows: keys.iter().map(|key| row(key)).collect(),
        through: through.map(str::to_owned),
        untrusted: PartitionSet::empty(q),
    };
    let bad = [
        page(&["kb", "ka"], None, of),
        page(&["kb", "kb"], None, of),
        page(&["x"], None, of),
        page(&["k"], None, of),
        page(&["kb"], Some("ka"), of),
        page(&[], Some("k"), of),
        page(&[], None, PartitionCount::new(8).unwrap()),
    ];
    for page in bad {
        let asked = request("k", Some("k".into()), 10, QuorumChoice::All);
        let (mut list, actions) = List::start(asked, &view, &CoordinatorOptions::default(), Now::ZERO);
        assert!(matches!(actions[0], ListAction::Ask { stream: 0, .. }));
        let shown = format!("{page:?}");
        let actions = list.on_event(ListEvent::Page { stream: 0, page: Some(Box::new(page)) }, Now::ZERO);
        let failed = |action: &ListAction| matches!(action, ListAction::Answer(Err(Failure::Unavailable { .. })));
        assert!(actions.iter().any(failed), "believed: {shown}");
    }
}
