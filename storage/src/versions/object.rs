//! An object: a set of siblings with dots plus what it knows to be replaced.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{ActorId, CausalContext, Conflict, Dot, ETag, EnvelopeError, envelope};

/// What is stored with a value and replicated with it. All times are µs since 1970, UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// As sent; empty: `application/octet-stream`.
    pub content_type: Bytes,
    /// As sent; empty: none.
    pub content_encoding: Bytes,
    /// `Rondo-Meta-*`: lower-case name without the prefix, value; sorted by name.
    pub user: SmallVec<[(Bytes, Bytes); 0]>,
    /// When the coordinator wrote it.
    pub modified_us: u64,
    /// Absolute, the same on every replica; 0: never.
    pub expires_us: u64,
    /// Names the client's request where it was forwarded or may be repeated, so that one request coordinated twice
    /// leaves one sibling; 0: no name.
    pub write_id: u64,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// Its name.
    pub dot: Dot,
    /// `None`: a tombstone.
    pub value: Option<Bytes>,
    /// What came with it.
    pub metadata: Metadata,
}

impl Sibling {
    /// Whether a reader at this time (µs since 1970) gets it: no tombstone, not expired.
    pub fn is_live(&self, now_us: u64) -> bool {
        self.value.is_some() && (self.metadata.expires_us == 0 || self.metadata.expires_us > now_us)
    }

    /// Length of the value that this is the outline of; 0 for a tombstone, and where it is none.
    pub fn outlined_bytes(&self) -> u64 {
        let length = self.value.as_ref().and_then(|value| value.as_ref().try_into().ok());
        length.map_or(0, u32::from_le_bytes).into()
    }

    fn become_outline(&mut self) {
        // The engine takes no value of 4 GiB.
        self.value = self.value.take().map(|value| Bytes::copy_from_slice(&(value.len() as u32).to_le_bytes()));
        let Metadata { modified_us, expires_us, write_id, .. } = self.metadata;
        self.metadata = Metadata { modified_us, expires_us, write_id, ..Metadata::default() };
    }

    /// Whether both are the same client request, coordinated twice.
    fn is_twin_of(&self, other: &Self) -> bool {
        self.metadata.write_id != 0 && self.metadata.write_id == other.metadata.write_id
    }

    /// The latest has the greatest counter, which is a time, then the greatest actor: of twins it is shown, and in a
    /// bucket of the last writer of all.
    fn rank(&self) -> (u64, ActorId) {
        (self.dot.counter, self.dot.actor)
    }
}

/// Everything a replica holds of a key. Siblings are in the order of their dots, each dot is covered by the context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// The versions that no other replaced, one for each client request.
    pub siblings: SmallVec<[Sibling; 1]>,
    /// Every write that is here or was replaced.
    pub context: CausalContext,
    /// Siblings whose request has a later one in `siblings`: coordinated twice, shown once. They stay until a write
    /// replaces them: dropped at once, the result of merges would depend on their order (V1).
    twins: Vec<Sibling>,
}

impl Object {
    /// An object of checked parts: siblings sorted by dot, without repetition, covered by the context.
    pub(super) fn from_parts(siblings: SmallVec<[Sibling; 1]>, context: CausalContext) -> Self {
        let mut object = Self { siblings, context, twins: Vec::new() };
        object.set_twins_apart();
        object
    }

    /// A client's write: the siblings `context` covers give way to one with this dot (V2), as do their twins, since the
    /// client has seen that request, and all tombstones, which hold nothing but a dot that the object's context keeps.
    ///
    /// The caller has made the dot fresh, and its instance has in this object every write it ever gave a dot for this
    /// key: everything below the new dot is covered with it. An instance that may have forgotten one (a crash or a
    /// failed write after the object had left for other replicas, a restored directory) must take a new id first.
    pub fn update(&mut self, context: &CausalContext, written: Sibling) {
        debug_assert!(!self.context.contains(written.dot) && !context.contains(written.dot), "a dot used twice");
        self.gather();
        let seen: SmallVec<[u64; 1]> =
            self.siblings.iter().filter(|s| context.contains(s.dot)).map(|s| s.metadata.write_id).collect();
        let replaced = |s: &Sibling| {
            let request_seen = s.metadata.write_id != 0 && seen.contains(&s.metadata.write_id);
            s.value.is_none() || request_seen || context.contains(s.dot)
        };
        self.siblings.retain(|s| !replaced(s));
        self.context.join(context);
        self.context.insert_through(written.dot);
        let place = self.siblings.partition_point(|s| s.dot < written.dot);
        self.siblings.insert(place, written);
        self.set_twins_apart();
    }

    /// Both histories joined (V1): what both hold, and what one holds and the other has never seen.
    pub fn merge(&mut self, mut other: Self) {
        self.gather();
        other.gather();
        self.siblings.retain(|s| other.holds(s.dot) || !other.context.contains(s.dot));
        let news = std::mem::take(&mut other.siblings).into_iter().filter(|s| !self.context.contains(s.dot));
        let before = self.siblings.len();
        self.siblings.extend(news);
        if self.siblings.len() > before {
            self.siblings.sort_unstable_by_key(|s| s.dot);
        }
        self.context.join(&other.context);
        self.set_twins_apart();
    }

    /// The context for the answer to a write with this dot whose client had seen `seen` (V6): everything in
    /// `self.context` except the siblings the client has not seen. The write's own twins count as seen.
    pub fn answer_context(&self, seen: &CausalContext, dot: Dot) -> CausalContext {
        let own = self.all().find(|s| s.dot == dot);
        let mut context = self.context.clone();
        for sibling in self.all() {
            let is_own = sibling.dot == dot || own.is_some_and(|own| own.is_twin_of(sibling));
            if !is_own && !seen.contains(sibling.dot) {
                context.remove(sibling.dot);
            }
        }
        context
    }

