//! A context on a read is honoured: no answer is older than what its client has seen.

use rondo_storage::versions::Object;

use crate::history::{AskedRead, At, History};

const NAME: &str = "the context of a read is honoured";

/// When a read succeeds.
pub fn on_read(history: &mut History, asked: &AskedRead, object: &Object, at: At) {
    let Some(context) = &asked.at_least else { return };
    history.count("reads with a context");
    if !object.context.covers(context) {
        history.violated(NAME, at, format!("{:?}: {:?} does not cover {context:?}", asked.key, object.context));
    }
}
