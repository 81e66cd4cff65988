//! Replicas and clients under random histories, beside an exact model that knows every dot by name: what the ranges of
//! a context stand for is held against plain sets.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use rondo_storage::versions::{ActorId, CausalContext, Dot, Metadata, Object, Sibling};

pub(crate) type Dots = BTreeSet<Dot>;

/// One step of a history. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A client reads and keeps the context.
    Read { replica: usize },
    /// A client writes; see [`Seen`].
    Write { replica: usize, seen: Seen, tombstone: bool, write_id: u64, skew_us: u64 },
    /// One replica's object reaches another.
    Merge { from: usize, to: usize },
    /// A replica falls back to an older state of its own, and goes on under a new id.
    Forget { replica: usize, to: usize },
}

/// What the writer had seen.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// Whatever the replica holds: a blind overwrite.
    Held,
    /// Nothing: a blind sibling.
    Nothing,
    /// What a context of some earlier answer covers, however old.
    Earlier(usize),
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = 0..3usize;
    let seen = prop_oneof![
        1 => Just(Seen::Held),
        1 => Just(Seen::Nothing),
        4 => any::<usize>().prop_map(Seen::Earlier),
    ];
    // Few ids, so that requests are coordinated twice and more; number 4 is a delete.
    let write_id = prop_oneof![3 => Just(0), 2 => 1..=4u64];
    let write = (replica.clone(), seen, prop::bool::weighted(0.15), write_id, 0..40u64).prop_map(
        |(replica, seen, tombstone, write_id, skew_us)| {
            let tombstone = if write_id == 0 { tombstone } else { write_id == 4 };
            Step::Write { replica, seen, tombstone, write_id, skew_us }
        },
    );
    let step = prop_oneof![
        2 => replica.clone().prop_map(|replica| Step::Read { replica }),
        5 => write,
        3 => (replica.clone(), replica.clone()).prop_map(|(from, to)| Step::Merge { from, to }),
        1 => (replica, any::<usize>()).prop_map(|(replica, to)| Step::Forget { replica, to }),
    ];
    prop::collection::vec(step, 1..60)
}

/// What the model knows of a write.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) write_id: u64,
    pub(crate) tombstone: bool,
    /// The versions its client had been shown: what it meant to replace.
    pub(crate) shown: Dots,
}

/// A replica's state in plain sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) siblings: BTreeMap<Dot, u64>,
    pub(crate) seen: Dots,
}

/// An answer's context, in both forms, and what its client has been shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) context: CausalContext,
    pub(crate) covered: Dots,
    pub(crate) shown: Dots,
}

#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) actor: ActorId,
    pub(crate) object: Object,
    pub(crate) model: Model,
    pub(crate) earlier: Vec<(Object, Model)>,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) replicas: Vec<Replica>,
    pub(crate) history: BTreeMap<Dot, Written>,
    pub(crate) answers: Vec<Answer>,
    actors: u64,
    now_us: u64,
}

impl Model {
    fn merge(&mut self, other: &Self) {
        let mine = self.siblings.iter().filter(|(d, _)| other.siblings.contains_key(d) || !other.seen.contains(d));
        let theirs = other.siblings.iter().filter(|(d, _)| !self.seen.contains(d));
        self.siblings = mine.chain(theirs).map(|(d, w)| (*d, *w)).collect();
        self.seen.extend(&other.seen);
    }

