//! What has been seen: a version vector with holes.
//!
//! The vector and the single dots of the papers are both ranges of one actor's counters: an entry (a, c) of the vector
//! is the range 1..=c, a dot beyond it the range of its own counter. Ranges also say "all of it but for the sibling the
//! client has not seen" in two entries, where a vector plus dots would grow with every write of a client that never
//! reads (`docs/decisions/0003-dotted-version-vectors.md`).

use bytes::Bytes;
use smallvec::SmallVec;

use super::wire::{self, Length, Reader};
use super::{ActorId, Dot, EnvelopeError};

/// The counters `after < counter <= upto` of one actor; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) actor: ActorId,
    pub(super) after: u64,
    pub(super) upto: u64,
}

impl Range {
    /// One dot; `None` for the counter 0, which no write has.
    fn of(dot: Dot) -> Option<Self> {
        Some(Self { actor: dot.actor, after: dot.counter.checked_sub(1)?, upto: dot.counter })
    }

    /// Touching counts: two ranges that touch are one.
    fn touches(&self, other: &Self) -> bool {
        self.actor == other.actor && self.after <= other.upto && other.after <= self.upto
    }
}

/// A set of dots as ranges: sorted by actor and counter, none empty, no two of an actor touching. Equal sets are
/// therefore equal values and equal bytes (V5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CausalContext {
    ranges: SmallVec<[Range; 3]>,
}

impl CausalContext {
    /// Above this many actors a store may [`prune`](Self::prune) those that are gone for good.
    pub const ACTORS_MAX: usize = 64;
    /// Decoders refuse more ranges than this. What can come together: one range for each actor, and one for each
    /// sibling that a client had not seen when it wrote elsewhere, so 64 actors with 250 siblings each stay below it.
    pub const RANGES_MAX: usize = 16_384;

    /// Whether it covers a write. O(log n), allocates nothing.
    pub fn contains(&self, dot: Dot) -> bool {
        self.range_at(dot.actor, dot.counter).is_some_and(|range| range.after < dot.counter)
    }

    /// Whether it covers everything `other` does.
    pub fn covers(&self, other: &Self) -> bool {
        let held = |range: &Range| self.range_at(range.actor, range.upto).is_some_and(|r| r.after <= range.after);
        other.ranges.iter().all(held)
    }

    /// Adds one dot, and nothing below it.
    pub fn insert(&mut self, dot: Dot) {
        if let Some(range) = Range::of(dot) {
            self.add(range);
        }
    }

    /// Adds a dot and every counter below it. Only for who knows all of the actor's writes up to there: what is covered
    /// without having been seen is lost when it arrives.
    pub fn insert_through(&mut self, dot: Dot) {
        if dot.counter > 0 {
            self.add(Range { actor: dot.actor, after: 0, upto: dot.counter });
        }
    }

    /// Takes one dot out, and nothing else.
    pub(super) fn remove(&mut self, dot: Dot) {
        if !self.contains(dot) {
            return;
        }
        let at = self.position(dot.actor, dot.counter);
        let whole = self.ranges.remove(at);
        let above = Range { after: dot.counter, ..whole };
        let below = Range { upto: dot.counter - 1, ..whole };
        for range in [above, below] {
            if range.after < range.upto {
                self.ranges.insert(at, range);
            }
        }
    }

    /// Adds everything `other` covers.
    pub fn join(&mut self, other: &Self) {
        for range in &other.ranges {
            self.add(*range);
        }
    }

    /// The highest counter of an actor, 0 if none.
    pub fn highest(&self, actor: ActorId) -> u64 {
        let end = self.ranges.partition_point(|range| range.actor <= actor);
        match self.ranges[..end].last() {
            Some(range) if range.actor == actor => range.upto,
            _ => 0,
        }
    }

    /// Whether it covers nothing.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges it takes: a measure of its size.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// How many actors it knows.
    pub fn actor_count(&self) -> usize {
        self.ranges.chunk_by(|a, b| a.actor == b.actor).count()
    }

