//! S2 across restarts: which instance a start has, and whether its reads count
//! (`docs/decisions/0004-storage-instances.md`).

#![allow(clippy::unwrap_used, reason = "a helper's panic fails its test")]

mod store_support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use proptest::prelude::Rng;
use rondo_ring::NodeId;
use rondo_storage::engine::memory::CrashLoss;
use rondo_storage::engine::{Batch, Done, Durability, Engine, EngineError, EngineStatus, Keyspace, MemoryEngine, Rows};
use rondo_storage::store::{
    Change, DirectoryError, Start, StartVerdict, Store, StoreError, StoreOptions, Stored, judge_start,
};
use rondo_storage::versions::ActorId;
use store_support::*;

fn start_of(store: &Store) -> Start {
    store.directory().unwrap().start()
}

fn judged(store: &Store, seen: &[Option<Start>]) -> StartVerdict {
    judge_start(&store.directory().unwrap().starts(), seen.iter().copied())
}

#[test]
fn nothing_is_served_before_the_start_is_judged() {
    let machine = Machine::new();
    let store = machine.open();
    assert_eq!(refused(&store, &key("a"), put("1")), StoreError::NotBegun);
    assert_eq!(store.read(&key("a")), Stored::Unknown(None));
    assert_eq!(judged(&store, &[]), StartVerdict::Confirmed, "a fresh directory needs nobody");
    store.begin(StartVerdict::Confirmed, q(8)).unwrap();
    assert_eq!(store.read(&key("a")), Stored::Missing);
    assert!(store.untrusted().is_empty());
    write(&store, &key("a"), put("1"));
}

#[test]
fn a_confirmed_start_after_a_clean_end_goes_on_as_the_same_instance() {
    let machine = Machine::new();
    let store = machine.start(StartVerdict::Confirmed);
    let first = write(&store, &key("a"), put("1"));
    let announced = start_of(&store);
    machine.stop(store);

    machine.clock.set(NOW_US - 3_600_000_000);
    let store = machine.open();
    assert_eq!(judged(&store, &[Some(announced)]), StartVerdict::Confirmed);
    store.begin(StartVerdict::Confirmed, q(8)).unwrap();
    assert_eq!(store.actor(), announced.instance);
    for name in ["a", "never written before"] {
        let later = write(&store, &key(name), put("2"));
        assert_eq!(later.dot.actor, first.dot.actor);
        assert!(later.dot.counter > first.dot.counter, "the clock went back an hour, the dots do not");
    }
}

#[test]
fn after_a_crash_the_instance_is_new_and_reads_count() {
    for loss in [CrashLoss::Process, CrashLoss::Power] {
        let machine = Machine::new();
        let store = machine.start(StartVerdict::Confirmed);
        let before = write(&store, &key("a"), put("1"));
        store.tick();
        let announced = start_of(&store);
        machine.crash(store, loss);

        let store = machine.open();
        let verdict = judged(&store, &[Some(announced)]);
        assert_eq!(verdict, StartVerdict::Confirmed);
        store.begin(verdict, q(8)).unwrap();
        assert_ne!(store.actor(), before.dot.actor);
        assert_eq!(values(&store, &key("a")), ["1"]);
        assert!(store.untrusted().is_empty(), "a plain crash loses nothing acknowledged");
        // The peers saw the new instance under this start's counter: the next one is confirmed by it.
        let announced = start_of(&store);
        machine.crash(store, loss);
        assert_eq!(judged(&machine.open(), &[Some(announced)]), StartVerdict::Confirmed);
    }
}

/// The object had reached the others, who acknowledged it; here it died in the queue. The next write of the same key,
/// after the restart, must not replace what it never saw.
#[test]
fn a_write_lost_in_a_crash_is_not_covered_by_the_next() {
    let machine = Machine::new();
    let peer = store_over(&Arc::new(MemoryEngine::new()), 99);
    let store = machine.start(StartVerdict::Confirmed);
    let engine = machine.engine.lock().clone();
    engine.hold();
    let lost = store.update(&key("a"), put("acknowledged by the others"), Acks::default().done()).unwrap();
    merge(&peer, &key("a"), &lost.object);
    machine.crash(store, CrashLoss::Process);

    let store = machine.start(StartVerdict::Confirmed);
    let next = write(&store, &key("a"), put("later"));
    merge(&peer, &key("a"), &next.object);
    assert_eq!(values(&peer, &key("a")), ["acknowledged by the others", "later"]);
}

