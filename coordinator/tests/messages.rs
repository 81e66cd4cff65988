//! Peer messages: what is encoded comes back, and bytes from anywhere never do more than fail.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use rondo_coordinator::{
    Failure, ForwardedWrite, ListQuery, Outcome, QuorumChoice, QuorumKind, Refusal, ReplicaReply, ReplicaRequest,
    ReplicaValue, Want, WireError, WriteAnswer,
};
use rondo_ring::{NodeId, PartitionCount, PartitionId, PartitionSet, ReplicationFactor};
use rondo_storage::Key;
use rondo_storage::engine::Durability;
use rondo_storage::store::{BlindPut, Change, Condition, ListPage, ListRange, Listed, Ttl};
use rondo_storage::versions::{ActorId, CausalContext, Conflict, Dot, ETag, Metadata, Object, Sibling};

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn key() -> impl Strategy<Value = Key> {
    ("[a-z0-9._-]{2,20}x", "\\PC{1,30}").prop_map(|(bucket, key)| Key::new(&bucket, &key).unwrap())
}

fn dot() -> impl Strategy<Value = Dot> {
    (any::<u64>(), 1..u64::MAX).prop_map(|(actor, counter)| Dot { actor: ActorId(actor), counter })
}

fn context() -> impl Strategy<Value = CausalContext> {
    vec(dot(), 0..6).prop_map(|dots| {
        dots.into_iter().fold(CausalContext::default(), |mut context, dot| {
            context.insert(dot);
            context
        })
    })
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![Just(Durability::Fsync), Just(Durability::Interval)]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let texts = (bytes(40), bytes(10), vec((bytes(10), bytes(20)), 0..4));
    (texts, any::<u64>(), any::<u64>(), 1..u64::MAX).prop_map(|(texts, modified_us, expires_us, write_id)| {
        let (content_type, content_encoding, user) = texts;
        Metadata { content_type, content_encoding, user: user.into(), modified_us, expires_us, write_id }
    })
}

fn change() -> impl Strategy<Value = Change> {
    let blind = prop_oneof![Just(BlindPut::Overwrite), Just(BlindPut::Sibling)];
    let value = proptest::option::of(bytes(200));
    let conflict = prop_oneof![Just(Conflict::Siblings), Just(Conflict::Lww)];
    let ttl = (0..=u64::from(Ttl::SECONDS_MAX)).prop_map(|seconds| Ttl::new(seconds).ok());
    let wishes = (blind, conflict, proptest::option::of(condition()), ttl);
    (proptest::option::of(context()), wishes, value, metadata(), any::<u16>(), durability()).prop_map(
        |(context, (blind, conflict, condition, ttl), value, metadata, siblings_max, durability)| Change {
            context,
            blind,
            conflict,
            condition,
            value,
            metadata,
            ttl,
            siblings_max,
            durability,
        },
    )
}

fn etag() -> impl Strategy<Value = ETag> {
    vec(dot(), 1..4).prop_map(|dots| ETag::of(dots).unwrap())
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        Just(Condition::Absent),
        Just(Condition::Present),
        vec(etag(), 0..=Condition::ETAGS_MAX).prop_map(|etags| Condition::AnyOf(etags.into())),
    ]
}

fn choice() -> impl Strategy<Value = QuorumChoice> {
    let words = [QuorumChoice::One, QuorumChoice::Quorum, QuorumChoice::All, QuorumChoice::LocalQuorum];
    prop_oneof![
        (1..=7_u8).prop_map(QuorumChoice::Count),
        proptest::sample::select(words.to_vec()),
        Just(QuorumChoice::EachQuorum)
    ]
}

fn partitions() -> impl Strategy<Value = PartitionSet> {
    (0..=10_u32, vec(any::<u16>(), 0..9)).prop_map(|(log2, members)| {
        let of = PartitionCount::new(1 << log2).unwrap();
        members.into_iter().fold(PartitionSet::empty(of), |mut set, member| {
            set.insert(PartitionId(member % of.get()));
            set
        })
    })
}

