//! No false sibling: of two versions shown side by side neither has replaced the other.

use rondo_storage::Key;
use rondo_storage::versions::Object;

use super::name;
use crate::history::{At, History};

const NAME: &str = "no false sibling";

/// When a client is shown several versions.
pub fn on_object(history: &mut History, key: &Key, object: &Object, at: At) {
    if object.siblings.len() < 2 {
        return;
    }
    history.count("siblings shown");
    let Some(of_key) = history.keys.get(key) else { return };
    let mut found = Vec::new();
    for later in of_key.coordinated.iter().filter(|one| object.siblings.iter().any(|s| s.dot == one.dot)) {
        for earlier in object.siblings.iter().filter(|s| s.dot != later.dot && later.replaces.contains(s.dot)) {
            let earlier = of_key.dots.get(&earlier.dot).map_or_else(|| "?".into(), |label| name(label));
            found.push(format!("{key:?}: {earlier} beside {}, which has replaced it", name(&later.label)));
        }
        let twice = object.siblings.iter().filter(|s| of_key.dots.get(&s.dot) == Some(&later.label)).count();
        if twice > 1 {
            found.push(format!("{key:?}: {} is shown {twice} times", name(&later.label)));
        }
    }
    found.into_iter().for_each(|what| history.violated(NAME, at, what));
}
