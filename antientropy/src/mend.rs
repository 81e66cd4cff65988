//! The last part of a round: in the leaves that differ, versions first, then only the values one side lacks, both ways.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rondo_ring::PartitionId;
use rondo_storage::versions::Object;

use crate::compare::Pair;
use crate::listing::{self, Listing, token_of};
use crate::question::{Answer, Question, ROWS_MAX, SPANS_MAX, Span, VALUES_BYTES_MAX, Wanted};
use crate::round::Event;

/// What to do next.
#[derive(Debug)]
pub(crate) enum Step {
    Ask(Question),
    Merge(Vec<(Bytes, Bytes)>),
    Done,
    Failed,
}

/// A row the other side has, and this one not, or not the same.
#[derive(Debug)]
struct Pull {
    row: Bytes,
    /// Of the other side's object.
    digest: u64,
    /// There is an object here as well: the other side may lack some of it.
    both: bool,
}

#[derive(Debug)]
enum Stage {
    Listing { ours: Listing, spans: usize },
    Fetching { asked: Vec<Pull> },
    Merging { looked_at: Vec<Pull> },
    Giving,
}

/// Goes over the spans, a page of versions at a time.
#[derive(Debug)]
pub(crate) struct Mend {
    spans: VecDeque<Span>,
    after: Option<Bytes>,
    stage: Stage,
    pulls: VecDeque<Pull>,
    gives: VecDeque<Bytes>,
    /// Partitions in which a key of both nodes differed.
    pub(crate) acted: BTreeSet<PartitionId>,
    pub(crate) keys_differing: u64,
    pub(crate) keys_mended: u64,
}

impl Mend {
    pub(crate) fn new(spans: VecDeque<Span>) -> Self {
        Self {
            spans,
            after: None,
            stage: Stage::Giving,
            pulls: VecDeque::new(),
            gives: VecDeque::new(),
            acted: BTreeSet::new(),
            keys_differing: 0,
            keys_mended: 0,
        }
    }

    pub(crate) fn step(&mut self, event: Event, pair: &Pair<'_>) -> Step {
        match (std::mem::replace(&mut self.stage, Stage::Giving), event) {
            (_, Event::Begin) => self.next_page(pair),
            (Stage::Listing { ours, spans }, Event::Answered(Answer::Versions { rows, upto })) => {
                self.listed(ours, Listing { rows, upto }, spans, pair)
            }
            (Stage::Fetching { asked }, Event::Answered(Answer::Values { rows, looked_at })) => {
                self.fetched(asked, rows, looked_at as usize, pair)
            }
            (Stage::Merging { looked_at }, Event::Merged(changed)) => {
                self.keys_mended += changed;
                self.merged(looked_at, pair)
            }
            (Stage::Giving, Event::Answered(Answer::Taken)) => self.go_on(pair),
            _ => Step::Failed,
        }
    }

    fn next_page(&mut self, pair: &Pair<'_>) -> Step {
        self.pass_over(pair);
        if self.spans.is_empty() {
            return Step::Done;
        }
        let spans: Vec<Span> = self.spans.iter().take(SPANS_MAX).copied().collect();
        let Ok(ours) = listing::list(pair, &spans, self.after.as_ref(), None) else { return Step::Failed };
        let (after, upto) = (self.after.clone(), ours.upto.clone());
        self.stage = Stage::Listing { ours, spans: spans.len() };
        Step::Ask(Question::Versions { spans, after, upto })
    }

    /// Leaves out the spans that are done with.
    fn pass_over(&mut self, pair: &Pair<'_>) {
        let Some(after) = self.after.as_deref().map(token_of) else { return };
        let is_over = |span: &Span| {
            let tokens = pair.store.leaf_tokens(span.partition, span.last as usize);
            tokens.is_none_or(|(_, last)| last < after)
        };
        while self.spans.front().is_some_and(is_over) {
            self.spans.pop_front();
        }
    }

