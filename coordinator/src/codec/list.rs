//! The bytes of a listing's pages.

use bytes::Bytes;
use rondo_ring::{PartitionCount, PartitionSet};
use rondo_storage::Key;
use rondo_storage::store::{ListPage, ListRange, Listed};
use rondo_storage::versions::Object;

use crate::message::ListQuery;
use crate::wire::{
    OBJECT_BYTES_MAX, WireError, put_bytes, put_len, take_bytes, take_len, take_u8, take_u16, take_u32, take_u64,
};

/// Most rows of a page that is taken.
const ROWS_MAX: usize = 64 << 10;

pub(super) fn query_bytes(query: &ListQuery) -> usize {
    let ListRange { bucket, prefix, after, partitions } = &query.range;
    bucket.len() + prefix.len() + after.as_ref().map_or(0, String::len) + 8 * partitions.words().len()
}

pub(super) fn put_query(out: &mut Vec<u8>, query: &ListQuery) {
    let range = &query.range;
    put_bytes(out, range.bucket.as_bytes());
    put_bytes(out, range.prefix.as_bytes());
    put_optional(out, range.after.as_deref());
    put_set(out, &range.partitions);
    out.extend_from_slice(&query.rows_max.to_le_bytes());
}

pub(super) fn take_query(input: &mut Bytes) -> Result<ListQuery, WireError> {
    let range = ListRange {
        bucket: take_text(input, "bucket", Key::BUCKET_BYTES_MAX)?,
        prefix: take_text(input, "prefix", Key::KEY_BYTES_MAX)?,
        after: take_optional(input)?,
        partitions: take_set(input)?,
    };
    Ok(ListQuery { range, rows_max: take_u32(input)? })
}

pub(super) fn put_page(out: &mut Vec<u8>, page: &ListPage) {
    put_optional(out, page.through.as_deref());
    put_set(out, &page.untrusted);
    put_len(out, page.rows.len());
    for row in &page.rows {
        put_bytes(out, row.key.as_bytes());
        match &row.outline {
            None => out.push(0),
            Some(outline) => {
                out.push(1);
                put_bytes(out, &outline.encode());
            }
        }
    }
}

pub(super) fn take_page(input: &mut Bytes) -> Result<ListPage, WireError> {
    let (through, untrusted) = (take_optional(input)?, take_set(input)?);
    let len = take_len(input)?;
    if len > ROWS_MAX {
        return Err(WireError::TooLong { what: "page", len, max: ROWS_MAX });
    }
    let mut rows = Vec::with_capacity(len.min(input.len()));
    for _ in 0..len {
        let key = take_text(input, "key", Key::KEY_BYTES_MAX)?;
        let outline = match take_u8(input)? {
            0 => None,
            1 => Some(Object::decode(&take_bytes(input, "outline", OBJECT_BYTES_MAX)?)?),
            _ => return Err(WireError::Value("kind of row")),
        };
        rows.push(Listed { key, outline });
    }
    Ok(ListPage { rows, through, untrusted })
}

fn take_text(input: &mut Bytes, what: &'static str, max: usize) -> Result<String, WireError> {
    let bytes = take_bytes(input, what, max)?;
    std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| WireError::Value(what))
}

/// A key, which is never empty, or nothing.
fn put_optional(out: &mut Vec<u8>, key: Option<&str>) {
    put_bytes(out, key.unwrap_or_default().as_bytes());
}

fn take_optional(input: &mut Bytes) -> Result<Option<String>, WireError> {
    take_text(input, "key", Key::KEY_BYTES_MAX).map(|key| (!key.is_empty()).then_some(key))
}

/// Q, then the bits, or none of them where the set is empty.
fn put_set(out: &mut Vec<u8>, set: &PartitionSet) {
    out.extend_from_slice(&set.of().get().to_le_bytes());
    out.push(u8::from(!set.is_empty()));
    if !set.is_empty() {
        set.words().iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    }
}

fn take_set(input: &mut Bytes) -> Result<PartitionSet, WireError> {
    let bad = || WireError::Value("set of partitions");
    let of = PartitionCount::new(take_u16(input)?).map_err(|_| bad())?;
    match take_u8(input)? {
        0 => Ok(PartitionSet::empty(of)),
        1 => {
            let words = (0..usize::from(of.get()).div_ceil(64)).map(|_| take_u64(input)).collect::<Result<_, _>>()?;
            PartitionSet::from_words(of, words).filter(|set| !set.is_empty()).ok_or_else(bad)
        }
        _ => Err(bad()),
    }
}