fn query() -> impl Strategy<Value = ListQuery> {
    ("[a-z]{1,9}", "\\PC{0,9}", proptest::option::of("\\PC{1,30}"), partitions(), any::<u32>()).prop_map(
        |(bucket, prefix, after, partitions, rows_max)| ListQuery {
            range: ListRange { bucket, prefix, after, partitions },
            rows_max,
        },
    )
}

fn outline() -> impl Strategy<Value = Object> {
    (dot(), metadata()).prop_map(|(dot, metadata)| {
        let mut object = Object::default();
        object.update(&CausalContext::default(), Sibling { dot, value: Some(Bytes::from_static(b"v")), metadata });
        object.outline()
    })
}

fn page() -> impl Strategy<Value = ListPage> {
    let row = ("\\PC{1,30}", proptest::option::of(outline())).prop_map(|(key, outline)| Listed { key, outline });
    (vec(row, 0..5), proptest::option::of("\\PC{1,30}"), partitions()).prop_map(|(rows, through, untrusted)| ListPage {
        rows,
        through,
        untrusted,
    })
}

fn request() -> impl Strategy<Value = ReplicaRequest> {
    let want = prop_oneof![Just(Want::Object), Just(Want::Digest), Just(Want::Hinted)];
    let forward = (key(), change(), 1..=7_u8, choice(), any::<bool>(), any::<u32>(), any::<u32>());
    prop_oneof![
        (key(), bytes(300), durability()).prop_map(|(key, object, durability)| ReplicaRequest::Merge {
            key,
            object,
            durability
        }),
        (key(), want).prop_map(|(key, want)| ReplicaRequest::Read { key, want }),
        query().prop_map(|query| ReplicaRequest::List(Box::new(query))),
        (any::<u128>(), key(), bytes(300), durability()).prop_map(|(target, key, object, durability)| {
            ReplicaRequest::Hint { target: NodeId(target), key, object, durability }
        }),
        (key(), bytes(300)).prop_map(|(key, object)| ReplicaRequest::Deliver { key, object }),
        forward.prop_map(|(key, change, n, w, sloppy, remaining_ms, start_within_ms)| {
            let n = ReplicationFactor::new(n).unwrap();
            let quorum = if sloppy { QuorumKind::Sloppy } else { QuorumKind::Strict };
            let write = ForwardedWrite { key, change, n, w, quorum, remaining_ms, start_within_ms };
            ReplicaRequest::Forward(Box::new(write))
        }),
    ]
}

fn failure() -> impl Strategy<Value = Failure> {
    let outcome = prop_oneof![Just(Outcome::NotApplied), Just(Outcome::Unknown)];
    prop_oneof![
        (any::<(bool, u8, u8, u8)>(), outcome).prop_map(|((timed_out, required, acked, n), outcome)| {
            if timed_out {
                Failure::TimedOut { required, acked, n, outcome }
            } else {
                Failure::Unavailable { required, acked, n, outcome }
            }
        }),
        (any::<(u32, u16)>(), context()).prop_map(|((count, max), context)| Failure::TooManySiblings {
            count,
            max,
            context
        }),
        (proptest::option::of(etag()), context())
            .prop_map(|(etag, context)| Failure::ConditionFailed { etag, context }),
        proptest::sample::select(vec![Failure::ContextNotReached, Failure::LowDisk, Failure::Busy]),
    ]
}