    /// Compares both listings as far as both go.
    fn listed(&mut self, ours: Listing, theirs: Listing, spans: usize, pair: &Pair<'_>) -> Step {
        let bound = match (ours.upto, theirs.upto) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
        if bound.is_some() && bound <= self.after {
            return Step::Failed;
        }
        let within = |row: &Bytes| bound.as_ref().is_none_or(|bound| row <= bound);
        let mut ours: BTreeMap<Bytes, u64> = ours.rows.into_iter().filter(|(row, _)| within(row)).collect();
        for (row, digest) in theirs.rows.into_iter().filter(|(row, _)| within(row) && pair.keeps(row)) {
            match ours.remove(&row) {
                Some(held) if held == digest => {}
                held => self.pulls.push_back(Pull { row, digest, both: held.is_some() }),
            }
        }
        self.gives = ours.into_keys().collect();
        self.keys_differing += (self.pulls.len() + self.gives.len()) as u64;
        let of = pair.view.layout();
        let rows = self.pulls.iter().map(|pull| &pull.row).chain(&self.gives);
        self.acted.extend(rows.map(|row| of.partition_of(token_of(row))));
        if bound.is_none() {
            self.spans.drain(..spans);
        }
        self.after = bound;
        self.go_on(pair)
    }

    fn go_on(&mut self, pair: &Pair<'_>) -> Step {
        if !self.pulls.is_empty() {
            return self.fetch(pair);
        }
        if !self.gives.is_empty() {
            return self.give(pair);
        }
        self.next_page(pair)
    }

    fn fetch(&mut self, pair: &Pair<'_>) -> Step {
        let asked: Vec<Pull> = self.pulls.drain(..self.pulls.len().min(ROWS_MAX)).collect();
        let wanted = |pull: &Pull| Wanted { row: pull.row.clone(), outline: outline(pair, pull) };
        let question = Question::Values(asked.iter().map(wanted).collect());
        self.stage = Stage::Fetching { asked };
        Step::Ask(question)
    }

    fn fetched(
        &mut self,
        mut asked: Vec<Pull>,
        mut rows: Vec<(Bytes, Bytes)>,
        looked_at: usize,
        pair: &Pair<'_>,
    ) -> Step {
        if looked_at == 0 || looked_at > asked.len() {
            return Step::Failed;
        }
        for pull in asked.drain(looked_at..).rev() {
            self.pulls.push_front(pull);
        }
        let keys: BTreeSet<&Bytes> = asked.iter().map(|pull| &pull.row).collect();
        rows.retain(|(row, _)| keys.contains(row));
        if rows.is_empty() {
            return self.merged(asked, pair);
        }
        self.stage = Stage::Merging { looked_at: asked };
        Step::Merge(rows)
    }

    /// What is now more here than the other side has is given to it.
    fn merged(&mut self, looked_at: Vec<Pull>, pair: &Pair<'_>) -> Step {
        for Pull { row, digest, .. } in looked_at.into_iter().filter(|pull| pull.both) {
            let held = pair.store.row(&row).ok().flatten();
            if held.and_then(|envelope| Object::digest(&envelope)).is_some_and(|held| held != digest) {
                self.gives.push_back(row);
            }
        }
        self.go_on(pair)
    }

    fn give(&mut self, pair: &Pair<'_>) -> Step {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while bytes < VALUES_BYTES_MAX
            && let Some(row) = self.gives.pop_front()
        {
            if let Ok(Some(envelope)) = pair.store.row(&row) {
                bytes += row.len() + envelope.len();
                rows.push((row, envelope));
            }
        }
        self.stage = Stage::Giving;
        if rows.is_empty() { self.next_page(pair) } else { Step::Ask(Question::Take(rows)) }
    }
}

/// What is held here, without the values.
fn outline(pair: &Pair<'_>, pull: &Pull) -> Bytes {
    let held = if pull.both { pair.store.row(&pull.row).ok().flatten() } else { None };
    let object = held.and_then(|envelope| Object::decode(&envelope).ok());
    object.map_or_else(Bytes::new, |object| object.outline().encode())
}
