//! Context tokens: what was sealed comes back, for its key and cluster alone, and nothing else is ever taken.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use rondo_storage::Key;
use rondo_storage::versions::{ActorId, CausalContext, ContextTokens, Dot, Object, Sibling, TokenError};

/// Far in the future (the year 4253) and still below 2⁵⁶: counters are µs.
const COUNTER: u64 = (1 << 56) - 1;

fn tokens() -> ContextTokens {
    ContextTokens::new(b"a secret", 42)
}

fn key(name: &str) -> Key {
    Key::new("fruit", name).expect("a valid name")
}

fn dot(actor: u64, counter: u64) -> Dot {
    Dot { actor: ActorId(actor), counter }
}

fn small() -> CausalContext {
    let mut context: CausalContext = [dot(9, 100), dot(3, 7)].into_iter().collect();
    context.insert_through(dot(3, 5));
    context
}

/// A vector of `actors` entries, and `holes` siblings unseen in all that its first actor wrote.
fn context_of(actors: u64, holes: u64) -> CausalContext {
    let mut context = CausalContext::default();
    let apart = COUNTER / (holes + 1);
    let unseen: Vec<u64> = (1..=holes).map(|n| n * apart).collect();
    for actor in 1..actors {
        context.insert_through(dot(actor, COUNTER));
    }
    // From one hole to the next: by what an answer's context is made of.
    let mut object = Object::default();
    for counter in unseen.into_iter().chain([COUNTER]) {
        let written = Sibling { dot: dot(0, counter), value: Some(Default::default()), metadata: Default::default() };
        object.update(&CausalContext::default(), written);
    }
    context.join(&object.answer_context(&CausalContext::default(), dot(0, COUNTER)));
    context
}

#[test]
fn what_was_sealed_is_opened() {
    for context in [CausalContext::default(), small(), context_of(64, 100)] {
        let token = tokens().seal(&key("a"), &context);
        assert_eq!(tokens().open(&key("a"), &token), Ok(context));
    }
}

/// Every node of a cluster makes the same token, today and after an upgrade: this one was made by the first release.
#[test]
fn tokens_of_the_first_release_are_taken() {
    let token = "ARWAqoBifX-RAgMAAAAAAAAAAgAFAQEJAAAAAAAAAAFjAVbeWg4TWSeUg2wd6pGHUnU";
    assert_eq!(tokens().seal(&key("a"), &small()), token);
    assert_eq!(tokens().open(&key("a"), token), Ok(small()));
}

#[test]
fn a_token_of_another_key_is_foreign() {
    let token = tokens().seal(&key("a"), &small());
    assert_eq!(tokens().open(&key("b"), &token), Err(TokenError::Foreign));
    assert_eq!(tokens().open(&Key::new("fruits", "a").unwrap(), &token), Err(TokenError::Foreign));
}

#[test]
fn a_token_of_another_cluster_is_forged() {
    let token = tokens().seal(&key("a"), &small());
    for other in [ContextTokens::new(b"a secret", 43), ContextTokens::new(b"another", 42)] {
        assert_eq!(other.open(&key("a"), &token), Err(TokenError::Forged));
    }
}

#[test]
fn every_changed_character_and_every_cut_is_forged() {
    let token = tokens().seal(&key("a"), &small());
    for at in 0..token.len() {
        assert_eq!(tokens().open(&key("a"), &token[..at]), Err(TokenError::Forged), "the first {at} characters");
        for with in b"AB-_9=+/ ".iter().filter(|with| **with != token.as_bytes()[at]) {
            let mut changed = token.clone().into_bytes();
            changed[at] = *with;
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(tokens().open(&key("a"), &changed), Err(TokenError::Forged), "{changed}");
        }
    }
    for longer in [format!("{token}A"), format!("{token}="), format!(" {token}"), token.repeat(2)] {
        assert_eq!(tokens().open(&key("a"), &longer), Err(TokenError::Forged), "{longer}");
    }
}

