//! One exchange, on the side that begins it: compare the roots, descend where they differ, see whether the difference
//! lasts, and mend what it is about.
//!
//! The machine is told what happened and says what to do next; it reads the store, and never waits. One question is
//! outstanding at a time, and what it keeps is bounded by [`LEAVES_MAX`] and one page of versions. It may be dropped at
//! any moment: what has been merged is merged, and the next round finds what is left.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rondo_ring::{PartitionId, PartitionSet};

use crate::compare::{Pair, Roots, digests};
use crate::mend::{Mend, Step};
use crate::options::AntiEntropyOptions;
use crate::question::{Answer, DIGESTS_MAX, Group, Question, Span, unpacked};

/// Partitions that one round descends into; the next one goes on behind them.
pub const PARTITIONS_MAX: usize = 64;
/// Differing leaves that one round looks into.
pub const LEAVES_MAX: usize = 1 << 16;
/// Levels of a tree per question: a node has 64 digests below it, 512 bytes.
const LEVELS: u8 = 6;
/// Nodes of one group, so that its digests are 32 KiB.
const GROUP_NODES_MAX: usize = 64;
/// Digests of one question.
const QUESTION_DIGESTS_MAX: usize = DIGESTS_MAX / 4;
/// Looks at a leaf whose difference keeps changing: then it is looked into all the same, since a hot key beside a lost
/// one would hide that for ever.
const LOOKS_MAX: u32 = 3;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first one.
    Begin,
    /// The answer to the question asked.
    Answered(Answer),
    /// The time asked for has passed.
    Waited,
    /// The rows are merged, durably; so many of them changed something here.
    Merged(u64),
    /// There is no answer, or the merge failed.
    Failed,
}

/// What to do. Exactly one is outstanding.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask the other node: [`Event::Answered`] or [`Event::Failed`] follows.
    Ask(Question),
    /// [`Event::Waited`] follows after so long.
    Wait(Duration),
    /// Merge these rows here, durably: [`Event::Merged`] or [`Event::Failed`] follows.
    Merge(Vec<(Bytes, Bytes)>),
    /// The round is over.
    Finish(Outcome),
}

/// What a round knows from the one before it, and leaves to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Differences of roots that no key of both nodes explains: keys of which one of them is no owner, since their bucket
    /// has a smaller N. They count as none for as long as they are exactly these.
    pub explained: BTreeMap<PartitionId, u64>,
    /// Where the next round begins to look, so that none starves.
    pub next: Option<PartitionId>,
    /// Whether the two agreed at the end.
    pub in_sync: bool,
}

/// What a round came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The other node answered, and nothing failed here.
    pub succeeded: bool,
    /// For the next round.
    pub memory: Memory,
    /// Differing leaves that lasted, as one number: the same again in the next round means no progress.
    pub fingerprint: u64,
    /// Differing leaves that lasted.
    pub leaves: usize,
    /// Keys whose objects differed or that one side lacked.
    pub keys_differing: u64,
    /// Keys this node got something new of.
    pub keys_mended: u64,
    /// Partitions both sides could compare.
    pub compared: usize,
    /// Roots that travelled: none where one hash said it all.
    pub roots: usize,
    /// Whether they are all the partitions that the two share.
    pub complete: bool,
}

/// A leaf that differs, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Leaf {
    partition: PartitionId,
    at: u32,
    by: u64,
}

#[derive(Debug)]
enum State {
    Comparing(Roots),
    Descending {
        asked: Vec<Group>,
        frontier: VecDeque<Group>,
    },
    /// The difference is given time to go away.
    Waiting,
    Confirming {
        asked: Vec<Group>,
        left: VecDeque<Group>,
    },
    Mending(Box<Mend>),
    /// Not begun, or finished.
    Idle,
}

/// The machine.
#[derive(Debug)]
pub struct Round {
    options: AntiEntropyOptions,
    shared: PartitionSet,
    height: u8,
    state: State,
    /// Differing leaves, in order once they are being confirmed.
    leaves: Vec<Leaf>,
    /// Those of them whose difference has changed since.
    moved: Vec<Leaf>,
    /// Those whose difference has lasted.
    lasting: Vec<Leaf>,
    looks: u32,
    /// Not looked into as a whole: nothing can be said of what explains their difference.
    partial: BTreeSet<PartitionId>,
    outcome: Outcome,
}

impl Round {
    /// A round with the pair's other node.
    pub fn new(pair: &Pair<'_>, memory: Memory, options: &AntiEntropyOptions) -> Self {
        Self {
            options: options.clone(),
            shared: pair.partitions(),
            height: pair.height(),
            state: State::Idle,
            leaves: Vec::new(),
            moved: Vec::new(),
            lasting: Vec::new(),
            looks: 0,
            partial: BTreeSet::new(),
            outcome: Outcome { memory, ..Outcome::default() },
        }
    }

