//! The name of an object: bucket and key, with the token that places it.

use std::fmt;

use bytes::Bytes;
use rondo_ring::Token;

/// Bucket and key of an object, checked. One allocation; a clone shares it. Its [`row`](Key::row) is the key of the
/// object's row on disk and its name between peers: token (8 bytes, big-endian) ‖ bucket ‖ 0 ‖ key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    row: Bytes,
    bucket_len: u8,
}

/// What is wrong with a name. Nothing was read or written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum KeyError {
    #[error("bucket {0:?}: 1 to 255 bytes of A-Z a-z 0-9 . _ - are allowed, but not \".\" or \"..\"")]
    Bucket(String),
    #[error("the key is empty: 1 to 1,024 bytes are allowed")]
    Empty,
    #[error("the key has {0} bytes: 1 to 1,024 are allowed")]
    TooLong(usize),
    #[error("the key is not valid UTF-8")]
    NotUtf8,
    #[error("not a row key: {0}")]
    Row(&'static str),
}

impl Key {
    /// Longest bucket name in bytes.
    pub const BUCKET_BYTES_MAX: usize = 255;
    /// Longest key in bytes.
    pub const KEY_BYTES_MAX: usize = 1_024;

    /// Checks both names and computes the token.
    pub fn new(bucket: &str, key: &str) -> Result<Self, KeyError> {
        check_bucket(bucket)?;
        check_key(key.as_bytes())?;
        let token = Token::of(bucket.as_bytes(), key.as_bytes());
        let mut row = Vec::with_capacity(8 + bucket.len() + 1 + key.len());
        row.extend_from_slice(&token.0.to_be_bytes());
        row.extend_from_slice(bucket.as_bytes());
        row.push(0);
        row.extend_from_slice(key.as_bytes());
        Ok(Self { row: Bytes::from(row), bucket_len: bucket.len() as u8 })
    }

    /// Takes a row key apart again, checking everything, the token included: it comes from a disk or a peer.
    pub fn from_row(row: Bytes) -> Result<Self, KeyError> {
        let names = row.get(8..).ok_or(KeyError::Row("shorter than a token"))?;
        let zero = names.iter().position(|&b| b == 0).ok_or(KeyError::Row("no end of the bucket's name"))?;
        let bucket = std::str::from_utf8(&names[..zero]).map_err(|_| KeyError::Row("bucket is not UTF-8"))?;
        check_bucket(bucket)?;
        check_key(&names[zero + 1..])?;
        std::str::from_utf8(&names[zero + 1..]).map_err(|_| KeyError::NotUtf8)?;
        if row[..8] != Token::of(bucket.as_bytes(), &names[zero + 1..]).0.to_be_bytes() {
            return Err(KeyError::Row("the token is not that of the name"));
        }
        let bucket_len = zero as u8;
        Ok(Self { row, bucket_len })
    }

    /// token ‖ bucket ‖ 0 ‖ key.
    pub fn row(&self) -> &Bytes {
        &self.row
    }

    /// bucket ‖ 0 ‖ key: the key of the row in the names index.
    pub fn name(&self) -> Bytes {
        self.row.slice(8..)
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        let end = 8 + usize::from(self.bucket_len);
        std::str::from_utf8(&self.row[8..end]).expect("checked when the key was made: buckets are ASCII")
    }

    /// The key inside the bucket.
    pub fn key(&self) -> &str {
        let start = 8 + usize::from(self.bucket_len) + 1;
        std::str::from_utf8(&self.row[start..]).expect("checked when the key was made: keys are UTF-8")
    }

    /// Where it lives.
    pub fn token(&self) -> Token {
        Token(u64::from_be_bytes(self.row[..8].try_into().expect("a row key starts with the token's 8 bytes")))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket(), self.key())
    }
}

/// Refuses a name that no bucket can have.
pub fn check_bucket(bucket: &str) -> Result<(), KeyError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let length = (1..=Key::BUCKET_BYTES_MAX).contains(&bucket.len());
    if length && bucket.bytes().all(allowed) && bucket != "." && bucket != ".." {
        Ok(())
    } else {
        Err(KeyError::Bucket(bucket.chars().take(64).collect()))
    }
}

fn check_key(key: &[u8]) -> Result<(), KeyError> {
    match key.len() {
        0 => Err(KeyError::Empty),
        len if len > Key::KEY_BYTES_MAX => Err(KeyError::TooLong(len)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_key_comes_apart_as_it_was_put_together() {
        let key = Key::new("fruit", "a/b\u{e9}").unwrap();
        let again = Key::from_row(key.row().clone()).unwrap();
        assert_eq!((again.bucket(), again.key(), again.token()), ("fruit", "a/b\u{e9}", key.token()));
        assert_eq!(again, key);
    }

    #[test]
    fn bad_names_are_refused_by_name() {
        assert!(matches!(Key::new("a/b", "k"), Err(KeyError::Bucket(_))));
        assert!(matches!(Key::new("..", "k"), Err(KeyError::Bucket(_))));
        assert!(matches!(Key::new(&"b".repeat(256), "k"), Err(KeyError::Bucket(_))));
        assert_eq!(Key::new("b", ""), Err(KeyError::Empty));
        assert_eq!(Key::new("b", &"k".repeat(1_025)), Err(KeyError::TooLong(1_025)));
        assert!(Key::new(&"b".repeat(255), &"k".repeat(1_024)).is_ok());
    }

    #[test]
    fn a_row_with_anothers_token_is_refused() {
        let mut row = Key::new("b", "k").unwrap().row().to_vec();
        row[0] ^= 1;
        assert!(matches!(Key::from_row(row.into()), Err(KeyError::Row(_))));
    }
}