fn reply() -> impl Strategy<Value = ReplicaReply> {
    let answer = (dot(), context(), any::<(u32, u64, u64, u8, u8, u8, bool)>()).prop_map(
        |(dot, context, (siblings, modified_us, expires_us, acks, n, hinted, sloppy))| WriteAnswer {
            dot,
            context,
            siblings,
            modified_us,
            expires_us,
            acks,
            n,
            hinted,
            sloppy,
        },
    );
    let value = prop_oneof![
        Just(ReplicaValue::Missing),
        any::<u64>().prop_map(ReplicaValue::Digest),
        bytes(300).prop_map(ReplicaValue::Object),
        proptest::option::of(bytes(300)).prop_map(ReplicaValue::Unknown),
    ];
    let refusals =
        [Refusal::LowDisk, Refusal::Busy, Refusal::NotOwner, Refusal::Expired, Refusal::Damaged, Refusal::Storage];
    prop_oneof![
        Just(ReplicaReply::Merged),
        value.prop_map(ReplicaReply::Value),
        proptest::result::maybe_err(answer, failure()).prop_map(ReplicaReply::Forwarded),
        proptest::sample::select(refusals.to_vec()).prop_map(ReplicaReply::Refused),
        page().prop_map(|page| ReplicaReply::Listed(Box::new(page))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Two in one body come apart again, and nothing is left.
    #[test]
    fn requests_come_back(first in request(), second in request()) {
        let mut out = Vec::new();
        first.encode_into(&mut out);
        let bounded = !matches!(first, ReplicaRequest::Merge { .. }) || out.len() <= first.bytes_expected();
        prop_assert!(bounded, "the buffer grew");
        second.encode_into(&mut out);
        let mut input = Bytes::from(out);
        for sent in [first, second] {
            let received = ReplicaRequest::decode(&mut input).unwrap();
            prop_assert_eq!(format!("{sent:?}"), format!("{received:?}"));
        }
        prop_assert!(input.is_empty());
    }

    #[test]
    fn replies_come_back(first in reply(), second in reply()) {
        let mut out = Vec::new();
        first.encode_into(&mut out);
        second.encode_into(&mut out);
        let mut input = Bytes::from(out);
        for sent in [first, second] {
            let received = ReplicaReply::decode(&mut input).unwrap();
            prop_assert_eq!(format!("{sent:?}"), format!("{received:?}"));
        }
        prop_assert!(input.is_empty());
    }

    #[test]
    fn cut_messages_are_errors(request in request(), reply in reply(), keep in 0.0..1.0_f64) {
        let (mut requested, mut replied) = (Vec::new(), Vec::new());
        request.encode_into(&mut requested);
        reply.encode_into(&mut replied);
        let cut = |whole: &[u8]| Bytes::copy_from_slice(&whole[..(whole.len() as f64 * keep) as usize]);
        prop_assert!(ReplicaRequest::decode(&mut cut(&requested)).is_err());
        prop_assert!(ReplicaReply::decode(&mut cut(&replied)).is_err());
    }

    /// Never a panic; what does decode is a message like any other.
    #[test]
    fn any_bytes_decode_or_fail(kind in 0..13_u8, mut rest in vec(any::<u8>(), 0..200)) {
        let mut body = vec![1, kind];
        body.append(&mut rest);
        if let Ok(request) = ReplicaRequest::decode(&mut Bytes::from(body.clone())) {
            request.encode_into(&mut Vec::new());
        }
        if let Ok(reply) = ReplicaReply::decode(&mut Bytes::from(body)) {
            reply.encode_into(&mut Vec::new());
        }
    }
}

#[test]
fn another_format_a_long_length_and_a_wrong_token_are_named() {
    let read = |bytes: &[u8]| ReplicaRequest::decode(&mut Bytes::copy_from_slice(bytes)).unwrap_err();
    assert_eq!(read(&[2, 1]), WireError::Version(2));
    assert_eq!(read(&[1, 9]), WireError::Value("kind of request"));
    assert_eq!(read(&[1, 2, 0, 0xff, 0xff, 0xff, 0xff, 0xff]), WireError::Value("length"));
    assert!(matches!(read(&[1, 2, 0, 0xff, 0xff, 0x7f]), WireError::TooLong { what: "key", .. }));
    let mut out = Vec::new();
    ReplicaRequest::Read { key: Key::new("b", "k").unwrap(), want: Want::Digest }.encode_into(&mut out);
    out[4] ^= 1;
    assert!(matches!(read(&out), WireError::Key(_)));
}

/// Nothing of a large object is copied when it is received.
#[test]
fn an_object_is_a_slice_of_the_body() {
    let object = Bytes::from(vec![7; 1 << 20]);
    let key = Key::new("b", "k").unwrap();
    let mut out = Vec::new();
    ReplicaRequest::Merge { key, object: object.clone(), durability: Durability::Fsync }.encode_into(&mut out);
    let body = Bytes::from(out);
    let range = body.as_ptr_range();
    let ReplicaRequest::Merge { object: received, .. } = ReplicaRequest::decode(&mut body.clone()).unwrap() else {
        panic!("a merge was sent")
    };
    assert_eq!(received, object);
    assert!(range.contains(&received.as_ptr()));
}