    /// One dot for each request: the latest.
    pub(crate) fn visible(&self) -> Vec<Dot> {
        let later = |d: &Dot, w: u64| {
            self.siblings.iter().any(|(e, v)| w != 0 && *v == w && (e.counter, e.actor) > (d.counter, d.actor))
        };
        self.siblings.iter().filter(|(d, w)| !later(d, **w)).map(|(d, _)| *d).collect()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let replica = |actor: u64| Replica {
            // Descending, so that the order of ids is not the order of anything else.
            actor: ActorId(100 - actor),
            object: Object::default(),
            model: Model::default(),
            earlier: vec![Default::default()],
        };
        let replicas = (0..3).map(replica).collect();
        Self { replicas, history: BTreeMap::new(), answers: vec![Answer::default()], actors: 3, now_us: 1_000 }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        self.now_us += 7;
        match *step {
            Step::Read { replica } => self.read(replica),
            Step::Write { replica, ref seen, tombstone, write_id, skew_us } => {
                self.write(replica, seen, tombstone, write_id, skew_us);
            }
            Step::Merge { from, to } => {
                let (object, model) = (self.replicas[from].object.clone(), self.replicas[from].model.clone());
                self.replicas[to].object.merge(object);
                self.replicas[to].model.merge(&model);
            }
            Step::Forget { replica, to } => self.forget(replica, to),
        }
        for replica in &mut self.replicas {
            replica.earlier.push((replica.object.clone(), replica.model.clone()));
        }
    }

    fn read(&mut self, replica: usize) {
        let Replica { object, model, .. } = &self.replicas[replica];
        let shown = object.dots().collect();
        self.answers.push(Answer { context: object.context.clone(), covered: model.seen.clone(), shown });
    }

    fn forget(&mut self, replica: usize, to: usize) {
        self.actors += 1;
        let replica = &mut self.replicas[replica];
        (replica.object, replica.model) = replica.earlier[to % replica.earlier.len()].clone();
        replica.actor = ActorId(100 - self.actors);
    }

    fn write(&mut self, at: usize, seen: &Seen, tombstone: bool, write_id: u64, skew_us: u64) {
        let Replica { actor, object, model, .. } = &mut self.replicas[at];
        let seen = match seen {
            Seen::Held => {
                let shown = model.siblings.keys().copied().collect();
                Answer { context: object.context.clone(), covered: model.seen.clone(), shown }
            }
            Seen::Nothing => Answer::default(),
            Seen::Earlier(which) => self.answers[which % self.answers.len()].clone(),
        };
        let highest = object.context.highest(*actor).max(seen.context.highest(*actor));
        let dot = Dot { actor: *actor, counter: (highest + 1).max(self.now_us + skew_us) };
        let value =
            (!tombstone).then(|| if write_id == 0 { format!("{dot:?}") } else { format!("request {write_id}") });
        let metadata = Metadata { write_id, modified_us: self.now_us, ..Metadata::default() };

        object.update(&seen.context, Sibling { dot, value: value.map(Bytes::from), metadata });

        let requests: BTreeSet<u64> =
            model.siblings.iter().filter(|(d, w)| **w != 0 && seen.covered.contains(d)).map(|(_, w)| *w).collect();
        let deleted = |d: &Dot| self.history[d].tombstone;
        model.siblings.retain(|d, w| !seen.covered.contains(d) && !requests.contains(w) && !deleted(d));
        model.siblings.insert(dot, write_id);
        model.seen.extend(&seen.covered);
        model.seen.insert(dot);
        self.history.insert(dot, Written { write_id, tombstone, shown: seen.shown.clone() });
        self.answer(at, seen, dot, write_id);
    }

    fn answer(&mut self, at: usize, seen: Answer, dot: Dot, write_id: u64) {
        let Replica { object, model, .. } = &self.replicas[at];
        let context = object.answer_context(&seen.context, dot);
        let own = |d: &Dot| *d == dot || (write_id != 0 && model.siblings.get(d) == Some(&write_id));
        let unseen = |d: &Dot| model.siblings.contains_key(d) && !own(d) && !seen.covered.contains(d);
        let covered = model.seen.iter().filter(|d| !unseen(d)).copied().collect();
        let twins = model.siblings.keys().filter(|d| own(d));
        let shown = seen.shown.iter().chain(twins).copied().collect();
        self.answers.push(Answer { context, covered, shown });
    }

    pub(crate) fn is_twin(&self, a: &Dot, b: &Dot) -> bool {
        a == b || (self.history[a].write_id != 0 && self.history[a].write_id == self.history[b].write_id)
    }
}
