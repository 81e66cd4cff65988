//! Envelopes: one spelling for each object, no panic and no other object whatever happens to the bytes, and the first
//! format read for ever.

use bytes::Bytes;
use proptest::prelude::*;
use rondo_storage::versions::{ActorId, CausalContext, Dot, EnvelopeError, Metadata, Object, Sibling};
use xxhash_rust::xxh3::xxh3_64;

fn dot(actor: u64, counter: u64) -> Dot {
    Dot { actor: ActorId(actor), counter }
}

fn sibling(dot: Dot, value: Option<&'static str>) -> Sibling {
    let metadata = Metadata { modified_us: 1_700_000_000_000_000, ..Metadata::default() };
    Sibling { dot, value: value.map(Bytes::from), metadata }
}

/// The objects of the committed fixture, each with the name it has there.
fn known_objects() -> Vec<(&'static str, Object)> {
    let nothing = CausalContext::default();
    let us = 1_700_000_000_000_000;
    let mut one = Object::default();
    one.update(&nothing, sibling(dot(0x0123_4567_89ab_cdef, us), Some("apple")));

    let mut deleted = one.clone();
    deleted.update(&one.context, sibling(dot(0x0123_4567_89ab_cdef, us + 9), None));

    let mut rich = Object::default();
    let metadata = Metadata {
        content_type: Bytes::from_static(b"text/plain"),
        content_encoding: Bytes::from_static(b"gzip"),
        user: [("colour", "red"), ("shape", "")].map(|(name, value)| (name.into(), value.into())).into_iter().collect(),
        modified_us: us,
        expires_us: us + 60_000_000,
        write_id: 0xfeed,
    };
    rich.update(&nothing, Sibling { dot: dot(7, us), value: Some(Bytes::new()), metadata: metadata.clone() });

    let mut siblings = rich.clone();
    let mut elsewhere = Object::default();
    elsewhere.update(&nothing, sibling(dot(9, 5), Some("first")));
    elsewhere.update(&nothing, sibling(dot(9, 8), Some("second")));
    let unseen = elsewhere.answer_context(&nothing, dot(9, 8));
    siblings.update(&unseen, sibling(dot(7, us + 1), Some("third")));
    // The same request again, from another coordinator: a twin.
    let twin = Sibling { dot: dot(8, us - 1), value: Some(Bytes::new()), metadata };
    let mut again = Object::default();
    again.update(&nothing, twin);
    siblings.merge(again);

    vec![
        ("empty", Object::default()),
        ("one value", one),
        ("a tombstone", deleted),
        ("all metadata", rich),
        ("siblings, a twin, a context with a hole", siblings),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes with the checksum they ought to have: what gets past it must still be canonical.
fn sealed(body: &[u8]) -> Bytes {
    [body, &xxh3_64(body).to_le_bytes()].concat().into()
}

fn body(object: &Object) -> Vec<u8> {
    let envelope = object.encode();
    envelope[..envelope.len() - 8].to_vec()
}

/// The fixture holds `# name` and, below it, the envelope in hex. A changed format needs a new version and a new file;
/// this one stays.
#[test]
fn the_first_format_is_read_and_written_as_it_was() {
    let fixture = include_str!("fixtures/envelope-v1.hex");
    let lines: Vec<&str> = fixture.lines().collect();
    let known = known_objects();
    assert_eq!(lines.len(), known.len() * 2);
    for (pair, (name, object)) in lines.chunks(2).zip(known) {
        assert_eq!(pair[0], format!("# {name}"));
        assert_eq!(pair[1], hex(&object.encode()), "{name}");
        let bytes: Vec<u8> =
            (0..pair[1].len()).step_by(2).map(|at| u8::from_str_radix(&pair[1][at..at + 2], 16).unwrap()).collect();
        assert_eq!(Object::decode(&Bytes::from(bytes)), Ok(object), "{name}");
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for (name, object) in known_objects() {
        let envelope = object.encode();
        for bit in 0..envelope.len() * 8 {
            let mut damaged = envelope.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Object::decode(&Bytes::from(damaged)).is_err(), "{name}: bit {bit}");
        }
    }
}

#[test]
fn every_truncation_and_every_extension_is_found() {
    for (name, object) in known_objects() {
        let envelope = object.encode();
        for len in 0..envelope.len() {
            assert!(Object::decode(&envelope.slice(..len)).is_err(), "{name}: {len} bytes");
            assert!(Object::decode(&envelope.slice(envelope.len() - len..)).is_err(), "{name}: last {len} bytes");
        }
        let longer = [&envelope[..], &[0]].concat();
        assert!(Object::decode(&longer.into()).is_err(), "{name}: one more byte");
        let padded = [&body(&object)[..], &[0]].concat();
        let trailing = Err(EnvelopeError::Content("bytes after the end"));
        assert_eq!(Object::decode(&sealed(&padded)), trailing, "{name}: one more byte under a right checksum");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let envelope = known_objects()[1].1.encode();
    assert_eq!(Object::decode(&Bytes::new()), Err(EnvelopeError::Short));
    assert_eq!(Object::decode(&envelope.slice(..10)), Err(EnvelopeError::Short));
    let mut newer = envelope.to_vec();
    newer[0] = 2;
    assert_eq!(Object::decode(&newer.into()), Err(EnvelopeError::Version(2, 1)));
    let mut damaged = envelope.to_vec();
    damaged[20] ^= 1;
    assert_eq!(Object::decode(&damaged.into()), Err(EnvelopeError::Checksum));
}

/// By hand, under a right checksum: what no encoder makes.
#[test]
fn other_spellings_are_refused() {
    let actor = |id: u64| id.to_le_bytes().to_vec();
    // Version 1, one actor with one range 1..=5, then the siblings.
    let context = [vec![1, 1], actor(7), vec![1, 0, 5]].concat();
    let plain = |distance: u8| [vec![0, distance, 0], vec![0; 8]].concat();
    let with = |tail: Vec<u8>| Object::decode(&sealed(&[context.clone(), tail].concat()));
    assert!(with([vec![1], plain(0)].concat()).is_ok(), "the tests below differ from this in one thing each");

    let content = |text| Err(EnvelopeError::Content(text));
    assert_eq!(with([vec![1], plain(5)].concat()), content("a sibling its context does not cover"));
    assert_eq!(with([vec![1], plain(6)].concat()), content("a counter below zero"));
    assert_eq!(with([vec![1, 1, 0, 0], vec![0; 8]].concat()), content("a sibling of an unknown actor"));
    assert_eq!(with([vec![2], plain(0), plain(1)].concat()), content("siblings out of order"));
    assert_eq!(with([vec![2], plain(1), plain(1)].concat()), content("siblings out of order"));
    assert_eq!(with([vec![1, 0, 0, 0x40], vec![0; 8]].concat()), content("unknown flags"));
    assert_eq!(with([vec![1, 0, 0, 0x10], vec![0; 16]].concat()), content("a flag without its number"));
    assert_eq!(with([vec![1, 0, 0, 0x20], vec![0; 16]].concat()), content("a flag without its number"));
    assert_eq!(with([vec![1, 0, 0, 0x02], vec![0; 9]].concat()), content("a flag without its text"));
    assert_eq!(with([vec![1, 0, 0, 0x08], vec![0; 9]].concat()), content("a flag without its metadata"));
    let swapped = [vec![1, 0, 0, 0x08], vec![0; 8], vec![2, 1, b'b', 0, 1, b'a', 0]].concat();
    assert_eq!(with(swapped), content("user metadata out of order"));
    assert_eq!(with([vec![0x81, 0x00], plain(0)].concat()), content("an over-long number"));
    assert_eq!(with(vec![3]), content("a count larger than its content"));

    let contexts = [
        ("actors out of order", [vec![1, 2], actor(7), vec![1, 0, 5], actor(7), vec![1, 0, 5, 0]].concat()),
        ("an actor without a range", [vec![1, 1], actor(7), vec![0, 0, 0, 0]].concat()),
        ("ranges that touch or are empty", [vec![1, 1], actor(7), vec![2, 0, 5, 0, 5, 0]].concat()),
        ("ranges that touch or are empty", [vec![1, 1], actor(7), vec![1, 4, 0, 0]].concat()),
    ];
    for (text, body) in contexts {
        assert_eq!(Object::decode(&sealed(&body)), content(text));
    }
    let above = [vec![1, 1], actor(7), vec![1], vec![0xff; 9], vec![1, 1, 0]].concat();
    assert_eq!(Object::decode(&sealed(&above)), content("a counter above 64 bits"));
}

#[test]
fn values_share_the_memory_of_the_envelope() {
    for (name, object) in known_objects() {
        let envelope = object.encode();
        let within = envelope.as_ptr_range();
        for value in Object::decode(&envelope).unwrap().siblings.iter().filter_map(|s| s.value.as_ref()) {
            let inside = within.contains(&value.as_ptr()) || value.is_empty();
            assert!(inside, "{name}: a value was copied");
        }
    }
}

#[test]
fn the_order_of_user_metadata_is_no_second_spelling() {
    let with = |names: [&'static str; 2]| {
        let mut written = sibling(dot(1, 1), Some("v"));
        written.metadata.user = names.into_iter().map(|name| (Bytes::from(name), Bytes::new())).collect();
        let mut object = Object::default();
        object.update(&CausalContext::default(), written);
        object.encode()
    };
    assert_eq!(with(["a", "b"]), with(["b", "a"]));
}

#[test]
fn a_digest_is_read_and_needs_a_whole_envelope() {
    let objects = known_objects();
    let digests: Vec<_> = objects.iter().map(|(_, object)| Object::digest(&object.encode())).collect();
    assert!(digests.iter().all(Option::is_some));
    let mut distinct = digests.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), digests.len());
    assert_eq!(Object::digest(&objects[0].1.encode()[..10]), None);
    assert_eq!(Object::digest(&[]), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_no_object(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Object::decode(&bytes.into()).is_err());
    }

    /// Past the checksum (a damaged encoder, a forged one): an error, or an object with exactly these bytes.
    #[test]
    fn what_decodes_under_a_right_checksum_is_canonical(
        which in 0..5usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = body(&known_objects()[which].1);
        for (at, with) in changes {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        let envelope = sealed(&bytes);
        if let Ok(object) = Object::decode(&envelope) {
            prop_assert_eq!(object.encode(), envelope);
        }
    }
}
