//! A dot is never used twice for a key, nor one that an object or a context already covers: such a write would be taken
//! for an old one and vanish.

use bytes::Bytes;
use rondo_storage::Key;
use rondo_storage::store::Updated;
use rondo_storage::versions::Object;

use super::name;
use crate::history::{At, Coordinated, History, Label};

const NAME: &str = "a dot is never used twice";

/// When a store has carried out a client's write: noted for the other checkers too. `replaces` is what the client had
/// seen; `None`: whatever the store held.
pub fn on_update(
    history: &mut History,
    key: &Key,
    (label, deletes): (&Label, bool),
    replaces: Option<rondo_storage::versions::CausalContext>,
    updated: &Updated,
    at: At,
) {
    let object = Object::decode(&updated.object).unwrap_or_default();
    let of_key = history.key(key);
    let known = of_key.dots.get(&updated.dot).cloned();
    let covered = of_key.claimed.contains(updated.dot);
    of_key.claimed.join(&object.context);
    match known {
        // The same request once more: nothing was written but what it had left here.
        Some(same) if same == *label => {}
        Some(other) => {
            let what = format!("{key:?}: {:?} is that of {} and of {}", updated.dot, name(&other), name(label));
            history.violated(NAME, at, what);
        }
        None => {
            of_key.dots.insert(updated.dot, label.clone());
            let replaces = replaces.unwrap_or_else(|| all_but(&object, updated));
            of_key.coordinated.push(Coordinated { label: label.clone(), dot: updated.dot, replaces, deletes });
            if covered {
                let what = format!("{key:?}: {:?} of {} was covered before it was made", updated.dot, name(label));
                history.violated(NAME, at, what);
            }
        }
    }
}

/// What a blind write has replaced: all that its object covers and does not hold.
fn all_but(object: &Object, updated: &Updated) -> rondo_storage::versions::CausalContext {
    object.answer_context(&rondo_storage::versions::CausalContext::default(), updated.dot)
}

/// When an envelope is seen anywhere: what it covers can be nobody's new dot.
pub fn on_envelope(history: &mut History, key: &Key, envelope: &Bytes) {
    if let Ok(object) = Object::decode(envelope) {
        history.key(key).claimed.join(&object.context);
    }
}