#[test]
fn every_flipped_bit_is_forged() {
    let bytes = URL_SAFE_NO_PAD.decode(tokens().seal(&key("a"), &small())).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let token = URL_SAFE_NO_PAD.encode(changed);
        assert_eq!(tokens().open(&key("a"), &token), Err(TokenError::Forged), "bit {bit}");
    }
}

#[test]
fn the_length_is_bounded_before_anything_else() {
    let max = ContextTokens::CHARS_MAX;
    assert_eq!(tokens().open(&key("a"), &"A".repeat(max + 1)), Err(TokenError::TooLong));
    assert_eq!(tokens().open(&key("a"), &"A".repeat(max)), Err(TokenError::Forged));
    assert_eq!(tokens().open(&key("a"), &"é".repeat(max / 2)), Err(TokenError::Forged));
}

/// The bound on contexts follows from that on tokens: as many actors as a clock keeps, twice the siblings a bucket
/// allows by default, each unseen and with the longest counters, are sealed whole.
#[test]
fn the_largest_context_of_a_bounded_clock_fits() {
    let context = context_of(CausalContext::ACTORS_MAX as u64, 200);
    assert_eq!(context.len(), CausalContext::ACTORS_MAX + 200);
    assert!(context.encoded_len() <= ContextTokens::CONTEXT_BYTES_MAX, "{}", context.encoded_len());
    let token = tokens().seal(&key("a"), &context);
    assert!(token.len() <= ContextTokens::CHARS_MAX);
    assert_eq!(tokens().open(&key("a"), &token), Ok(context));
}

#[test]
fn the_longest_token_is_taken_and_has_4096_characters() {
    // 169 entries of 18 bytes, their count of two, and a dot beyond one of them of three: nothing is left.
    let mut context = context_of(169, 0);
    context.insert(dot(1, COUNTER + 200));
    assert_eq!(context.encoded_len(), ContextTokens::CONTEXT_BYTES_MAX);
    let token = tokens().seal(&key("a"), &context);
    assert_eq!(token.len(), ContextTokens::CHARS_MAX);
    assert_eq!(tokens().open(&key("a"), &token), Ok(context.clone()));

    context.insert(dot(2, COUNTER + 200));
    let cut = tokens().open(&key("a"), &tokens().seal(&key("a"), &context)).unwrap();
    assert!(context.covers(&cut) && cut.len() == context.len() - 1);
}

/// Beyond the bound a token claims less, never more, and keeps the newest.
#[test]
fn a_context_beyond_the_bound_is_cut_to_its_newest() {
    let whole: CausalContext = (1..=400).map(|n| dot(n, 1_000 + n)).collect();
    let token = tokens().seal(&key("a"), &whole);
    assert!(token.len() <= ContextTokens::CHARS_MAX);
    let part = tokens().open(&key("a"), &token).unwrap();
    assert!(whole.covers(&part) && part.len() > 200);
    let oldest = part.actors().map(|(_, counter)| counter).min().unwrap();
    assert_eq!(part.len() as u64, 1_400 - oldest + 1, "nothing newer than what was kept is missing");
}

proptest! {
    #[test]
    fn random_texts_are_never_taken(text in "[A-Za-z0-9_-]{0,200}") {
        prop_assert_eq!(tokens().open(&key("a"), &text), Err(TokenError::Forged));
    }

    #[test]
    fn any_text_is_an_error_and_no_panic(text in any::<String>()) {
        prop_assert!(tokens().open(&key("a"), &text).is_err());
    }

    #[test]
    fn any_context_is_sealed(dots in prop::collection::vec((0..300u64, 1..u64::MAX), 0..600)) {
        let context: CausalContext = dots.into_iter().map(|(actor, counter)| dot(actor, counter)).collect();
        let token = tokens().seal(&key("a"), &context);
        prop_assert!(token.len() <= ContextTokens::CHARS_MAX);
        let opened = tokens().open(&key("a"), &token).unwrap();
        prop_assert!(context.covers(&opened));
        prop_assert!(opened == context || context.encoded_len() > ContextTokens::CONTEXT_BYTES_MAX);
    }
}
