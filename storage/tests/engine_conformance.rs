//! One suite for every engine: the promises E1 to E6 of `rondo_storage::engine`, and a model.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "engine_support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use rondo_storage::engine::memory::CrashLoss;
use rondo_storage::engine::{
    Batch, DiskEngine, Durability, Engine, EngineError, EngineOptions, Keyspace, MemoryEngine, Write,
};
use support::{commit, del, put, tiny};

/// An engine that can be closed and opened again.
trait Subject {
    type Engine: Engine;
    fn new() -> Self;
    fn engine(&self) -> &Arc<Self::Engine>;
    fn reopen(&mut self);
}

struct OnDisk {
    dir: tempfile::TempDir,
    engine: Option<Arc<DiskEngine>>,
}

impl Subject for OnDisk {
    type Engine = DiskEngine;

    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Some(Arc::new(DiskEngine::open(dir.path(), &tiny()).unwrap()));
        Self { dir, engine }
    }

    fn engine(&self) -> &Arc<DiskEngine> {
        self.engine.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        drop(self.engine.take());
        self.engine = Some(Arc::new(DiskEngine::open(self.dir.path(), &tiny()).unwrap()));
    }
}

struct InMemory(Arc<MemoryEngine>);

impl Subject for InMemory {
    type Engine = MemoryEngine;

    fn new() -> Self {
        Self(Arc::default())
    }

    fn engine(&self) -> &Arc<MemoryEngine> {
        &self.0
    }

    fn reopen(&mut self) {
        self.0 = Arc::new(self.0.crash(CrashLoss::Power));
    }
}

