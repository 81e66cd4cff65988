//! The foreground: one client request becomes N replica operations.
//!
//! Machines without I/O (Dynamo, SOSP 2007, section 4.5): each request is one value of [`put::Write`] or
//! [`get::Read`]; it takes [`Event`]s and returns [`Action`]s. Whoever drives it owns the store, the sockets and the
//! clock: `node` in production, the simulator in tests.
//!
//! - **C1** A client write has exactly one dot: only an owner coordinates (where none can be reached and the quorum is
//!   sloppy, a node that stands in for one), and a forwarded write is never sent to a second owner unless the first
//!   cannot have begun it or both would leave one sibling (`write_id`).
//! - **C2** Success is answered only with W durable acknowledgements of distinct owners; in a sloppy quorum, of distinct
//!   nodes, each an owner or a stand-in for another, and the answer says so where one was counted.
//! - **C3** `not-applied` is said only where no replica can have taken the write.
//! - **C4** A read is answered only with R votes of distinct owners; what is unknown or damaged is no vote. In a sloppy
//!   quorum as C2 has it, and never by stand-ins alone that know of nothing.
//! - **C5** Tombstones and expired versions are filtered after the merge, never before.
//! - **C6** Every request is answered by its deadline, exactly once.
//! - **C7** Every replica seen to be behind by a read is sent what it lacks; the answer does not wait for it.
//! - **C8** A listing is in byte order, without repetition, and complete: it has every key of which R votes tell that it
//!   is there, and says nothing of a key before the R owners have spoken about it ([`list::List`]).
//! - **C9** A read goes round a slow owner after the time in which the others answer, and of any number of reads at most
//!   a twentieth and a few do; only an owner that is silent altogether costs nothing of that.
//! - **C10** What an owner misses of a write that is durable here is kept for it, here or on a node that stands in for it:
//!   an owner that is down, or whose acknowledgement did not come within the write's time.
//! - **C11** An owner that has no room for a write is asked again within the client's time, if W cannot be met without it.

pub mod answer;
pub mod bucket;
mod busy;
pub mod choice;
mod codec;
mod forward;
pub mod get;
pub mod hedge;
pub mod list;
pub mod message;
mod missed;
pub mod options;
mod plan;
pub mod put;
pub mod quorum;
mod repair;
mod replica;
mod sloppy;
pub mod staleness;
pub mod trace;
pub mod wire;

pub use answer::{Failure, Outcome, ReadAnswer, WriteAnswer};
pub use bucket::{Bucket, FieldError, QuorumKind};
pub use choice::{ChoiceError, QuorumChoice, Use};
pub use get::{Read, ReadRequest};
pub use hedge::HedgeBudget;
pub use list::{List, ListAction, ListActions, ListAnswer, ListEvent, ListItem, ListRequest};
pub use message::{ForwardedWrite, ListQuery, Refusal, ReplicaError, ReplicaReply, ReplicaRequest, ReplicaValue, Want};
pub use options::{CoordinatorOptions, OptionError};
pub use put::{Origin, Write, WriteRequest};
pub use trace::Trace;
pub use wire::WireError;

use bytes::Bytes;
use rondo_ring::NodeId;
use rondo_storage::Key;
use rondo_storage::engine::{Durability, EngineError};
use rondo_storage::store::{Change, StoreError, Stored, Updated};
use smallvec::SmallVec;
use std::time::Duration;

/// Monotonic time since an arbitrary origin of this process.
pub type Now = Duration;

/// What the driver is asked to do. Each `Send`, `UpdateHere`, `HintHere`, `MergeHere`, `ReadHere` and `MayHedge` is
/// answered with exactly one event of its kind (`UpdateHere` with `Updated`, then `Durable` if that was `Ok`).
#[derive(Clone, Debug)]
pub enum Action {
    /// Carry out the read-modify-write in this node's store.
    UpdateHere {
        /// Of what.
        key: Key,
        /// The client's write.
        change: Change,
        /// Owners that are down and for whom the result is kept here, in the same batch; mostly nobody.
        hint_for: SmallVec<[NodeId; 1]>,
    },
    /// Carry out the read-modify-write on what is kept here for the owners, none of which can be reached, and keep the
    /// result for these. Answered as `UpdateHere`.
    UpdateHints {
        /// Of what.
        key: Key,
        /// The client's write.
        change: Change,
        /// Owners.
        hint_for: SmallVec<[NodeId; 1]>,
    },
    /// Keep an envelope here for an owner that could not be reached.
    HintHere {
        /// For whom.
        target: NodeId,
        /// Of what.
        key: Key,
        /// The envelope.
        object: Bytes,
        /// What is waited for.
        durability: Durability,
    },
    /// Merge into this node's store (repair of this replica).
    MergeHere {
        /// Of what.
        key: Key,
        /// An envelope.
        object: Bytes,
        /// What is waited for.
        durability: Durability,
    },
    /// Read this node's store.
    ReadHere {
        /// Of what.
        key: Key,
    },
    /// Read what is kept here for other nodes; answered as `ReadHere`.
    ReadHintsHere {
        /// Of what.
        key: Key,
    },
    /// One request to one other node.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        request: ReplicaRequest,
        /// Give up then, with `ReplicaError::TimedOut`.
        deadline: Now,
    },
    /// May the read ask one owner more than it needs, since this one is late? A [`HedgeBudget`] says so, or the evidence
    /// that the node answers nobody: then another does its work, not more.
    MayHedge {
        /// Who is late.
        late: NodeId,
    },
    /// The client's answer to a write: exactly once.
    AnswerWrite(Result<WriteAnswer, Failure>),
    /// The client's answer to a read: exactly once.
    AnswerRead(Result<ReadAnswer, Failure>),
    /// Deliver `Event::Wake` then; replaces an earlier wish.
    WakeAt(Now),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The store carried out `UpdateHere` (the write is queued) or refused it.
    Updated(Result<Updated, StoreError>),
    /// The write of `UpdateHere` is durable here, or is not there.
    Durable(Result<(), EngineError>),
    /// `HintHere` ended.
    Hinted(Result<(), StoreError>),
    /// `MergeHere` ended.
    MergedHere(Result<(), StoreError>),
    /// `ReadHere` ended.
    ReadHere(Stored),
    /// `ReadHere` was given up: the disk is slow to say anything.
    NotReadHere,
    /// `Send` ended.
    Reply {
        /// Whose.
        from: NodeId,
        /// What it said.
        result: Result<ReplicaReply, ReplicaError>,
    },
    /// The time of `WakeAt` has come.
    Wake,
    /// Whether the read may, after `MayHedge`.
    MayHedge(bool),
}

/// What one event leads to.
pub type Actions = SmallVec<[Action; 4]>;

/// The port to the other nodes: how a driver carries out [`Action::Send`]. `node` implements it over the peer lanes,
/// the simulator over its virtual network.
pub trait Replicas {
    /// Sends, and calls `reply` exactly once, by the deadline at the latest. The trace is that of the client's request,
    /// where it has one.
    fn send(&self, to: NodeId, request: ReplicaRequest, trace: Option<&Trace>, deadline: Now, reply: ReplyTo);

    /// Within which time the node answers 95 of 100 reads; `None` where too few are known. Asked for every owner of
    /// every read.
    fn read_p95(&self, of: NodeId) -> Option<Duration>;

    /// Whether it answers nobody here at the moment, as far as is known.
    fn is_silent(&self, node: NodeId) -> bool;
}

/// Where a reply goes.
pub type ReplyTo = Box<dyn FnOnce(Result<ReplicaReply, ReplicaError>) + Send>;