#[test]
fn an_unconfirmed_start_is_a_new_instance_whose_reads_count() {
    let machine = Machine::new();
    let store = machine.start(StartVerdict::Confirmed);
    write(&store, &key("a"), put("1"));
    let before = store.actor();
    machine.stop(store);
    let store = machine.open();
    assert_eq!(judged(&store, &[None]), StartVerdict::Unconfirmed);
    store.begin(StartVerdict::Unconfirmed, q(8)).unwrap();
    assert_ne!(store.actor(), before);
    assert_eq!(values(&store, &key("a")), ["1"]);
    assert!(matches!(store.read(&key("a")), Stored::Found(_)));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.is_dir() { copy(&entry, &to) } else { assert!(fs::copy(entry, to).is_ok()) }
    }
}

#[test]
fn an_old_copy_of_the_directory_is_found_out() {
    let machine = Machine::new();
    let store = machine.start(StartVerdict::Confirmed);
    write(&store, &key("a"), put("old"));
    machine.stop(store);
    let old = Machine::new();
    copy(&machine.dir.path().join("data"), &old.dir.path().join("data"));
    *old.engine.lock() = Arc::new(machine.engine.lock().crash(CrashLoss::Process));
    *machine.engine.lock() = Arc::new(old.engine.lock().crash(CrashLoss::Process));
    *old.engine.lock() = Arc::new(machine.engine.lock().crash(CrashLoss::Process));
    *machine.engine.lock() = Arc::new(MemoryEngine::new());
    let peer = store_over(&Arc::new(MemoryEngine::new()), 99);
    let node = old.directory().unwrap().node();

    // The node goes on without the copy for two starts, and its peer sees them.
    peer.record_start(node, Start { counter: 2, instance: ActorId(1) }).unwrap();
    peer.record_start(node, Start { counter: 3, instance: ActorId(2) }).unwrap();
    let copied = old.open();
    let verdict = judged(&copied, &[peer.last_start(node)]);
    assert_eq!(verdict, StartVerdict::Stale { highest_seen: 3 });
    let before = copied.directory().unwrap().start().instance;
    copied.begin(verdict, q(8)).unwrap();
    assert_ne!(copied.actor(), before);
    assert_eq!(copied.untrusted().len(), 8);
    let Stored::Unknown(Some(read)) = copied.read(&key("a")) else { panic!("an old copy's read counted") };
    assert_eq!(values_of(&rondo_storage::versions::Object::decode(&read).unwrap()), ["old"]);
    assert_eq!(copied.read(&key("never")), Stored::Unknown(None));

    // Its next start can be confirmed, and the distrust outlives it.
    peer.record_start(node, start_of(&copied)).unwrap();
    copied.trust(q(8).partition_of(key("a").token())).unwrap();
    old.stop(copied);
    let again = old.open();
    assert_eq!(judged(&again, &[peer.last_start(node)]), StartVerdict::Confirmed);
    again.begin(StartVerdict::Confirmed, q(8)).unwrap();
    assert!(matches!(again.read(&key("a")), Stored::Found(_)));
    assert_eq!((again.untrusted().len(), again.status().untrusted_partitions), (7, 7));
    for partition in again.untrusted() {
        again.trust(partition).unwrap();
    }
    assert_eq!(again.read(&key("never")), Stored::Missing);
}

#[test]
fn an_engine_behind_the_mark_lost_acknowledged_writes() {
    for clean in [false, true] {
        let machine = Machine::new();
        let store = machine.start(StartVerdict::Confirmed);
        write(&store, &key("a"), put("1"));
        let older = machine.engine.lock().crash(CrashLoss::Process);
        *machine.engine.lock() = Arc::new(older.crash(CrashLoss::Process));
        drop(store);
        let store = machine.start(StartVerdict::Confirmed);
        let before = store.actor();
        write(&store, &key("b"), put("2"));
        // The first tick learns what is durable, the next one writes it down.
        store.tick();
        store.tick();
        if clean {
            machine.stop(store)
        } else {
            machine.crash(store, CrashLoss::Process)
        }

        *machine.engine.lock() = Arc::new(older.crash(CrashLoss::Process));
        let store = machine.start(StartVerdict::Confirmed);
        assert_ne!(store.actor(), before);
        assert_eq!(store.untrusted().len(), 8, "clean: {clean}");
        assert!(matches!(store.read(&key("a")), Stored::Unknown(Some(_))));
        drop(store);
        let store = machine.start(StartVerdict::Confirmed);
        assert_eq!(store.untrusted().len(), 8, "not forgotten by the next start");
    }
}

