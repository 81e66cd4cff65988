//! Context tokens: what a client holds. Byte table: `docs/formats.md`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use super::CausalContext;
use crate::Key;

/// Why a text is no context of this key. Nothing was read or written.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum TokenError {
    #[error("the context is longer than 4,096 bytes")]
    TooLong,
    #[error("the context is not one this cluster made, or it was cut or changed")]
    Forged,
    #[error("the context belongs to another key")]
    Foreign,
}

/// The format this release writes, and the only one so far.
const VERSION: u8 = 1;
const KEY_HASH_BYTES: usize = 8;
const MAC_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + KEY_HASH_BYTES;
/// What 4,096 characters of base64 hold.
const BYTES_MAX: usize = ContextTokens::CHARS_MAX / 4 * 3;

/// Makes and checks tokens: base64url without padding of version, 8 bytes of a keyed hash of the row key, the context,
/// and 16 bytes of a keyed BLAKE3 hash over all of that.
///
/// The hash of the key stands inside what is authenticated: a token of another key is told apart from a forged one, and
/// neither is ever taken.
#[derive(Clone)]
pub struct ContextTokens {
    /// Authenticates tokens.
    secret: [u8; 32],
    /// Hashes row keys. A second one, so that no key can be chosen whose hash is a token's authentication.
    key_secret: [u8; 32],
}

impl ContextTokens {
    /// The longest token in characters, sealed or opened.
    pub const CHARS_MAX: usize = 4_096;
    /// The longest context that is sealed whole, in bytes of its encoding: at least 64 actors with 200 unseen siblings.
    pub const CONTEXT_BYTES_MAX: usize = BYTES_MAX - HEAD_BYTES - MAC_BYTES;

    /// From the cluster's secret and id, so that every node of a cluster makes and takes the same.
    pub fn new(cluster_secret: &[u8], cluster_id: u128) -> Self {
        let material = [cluster_secret, &cluster_id.to_le_bytes()].concat();
        Self {
            secret: blake3::derive_key("rondo 2026 context token authentication 1", &material),
            key_secret: blake3::derive_key("rondo 2026 context token row key 1", &material),
        }
    }

    /// A token for the answer. Never longer than 4,096 bytes: a context above
    /// [`CONTEXT_BYTES_MAX`](Self::CONTEXT_BYTES_MAX) is cut to its newest ranges. Its holder then counts as having
    /// seen less, which can leave a sibling too many and never loses one.
    pub fn seal(&self, key: &Key, context: &CausalContext) -> String {
        if context.encoded_len() > Self::CONTEXT_BYTES_MAX {
            return self.seal(key, &context.shortened(Self::CONTEXT_BYTES_MAX));
        }
        let mut bytes = Vec::with_capacity(HEAD_BYTES + context.encoded_len() + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.key_hash(key));
        context.encode_into(&mut bytes);
        let mac = self.mac(&bytes);
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a client sent, checked: nothing of it is looked at before it is authenticated.
    pub fn open(&self, key: &Key, token: &str) -> Result<CausalContext, TokenError> {
        if token.len() > Self::CHARS_MAX {
            return Err(TokenError::TooLong);
        }
        let mut buffer = [0; BYTES_MAX];
        let len = URL_SAFE_NO_PAD.decode_slice(token, &mut buffer).map_err(|_| TokenError::Forged)?;
        let (signed, mac) = buffer[..len].split_last_chunk::<MAC_BYTES>().ok_or(TokenError::Forged)?;
        if !bool::from(self.mac(signed).ct_eq(mac)) {
            return Err(TokenError::Forged);
        }
        let (head, context) = signed.split_first_chunk::<HEAD_BYTES>().ok_or(TokenError::Forged)?;
        if head[0] != VERSION {
            return Err(TokenError::Forged);
        }
        if head[1..] != self.key_hash(key) {
            return Err(TokenError::Foreign);
        }
        CausalContext::decode(context).map_err(|_| TokenError::Forged)
    }

    fn key_hash(&self, key: &Key) -> [u8; KEY_HASH_BYTES] {
        first(blake3::keyed_hash(&self.key_secret, key.row()))
    }

    fn mac(&self, signed: &[u8]) -> [u8; MAC_BYTES] {
        first(blake3::keyed_hash(&self.secret, signed))
    }
}

fn first<const N: usize>(hash: blake3::Hash) -> [u8; N] {
    *hash.as_bytes().first_chunk().expect("no more bytes are asked for than a hash of 32 has")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A later release may sign another format with the same secret: it is refused, not misread.
    #[test]
    fn another_format_under_a_right_authentication_is_refused() {
        let tokens = ContextTokens::new(b"a secret", 42);
        let key = Key::new("fruit", "a").unwrap();
        let with_version = |version: u8| {
            let mut bytes = vec![version];
            bytes.extend_from_slice(&tokens.key_hash(&key));
            CausalContext::default().encode_into(&mut bytes);
            bytes.extend_from_slice(&tokens.mac(&bytes));
            URL_SAFE_NO_PAD.encode(bytes)
        };
        assert_eq!(tokens.open(&key, &with_version(VERSION)), Ok(CausalContext::default()));
        assert_eq!(tokens.open(&key, &with_version(VERSION + 1)), Err(TokenError::Forged));
    }
}
