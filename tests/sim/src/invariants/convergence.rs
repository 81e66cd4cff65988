//! Replicas become equal: after a healing phase every owner of a key holds the same bytes, all of them trusted.

use bytes::Bytes;
use rondo_storage::Key;
use rondo_storage::store::Stored;

use crate::history::{At, History};

const NAME: &str = "replicas become equal";

/// In the end. What each owner holds, by node.
pub fn in_the_end(history: &mut History, key: &Key, held: &[(usize, Stored)], at: At) {
    let bytes = |stored: &Stored| match stored {
        Stored::Found(envelope) => Some(envelope.clone()),
        Stored::Missing => Some(Bytes::new()),
        Stored::Unknown(_) => None,
    };
    let first = held.first().and_then(|(_, stored)| bytes(stored));
    for (node, stored) in held {
        match bytes(stored) {
            None => history.violated(NAME, at, format!("{key:?}: node {node} still does not trust what it holds")),
            there if there != first => {
                history.violated(NAME, at, format!("{key:?}: node {node} differs from node {}", held[0].0));
            }
            Some(_) => {}
        }
    }
}
