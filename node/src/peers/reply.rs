//! A reply that cannot be forgotten.

use rondo_coordinator::{ReplicaError, ReplicaReply, ReplyTo};

/// Answers exactly once (P1): dropped without an answer, it says `Lost`, which promises nothing.
pub(super) struct Reply(Option<ReplyTo>);

impl Reply {
    pub(super) fn new(reply: ReplyTo) -> Self {
        Self(Some(reply))
    }

    pub(super) fn send(mut self, result: Result<ReplicaReply, ReplicaError>) {
        if let Some(reply) = self.0.take() {
            reply(result);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Err(ReplicaError::Lost));
        }
    }
}
