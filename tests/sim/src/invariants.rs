//! What must hold, one file each. Some of it can be judged when an answer is given, some only in the end.

pub mod acknowledged;
pub mod answers;
pub mod contexts;
pub mod convergence;
pub mod dots;
pub mod false_siblings;
pub mod hints;
pub mod listings;
pub mod phantoms;
pub mod read_your_writes;
pub mod resurrection;

use rondo_coordinator::Failure;
use rondo_storage::Key;
use rondo_storage::store::{Store, Stored};
use rondo_storage::versions::Object;

use crate::history::{Answer, Asked, At, History, Op};

/// When a client is answered.
pub fn on_answer(history: &mut History, op: &Op, answer: &Answer, at: At) {
    match (&op.asked, answer) {
        (Asked::Write(asked), Answer::Write(Err(failure))) => phantoms::on_failed_write(history, asked, failure),
        (Asked::Read(asked), Answer::Read(Ok(read))) => {
            contexts::on_read(history, asked, &read.object, at);
            if !read.sloppy {
                read_your_writes::on_read(history, asked, &read.object, at);
                resurrection::on_read(history, asked, &read.object, at);
            }
            on_object(history, &asked.key, &read.object, at);
        }
        (Asked::List(asked), Answer::List(Ok(list))) => listings::on_list(history, asked, list, at),
        _ => {}
    }
}

/// When a client or, in the end, the simulator is shown what is there.
pub fn on_object(history: &mut History, key: &Key, object: &Object, at: At) {
    phantoms::on_object(history, key, object, at);
    false_siblings::on_object(history, key, object, at);
    resurrection::on_object(history, key, object, at);
}

/// In the end, what each owner holds of a key, by node.
pub fn of_key_in_the_end(history: &mut History, key: &Key, held: &[(usize, Stored)], at: At) {
    let mut merged = Object::default();
    held.iter().filter_map(|(_, stored)| Store::decode(stored)).for_each(|object| merged.merge(object));
    convergence::in_the_end(history, key, held, at);
    acknowledged::in_the_end(history, key, &merged, at);
    resurrection::in_the_end(history, key, &merged, at);
    on_object(history, key, &merged, at);
}

/// Whether a failure says that the write is nowhere.
pub(crate) fn says_nowhere(failure: &Failure) -> bool {
    use rondo_coordinator::Outcome::Unknown;
    !matches!(failure, Failure::Unavailable { outcome: Unknown, .. } | Failure::TimedOut { outcome: Unknown, .. })
}

/// How a label reads.
pub(crate) fn name(label: &[u8]) -> String {
    String::from_utf8_lossy(label).into_owned()
}
