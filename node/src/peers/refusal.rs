//! Why a handshake was refused: said to the other side, counted, and logged once.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rondo_ring::NodeId;

/// What did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cause {
    /// The other side speaks another version of the peer protocol.
    Version = 1,
    /// Another node is at this address than the one expected.
    WrongNode = 2,
    /// It belongs to another cluster.
    OtherCluster = 3,
    /// Replica operations with a node that is in no cluster yet.
    NotMember = 4,
    /// It does not know the cluster's secret.
    Secret = 5,
    /// No handshake at all.
    Malformed = 6,
}

impl Cause {
    /// Every cause, for metrics.
    pub const ALL: [Self; 6] =
        [Self::Version, Self::WrongNode, Self::OtherCluster, Self::NotMember, Self::Secret, Self::Malformed];

    /// Short name, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::WrongNode => "wrong_node",
            Self::OtherCluster => "other_cluster",
            Self::NotMember => "not_member",
            Self::Secret => "secret",
            Self::Malformed => "malformed",
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&cause| cause as u8 == code)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "the two nodes speak different versions of the peer protocol",
            Self::WrongNode => "another node is at this address than the one expected there",
            Self::OtherCluster => "the two nodes belong to different clusters",
            Self::NotMember => "one of the two nodes is in no cluster yet; only control messages are allowed",
            Self::Secret => "the two nodes have different cluster secrets",
            Self::Malformed => "what was sent is no handshake of this protocol",
        })
    }
}

/// A refused handshake. Both sides drop the connection; nothing was sent over it.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{cause} (the other node: {})", node.map_or("unknown".into(), |node| node.to_string()))]
pub struct Refused {
    /// Why.
    pub cause: Cause,
    /// The node on the other side, as far as it said.
    pub node: Option<NodeId>,
}

/// Subjects whose refusals were logged; beyond this many, refusals are only counted.
const LOGGED_MAX: usize = 1_024;

/// Counts refusals; logs each (peer, cause) once until that peer succeeds.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    counts: [AtomicU64; Cause::ALL.len()],
    logged: Mutex<BTreeSet<(String, Cause)>>,
}

impl RefusalLog {
    /// `subject`: an address, with the node's id where it is known. Whether it was logged.
    pub(super) fn note(&self, subject: &str, refused: Refused) -> bool {
        self.counts[refused.cause as usize - 1].fetch_add(1, Ordering::Relaxed);
        let first = {
            let mut logged = self.logged.lock();
            logged.len() < LOGGED_MAX && logged.insert((subject.to_owned(), refused.cause))
        };
        if first {
            tracing::warn!(peer = subject, cause = refused.cause.name(), "peer refused: {refused}");
        }
        first
    }

    /// The peer succeeded: a later refusal is news again. Where a connection `sought` no node in particular, that another
    /// one is there than somebody seeks remains as true as it was: a pod that lost its volume has the name of a member,
    /// and is asked both ways several times a second.
    pub(super) fn forget(&self, subject: &str, sought: Option<NodeId>) {
        let mut logged = self.logged.lock();
        if !logged.is_empty() {
            logged.retain(|(of, cause)| of != subject || sought.is_none() && *cause == Cause::WrongNode);
        }
    }

    pub(super) fn count(&self, cause: Cause) -> u64 {
        self.counts[cause as usize - 1].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_counts_and_only_news_is_logged() {
        let log = RefusalLog::default();
        let note = |subject: &str, cause| log.note(subject, Refused { cause, node: None });
        assert!(note("a", Cause::Secret));
        assert!(!note("a", Cause::Secret));
        assert!(note("a", Cause::Version));
        assert!(note("b", Cause::Secret));
        log.forget("a", None);
        assert!(note("a", Cause::Secret));
        assert!(!note("b", Cause::Secret));
        assert_eq!((log.count(Cause::Secret), log.count(Cause::Version)), (5, 1));
    }

    #[test]
    fn another_node_at_an_address_is_no_news_until_the_one_that_is_sought_is_there() {
        let log = RefusalLog::default();
        let note = || log.note("a", Refused { cause: Cause::WrongNode, node: None });
        assert!(note());
        log.forget("a", None);
        assert!(!note(), "whoever is there answers those who seek nobody");
        log.forget("a", Some(NodeId(7)));
        assert!(note());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let log = RefusalLog::default();
        let logged = (0..2 * LOGGED_MAX)
            .filter(|n| log.note(&n.to_string(), Refused { cause: Cause::Malformed, node: None }))
            .count();
        assert_eq!(logged, LOGGED_MAX);
    }
}
