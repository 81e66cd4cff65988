//! R + W > N means read-your-writes: what was acknowledged by W owners before a read of R begins is known to its answer.

use rondo_storage::versions::{Dot, Object};

use super::name;
use crate::history::{AskedRead, At, History, KeyHistory, Label};

const NAME: &str = "R + W > N means read-your-writes";

/// What a read that begins now has to know.
#[must_use]
pub fn owed(of_key: &KeyHistory, r: u8) -> Vec<(Label, Dot)> {
    let overlaps = of_key.acknowledged.iter().filter(|write| !write.asked.sloppy && write.asked.w + r > write.asked.n);
    overlaps.map(|write| (write.asked.label.clone(), write.dot)).collect()
}

/// When a read succeeds.
pub fn on_read(history: &mut History, asked: &AskedRead, object: &Object, at: At) {
    let lacking = asked.must_cover.iter().filter(|(_, dot)| !object.context.contains(*dot));
    let of_key = history.keys.get(&asked.key);
    let lost =
        |label: &Label| of_key.and_then(|key| key.asked.get(label)).is_some_and(|write| history.may_be_lost(write));
    let lacking: Vec<_> = lacking.filter(|(label, _)| !lost(label)).collect();
    for (label, dot) in lacking {
        history.violated(NAME, at, format!("{:?}: a read of {} lacks {} ({dot:?})", asked.key, asked.r, name(label)));
    }
}
