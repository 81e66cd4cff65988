//! Who is asked, in which order, and what is enough.

use rondo_ring::{Liveness, NodeId, ReplicationFactor, Token, View};
use rondo_storage::Key;
use smallvec::SmallVec;

use crate::choice::QuorumChoice;
use crate::quorum::Quorum;

/// One owner of the key and what was believed of it when the request began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) node: NodeId,
    pub(crate) liveness: Liveness,
}

/// The owners of a key, nearest first, and the quorum over them. Made once, from one view: a request never mixes two
/// layouts.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) this: NodeId,
    /// This node, then those believed up, suspect, down; those of this node's zone first among equals.
    pub(crate) owners: SmallVec<[Owner; 7]>,
    pub(crate) quorum: Quorum,
}

impl Plan {
    pub(crate) fn new(view: &View, key: &Key, n: ReplicationFactor, choice: QuorumChoice) -> Self {
        Self::at(view, key.token(), n, choice)
    }

    /// Of all keys of the token's partition.
    pub(crate) fn at(view: &View, token: Token, n: ReplicationFactor, choice: QuorumChoice) -> Self {
        let (this, table) = (view.this(), view.owners(token, n));
        let own_zone = zone_of(view, this);
        let quorum = Quorum::new(n, choice, table, |node| zone_of(view, node), own_zone);
        let mut owners: SmallVec<[Owner; 7]> =
            table.iter().map(|&node| Owner { node, liveness: view.liveness(node) }).collect();
        // Stable: the table's order decides among equals, so that nodes of one zone agree whom to forward to.
        owners.sort_by_key(|o| (o.node != this, o.liveness, zone_of(view, o.node) != own_zone));
        Self { this, owners, quorum }
    }

    pub(crate) fn owns(&self) -> bool {
        self.owners.iter().any(|owner| owner.node == self.this)
    }

    /// The other owners that a write is worth sending to. One that is down gets it later, by repair.
    pub(crate) fn reachable_others(&self) -> SmallVec<[NodeId; 7]> {
        let reachable = |o: &&Owner| o.node != self.this && o.liveness != Liveness::Down;
        self.owners.iter().filter(reachable).map(|o| o.node).collect()
    }
}

fn zone_of(view: &View, node: NodeId) -> &str {
    let members = view.layout().members();
    members.binary_search_by_key(&node, |member| member.id).map_or("", |index| &members[index].zone)
}
