//! The membership as the coordinator sees it: immutable, swapped whole.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::ids::{NodeId, PartitionId, ReplicationFactor, Token};
use crate::layout::Layout;

/// What this node believes of another at the moment. Local evidence, no agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liveness {
    /// Answers.
    Up,
    /// Slow or silent for a moment: routed around where possible, still counted on where necessary.
    Suspect,
    /// Has not answered for longer than the failure detector allows.
    Down,
}

/// A layout and the liveness of its members, as seen by `this` node.
#[derive(Clone, Debug)]
pub struct View {
    this: NodeId,
    layout: Arc<Layout>,
    /// In the order of `layout.members()`.
    liveness: Vec<Liveness>,
}

/// At most seven owners: no allocation.
pub type NodeList = SmallVec<[NodeId; 7]>;

impl View {
    /// A view in which every member that `liveness` does not name is up. `this` is always up.
    pub fn new(this: NodeId, layout: Arc<Layout>, liveness: impl Fn(NodeId) -> Liveness) -> Self {
        let liveness =
            layout.members().iter().map(|m| if m.id == this { Liveness::Up } else { liveness(m.id) }).collect();
        Self { this, layout, liveness }
    }

    /// The node whose view this is.
    pub fn this(&self) -> NodeId {
        self.this
    }

    /// The layout in force.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// What is believed of a node; one that is no member is down.
    pub fn liveness(&self, node: NodeId) -> Liveness {
        match self.layout.members().binary_search_by_key(&node, |m| m.id) {
            Ok(index) => self.liveness[index],
            Err(_) => Liveness::Down,
        }
    }

    /// The partition of a token.
    pub fn partition_of(&self, token: Token) -> PartitionId {
        self.layout.partition_of(token)
    }

    /// The owners of a token in a bucket of that N, in the order of the table: fewer than N while the cluster is
    /// smaller than N.
    pub fn owners(&self, token: Token, n: ReplicationFactor) -> &[NodeId] {
        let list = self.layout.preference_list(self.partition_of(token));
        &list[..list.len().min(usize::from(n.get()))]
    }

    /// Nodes that stand in for unreachable owners, best first.
    pub fn fallbacks(&self, token: Token, n: ReplicationFactor) -> &[NodeId] {
        let list = self.layout.preference_list(self.partition_of(token));
        &list[list.len().min(usize::from(n.get()))..]
    }

    /// The owners, the ones most likely to answer soon first: this node, then up, suspect, down; the table's order
    /// among equals.
    pub fn owners_by_nearness(&self, token: Token, n: ReplicationFactor) -> NodeList {
        let mut owners = NodeList::from_slice(self.owners(token, n));
        owners.sort_by_key(|&node| (node != self.this, self.liveness(node)));
        owners
    }
}
