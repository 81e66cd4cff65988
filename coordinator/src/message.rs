//! What coordinators say to replicas: these types are the wire types. Their bytes are in `codec.rs`.

use bytes::Bytes;
use rondo_ring::{NodeId, ReplicationFactor};
use rondo_storage::Key;
use rondo_storage::engine::Durability;
use rondo_storage::store::{Change, ListPage, ListRange};

use crate::answer::{Failure, WriteAnswer};
use crate::bucket::QuorumKind;

/// One operation on one replica.
#[derive(Clone, Debug)]
pub enum ReplicaRequest {
    /// Merge this envelope; answered with `Merged` when it is durable.
    Merge {
        /// Of what.
        key: Key,
        /// The envelope.
        object: Bytes,
        /// What durable means.
        durability: Durability,
    },
    /// What do you hold?
    Read {
        /// Of what.
        key: Key,
        /// All of it, or its digest.
        want: Want,
    },
    /// Coordinate this client's write: you are an owner and I am not.
    Forward(Box<ForwardedWrite>),
    /// Which keys do you hold?
    List(Box<ListQuery>),
    /// Keep this envelope for an owner that cannot be reached; answered with `Merged` when that is durable.
    Hint {
        /// For whom.
        target: NodeId,
        /// Of what.
        key: Key,
        /// The envelope.
        object: Bytes,
        /// What durable means.
        durability: Durability,
    },
    /// You were away: merge this envelope, which was kept for you. Answered as `Merge` with fsync, and refused as `Busy`
    /// while the foreground has enough to do.
    Deliver {
        /// Of what.
        key: Key,
        /// The envelope.
        object: Bytes,
    },
}

impl ReplicaRequest {
    /// What it is about: the bucket, and the key or what the keys begin with.
    pub fn subject(&self) -> (&str, &str) {
        match self {
            Self::Merge { key, .. } | Self::Read { key, .. } | Self::Hint { key, .. } | Self::Deliver { key, .. } => {
                (key.bucket(), key.key())
            }
            Self::Forward(write) => (write.key.bucket(), write.key.key()),
            Self::List(query) => (&query.range.bucket, &query.range.prefix),
        }
    }
}

/// How much of an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The envelope.
    Object,
    /// Its digest.
    Digest,
    /// The envelope of what is kept of it for other nodes.
    Hinted,
}

/// A page of a listing, as one replica is asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Which keys.
    pub range: ListRange,
    /// How many of them at most; a replica may give fewer.
    pub rows_max: u32,
}

/// A client's write on its way to the owner that coordinates it. Everything the bucket and the request's headers
/// decided is decided already, by the node the client asked.
#[derive(Clone, Debug)]
pub struct ForwardedWrite {
    /// Of what.
    pub key: Key,
    /// The write; its `metadata.write_id` is not 0.
    pub change: Change,
    /// N of the bucket.
    pub n: ReplicationFactor,
    /// W, as a choice, since the owner resolves it in its own view.
    pub w: crate::QuorumChoice,
    /// Which nodes count. `Sloppy`: a node that is no owner coordinates what it is sent, for it is sent it where no owner
    /// can be reached.
    pub quorum: QuorumKind,
    /// What was left of the client's deadline when this was sent, in ms.
    pub remaining_ms: u32,
    /// A replica that knows it did not begin within so many ms of the sending (it was stopped, or the request lay in
    /// a queue) refuses with [`Refusal::Expired`]: another owner has been asked by then, and a blind overwrite carried
    /// out late could replace a newer write.
    pub start_within_ms: u32,
}

/// A replica's answer.
#[derive(Clone, Debug)]
pub enum ReplicaReply {
    /// The merge is durable here.
    Merged,
    /// The answer to `Read`.
    Value(ReplicaValue),
    /// The answer to `Forward`.
    Forwarded(Result<WriteAnswer, Failure>),
    /// The answer to `List`.
    Listed(Box<ListPage>),
    /// The replica did not do it.
    Refused(Refusal),
}

/// What a replica holds of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaValue {
    /// Nothing: a vote.
    Missing,
    /// An envelope with this digest: a vote.
    Digest(u64),
    /// The envelope: a vote.
    Object(Bytes),
    /// Damaged or not to be trusted: no vote. What could be read, if anything.
    Unknown(Option<Bytes>),
}

/// Why a replica refused; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its disk is nearly full, or it keeps as many hints as it may.
    LowDisk,
    /// Too much in flight.
    Busy,
    /// It does not own the key in its layout.
    NotOwner,
    /// The deadline had passed before it began.
    Expired,
    /// Its copy is damaged, so it cannot coordinate.
    Damaged,
    /// The storage failed, or does not serve yet; the write is not there.
    Storage,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReplicaError {
    /// The request never left this node: the replica cannot have begun it.
    #[error("the node could not be reached; it was not asked")]
    NotSent,
    /// It was sent and the connection broke: the replica may have done it.
    #[error("the connection broke before the reply")]
    Lost,
    /// It was sent and the deadline passed: the replica may have done it, or do it yet.
    #[error("no reply in time")]
    TimedOut,
}
