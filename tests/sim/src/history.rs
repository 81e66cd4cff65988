//! What clients asked and were told, and which writes the stores carried out: all that the checkers look at, apart from
//! what the disks hold in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::{Failure, ListAnswer, ReadAnswer, WriteAnswer};
use rondo_storage::Key;
use rondo_storage::versions::{CausalContext, Dot, Object};

/// Time of the simulated world since its beginning.
pub type At = Duration;

/// Names a client's write: no other has the same.
pub type Label = Bytes;

/// One request of a client.
#[derive(Clone, Debug)]
pub struct Op {
    /// Which node was asked.
    pub node: usize,
    /// What for.
    pub asked: Asked,
    /// When.
    pub began: At,
    /// It is to be answered by then.
    pub deadline: At,
    /// Its node was stopped meanwhile: it may be answered late, but not later than this.
    pub stopped_until: Option<At>,
    /// When it was first answered.
    pub ended: Option<At>,
    /// How often it was answered.
    pub answers: u32,
    /// Its node died: nobody can answer it.
    pub orphaned: bool,
}

/// What a client wants.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "most are reads and writes, which are of a size")]
pub enum Asked {
    /// A write or a delete.
    Write(AskedWrite),
    /// A read.
    Read(AskedRead),
    /// A listing of the bucket.
    List(AskedList),
}

/// A write or a delete.
#[derive(Clone, Debug)]
pub struct AskedWrite {
    /// Of what.
    pub key: Key,
    /// Its name, which is also its value.
    pub label: Label,
    /// W.
    pub w: u8,
    /// Of the bucket.
    pub n: u8,
    /// Whether an acknowledgement means an fsync.
    pub durable: bool,
    /// It goes away by itself.
    pub expires: bool,
    /// It is a delete.
    pub deletes: bool,
    /// Stand-ins of owners may count.
    pub sloppy: bool,
}

/// A read.
#[derive(Clone, Debug)]
pub struct AskedRead {
    /// Of what.
    pub key: Key,
    /// R.
    pub r: u8,
    /// Of the bucket.
    pub n: u8,
    /// What the answer has to cover because the client says so.
    pub at_least: Option<CausalContext>,
    /// Writes that were acknowledged before by so many that R owners cannot all lack them.
    pub must_cover: Vec<(Label, Dot)>,
}

/// A listing.
#[derive(Clone, Debug)]
pub struct AskedList {
    /// Keys that have to be in it.
    pub must_have: BTreeSet<String>,
}

/// A write that some owner carried out in its store.
#[derive(Clone, Debug)]
pub struct Coordinated {
    /// The client's request. One that was coordinated twice is here twice.
    pub label: Label,
    /// Its name among versions.
    pub dot: Dot,
    /// What it replaces: what its client had seen, or what the owner held where the write is blind.
    pub replaces: CausalContext,
    /// It is a delete.
    pub deletes: bool,
}

/// A write that a client was told is there.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// The client's request.
    pub asked: AskedWrite,
    /// As it was told.
    pub dot: Dot,
    /// When it was asked for.
    pub began: At,
    /// When it was acknowledged.
    pub at: At,
}

/// Everything about one key.
#[derive(Clone, Debug, Default)]
pub struct KeyHistory {
    /// All requests to write it, by label.
    pub asked: BTreeMap<Label, AskedWrite>,
    /// In the order in which it happened.
    pub coordinated: Vec<Coordinated>,
    /// By dot: whose it is.
    pub dots: BTreeMap<Dot, Label>,
    /// All that any object or context was ever seen to cover.
    pub claimed: CausalContext,
    /// In the order of the answers.
    pub acknowledged: Vec<Acknowledged>,
    /// Writes of which a client was told that no replica took them.
    pub nowhere: BTreeSet<Label>,
}

/// How a request ended.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "each is looked at once and dropped")]
pub enum Answer {
    /// Of a write.
    Write(Result<WriteAnswer, Failure>),
    /// Of a read.
    Read(Result<ReadAnswer, Failure>),
    /// Of a listing.
    List(Result<ListAnswer, Failure>),
}

impl Answer {
    /// As the history counts it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Write(Ok(_)) => "writes acknowledged",
            Self::Write(Err(_)) => "writes failed",
            Self::Read(Ok(_)) => "reads answered",
            Self::Read(Err(_)) => "reads failed",
            Self::List(Ok(_)) => "listings answered",
            Self::List(Err(_)) => "listings failed",
        }
    }
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the invariant: that of its file.
    pub invariant: &'static str,
    /// When it was seen.
    pub at: At,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6} {}: {}", self.at.as_secs_f64(), self.invariant, self.what)
    }
}

/// The whole.
#[derive(Debug, Default)]
pub struct History {
    /// By number.
    pub ops: BTreeMap<u64, Op>,
    /// By key.
    pub keys: BTreeMap<Key, KeyHistory>,
    /// Disks and rows lost so far.
    pub losses: u64,
    /// Times power was lost so far.
    pub power_losses: u64,
    /// What was found wrong.
    pub violations: Vec<Violation>,
    /// How often what happened.
    pub happened: BTreeMap<&'static str, u64>,
}

/// Most violations kept of one invariant: one is enough to fail.
const VIOLATIONS_MAX: usize = 8;

impl History {
    /// One more of these.
    pub fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    /// How many of these.
    #[must_use]
    pub fn times(&self, what: &str) -> u64 {
        self.happened.get(what).copied().unwrap_or(0)
    }

    /// An invariant does not hold.
    pub fn violated(&mut self, invariant: &'static str, at: At, what: String) {
        let alike = self.violations.iter().filter(|violation| violation.invariant == invariant).count();
        if alike < VIOLATIONS_MAX {
            self.violations.push(Violation { invariant, at, what });
        }
    }

    /// What is known of a key.
    pub fn key(&mut self, key: &Key) -> &mut KeyHistory {
        self.keys.entry(key.clone()).or_default()
    }

    /// Whether what this write's client was told to be durable may have been lost with disks: with one at a time, and
    /// each refilled before the next, only what a single owner had acknowledged.
    #[must_use]
    pub fn may_be_lost(&self, asked: &AskedWrite) -> bool {
        ((asked.w == 1 || asked.sloppy) && self.losses > 0) || (!asked.durable && self.power_losses + self.losses > 0)
    }
}

impl KeyHistory {
    /// The writes that these versions are.
    pub fn labels(&self, object: &Object) -> impl Iterator<Item = &Label> {
        object.siblings.iter().filter_map(|sibling| self.dots.get(&sibling.dot))
    }

    /// All coordinations of one request.
    pub fn coordinations<'a>(&'a self, label: &'a Label) -> impl Iterator<Item = &'a Coordinated> {
        self.coordinated.iter().filter(move |one| one.label == *label)
    }
}
