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
    let covered = history.key(key).claimed.contains(updated.dot);
    history.key(key).claimed.join(&object.context);
    let replaces = replaces.unwrap_or_else(|| all_but(&object, updated));
    let made = Coordinated { label: label.clone(), dot: updated.dot, replaces, deletes };
    if coordinated(history, key, made, at) && covered {
        let what = format!("{key:?}: {:?} of {} was covered before it was made", updated.dot, name(label));
        history.violated(NAME, at, what);
    }
}

/// Notes that a write has this dot, whoever says so; whether that is news.
pub fn coordinated(history: &mut History, key: &Key, made: Coordinated, at: At) -> bool {
    let of_key = history.key(key);
    match of_key.dots.get(&made.dot) {
        // The same request once more: nothing was written but what it had left here.
        Some(same) if *same == made.label => {}
        Some(other) => {
            let what = format!("{key:?}: {:?} is that of {} and of {}", made.dot, name(other), name(&made.label));
            history.violated(NAME, at, what);
        }
        None => {
            of_key.dots.insert(made.dot, made.label.clone());
            of_key.coordinated.push(made);
            return true;
        }
    }
    false
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
