//! The names of things on the ring.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::Xxh3;

use crate::layout::LayoutError;

/// Identity of a node: made once with its data directory, never its address. Shown as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u128);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not 32 hex digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a node id is 32 hex digits, not {0:?}")]
pub struct NodeIdError(String);

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(id) if hex => Ok(Self(id)),
            _ => Err(NodeIdError(text.into())),
        }
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A position on the ring: xxh3-64 of bucket, a zero byte, key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

impl Token {
    /// The token of a key in a bucket.
    pub fn of(bucket: &[u8], key: &[u8]) -> Self {
        let mut hasher = Xxh3::new();
        hasher.update(bucket);
        hasher.update(&[0]);
        hasher.update(key);
        Self(hasher.digest())
    }
}

/// One of the Q equal slices of the token space, 0 … Q−1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId(pub u16);

/// Q: a power of two, 1 to 16,384, fixed when the cluster is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct PartitionCount(u16);

impl PartitionCount {
    /// The largest number of partitions.
    pub const MAX: u16 = 16_384;

    /// Refuses what is not a power of two from 1 to 16,384.
    pub fn new(partitions: u16) -> Result<Self, LayoutError> {
        if partitions.is_power_of_two() && partitions <= Self::MAX {
            Ok(Self(partitions))
        } else {
            Err(LayoutError::PartitionCount(partitions))
        }
    }

    /// Q as a number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// The partition a token falls into: its leading log2 Q bits.
    pub fn partition_of(self, token: Token) -> PartitionId {
        let bits = self.0.trailing_zeros();
        PartitionId(token.0.checked_shr(64 - bits).unwrap_or(0) as u16)
    }

    /// First and last token of a partition, both inclusive.
    pub fn tokens(self, partition: PartitionId) -> (Token, Token) {
        let width_less_one = u64::MAX >> self.0.trailing_zeros();
        let bits = self.0.trailing_zeros();
        let first = u64::from(partition.0).checked_shl(64 - bits).unwrap_or(0);
        (Token(first), Token(first | width_less_one))
    }
}

impl TryFrom<u16> for PartitionCount {
    type Error = LayoutError;

    fn try_from(partitions: u16) -> Result<Self, Self::Error> {
        Self::new(partitions)
    }
}

impl From<PartitionCount> for u16 {
    fn from(partitions: PartitionCount) -> Self {
        partitions.get()
    }
}

/// N: how many owners a key has, 1 to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct ReplicationFactor(u8);

impl ReplicationFactor {
    /// The largest N.
    pub const MAX: u8 = 7;

    /// Refuses what is not 1 to 7.
    pub fn new(n: u8) -> Result<Self, LayoutError> {
        if (1..=Self::MAX).contains(&n) { Ok(Self(n)) } else { Err(LayoutError::ReplicationFactor(n)) }
    }

    /// N as a number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for ReplicationFactor {
    type Error = LayoutError;

    fn try_from(n: u8) -> Result<Self, Self::Error> {
        Self::new(n)
    }
}

impl From<ReplicationFactor> for u8 {
    fn from(n: ReplicationFactor) -> Self {
        n.get()
    }
}

/// Number of a layout. The founding layout is epoch 1; each change adds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);
