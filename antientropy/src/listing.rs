//! The versions in some leaves: row keys with the digests of their objects.

use bytes::Bytes;
use rondo_ring::Token;
use rondo_storage::store::StoreError;
use rondo_storage::versions::Object;

use crate::compare::Pair;
use crate::question::{ROWS_MAX, Span, VALUES_BYTES_MAX};

/// Rows in order, of which both nodes are owners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) rows: Vec<(Bytes, u64)>,
    /// Everything up to this row was listed; `None`: everything.
    pub(crate) upto: Option<Bytes>,
}

/// What is here in the spans, behind `after`, not beyond `upto`. A row that cannot be read is not among them: the other
/// node then sends what it has, which replaces it.
pub(crate) fn list(
    pair: &Pair<'_>,
    spans: &[Span],
    after: Option<&Bytes>,
    upto: Option<&Bytes>,
) -> Result<Listing, StoreError> {
    let mut listing = Listing::default();
    for span in spans {
        let (Some((first, _)), Some((_, last))) = (
            pair.store.leaf_tokens(span.partition, span.first as usize),
            pair.store.leaf_tokens(span.partition, span.last as usize),
        ) else {
            continue;
        };
        if after.is_some_and(|after| token_of(after) > last) {
            continue;
        }
        if upto.is_some_and(|upto| token_of(upto) < first) {
            break;
        }
        if listing.add(pair, (first, last), after.filter(|after| token_of(after) >= first), upto)? {
            return Ok(listing);
        }
    }
    Ok(listing)
}

impl Listing {
    /// Whether it is full.
    fn add(
        &mut self,
        pair: &Pair<'_>,
        tokens: (Token, Token),
        after: Option<&Bytes>,
        upto: Option<&Bytes>,
    ) -> Result<bool, StoreError> {
        let mut after = after.cloned();
        loop {
            let page = match pair.store.scan_tokens(tokens, after.as_deref(), ROWS_MAX, VALUES_BYTES_MAX) {
                // What cannot be read is as good as missing: the other side's copies replace it.
                Err(StoreError::Damaged) => return Ok(false),
                page => page?,
            };
            for (row, envelope) in page.rows {
                if upto.is_some_and(|upto| row > *upto) {
                    return Ok(false);
                }
                if self.rows.len() >= ROWS_MAX {
                    self.upto = self.rows.last().map(|(row, _)| row.clone());
                    return Ok(true);
                }
                if let (true, Some(digest)) = (pair.keeps(&row), Object::digest(&envelope)) {
                    // A copy: the row may be part of a large block.
                    self.rows.push((Bytes::copy_from_slice(&row), digest));
                }
            }
            if page.complete || page.last.is_none() {
                return Ok(false);
            }
            after = page.last;
        }
    }
}

/// The token a row key begins with; of what is too short to be one, the first.
pub(crate) fn token_of(row: &[u8]) -> Token {
    Token(row.first_chunk().map_or(0, |token| u64::from_be_bytes(*token)))
}