    /// For each actor, in order, its highest counter.
    pub fn actors(&self) -> impl Iterator<Item = (ActorId, u64)> + '_ {
        let last = |ranges: &[Range]| ranges.last().map(|range| (range.actor, range.upto));
        self.ranges.chunk_by(|a, b| a.actor == b.actor).filter_map(last)
    }

    /// Forgets actors that `keep` does not want and that wrote nothing since `older_than` (µs, as counters are), but
    /// only above [`ACTORS_MAX`](Self::ACTORS_MAX) actors; says how many. Nothing else is ever forgotten. It is safe
    /// where no replica, hint or backup that may come back still holds a sibling of such an actor: then nobody can
    /// bring back what was replaced.
    pub fn prune(&mut self, keep: impl Fn(ActorId) -> bool, older_than: u64) -> usize {
        let before = self.actor_count();
        if before <= Self::ACTORS_MAX {
            return 0;
        }
        let kept = |ranges: &&[Range]| {
            let newest = ranges[ranges.len() - 1];
            keep(newest.actor) || newest.upto >= older_than
        };
        let by_actor = self.ranges.chunk_by(|a, b| a.actor == b.actor);
        self.ranges = by_actor.filter(kept).flatten().copied().collect();
        before - self.actor_count()
    }

    /// Appends the canonical bytes, which [`decode`](Self::decode) takes back. They do not say where they end.
    pub fn encode_into(&self, buffer: &mut Vec<u8>) {
        wire::put_context(buffer, self);
    }

    /// How many bytes [`encode_into`](Self::encode_into) appends.
    pub fn encoded_len(&self) -> usize {
        let mut length = Length::default();
        wire::put_context(&mut length, self);
        length.0
    }

    /// Takes exactly what [`encode_into`](Self::encode_into) makes and nothing else: two spellings of one set would be
    /// two digests of one state.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let mut reader = Reader::new(bytes);
        let context = wire::read_context(&mut reader)?;
        reader.end()?;
        Ok(context)
    }

    /// What fits into `bytes_max`, the newest writes first. Less is claimed to have been seen, which may leave a
    /// sibling too many and never loses one.
    pub(super) fn shortened(&self, bytes_max: usize) -> Self {
        let mut newest = self.clone();
        newest.ranges.sort_by_key(|range| std::cmp::Reverse((range.upto, range.actor)));
        let fits = |count: usize| {
            let mut part = Self { ranges: newest.ranges[..count].into() };
            part.ranges.sort_by_key(|range| (range.actor, range.after));
            (part.encoded_len() <= bytes_max).then_some(part)
        };
        let (mut low, mut high) = (0, newest.len());
        while low < high {
            let middle = (low + high).div_ceil(2);
            if fits(middle).is_some() { low = middle } else { high = middle - 1 }
        }
        fits(low).unwrap_or_default()
    }

    pub(super) fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Puts a range behind all others: decoders only, which check the order.
    pub(super) fn push(&mut self, range: Range) {
        debug_assert!(range.after < range.upto && self.ranges.last().is_none_or(|last| !last.touches(&range)));
        self.ranges.push(range);
    }

    /// Where the first range of the actor is that ends at the counter or above.
    fn position(&self, actor: ActorId, counter: u64) -> usize {
        self.ranges.partition_point(|range| (range.actor, range.upto) < (actor, counter))
    }

    fn range_at(&self, actor: ActorId, counter: u64) -> Option<&Range> {
        self.ranges.get(self.position(actor, counter)).filter(|range| range.actor == actor)
    }

    /// Union with one range: it swallows those it touches.
    fn add(&mut self, mut range: Range) {
        let start = self.position(range.actor, range.after);
        let touched = self.ranges[start..].iter().take_while(|held| held.touches(&range)).count();
        let Some(last) = touched.checked_sub(1) else {
            self.ranges.insert(start, range);
            return;
        };
        range.after = range.after.min(self.ranges[start].after);
        range.upto = range.upto.max(self.ranges[start + last].upto);
        self.ranges[start] = range;
        self.ranges.drain(start + 1..=start + last);
    }
}

/// A set of single dots.
impl FromIterator<Dot> for CausalContext {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut context = Self::default();
        dots.into_iter().for_each(|dot| context.insert(dot));
        context
    }
}

/// The canonical bytes.
impl From<&CausalContext> for Bytes {
    fn from(context: &CausalContext) -> Self {
        let mut buffer = Vec::with_capacity(context.encoded_len());
        context.encode_into(&mut buffer);
        Self::from(buffer)
    }
}