/// Each function becomes a test of every engine.
macro_rules! for_every_engine {
    ($($name:ident),+ $(,)?) => {
        mod disk { $(#[test] fn $name() { super::$name::<super::OnDisk>(); })+ }
        mod memory { $(#[test] fn $name() { super::$name::<super::InMemory>(); })+ }
    };
}

for_every_engine!(
    e1_a_batch_is_there_as_a_whole_after_reopening,
    the_later_of_two_writes_to_a_key_in_a_batch_counts,
    e2_every_accepted_batch_is_answered_once_also_when_closing,
    e2_batches_become_visible_in_the_order_of_submit,
    e6_a_batch_of_another_generation_is_refused,
    a_scan_is_bounded_ordered_and_ends_before_its_end,
    a_scan_is_bounded_in_bytes,
    keys_and_values_out_of_range_are_refused,
    keyspaces_do_not_touch_each_other,
    a_closed_engine_says_so,
    published_never_goes_down,
    random_histories_agree_with_the_model,
);

fn get<E: Engine>(engine: &E, key: &str) -> Option<Bytes> {
    engine.get(Keyspace::Objects, key.as_bytes()).unwrap()
}

fn e1_a_batch_is_there_as_a_whole_after_reopening<S: Subject>() {
    let mut subject = S::new();
    let batch: Batch = Keyspace::ALL.iter().map(|&keyspace| put(keyspace, "key", "value")).collect();
    commit(subject.engine().as_ref(), batch).unwrap();
    subject.reopen();
    for keyspace in Keyspace::ALL {
        assert_eq!(subject.engine().get(keyspace, b"key").unwrap().unwrap(), "value");
    }
}

fn the_later_of_two_writes_to_a_key_in_a_batch_counts<S: Subject>() {
    let mut subject = S::new();
    let key = |value| put(Keyspace::Objects, "key", value);
    commit(subject.engine().as_ref(), Batch::from_vec(vec![key("1"), key("2")])).unwrap();
    let gone = put(Keyspace::Objects, "gone", "1");
    commit(subject.engine().as_ref(), Batch::from_vec(vec![gone, del(Keyspace::Objects, "gone")])).unwrap();
    for _ in 0..2 {
        assert_eq!(get(subject.engine().as_ref(), "key").unwrap(), "2");
        assert_eq!(get(subject.engine().as_ref(), "gone"), None);
        subject.reopen();
    }
}

fn e2_every_accepted_batch_is_answered_once_also_when_closing<S: Subject>() {
    let subject = S::new();
    let (accepted, answered) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (engine, accepted, answered) = (subject.engine(), &accepted, &answered);
            scope.spawn(move || {
                for round in 0.. {
                    let answered = Arc::clone(answered);
                    let done = Box::new(move |result: Result<(), EngineError>| {
                        result.unwrap();
                        answered.fetch_add(1, Ordering::SeqCst);
                    });
                    let batch = Batch::from_vec(vec![put(Keyspace::Hints, &format!("{thread} {round}"), "value")]);
                    let submitted = match thread {
                        0 => engine.submit_for_later(0, batch, done).inspect(|()| engine.commit_queued()),
                        1 => engine.submit(0, batch, Durability::Interval, done),
                        _ => engine.submit(0, batch, Durability::Fsync, done),
                    };
                    match submitted {
                        Ok(()) => accepted.fetch_add(1, Ordering::SeqCst),
                        Err(EngineError::Busy) => continue,
                        Err(error) => return assert_eq!(error, EngineError::Closed),
                    };
                }
            });
        }
        while answered.load(Ordering::SeqCst) < 100 {
            std::thread::yield_now();
        }
        subject.engine().close().unwrap();
    });
    assert_eq!(accepted.load(Ordering::SeqCst), answered.load(Ordering::SeqCst));
}

fn e2_batches_become_visible_in_the_order_of_submit<S: Subject>() {
    let subject = S::new();
    let engine = subject.engine();
    for round in 0..500 {
        let (seen, late) = (Arc::clone(engine), round);
        // Whoever is answered sees its own write or a later one.
        let done = Box::new(move |result: Result<(), EngineError>| {
            result.unwrap();
            let value = seen.get(Keyspace::Objects, b"counter").unwrap().unwrap();
            let value: u64 = std::str::from_utf8(&value).unwrap().parse().unwrap();
            assert!(value >= late, "answered {late}, but reads {value}");
        });
        let batch = Batch::from_vec(vec![put(Keyspace::Objects, "counter", &round.to_string())]);
        engine.submit(0, batch, Durability::Interval, done).unwrap();
    }
    commit(engine.as_ref(), Batch::new()).unwrap();
    assert_eq!(get(engine.as_ref(), "counter").unwrap(), "499");
}

fn e6_a_batch_of_another_generation_is_refused<S: Subject>() {
    let subject = S::new();
    let generation = subject.engine().generation() + 1;
    let batch = Batch::from_vec(vec![put(Keyspace::Objects, "key", "value")]);
    let done = Box::new(|_| panic!("a batch that was not accepted was answered"));
    let refused = subject.engine().submit(generation, batch, Durability::Fsync, done);
    assert!(matches!(refused, Err(EngineError::Write(_))));
    assert_eq!(get(subject.engine().as_ref(), "key"), None);
}

fn a_scan_is_bounded_ordered_and_ends_before_its_end<S: Subject>() {
    let subject = S::new();
    let engine = subject.engine();
    for key in ["d", "a", "c", "b"] {
        commit(engine.as_ref(), Batch::from_vec(vec![put(Keyspace::Names, key, key)])).unwrap();
    }
    commit(engine.as_ref(), Batch::from_vec(vec![del(Keyspace::Names, "b")])).unwrap();
    let scan = |from: &str, to: Option<&str>, limit| -> Vec<String> {
        let rows = engine.scan(Keyspace::Names, from.as_bytes(), to.map(str::as_bytes), limit).unwrap();
        rows.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
    };
    assert_eq!(scan("", None, 9), ["a", "c", "d"]);
    assert_eq!(scan("", None, 2), ["a", "c"]);
    assert_eq!(scan("b", Some("d"), 9), ["c"]);
    assert_eq!(scan("c", Some("c"), 9), [""; 0]);
    assert_eq!(scan("d", Some("a"), 9), [""; 0]);
    assert_eq!(scan("", None, 0), [""; 0]);
}

fn a_scan_is_bounded_in_bytes<S: Subject>() {
    let subject = S::new();
    let value = Bytes::from(vec![7; 1 << 20]);
    for key in 0..8_u8 {
        let write = Write { keyspace: Keyspace::Objects, key: vec![key].into(), value: Some(value.clone()) };
        commit(subject.engine().as_ref(), Batch::from_vec(vec![write])).unwrap();
    }
    let (mut from, mut pages, mut rows) = (Vec::new(), 0, 0);
    loop {
        let page = subject.engine().scan(Keyspace::Objects, &from, None, usize::MAX).unwrap();
        let Some((last, _)) = page.last() else { break };
        from = [last.as_ref(), &[0]].concat();
        assert!(page.len() <= 5, "a page of {} MiB", page.len());
        (pages, rows) = (pages + 1, rows + page.len());
    }
    assert_eq!((pages, rows), (2, 8));
}

fn keys_and_values_out_of_range_are_refused<S: Subject>() {
    let subject = S::new();
    let engine = subject.engine().as_ref();
    let refused = |key: usize, value: usize| {
        let (key, value) = (Bytes::from(vec![1; key]), Some(Bytes::from(vec![1; value])));
        commit(engine, Batch::from_vec(vec![Write { keyspace: Keyspace::Meta, key, value }])).unwrap_err().to_string()
    };
    assert!(refused(0, 1).contains("a key has 0 bytes; allowed are 1 to 4096"));
    assert!(refused(4_097, 1).contains("a key has 4097 bytes"));
    assert!(refused(1, (64 << 20) + 1).contains("a value has 67108865 bytes"));
    assert_eq!(engine.generation(), 0, "a batch that was refused is not a failed write");
    assert_eq!(engine.get(Keyspace::Meta, b""), Ok(None));
    assert_eq!(engine.get(Keyspace::Meta, &[1; 5_000]), Ok(None));
}

fn keyspaces_do_not_touch_each_other<S: Subject>() {
    let subject = S::new();
    commit(subject.engine().as_ref(), Batch::from_vec(vec![put(Keyspace::Hints, "key", "value")])).unwrap();
    assert_eq!(subject.engine().get(Keyspace::Meta, b"key"), Ok(None));
    assert_eq!(subject.engine().scan(Keyspace::Objects, b"", None, 9), Ok(Vec::new()));
    commit(subject.engine().as_ref(), Batch::from_vec(vec![del(Keyspace::Meta, "key")])).unwrap();
    assert!(subject.engine().get(Keyspace::Hints, b"key").unwrap().is_some());
}

fn a_closed_engine_says_so<S: Subject>() {
    let subject = S::new();
    let engine = subject.engine().as_ref();
    engine.close().unwrap();
    assert_eq!(engine.get(Keyspace::Objects, b"key"), Err(EngineError::Closed));
    assert_eq!(engine.scan(Keyspace::Objects, b"", None, 1), Err(EngineError::Closed));
    assert_eq!(commit(engine, Batch::new()), Err(EngineError::Closed));
    assert_eq!(engine.close(), Err(EngineError::Closed));
}

fn published_never_goes_down<S: Subject>() {
    let mut subject = S::new();
    let mut before = 0;
    for round in 0..6 {
        for key in 0..50 {
            let write = put(Keyspace::Objects, &format!("{round} {key}"), &"v".repeat(2_000));
            commit(subject.engine().as_ref(), Batch::from_vec(vec![write])).unwrap();
            let now = subject.engine().status().published;
            assert!(now > before, "{now} after {before}");
            before = now;
        }
        subject.reopen();
        let now = subject.engine().status().published;
        assert!(now >= before, "{now} after {before} and a restart");
        before = now;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<(Keyspace, u8, Option<u16>)>),
    Scan(Keyspace, u8, u8, usize),
    Reopen,
}

fn keyspace() -> impl Strategy<Value = Keyspace> {
    (0..4_usize).prop_map(|at| Keyspace::ALL[at])
}

fn step() -> impl Strategy<Value = Step> {
    // Values of up to 2 KiB against memtables of 8: most histories flush and compact.
    let write = (keyspace(), 0..60_u8, proptest::option::weighted(0.7, 0..2_048_u16));
    prop_oneof![
        40 => proptest::collection::vec(write, 1..6).prop_map(Step::Batch),
        10 => (keyspace(), 0..60_u8, 0..60_u8, 0..50_usize).prop_map(|(k, a, b, n)| Step::Scan(k, a, b, n)),
        1 => Just(Step::Reopen),
    ]
}

fn random_histories_agree_with_the_model<S: Subject>() {
    let cases = std::env::var("RONDO_MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    });
    let histories = proptest::collection::vec(step(), 100..400);
    runner.run(&histories, |history| run_history::<S>(&history)).unwrap();
}

fn run_history<S: Subject>(history: &[Step]) -> Result<(), TestCaseError> {
    let mut subject = S::new();
    let mut model: [BTreeMap<Bytes, Bytes>; 4] = Default::default();
    for step in history {
        match step {
            Step::Batch(writes) => {
                let mut batch = Batch::new();
                for &(keyspace, key, value) in writes {
                    let (key, map) = (Bytes::from(vec![key]), &mut model[keyspace as usize]);
                    let value = value.map(|len| Bytes::from(vec![len as u8; usize::from(len)]));
                    match value.clone() {
                        Some(value) => map.insert(key.clone(), value),
                        None => map.remove(&key),
                    };
                    batch.push(Write { keyspace, key, value });
                }
                let touched: Vec<_> = batch.iter().map(|write| (write.keyspace, write.key.clone())).collect();
                prop_assert_eq!(commit(subject.engine().as_ref(), batch), Ok(()));
                for (keyspace, key) in touched {
                    let found = subject.engine().get(keyspace, &key).unwrap();
                    prop_assert_eq!(found.as_ref(), model[keyspace as usize].get(&key));
                }
            }
            Step::Scan(keyspace, from, to, limit) => {
                let rows = subject.engine().scan(*keyspace, &[*from], Some(&[*to]), *limit).unwrap();
                let range = if from < to { *from..*to } else { 0..0 };
                let expected = model[*keyspace as usize].iter().filter(|(key, _)| range.contains(&key[0]));
                let expected: Vec<_> = expected.take(*limit).map(|(k, v)| (k.clone(), v.clone())).collect();
                prop_assert_eq!(rows, expected);
            }
            Step::Reopen => subject.reopen(),
        }
    }
    subject.reopen();
    for keyspace in Keyspace::ALL {
        let rows = subject.engine().scan(keyspace, b"", None, usize::MAX).unwrap();
        let expected: Vec<_> = model[keyspace as usize].iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        prop_assert_eq!(rows, expected);
    }
    Ok(())
}

#[test]
fn options_out_of_range_keep_the_engine_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions { memtable_bytes: 1, ..EngineOptions::default() };
    let error = DiskEngine::open(&dir.path().join("new"), &options).unwrap_err().to_string();
    assert!(error.contains("memtable_bytes is 1; allowed are 4096 to"), "{error}");
    assert!(!dir.path().join("new").exists(), "something was created");
}
