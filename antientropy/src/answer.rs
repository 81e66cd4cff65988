//! The side that is asked. It keeps nothing between two questions.

use bytes::Bytes;
use rondo_storage::store::StoreError;
use rondo_storage::versions::Object;

use crate::compare::{Pair, Roots, digests};
use crate::listing;
use crate::question::{
    Answer, DIGESTS_MAX, Group, Question, ROWS_MAX, SPANS_MAX, Span, VALUES_BYTES_MAX, Wanted, packed,
};

/// What is to be done for a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To be sent.
    Answer(Answer),
    /// To be merged durably, and then answered with [`Answer::Taken`]; [`Answer::Refused`] where that fails.
    Merge(Vec<(Bytes, Bytes)>),
    /// An exchange with the asking node is to begin soon; the answer is [`Answer::Hurried`].
    Hurry,
}

/// Answers a question of the pair's other node. Touches the disk.
pub fn reply(pair: &Pair<'_>, question: Question) -> Reply {
    let answer = match question {
        Question::Compare { hash, .. } => {
            let roots = Roots::of(pair.store, &pair.partitions());
            if roots.hash() == hash { Answer::Same } else { roots.to_answer() }
        }
        Question::Digests(groups) => all_digests(pair, &groups),
        Question::Versions { spans, after, upto } => versions(pair, &spans, after.as_ref(), upto.as_ref()),
        Question::Values(wanted) => values(pair, &wanted),
        Question::Take(mut rows) => {
            rows.retain(|(row, _)| pair.keeps(row));
            return Reply::Merge(rows);
        }
        Question::Hurry => return Reply::Hurry,
    };
    Reply::Answer(answer)
}

fn all_digests(pair: &Pair<'_>, groups: &[Group]) -> Answer {
    let count =
        |group: &Group| group.nodes.len().saturating_mul(1_usize.checked_shl(group.below.into()).unwrap_or(usize::MAX));
    if groups.iter().map(count).fold(0, usize::saturating_add) > DIGESTS_MAX || groups.len() > DIGESTS_MAX {
        return Answer::Refused;
    }
    let of = |group: &Group| pair.shares(group.partition).then(|| digests(pair.store, group)).flatten();
    Answer::Digests(groups.iter().map(|group| of(group).map(|digests| packed(&digests))).collect())
}

fn versions(pair: &Pair<'_>, spans: &[Span], after: Option<&Bytes>, upto: Option<&Bytes>) -> Answer {
    if spans.len() > SPANS_MAX || !spans.iter().all(|span| pair.shares(span.partition)) {
        return Answer::Refused;
    }
    match listing::list(pair, spans, after, upto) {
        Ok(listing) => Answer::Versions { rows: listing.rows, upto: listing.upto },
        Err(_) => Answer::Refused,
    }
}

fn values(pair: &Pair<'_>, wanted: &[Wanted]) -> Answer {
    if wanted.is_empty() || wanted.len() > ROWS_MAX {
        return Answer::Refused;
    }
    let (mut rows, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
    for Wanted { row, outline } in wanted {
        if bytes >= VALUES_BYTES_MAX {
            break;
        }
        looked_at += 1;
        if !pair.keeps(row) {
            continue;
        }
        match pair.store.row(row) {
            Ok(Some(envelope)) if adds_to(&envelope, outline) => {
                bytes += row.len() + envelope.len();
                rows.push((row.clone(), envelope));
            }
            // What is damaged here is unknown: it is the other side's turn to send.
            Ok(_) | Err(StoreError::Damaged) => {}
            Err(_) => return Answer::Refused,
        }
    }
    Answer::Values { rows, looked_at }
}

/// Whether the object has anything that the one of this outline lacks.
fn adds_to(envelope: &Bytes, outline: &Bytes) -> bool {
    match (Object::decode(envelope), Object::decode(outline)) {
        (Ok(here), Ok(there)) => !there.dominates(&here),
        (Ok(_), Err(_)) => true,
        (Err(_), _) => false,
    }
}
