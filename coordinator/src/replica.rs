//! The other side: what a node says when it is asked as a replica.

use rondo_storage::engine::EngineError;
use rondo_storage::store::{StoreError, Stored};
use rondo_storage::versions::Object;

use crate::Now;
use crate::message::{ForwardedWrite, Refusal, ReplicaReply, ReplicaValue, Want};
use crate::put::{Origin, WriteRequest};

impl ReplicaValue {
    /// The answer to a `Read`, from what the store holds (of its own, or for others where that is wanted).
    pub fn of(stored: Stored, want: Want) -> Self {
        match (stored, want) {
            (Stored::Missing, _) => Self::Missing,
            (Stored::Unknown(readable), _) => Self::Unknown(readable),
            (Stored::Found(object), Want::Object | Want::Hinted) => Self::Object(object),
            (Stored::Found(object), Want::Digest) => Object::digest(&object).map_or(Self::Unknown(None), Self::Digest),
        }
    }
}

impl ReplicaReply {
    /// The answer to a `Merge`, a `Hint` or a `Deliver`, from what became of it in the store.
    pub fn to_merge(result: Result<(), StoreError>) -> Self {
        match result {
            Ok(()) => Self::Merged,
            Err(StoreError::LowDisk | StoreError::HintsFull | StoreError::Engine(EngineError::DiskFull)) => {
                Self::Refused(Refusal::LowDisk)
            }
            Err(StoreError::Engine(EngineError::Busy) | StoreError::GivenUp) => Self::Refused(Refusal::Busy),
            Err(StoreError::Damaged) => Self::Refused(Refusal::Damaged),
            Err(_) => Self::Refused(Refusal::Storage),
        }
    }
}

impl ForwardedWrite {
    /// The write as this node coordinates it for the peer that forwarded it. `age` is how long ago it was sent, as
    /// far as this node knows. It takes a little less time than the client gives, so that its own account of a failure
    /// arrives in time.
    ///
    /// # Errors
    /// [`Refusal::Expired`] where it is too late to begin: nothing was done.
    pub fn into_request(self, age: Now, now: Now) -> Result<WriteRequest, Refusal> {
        const MARGIN_MAX: Now = Now::from_millis(20);
        let within = |ms: u32| Now::from_millis(ms.into()).checked_sub(age).filter(|left| !left.is_zero());
        let (Some(left), Some(_)) = (within(self.remaining_ms), within(self.start_within_ms)) else {
            return Err(Refusal::Expired);
        };
        let Self { key, change, n, w, quorum, .. } = self;
        let deadline = now + left - (left / 10).min(MARGIN_MAX);
        Ok(WriteRequest { key, change, n, w, quorum, deadline, origin: Origin::Peer })
    }
}
