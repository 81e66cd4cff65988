//! The name of a set of versions, as HTTP shows it.

use std::fmt;
use std::str::FromStr;

use smallvec::SmallVec;
use xxhash_rust::xxh3::Xxh3;

use super::Dot;

/// Without the quotes. One version: its dot (actor and counter in hex, joined by `-`), so that a sibling's ETag is the
/// one its PUT was answered with. Several: `s` and 32 hex digits, the xxh3-128 hash of the sorted dots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(String);

/// No ETag of any set of versions. Nothing was read or written.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("an ETag is two lower-case hex numbers joined by \"-\", or \"s\" and 32 lower-case hex digits")]
pub struct ETagError;

impl ETag {
    /// Of the set; neither order nor repetition matters. Empty sets have none.
    pub fn of(dots: impl IntoIterator<Item = Dot>) -> Option<Self> {
        let mut dots: SmallVec<[Dot; 4]> = dots.into_iter().collect();
        dots.sort_unstable();
        dots.dedup();
        match dots.as_slice() {
            [] => None,
            [dot] => Some(Self(format!("{:x}-{:x}", dot.actor.0, dot.counter))),
            several => Some(Self(format!("s{:032x}", hash_of(several)))),
        }
    }

    /// Takes the text between the quotes, as [`of`](Self::of) makes it and in no other spelling: ETags are compared as
    /// text.
    pub fn parse(text: &str) -> Result<Self, ETagError> {
        let valid = match text.strip_prefix('s') {
            Some(hash) => hash.len() == 32 && hash.bytes().all(is_lower_hex),
            None => text.split_once('-').is_some_and(|(actor, counter)| is_number(actor) && is_counter(counter)),
        };
        if valid { Ok(Self(text.to_owned())) } else { Err(ETagError) }
    }

    /// The text between the quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ETag {
    type Err = ETagError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

fn hash_of(dots: &[Dot]) -> u128 {
    let mut hasher = Xxh3::new();
    for dot in dots {
        hasher.update(&dot.actor.0.to_le_bytes());
        hasher.update(&dot.counter.to_le_bytes());
    }
    hasher.digest128()
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// A 64-bit number in hex without leading zeros.
fn is_number(text: &str) -> bool {
    let no_leading_zero = text == "0" || !text.starts_with('0');
    (1..=16).contains(&text.len()) && no_leading_zero && text.bytes().all(is_lower_hex)
}

/// As [`is_number`], above 0 as counters are.
fn is_counter(text: &str) -> bool {
    text != "0" && is_number(text)
}

#[cfg(test)]
mod tests {
    use super::super::ActorId;
    use super::*;

    fn dot(actor: u64, counter: u64) -> Dot {
        Dot { actor: ActorId(actor), counter }
    }

    #[test]
    fn one_version_is_named_by_its_dot() {
        assert_eq!(ETag::of([dot(0xab, 0x10)]).unwrap().as_str(), "ab-10");
        assert_eq!(ETag::of([dot(0xab, 0x10), dot(0xab, 0x10)]), ETag::of([dot(0xab, 0x10)]));
        assert_eq!(ETag::of([]), None);
    }

    #[test]
    fn a_set_has_one_name_in_any_order() {
        let (a, b, c) = (dot(1, 5), dot(2, 5), dot(1, 6));
        assert_eq!(ETag::of([a, b, c]), ETag::of([c, a, b, a]));
        assert_ne!(ETag::of([a, b]), ETag::of([a, c]));
        assert_ne!(ETag::of([a, b]), ETag::of([a, b, c]));
    }

    #[test]
    fn what_is_made_is_taken_back() {
        for dots in [vec![dot(0, 1)], vec![dot(u64::MAX, u64::MAX)], vec![dot(1, 2), dot(3, 4)]] {
            let etag = ETag::of(dots).unwrap();
            assert_eq!(etag.to_string().parse(), Ok(etag));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let short = format!("s{}", "0".repeat(31));
        let upper = format!("s{}", "A".repeat(32));
        let long = format!("{}-1", "1".repeat(17));
        for text in
            ["", "-", "1", "1-", "-1", "1-0", "01-1", "1-01", "A-1", "1-1-1", "+1-1", "*", &short, &upper, &long]
        {
            assert_eq!(ETag::parse(text), Err(ETagError), "{text}");
        }
    }
}
