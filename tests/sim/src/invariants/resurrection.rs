//! No resurrection: who knows of a write, or has to know of it, shows nothing that this write has replaced or deleted.

use rondo_storage::Key;
use rondo_storage::versions::Object;

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
    let owed = asked.must_cover.iter().map(|(label, _)| label);
    let owed = owed.filter(|label| !of_key.asked.get(*label).is_some_and(|write| history.may_be_lost(write)));
    let found: Vec<String> = owed.flat_map(|label| shown_in_spite_of(of_key, label, object)).collect();
    found.into_iter().for_each(|what| history.violated(NAME, at, format!("{:?}: {what}", asked.key)));
}

/// In the end, with all that the owners hold, merged.
pub fn in_the_end(history: &mut History, key: &Key, merged: &Object, at: At) {
    let Some(of_key) = history.keys.get(key) else { return };
    let kept = of_key.acknowledged.iter().filter(|write| !history.may_be_lost(&write.asked));
    let found: Vec<String> = kept.flat_map(|write| shown_in_spite_of(of_key, &write.asked.label, merged)).collect();
    found.into_iter().for_each(|what| history.violated(NAME, at, format!("{key:?}: {what}")));
}

/// By dot: a request that two owners coordinated, since the first was silent, has two, and who replaces one of them has
/// not seen the other.
fn shown_in_spite_of(of_key: &KeyHistory, by: &Label, object: &Object) -> Vec<String> {
    let shown = object.siblings.iter().filter(|sibling| sibling.value.is_some());
    let others = shown.filter(|sibling| sibling.metadata.content_type != *by);
    let back = others.filter(|sibling| of_key.coordinations(by).any(|by| by.replaces.contains(sibling.dot)));
    back.map(|sibling| format!("{} is back, which {} had replaced", name(&sibling.metadata.content_type), name(by)))
        .collect()
}
