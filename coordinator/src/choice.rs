//! R and W as requests and buckets name them: a number or a word.

use std::fmt;
use std::str::FromStr;

use rondo_ring::ReplicationFactor;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many owners must have voted (R) or acknowledged (W).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QuorumChoice {
    /// That many of the N owners, 1 to N.
    Count(u8),
    /// One of them.
    One,
    /// A majority of N.
    #[default]
    Quorum,
    /// All N.
    All,
    /// A majority of the owners in the coordinating node's zone; where that zone has none, a majority of all.
    LocalQuorum,
    /// A majority of the owners in every zone that has owners. For W only.
    EachQuorum,
}

/// What a choice is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// R.
    Read,
    /// W.
    Write,
}

/// A number or word that is no R or W here.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{value:?} is not allowed; allowed: {allowed}")]
pub struct ChoiceError {
    /// As it was given, cut to 100 characters.
    pub value: String,
    /// What is allowed, for a person.
    pub allowed: String,
}

impl QuorumChoice {
    const WORDS: [(&str, Self); 5] = [
        ("one", Self::One),
        ("quorum", Self::Quorum),
        ("all", Self::All),
        ("local-quorum", Self::LocalQuorum),
        ("each-quorum", Self::EachQuorum),
    ];

    /// Parses and checks what a request carries.
    pub fn read(text: &str, n: ReplicationFactor, usage: Use) -> Result<Self, ChoiceError> {
        let refused = |_| ChoiceError { value: cut(text), allowed: Self::allowed(n, usage) };
        text.parse::<Self>().map_err(refused)?.check(n, usage)
    }

    /// Itself, where it can be meant for this N and this use.
    pub fn check(self, n: ReplicationFactor, usage: Use) -> Result<Self, ChoiceError> {
        let fits = match self {
            Self::Count(count) => (1..=n.get()).contains(&count),
            Self::EachQuorum => usage == Use::Write,
            _ => true,
        };
        let refused = || ChoiceError { value: self.to_string(), allowed: Self::allowed(n, usage) };
        if fits { Ok(self) } else { Err(refused()) }
    }

    /// Whether both come to the same whatever the zones: `one` is 1, `all` is N.
    pub fn means(self, other: Self, n: ReplicationFactor) -> bool {
        self == other || self.count(n).is_some_and(|count| other.count(n) == Some(count))
    }

    /// How many, where that does not depend on zones.
    fn count(self, n: ReplicationFactor) -> Option<u8> {
        match self {
            Self::Count(count) => Some(count),
            Self::One => Some(1),
            Self::Quorum => Some(n.get() / 2 + 1),
            Self::All => Some(n.get()),
            Self::LocalQuorum | Self::EachQuorum => None,
        }
    }

    /// What is allowed, for a person.
    pub fn allowed(n: ReplicationFactor, usage: Use) -> String {
        let words = Self::WORDS.iter().filter(|(_, choice)| usage == Use::Write || *choice != Self::EachQuorum);
        let words: Vec<&str> = words.map(|(word, _)| *word).collect();
        let most = n.get();
        let numbers = if most == 1 { "1".into() } else { format!("1 to {most}") };
        format!("{numbers}, {}", words.join(", "))
    }

    /// One byte, for the wire and compact formats.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Count(count) => count & 0x7f,
            word => 0x80 | Self::WORDS.iter().position(|(_, w)| *w == word).unwrap_or(0) as u8,
        }
    }

    /// The choice of a byte, unless it is none.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            1..=ReplicationFactor::MAX => Some(Self::Count(code)),
            _ if code & 0x80 != 0 => Self::WORDS.get(usize::from(code & 0x7f)).map(|(_, choice)| *choice),
            _ => None,
        }
    }
}

impl FromStr for QuorumChoice {
    type Err = ChoiceError;

    /// A word, or a number from 1 to 7. Digits only: no sign, no white space.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        let number = || match text.as_bytes() {
            [digit @ b'1'..=b'7'] => Some(Self::Count(digit - b'0')),
            _ => None,
        };
        word.or_else(number).ok_or_else(|| {
            let most = ReplicationFactor::new(ReplicationFactor::MAX).expect("the maximum is in range");
            ChoiceError { value: cut(text), allowed: Self::allowed(most, Use::Write) }
        })
    }
}

impl fmt::Display for QuorumChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::One => f.write_str("one"),
            Self::Quorum => f.write_str("quorum"),
            Self::All => f.write_str("all"),
            Self::LocalQuorum => f.write_str("local-quorum"),
            Self::EachQuorum => f.write_str("each-quorum"),
        }
    }
}

impl Serialize for QuorumChoice {
    /// JSON and TOML: a number or a word. Compact formats: one byte.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            _ if !serializer.is_human_readable() => serializer.serialize_u8(self.code()),
            Self::Count(count) => serializer.serialize_u8(*count),
            word => serializer.collect_str(word),
        }
    }
}

impl<'de> Deserialize<'de> for QuorumChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_any(NumberOrWord);
        }
        Self::from_code(u8::deserialize(deserializer)?).ok_or_else(|| de::Error::custom("not a quorum"))
    }
}

struct NumberOrWord;

impl Visitor<'_> for NumberOrWord {
    type Value = QuorumChoice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 1 to 7, one, quorum, all, local-quorum or each-quorum")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<QuorumChoice, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<QuorumChoice, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<QuorumChoice, E> {
        text.parse().map_err(de::Error::custom)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(n: u8) -> ReplicationFactor {
        ReplicationFactor::new(n).unwrap()
    }

    #[test]
    fn words_and_numbers_come_back_as_they_were_given() {
        for text in ["1", "7", "one", "quorum", "all", "local-quorum", "each-quorum"] {
            let choice: QuorumChoice = text.parse().unwrap();
            assert_eq!(choice.to_string(), text);
            assert_eq!(QuorumChoice::from_code(choice.code()), Some(choice));
            let json = serde_json::to_string(&choice).unwrap();
            assert_eq!(serde_json::from_str::<QuorumChoice>(&json).unwrap(), choice);
        }
    }

    #[test]
    fn a_word_and_its_number_mean_the_same() {
        let same =
            |one: &str, other: &str, of| one.parse::<QuorumChoice>().unwrap().means(other.parse().unwrap(), n(of));
        assert!(same("one", "1", 3) && same("2", "quorum", 3) && same("all", "5", 5) && same("3", "quorum", 4));
        assert!(same("each-quorum", "each-quorum", 3) && same("quorum", "one", 1));
        assert!(!same("2", "3", 3) && !same("quorum", "all", 3) && !same("local-quorum", "quorum", 3));
    }

    #[test]
    fn anything_else_is_refused_with_what_is_allowed() {
        for text in ["", "0", "8", "-1", "+1", "01", "Quorum", "two", "1 "] {
            assert!(text.parse::<QuorumChoice>().is_err(), "{text:?}");
        }
        let error = QuorumChoice::read("4", n(3), Use::Write).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"4\" is not allowed; allowed: 1 to 3, one, quorum, all, local-quorum, each-quorum"
        );
        let error = QuorumChoice::read("each-quorum", n(1), Use::Read).unwrap_err();
        assert_eq!(error.allowed, "1, one, quorum, all, local-quorum");
        assert!((0..=255).filter_map(QuorumChoice::from_code).count() == 12);
    }
}
