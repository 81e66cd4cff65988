//! No resurrection: who knows of a write, or has to know of it, shows nothing that this write has replaced or deleted.

use rondo_storage::Key;
use rondo_storage::versions::{Dot, Object, Sibling};

use super::name;
use crate::history::{AskedRead, At, History, KeyHistory, Label};

const NAME: &str = "no resurrection";

/// When a client is shown what is there.
pub fn on_object(history: &mut History, key: &Key, object: &Object, at: At) {
    let Some(of_key) = history.keys.get(key) else { return };
    let mut found = Vec::new();
    for sibling in object.siblings.iter().filter(|sibling| sibling.value.is_some()) {
        let replaces = |by: &&crate::history::Coordinated| {
            by.dot != sibling.dot && by.replaces.contains(sibling.dot) && object.context.contains(by.dot)
        };
        if let Some(by) = of_key.coordinated.iter().find(replaces) {
            let label = name(&sibling.metadata.content_type);
            found.push(format!("{key:?}: {label} is back, which {} had replaced", name(&by.label)));
        }
    }
    found.into_iter().for_each(|what| history.violated(NAME, at, what));
}

/// When a read succeeds that has to know certain writes (R + W > N).
pub fn on_read(history: &mut History, asked: &AskedRead, object: &Object, at: At) {
    let Some(of_key) = history.keys.get(&asked.key) else { return };
    let lost = |label: &Label| of_key.asked.get(label).is_some_and(|write| history.may_be_lost(write));
    let owed = asked.must_cover.iter().filter(|(label, _)| !lost(label));
    let found: Vec<String> = owed.flat_map(|(label, dot)| shown_in_spite_of(of_key, label, *dot, object)).collect();
    found.into_iter().for_each(|what| history.violated(NAME, at, format!("{:?}: {what}", asked.key)));
}

/// In the end, with all that the owners hold, merged.
pub fn in_the_end(history: &mut History, key: &Key, merged: &Object, at: At) {
    let Some(of_key) = history.keys.get(key) else { return };
    let kept = of_key.acknowledged.iter().filter(|write| !history.may_be_lost(&write.asked));
    let found: Vec<String> =
        kept.flat_map(|write| shown_in_spite_of(of_key, &write.asked.label, write.dot, merged)).collect();
    found.into_iter().for_each(|what| history.violated(NAME, at, format!("{key:?}: {what}")));
}

/// By dot, on both sides: a request that two owners coordinated, since the first was silent, has two. Who replaces one of
/// them has not seen the other, and what one of them has replaced the other has not.
fn shown_in_spite_of(of_key: &KeyHistory, by: &Label, dot: Dot, object: &Object) -> Vec<String> {
    let shown = object.siblings.iter().filter(|sibling| sibling.value.is_some());
    let others = shown.filter(|sibling| sibling.metadata.content_type != *by);
    let replaces =
        |sibling: &&Sibling| of_key.coordinations(by).any(|by| by.dot == dot && by.replaces.contains(sibling.dot));
    let back = others.filter(replaces);
    back.map(|sibling| format!("{} is back, which {} had replaced", name(&sibling.metadata.content_type), name(by)))
        .collect()
}