    /// The versions a reader gets at this time (µs since 1970). Only after the merge of what the replicas hold:
    /// filtered before it, a deleted value would come back.
    pub fn live(&self, now_us: u64) -> impl Iterator<Item = &Sibling> {
        self.siblings.iter().filter(move |s| s.is_live(now_us))
    }

    /// The [live](Self::live) versions that the reader of a bucket gets (V7). The last writer is found before tombstones
    /// and expired versions are left out: what it deleted or let expire stays away.
    pub fn shown(&self, now_us: u64, conflict: Conflict) -> impl Iterator<Item = &Sibling> {
        let last = match conflict {
            Conflict::Siblings => None,
            Conflict::Lww => self.siblings.iter().max_by_key(|s| s.rank()).map(|s| s.dot),
        };
        self.live(now_us).filter(move |s| last.is_none_or(|last| s.dot == last))
    }

    /// The name of what is [shown](Self::shown); `None` where that is nothing.
    pub fn etag(&self, now_us: u64, conflict: Conflict) -> Option<ETag> {
        ETag::of(self.shown(now_us, conflict).map(|s| s.dot))
    }

    /// The version or twin that the client's request of this name left here, shown or not.
    pub fn written_as(&self, write_id: u64) -> Option<&Sibling> {
        self.all().filter(|s| write_id != 0 && s.metadata.write_id == write_id).max_by_key(|s| s.rank())
    }

    /// The names of the siblings, tombstones included.
    pub fn dots(&self) -> impl Iterator<Item = Dot> + '_ {
        self.siblings.iter().map(|s| s.dot)
    }

    /// Whether everything `other` knows is here too: merging it would change nothing.
    pub fn dominates(&self, other: &Self) -> bool {
        let replaced_there = |s: &Sibling| other.context.contains(s.dot) && !other.holds(s.dot);
        self.context.covers(&other.context) && !self.all().any(replaced_there)
    }

    /// [`CausalContext::prune`], never of an actor one of whose writes is still a sibling here.
    pub fn prune(&mut self, keep: impl Fn(ActorId) -> bool, older_than: u64) -> usize {
        let mut context = std::mem::take(&mut self.context);
        let forgotten = context.prune(|actor| keep(actor) || self.all().any(|s| s.dot.actor == actor), older_than);
        self.context = context;
        forgotten
    }

    /// The canonical envelope (V5), in one buffer of exactly its size.
    pub fn encode(&self) -> Bytes {
        let mut siblings: SmallVec<[&Sibling; 4]> = self.all().collect();
        siblings.sort_unstable_by_key(|s| s.dot);
        envelope::encode(&self.context, &siblings)
    }

    /// Checks version and checksum; values are slices of `envelope`. Allocates nothing for an object of one sibling and
    /// up to three ranges of context without user metadata (but that `Bytes` makes its reference count at the first
    /// clone or slice of a buffer that had a single owner).
    pub fn decode(envelope: &Bytes) -> Result<Self, EnvelopeError> {
        let (context, siblings) = envelope::decode(envelope)?;
        Ok(Self::from_parts(siblings, context))
    }

    /// The same for an envelope that this process encoded or decoded before and kept: its checksum is not verified again.
    /// A value that is about to be replaced is not in the processor's caches, and a checksum would fetch all of it.
    pub fn decode_verified(envelope: &Bytes) -> Result<Self, EnvelopeError> {
        let (context, siblings) = envelope::decode_verified(envelope)?;
        Ok(Self::from_parts(siblings, context))
    }

    /// The digest of an encoded object: equal states have equal digests, different ones differ but for a chance of
    /// 2⁻⁶⁴. Costs a few ns: it is the envelope's own checksum, read and not verified. `None` where the bytes are too
    /// short to be an envelope.
    pub fn digest(envelope: &[u8]) -> Option<u64> {
        envelope::checksum_of(envelope)
    }

    /// The same with the length of each value in the place of its bytes (see [`Sibling::outlined_bytes`]) and without
    /// what only a reader of the value needs: what a listing wants to know. The outline of a merge is the merge of the
    /// outlines.
    #[must_use]
    pub fn outline(mut self) -> Self {
        self.gather();
        self.siblings.iter_mut().for_each(Sibling::become_outline);
        self.set_twins_apart();
        self
    }

    /// Siblings and twins, in no order.
    fn all(&self) -> impl Iterator<Item = &Sibling> {
        self.siblings.iter().chain(&self.twins)
    }

    fn holds(&self, dot: Dot) -> bool {
        self.all().any(|s| s.dot == dot)
    }

    /// Puts the twins back among the siblings: what is done to an object is done to all of them.
    fn gather(&mut self) {
        if !self.twins.is_empty() {
            self.siblings.extend(self.twins.drain(..));
            self.siblings.sort_unstable_by_key(|s| s.dot);
        }
    }

    /// Undoes [`gather`](Self::gather). Which twin is shown depends on the set alone.
    fn set_twins_apart(&mut self) {
        let shadowed = |s: &Sibling| self.siblings.iter().any(|t| t.is_twin_of(s) && t.rank() > s.rank());
        let hidden: SmallVec<[Dot; 0]> = match self.siblings.len() {
            0 | 1 => return,
            _ => self.siblings.iter().filter(|s| shadowed(s)).map(|s| s.dot).collect(),
        };
        if hidden.is_empty() {
            return;
        }
        let (twins, siblings) = self.siblings.drain(..).partition::<Vec<_>, _>(|s| hidden.contains(&s.dot));
        self.twins = twins;
        self.siblings = siblings.into();
    }
}