    /// What to do after an event. Touches the disk.
    pub fn step(&mut self, event: Event, pair: &Pair<'_>) -> Action {
        match (std::mem::replace(&mut self.state, State::Idle), event) {
            (State::Idle, Event::Begin) => self.begin(pair),
            (State::Comparing(ours), Event::Answered(answer)) => self.compared(&ours, answer, pair),
            (State::Descending { asked, frontier }, Event::Answered(Answer::Digests(theirs)))
                if theirs.len() == asked.len() =>
            {
                self.descended(&asked, frontier, &theirs, pair)
            }
            (State::Waiting, Event::Waited) => self.look_again(pair),
            (State::Confirming { asked, left }, Event::Answered(Answer::Digests(theirs)))
                if theirs.len() == asked.len() =>
            {
                self.confirmed(&asked, left, &theirs, pair)
            }
            (State::Mending(mut mend), event @ (Event::Answered(_) | Event::Merged(_))) => {
                let step = mend.step(event, pair);
                self.mend(mend, step)
            }
            _ => self.finish(false),
        }
    }

    fn begin(&mut self, pair: &Pair<'_>) -> Action {
        let roots = Roots::of(pair.store, &self.shared);
        let question = Question::Compare { hash: roots.hash(), in_sync: self.outcome.memory.in_sync };
        self.state = State::Comparing(roots);
        Action::Ask(question)
    }

    fn compared(&mut self, ours: &Roots, answer: Answer, pair: &Pair<'_>) -> Action {
        let theirs = match answer {
            Answer::Same => ours.clone(),
            Answer::Roots { partitions, roots } => match Roots::from_answer(self.shared.of(), partitions, &roots) {
                Some(theirs) => {
                    self.outcome.roots = theirs.partitions.len();
                    theirs
                }
                None => return self.finish(false),
            },
            _ => return self.finish(false),
        };
        let both = ours.differences(&theirs);
        self.outcome.compared = both.len();
        self.outcome.complete = both.len() == self.shared.len();
        let memory = &mut self.outcome.memory;
        memory.explained.retain(|&partition, by| both.binary_search(&(partition, *by)).is_ok());
        let unexplained = |(partition, by): &(PartitionId, u64)| *by != 0 && !memory.explained.contains_key(partition);
        let mut differing: Vec<_> = both.into_iter().filter(unexplained).map(|(partition, _)| partition).collect();
        if let Some(next) = memory.next.take() {
            let place = differing.partition_point(|&partition| partition < next);
            differing.rotate_left(place);
        }
        if let Some(&next) = differing.get(PARTITIONS_MAX) {
            memory.next = Some(next);
            differing.truncate(PARTITIONS_MAX);
        }
        let root = |partition| Group { partition, depth: 0, below: LEVELS.min(self.height), nodes: vec![0] };
        let frontier = differing.into_iter().map(root).collect();
        self.descend(frontier, pair)
    }

    fn descend(&mut self, mut frontier: VecDeque<Group>, pair: &Pair<'_>) -> Action {
        if self.leaves.len() >= LEAVES_MAX {
            self.partial.extend(frontier.drain(..).map(|group| group.partition));
        }
        let asked = take_groups(&mut frontier);
        if asked.is_empty() {
            return self.wait(pair);
        }
        let question = Question::Digests(asked.clone());
        self.state = State::Descending { asked, frontier };
        Action::Ask(question)
    }

    fn descended(
        &mut self,
        asked: &[Group],
        mut frontier: VecDeque<Group>,
        theirs: &[Option<Bytes>],
        pair: &Pair<'_>,
    ) -> Action {
        for (group, differing) in self.differing(asked, theirs, pair) {
            let (partition, depth) = (group.partition, group.depth + group.below);
            if depth == self.height {
                self.leaves.extend(differing.into_iter().map(|(at, by)| Leaf { partition, at, by }));
                continue;
            }
            let below = LEVELS.min(self.height - depth);
            let nodes: Vec<u32> = differing.into_iter().map(|(node, _)| node).collect();
            let next = |nodes: &[u32]| Group { partition, depth, below, nodes: nodes.to_vec() };
            frontier.extend(nodes.chunks(GROUP_NODES_MAX).map(next));
        }
        self.descend(frontier, pair)
    }

