//! Where nodes say they are. A node's identity is its id; the address is only where it was last.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rondo_ring::NodeId;

/// Node → "host:port" as advertised. Names are kept as names and resolved again at every connect.
#[derive(Debug, Default)]
pub struct AddressBook {
    addresses: ArcSwap<BTreeMap<NodeId, Arc<str>>>,
}

impl AddressBook {
    /// An empty book.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where a node is.
    pub fn get(&self, node: NodeId) -> Option<Arc<str>> {
        self.addresses.load().get(&node).cloned()
    }

    /// Sets or changes one address. Connections that work stay.
    pub fn set(&self, node: NodeId, address: &str) {
        if self.get(node).as_deref() == Some(address) {
            return;
        }
        let address: Arc<str> = address.into();
        self.addresses.rcu(|old| {
            let mut new = BTreeMap::clone(old);
            new.insert(node, Arc::clone(&address));
            new
        });
    }

    /// Forgets one.
    pub fn remove(&self, node: NodeId) {
        self.addresses.rcu(|old| {
            let mut new = BTreeMap::clone(old);
            new.remove(&node);
            new
        });
    }

    /// All of them, in order of ids.
    pub fn all(&self) -> Arc<BTreeMap<NodeId, Arc<str>>> {
        self.addresses.load_full()
    }
}
