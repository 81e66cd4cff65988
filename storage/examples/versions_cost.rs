//! What versions cost a request: ns for each operation on an object of one 1 KiB value written by three owners.
//!
//! `cargo run --release -p rondo-storage --example versions_cost`

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use rondo_storage::Key;
use rondo_storage::versions::{ActorId, CausalContext, ContextTokens, Dot, Metadata, Object, Sibling};

const ROUNDS: u32 = 200_000;
const NOW_US: u64 = 1_700_000_000_000_000;

fn main() {
    let object = object();
    let (newer, dot) = rewritten(&object);
    let envelope = object.encode();
    let tokens = ContextTokens::new(b"a secret of some length", 42);
    let key = Key::new("fruit", "apple").expect("both names are valid");
    let token = tokens.seal(&key, &object.context);
    println!("envelope {} bytes, token {} characters, {ROUNDS} rounds", envelope.len(), token.len());
    measure("encode", || object.encode());
    measure("decode", || Object::decode(&envelope));
    measure("digest", || Object::digest(&envelope));
    measure("clone", || object.clone());
    measure("clone + update", || rewritten(&object));
    measure("clone + merge of a newer", || {
        let mut here = object.clone();
        here.merge(newer.clone());
        here
    });
    measure("answer context", || newer.answer_context(&object.context, dot));
    measure("token seal", || tokens.seal(&key, &object.context));
    measure("token open", || tokens.open(&key, &token));
}

/// The fastest of ten runs: what the machine does when it does nothing else.
fn measure<T>(name: &str, mut operation: impl FnMut() -> T) {
    let mut ns_min = f64::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..ROUNDS / 10 {
            black_box(operation());
        }
        ns_min = ns_min.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS / 10));
    }
    println!("{name:26} {ns_min:8.0} ns");
}

fn object() -> Object {
    let mut object = Object::default();
    for actor in 0..3 {
        let seen = object.context.clone();
        object.update(&seen, sibling(Dot { actor: ActorId(0x1234_5678_9abc_def0 + actor), counter: NOW_US + actor }));
    }
    object
}

fn rewritten(object: &Object) -> (Object, Dot) {
    let dot = Dot { actor: ActorId(0x1234_5678_9abc_def0), counter: NOW_US + 1_000 };
    let mut newer = object.clone();
    let seen: &CausalContext = &object.context;
    newer.update(seen, sibling(dot));
    (newer, dot)
}

fn sibling(dot: Dot) -> Sibling {
    let metadata = Metadata {
        content_type: Bytes::from_static(b"application/json"),
        modified_us: dot.counter,
        ..Metadata::default()
    };
    Sibling { dot, value: Some(Bytes::from_static(&[b'v'; 1_024])), metadata }
}
