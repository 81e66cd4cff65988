//! Tokens, partitions and the newtypes' limits.

mod common;

use common::{n, q};
use proptest::prelude::*;
use rondo_ring::{LayoutError, NodeId, PartitionCount, PartitionId, ReplicationFactor, Token};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_token_lies_within_the_bounds_of_its_partition(token: u64, bits in 0_u32..=14) {
        let count = q(1 << bits);
        let partition = count.partition_of(Token(token));
        let (first, last) = count.tokens(partition);
        prop_assert!(first.0 <= token && token <= last.0);
        prop_assert!(partition.0 < count.get());
    }

    #[test]
    fn node_ids_read_back(id: u128) {
        prop_assert_eq!(NodeId(id).to_string().parse(), Ok(NodeId(id)));
    }
}

#[test]
fn the_partitions_cover_the_ring_without_gap_or_overlap() {
    for bits in 0..=14 {
        let count = q(1 << bits);
        let bounds: Vec<_> = (0..count.get()).map(|p| count.tokens(PartitionId(p))).collect();
        assert_eq!((bounds[0].0, bounds[bounds.len() - 1].1), (Token(0), Token(u64::MAX)));
        assert!(bounds.windows(2).all(|pair| pair[0].1.0 + 1 == pair[1].0.0));
    }
}

/// Where data lies depends on it: a change of the hash would lose every key.
#[test]
fn the_token_of_a_key_is_xxh3_of_bucket_zero_and_key() {
    assert_eq!(Token::of(b"bucket", b"key").0, xxhash_rust::xxh3::xxh3_64(b"bucket\0key"));
    assert_eq!(Token::of(b"bucket", b"key"), Token(0x0cf4_2eb4_2922_6825));
    assert_ne!(Token::of(b"a", b"bc"), Token::of(b"ab", b"c"));
}

#[test]
fn counts_out_of_range_are_refused() {
    for refused in [0, 3, 255, 32_768] {
        assert_eq!(PartitionCount::new(refused), Err(LayoutError::PartitionCount(refused)));
    }
    assert_eq!(ReplicationFactor::new(0), Err(LayoutError::ReplicationFactor(0)));
    assert_eq!(ReplicationFactor::new(8), Err(LayoutError::ReplicationFactor(8)));
    assert_eq!((n(7).get(), q(16_384).get()), (7, 16_384));
}

#[test]
fn node_ids_are_32_hex_digits() {
    let wrong = ["", "12", "+0000000000000000000000000000001", "g0000000000000000000000000000000", &"0".repeat(33)];
    for text in wrong {
        let error = text.parse::<NodeId>().unwrap_err().to_string();
        assert!(error.starts_with("a node id is 32 hex digits, not "), "{error}");
    }
    assert_eq!("000000000000000000000000000000Ff".parse(), Ok(NodeId(255)));
}
