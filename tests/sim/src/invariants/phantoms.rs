//! No phantom: whatever is read was written, to that key and with that value, by a client that was not told that its
//! write is nowhere.

use rondo_coordinator::Failure;
use rondo_storage::Key;
use rondo_storage::versions::Object;

use super::{name, says_nowhere};
use crate::history::{AskedWrite, At, History};

const NAME: &str = "no phantom";

/// When a client is told that its write failed.
pub fn on_failed_write(history: &mut History, asked: &AskedWrite, failure: &Failure) {
    if says_nowhere(failure) {
        history.count("writes that are nowhere");
        history.key(&asked.key).nowhere.insert(asked.label.clone());
    }
}

/// When something is shown.
pub fn on_object(history: &mut History, key: &Key, object: &Object, at: At) {
    let mut found = Vec::new();
    let of_key = history.key(key);
    for sibling in &object.siblings {
        let label = &sibling.metadata.content_type;
        let asked = of_key.asked.get(label);
        let fits = |asked: &AskedWrite| match &sibling.value {
            Some(value) => !asked.deletes && value == label,
            None => asked.deletes,
        };
        if !asked.is_some_and(fits) {
            found.push(format!("{key:?}: nobody wrote {} there", name(label)));
        } else if of_key.nowhere.contains(label) {
            found.push(format!("{key:?}: {} is there, and its client was told that it is nowhere", name(label)));
        }
    }
    found.into_iter().for_each(|what| history.violated(NAME, at, what));
}
