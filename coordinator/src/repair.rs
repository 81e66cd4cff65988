//! What a set of replies says the replicas hold, and what each of them lacks.

use bytes::Bytes;
use rondo_storage::versions::{CausalContext, Object};
use smallvec::SmallVec;

/// What one replica is known to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// It has not said.
    Silent,
    /// Nothing.
    Nothing,
    /// An object with this digest.
    Digest(u64),
    /// It does not know. What could be read there, if anything, has this digest.
    Untrusted(Option<u64>),
    /// It failed or refused: nothing is known, and nothing more is asked.
    Gone,
}

/// Everything the replies hold, merged, with the digests of the states it was merged from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gathered {
    object: Object,
    /// `object`, encoded, and its digest; `None` as long as nothing was found.
    envelope: Option<(Bytes, u64)>,
    included: SmallVec<[u64; 4]>,
}

impl Gathered {
    /// Merges an envelope; its digest, or `None` where the bytes are no object. Costs one decoding, and where it
    /// differs from what is here one encoding: a replica's state that is included already costs nothing.
    pub(crate) fn add(&mut self, envelope: Bytes) -> Option<u64> {
        let digest = Object::digest(&envelope)?;
        if self.includes(digest) {
            return Some(digest);
        }
        let object = Object::decode(&envelope).ok()?;
        self.included.push(digest);
        if self.envelope.is_none() {
            self.object = object;
            self.envelope = Some((envelope, digest));
            return Some(digest);
        }
        self.object.merge(object);
        let merged = self.object.encode();
        let merged_digest = Object::digest(&merged).expect("what was just encoded is an envelope");
        if !self.includes(merged_digest) {
            self.included.push(merged_digest);
        }
        self.envelope = Some((merged, merged_digest));
        Some(digest)
    }

    /// Whether everything in a state with this digest is here.
    pub(crate) fn includes(&self, digest: u64) -> bool {
        self.included.contains(&digest)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.envelope.is_none()
    }

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    pub(crate) fn covers(&self, context: &CausalContext) -> bool {
        self.object.context.covers(context)
    }

    /// Whether what this replica says it holds is included, so that its vote can count.
    pub(crate) fn explains(&self, holds: Holds) -> bool {
        match holds {
            Holds::Nothing => true,
            Holds::Digest(digest) => self.includes(digest),
            Holds::Silent | Holds::Untrusted(_) | Holds::Gone => false,
        }
    }

    /// The envelope to send to a replica that holds less than all of this, and its digest.
    pub(crate) fn lacking(&self, holds: Holds) -> Option<(Bytes, u64)> {
        let (envelope, digest) = self.envelope.as_ref()?;
        let behind = match holds {
            Holds::Nothing => true,
            Holds::Digest(held) => held != *digest,
            Holds::Untrusted(readable) => readable != Some(*digest),
            Holds::Silent | Holds::Gone => false,
        };
        behind.then(|| (envelope.clone(), *digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rondo_storage::versions::{ActorId, Dot, Metadata, Sibling};

    fn written(base: &Object, actor: u64, counter: u64) -> Object {
        let mut object = base.clone();
        let dot = Dot { actor: ActorId(actor), counter };
        let value = Some(Bytes::from(format!("{actor}.{counter}")));
        object.update(&base.context.clone(), Sibling { dot, value, metadata: Metadata::default() });
        object
    }

    fn digest(object: &Object) -> u64 {
        Object::digest(&object.encode()).unwrap()
    }

    /// C7: exactly those that hold something else than the merged state lack something.
    #[test]
    fn every_replica_that_differs_from_the_merged_state_lacks_it() {
        let first = written(&Object::default(), 1, 1);
        let (left, right) = (written(&first, 1, 2), written(&first, 2, 2));
        let mut gathered = Gathered::default();
        for object in [&left, &right, &left] {
            assert_eq!(gathered.add(object.encode()), Some(digest(object)));
        }
        let mut both = left.clone();
        both.merge(right.clone());
        assert_eq!(gathered.object(), &both);
        let lacking = |holds| gathered.lacking(holds).map(|(envelope, _)| Object::decode(&envelope).unwrap());
        assert_eq!(lacking(Holds::Digest(digest(&both))), None);
        assert_eq!(lacking(Holds::Untrusted(Some(digest(&both)))), None);
        for holds in
            [Holds::Nothing, Holds::Untrusted(None), Holds::Digest(digest(&first)), Holds::Digest(digest(&left))]
        {
            assert_eq!(lacking(holds).as_ref(), Some(&both), "{holds:?}");
        }
        assert_eq!((lacking(Holds::Silent), lacking(Holds::Gone)), (None, None));
        assert!(gathered.explains(Holds::Digest(digest(&both))) && !gathered.explains(Holds::Digest(digest(&first))));
    }

    #[test]
    fn bytes_that_are_no_object_add_nothing() {
        let mut gathered = Gathered::default();
        let mut bad = written(&Object::default(), 1, 1).encode().to_vec();
        let last = bad.len() - 1;
        bad[last] ^= 1;
        assert_eq!(gathered.add(Bytes::from(bad)), None);
        assert!(gathered.is_empty() && gathered.lacking(Holds::Nothing).is_none());
    }
}