/// After a power cut the published number is that of the last record on disk.
struct CutTo(Arc<MemoryEngine>, u64);

impl Engine for CutTo {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.0.get(keyspace, key)
    }
    fn scan(&self, keyspace: Keyspace, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows, EngineError> {
        self.0.scan(keyspace, from, to, limit)
    }
    fn generation(&self) -> u64 {
        self.0.generation()
    }
    fn submit(&self, generation: u64, batch: Batch, durability: Durability, done: Done) -> Result<(), EngineError> {
        self.0.submit(generation, batch, durability, done)
    }
    fn checkpoint(&self, dir: &Path) -> Result<(), EngineError> {
        self.0.checkpoint(dir)
    }
    fn status(&self) -> EngineStatus {
        EngineStatus { published: self.1, ..self.0.status() }
    }
    fn close(&self) -> Result<(), EngineError> {
        self.0.close()
    }
}

#[test]
fn the_mark_never_runs_ahead_of_the_disk() {
    let machine = Machine::new();
    let store = machine.start(StartVerdict::Confirmed);
    let lazy = |value: &str| Change { durability: Durability::Interval, ..put(value) };
    let mut on_disk = 0;
    for n in 0..20 {
        write(&store, &key("a"), lazy(&n.to_string()));
        if n % 5 == 0 {
            store.tick();
            on_disk = store.status().engine.published;
        }
    }
    // Barriers that never get through, and ticks that look at them.
    let engine = machine.engine.lock().clone();
    engine.hold();
    store.update(&key("a"), lazy("queued"), Acks::default().done()).unwrap();
    store.tick();
    store.tick();
    assert!(on_disk < store.status().engine.published, "vacuous: everything was on disk");
    machine.crash(store, CrashLoss::Power);

    let open = |on_disk: u64| {
        let engine = Arc::new(machine.engine.lock().crash(CrashLoss::Power));
        let store =
            Store::open_with(machine.directory().unwrap(), &StoreOptions::default(), machine.clock.clone(), |_| {
                Ok(Arc::new(CutTo(engine.clone(), on_disk)))
            })
            .unwrap();
        store.begin(StartVerdict::Confirmed, q(8)).unwrap();
        store.untrusted().len()
    };
    assert_eq!(open(on_disk), 0, "a power cut is no loss of anything acknowledged as durable");
    assert_eq!(open(on_disk - 2), 8, "less than the last barrier is a loss");
}

#[test]
fn an_idle_store_writes_nothing() {
    let machine = Machine::new();
    let store = machine.start(StartVerdict::Confirmed);
    write(&store, &key("a"), put("1"));
    store.tick();
    let published = store.status().engine.published;
    (0..10).for_each(|_| store.tick());
    assert_eq!(store.status().engine.published, published);
}

#[test]
fn an_engine_that_will_not_open_is_moved_aside_and_refilled() {
    let machine = Machine::new();
    let store = machine.start(StartVerdict::Confirmed);
    write(&store, &key("a"), put("1"));
    let before = store.actor();
    machine.stop(store);
    fs::write(machine.dir.path().join("data/engine/precious"), "perhaps").unwrap();

    let broken = AtomicBool::new(true);
    let open = |engine_can_open_at_all: bool| {
        let fresh = Arc::new(MemoryEngine::new());
        let old_path = machine.dir.path().join("data/engine");
        Store::open_with(machine.directory()?, &StoreOptions::default(), machine.clock.clone(), |path| {
            if !engine_can_open_at_all || (path == old_path && broken.swap(false, Ordering::SeqCst)) {
                return Err(EngineError::Unopenable("injected".into()));
            }
            let engine = if path == old_path { fresh.clone() } else { Arc::new(MemoryEngine::new()) };
            fs::create_dir_all(path).unwrap();
            Ok(engine as Arc<dyn Engine>)
        })
    };
    let Err(error) = open(false) else { panic!("opened") };
    assert!(matches!(error, DirectoryError::Engine(EngineError::Unopenable(_))), "{error}");
    assert!(machine.dir.path().join("data/engine/precious").exists(), "it is not the engine's fault: nothing moves");

    broken.store(true, Ordering::SeqCst);
    let store = open(true).unwrap();
    store.begin(StartVerdict::Confirmed, q(8)).unwrap();
    assert_ne!(store.actor(), before);
    assert_eq!((store.untrusted().len(), store.status().quarantined_engines), (8, 1));
    assert_eq!(store.read(&key("a")), Stored::Unknown(None), "never missing");
    let aside = format!("data/quarantine-{}-0/precious", NOW_US / 1_000_000);
    assert!(machine.dir.path().join(aside).exists());
    // A refill, then it counts again.
    let peer = store_over(&Arc::new(MemoryEngine::new()), 99);
    let refill = write(&peer, &key("a"), put("1"));
    merge(&store, &key("a"), &refill.object);
    store.untrusted().into_iter().for_each(|partition| store.trust(partition).unwrap());
    assert_eq!(store.read(&key("a")), Stored::Found(refill.object));
}

