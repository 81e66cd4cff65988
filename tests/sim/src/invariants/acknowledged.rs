//! No acknowledged write is lost: it is there, or a write that had seen it has replaced it, and not one whose client had
//! been answered before this one was asked for.

use rondo_storage::Key;
use rondo_storage::versions::Object;

use super::name;
use crate::history::{Acknowledged, At, Coordinated, History, KeyHistory};

const NAME: &str = "no acknowledged write is lost";

/// In the end, with all that the owners hold, merged.
pub fn in_the_end(history: &mut History, key: &Key, merged: &Object, at: At) {
    let Some(of_key) = history.keys.get(key) else { return };
    let kept = of_key.acknowledged.iter().filter(|write| !history.may_be_lost(&write.asked));
    let lost: Vec<String> = kept.filter_map(|write| is_lost(of_key, write, merged)).collect();
    lost.into_iter().for_each(|what| history.violated(NAME, at, format!("{key:?}: {what}")));
}

fn is_lost(of_key: &KeyHistory, write: &Acknowledged, merged: &Object) -> Option<String> {
    let label = &write.asked.label;
    if !merged.context.contains(write.dot) {
        return Some(format!("{} ({:?}) is unknown to every owner", name(label), write.dot));
    }
    // A tombstone is kept by its dot alone; what expires goes by itself.
    if write.asked.deletes || write.asked.expires || of_key.labels(merged).any(|there| there == label) {
        return None;
    }
    let mut dots = of_key.coordinations(label).map(|one| one.dot);
    let replaces = |by: &Coordinated, dot| by.label != *label && by.replaces.contains(dot);
    let is_older = |by: &Coordinated| {
        of_key.acknowledged.iter().any(|other| other.asked.label == by.label && other.at < write.began)
    };
    let replaced = dots.any(|dot| of_key.coordinated.iter().any(|by| replaces(by, dot) && !is_older(by)));
    (!replaced).then(|| format!("{} ({:?}) was not replaced and is gone", name(label), write.dot))
}