    /// For each group the nodes asked for that differ, and by what. A partition whose tree is being built again, on
    /// either side, is left for a later round.
    fn differing<'g>(
        &mut self,
        asked: &'g [Group],
        theirs: &[Option<Bytes>],
        pair: &Pair<'_>,
    ) -> Vec<(&'g Group, Vec<(u32, u64)>)> {
        let mut all = Vec::with_capacity(asked.len());
        for (group, theirs) in asked.iter().zip(theirs) {
            match (theirs, digests(pair.store, group)) {
                (Some(theirs), Some(ours)) => all.push((group, differences(group, &ours, theirs))),
                _ => {
                    self.partial.insert(group.partition);
                }
            }
        }
        all
    }

    /// A write that has reached one of the two and not yet the other is a difference as well: it is given time.
    fn wait(&mut self, pair: &Pair<'_>) -> Action {
        if self.leaves.is_empty() {
            return self.settled(pair);
        }
        self.leaves.sort_unstable();
        self.state = State::Waiting;
        Action::Wait(self.options.confirm_after())
    }

    fn look_again(&mut self, pair: &Pair<'_>) -> Action {
        self.looks += 1;
        let mut left = VecDeque::new();
        for leaves in self.leaves.chunk_by(|a, b| a.partition == b.partition) {
            let (partition, depth) = (leaves[0].partition, self.height);
            let nodes: Vec<u32> = leaves.iter().map(|leaf| leaf.at).collect();
            let group = |nodes: &[u32]| Group { partition, depth, below: 0, nodes: nodes.to_vec() };
            left.extend(nodes.chunks(QUESTION_DIGESTS_MAX).map(group));
        }
        self.confirm(left, pair)
    }

    fn confirm(&mut self, mut left: VecDeque<Group>, pair: &Pair<'_>) -> Action {
        let asked = take_groups(&mut left);
        if !asked.is_empty() {
            let question = Question::Digests(asked.clone());
            self.state = State::Confirming { asked, left };
            return Action::Ask(question);
        }
        self.leaves = std::mem::take(&mut self.moved);
        if self.looks < LOOKS_MAX {
            return self.wait(pair);
        }
        self.lasting.append(&mut self.leaves);
        self.settled(pair)
    }

    fn confirmed(
        &mut self,
        asked: &[Group],
        left: VecDeque<Group>,
        theirs: &[Option<Bytes>],
        pair: &Pair<'_>,
    ) -> Action {
        for (group, differing) in self.differing(asked, theirs, pair) {
            for (at, by) in differing {
                let leaf = Leaf { partition: group.partition, at, by };
                let lasts = self.leaves.binary_search(&leaf).is_ok();
                let list = if lasts { &mut self.lasting } else { &mut self.moved };
                list.push(leaf);
            }
        }
        self.confirm(left, pair)
    }

    /// It is known which leaves differ.
    fn settled(&mut self, pair: &Pair<'_>) -> Action {
        self.lasting.sort_unstable();
        self.outcome.leaves = self.lasting.len();
        let fold = |all: u64, leaf: &Leaf| all.rotate_left(1) ^ leaf.by ^ u64::from(leaf.partition.0);
        self.outcome.fingerprint = self.lasting.iter().fold(0, fold);
        let mut mend = Box::new(Mend::new(spans(&self.lasting)));
        let step = mend.step(Event::Begin, pair);
        self.mend(mend, step)
    }

    fn mend(&mut self, mend: Box<Mend>, step: Step) -> Action {
        (self.outcome.keys_differing, self.outcome.keys_mended) = (mend.keys_differing, mend.keys_mended);
        match step {
            Step::Ask(question) => {
                self.state = State::Mending(mend);
                Action::Ask(question)
            }
            Step::Merge(rows) => {
                self.state = State::Mending(mend);
                Action::Merge(rows)
            }
            Step::Failed => self.finish(false),
            Step::Done => {
                self.explain(&mend.acted);
                self.finish(true)
            }
        }
    }

    /// What differs by rows that do not concern this pair is explained, and costs nothing from now on.
    fn explain(&mut self, acted: &BTreeSet<PartitionId>) {
        for leaves in self.lasting.chunk_by(|a, b| a.partition == b.partition) {
            let partition = leaves[0].partition;
            if !acted.contains(&partition) && !self.partial.contains(&partition) {
                let by = leaves.iter().fold(0, |all, leaf| all ^ leaf.by);
                self.outcome.memory.explained.insert(partition, by);
            }
        }
    }

    fn finish(&mut self, succeeded: bool) -> Action {
        self.outcome.succeeded = succeeded;
        let whole = self.outcome.complete && self.outcome.memory.next.is_none() && self.partial.is_empty();
        self.outcome.memory.in_sync = succeeded && whole && self.outcome.keys_differing == 0;
        Action::Finish(std::mem::take(&mut self.outcome))
    }
}

/// As many groups as make one question.
fn take_groups(groups: &mut VecDeque<Group>) -> Vec<Group> {
    let (mut taken, mut count) = (Vec::new(), 0);
    while count < QUESTION_DIGESTS_MAX
        && let Some(group) = groups.pop_front()
    {
        count += group.nodes.len() << group.below;
        taken.push(group);
    }
    taken
}

/// Nodes at the depth of the digests, whose digests differ, and by what.
fn differences(group: &Group, ours: &[u64], theirs: &[u8]) -> Vec<(u32, u64)> {
    let nodes = group.nodes.iter().flat_map(|node| {
        let first = node << group.below;
        first..first + (1 << group.below)
    });
    let by = ours.iter().zip(unpacked(theirs)).map(|(ours, theirs)| ours ^ theirs);
    nodes.zip(by).filter(|(_, by)| *by != 0).collect()
}

/// The leaves as spans, in order.
fn spans(leaves: &[Leaf]) -> VecDeque<Span> {
    let mut spans: VecDeque<Span> = VecDeque::new();
    for &Leaf { partition, at, .. } in leaves {
        match spans.back_mut() {
            Some(span) if span.partition == partition && span.last + 1 == at => span.last = at,
            _ => spans.push_back(Span { partition, first: at, last: at }),
        }
    }
    spans
}