#[test]
fn only_so_many_engines_are_kept_aside() {
    let machine = Machine::new();
    let store = machine.start(StartVerdict::Confirmed);
    machine.stop(store);
    for n in 0..8 {
        fs::create_dir(machine.dir.path().join(format!("data/quarantine-{n}-0"))).unwrap();
    }
    let broken = |path: &Path| -> Result<Arc<dyn Engine>, EngineError> {
        if path.ends_with("engine") {
            Err(EngineError::Unopenable("injected".into()))
        } else {
            Ok(Arc::<MemoryEngine>::default())
        }
    };
    let options = StoreOptions::default();
    let opened = Store::open_with(machine.directory().unwrap(), &options, machine.clock.clone(), broken);
    assert!(matches!(opened, Err(DirectoryError::QuarantineFull { count: 8, .. })));
    assert!(machine.dir.path().join("data/engine").exists());
}

#[test]
fn an_engine_that_is_gone_is_a_loss() {
    let machine = Machine::new();
    let store = machine.start(StartVerdict::Confirmed);
    machine.stop(store);
    fs::remove_dir(machine.dir.path().join("data/engine")).unwrap();
    *machine.engine.lock() = Arc::default();
    assert_eq!(machine.start(StartVerdict::Confirmed).untrusted().len(), 8);
}

#[test]
fn starts_of_others_are_remembered_durably() {
    let machine = Machine::new();
    let seen = Start { counter: 3, instance: ActorId(9) };
    let store = machine.start(StartVerdict::Confirmed);
    assert_eq!(store.record_start(NodeId(5), seen).unwrap(), None);
    machine.crash(store, CrashLoss::Power);
    assert_eq!(machine.open().last_start(NodeId(5)), Some(seen));
}

#[test]
fn notes_of_the_node_are_kept() {
    let machine = Machine::new();
    let store = machine.open();
    assert_eq!(store.recall("buckets").unwrap(), None);
    let acks = Acks::default();
    store.remember("buckets", Bytes::from_static(b"all"), acks.done()).unwrap();
    assert_eq!(acks.take(), [Ok(())]);
    machine.crash(store, CrashLoss::Power);
    assert_eq!(machine.open().recall("buckets").unwrap().unwrap(), "all");
}

/// Many starts with clocks going anywhere, crashes and clean ends, objects lost and reaped: no dot comes twice, and
/// within an instance they rise.
#[test]
fn s2_dots_are_unique_across_any_history() {
    let mut rng = rng();
    for _ in 0..10 {
        let machine = Machine::new();
        let mut dots = Vec::new();
        for _ in 0..12 {
            let mut announced = Vec::new();
            let store = machine.open();
            let verdict = judged(&store, &announced);
            store.begin(verdict, q(8)).unwrap();
            announced.push(Some(start_of(&store)));
            for _ in 0..rng.next_u32() % 12 {
                machine.clock.set(NOW_US + u64::from(rng.next_u32()));
                if rng.next_u32().is_multiple_of(6) {
                    machine.engine.lock().fail_next(EngineError::Write("injected".into()));
                }
                if rng.next_u32().is_multiple_of(9) {
                    machine.engine.lock().wipe();
                }
                if let Ok(updated) = store.update(&key("a"), put("x"), Acks::default().done()) {
                    dots.push(updated.dot);
                }
            }
            match rng.next_u32() % 3 {
                0 => machine.crash(store, CrashLoss::Process),
                1 => machine.crash(store, CrashLoss::Power),
                _ => machine.stop(store),
            }
        }
        let count = dots.len();
        dots.sort();
        dots.dedup();
        assert!(count > 20 && dots.len() == count, "{} of {count} dots are different", dots.len());
    }
}
