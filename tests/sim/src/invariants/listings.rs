//! A listing is complete: a key that R owners cannot all lack, and that nothing can have removed, is in it; it is in
//! order, and says no key that nobody wrote.

use rondo_coordinator::ListAnswer;

use crate::history::{AskedList, At, History};

const NAME: &str = "a listing is complete";

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
