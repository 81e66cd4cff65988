//! A listing is complete: a key that R owners cannot all lack, and that nothing can have removed, is in it; it is in
//! order, and says no key that nobody wrote.

use std::collections::BTreeSet;

use rondo_coordinator::ListAnswer;
use rondo_storage::Key;

use super::read_your_writes;
use crate::history::{AskedList, At, History};

const NAME: &str = "a listing is complete";

/// What a listing of R owners that begins now has to have, of these keys, which nobody deletes.
pub fn owed(history: &mut History, keys: &[Key], r: u8) -> BTreeSet<String> {
    let mut owed = BTreeSet::new();
    for key in keys {
        let known = read_your_writes::owed(history.key(key), r);
        let of_key = &history.keys[key];
        if known.iter().any(|(label, _)| of_key.asked.get(label).is_some_and(|write| !history.may_be_lost(write))) {
            owed.insert(key.key().to_string());
        }
    }
    owed
}

/// When a listing succeeds.
pub fn on_list(history: &mut History, asked: &AskedList, list: &ListAnswer, at: At) {
    history.count("listings");
    let mut bad = Vec::new();
    if !list.items.is_sorted_by(|one, next| one.key < next.key) {
        bad.push("not in order".to_string());
    }
    for key in &asked.must_have {
        if list.next.is_none() && !list.items.iter().any(|item| item.key == *key) {
            bad.push(format!("lacks {key}"));
        }
    }
    for item in &list.items {
        if !history.keys.keys().any(|key| key.key() == item.key) {
            bad.push(format!("has {}, which nobody wrote", item.key));
        }
    }
    bad.into_iter().for_each(|what| history.violated(NAME, at, what));
}
