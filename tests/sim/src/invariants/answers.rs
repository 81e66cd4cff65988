//! Every request is answered by its deadline, exactly once. Only a node that dies answers nothing more; one that was
//! stopped answers when it goes on.

use std::time::Duration;

use crate::history::{At, History, Op};

const NAME: &str = "every request is answered by its deadline, once";

/// Two times of the world that are one on a node's clock differ by less.
const ROUNDING: Duration = Duration::from_millis(1);

/// In the end.
pub fn in_the_end(history: &mut History, at: At) {
    let bad: Vec<String> = history.ops.iter().filter_map(|(id, op)| complaint(*id, op)).collect();
    bad.into_iter().for_each(|what| history.violated(NAME, at, what));
}

fn complaint(id: u64, op: &Op) -> Option<String> {
    let due = op.deadline.max(op.stopped_until.unwrap_or_default()) + ROUNDING;
    match op.ended {
        _ if op.answers > 1 => Some(format!("request {id} was answered {} times", op.answers)),
        None if !op.orphaned => Some(format!("request {id} was never answered: {:?}", op.asked)),
        Some(ended) if ended > due => Some(format!("request {id} was answered {:?} late: {op:?}", ended - due)),
        _ => None,
    }
}
