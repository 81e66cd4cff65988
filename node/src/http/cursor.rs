//! The place where a listing goes on (docs/formats.md): any node takes it, at any time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rondo_storage::Key;
use xxhash_rust::xxh3::xxh3_64;

/// Format of a cursor.
const VERSION: u8 = 1;
const SUM_BYTES: usize = 8;
/// Longest cursor, in characters.
const CHARS_MAX: usize = (1 + Key::KEY_BYTES_MAX + SUM_BYTES) * 4 / 3 + 4;

/// The cursor behind this key.
pub(crate) fn seal(bucket: &str, prefix: &str, key: &str) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(&sum(bucket, prefix, key).to_le_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key of a cursor of this bucket and prefix; `None` where it is none. It is not secret and needs no guarding: a
/// client may begin anywhere in the prefix. The sum tells a cut or mistaken one from a place.
pub(crate) fn open(bucket: &str, prefix: &str, cursor: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(Some(cursor).filter(|cursor| cursor.len() <= CHARS_MAX)?).ok()?;
    let (content, claimed) = bytes.split_last_chunk::<SUM_BYTES>()?;
    let (&VERSION, key) = content.split_first()? else { return None };
    let key = std::str::from_utf8(key).ok().filter(|key| key.starts_with(prefix))?;
    (Key::new(bucket, key).is_ok() && sum(bucket, prefix, key).to_le_bytes() == *claimed).then(|| key.to_owned())
}

fn sum(bucket: &str, prefix: &str, key: &str) -> u64 {
    // Neither ends is in any of the texts before it: no other three give the same bytes.
    xxh3_64(&[bucket.as_bytes(), &[0], prefix.as_bytes(), &[0xff], key.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_bucket_and_prefix_only() {
        for (prefix, key) in [("", "k"), ("a/", "a/\u{e9}\0"), ("k", &"k".repeat(1_024))] {
            let cursor = seal("b", prefix, key);
            assert!(cursor.len() <= CHARS_MAX);
            assert_eq!(open("b", prefix, &cursor).as_deref(), Some(key));
            assert_eq!(open("c", prefix, &cursor), None);
            assert_eq!(open("b", "other", &cursor), None);
            for cut in [1, 8, cursor.len() / 2, cursor.len() - 1] {
                assert_eq!(open("b", prefix, &cursor[..cursor.len() - cut]), None);
            }
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let forged = |key: &[u8], version: u8| {
            let sum = xxh3_64(&[b"b\0\xff", key].concat()).to_le_bytes();
            URL_SAFE_NO_PAD.encode([&[version], key, &sum].concat())
        };
        assert!(open("b", "", &forged(b"k", 1)).is_some());
        for bad in [forged(b"k", 2), forged(b"", 1), forged(b"\xff", 1), "x".into(), "====".into(), "A".repeat(9_999)] {
            assert_eq!(open("b", "", &bad), None, "{bad}");
        }
    }
}
