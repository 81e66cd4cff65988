//! The store over the disk engine: a clean end, a crash, an engine put back from an older copy, one that is broken.

#![allow(clippy::unwrap_used, reason = "a helper's panic fails its test")]

mod store_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};

use rondo_ring::PartitionId;
use rondo_storage::Key;
use rondo_storage::engine::{Durability, EngineOptions};
use rondo_storage::store::{DataDirectory, DirectoryError, Rebuild, StartVerdict, Store, StoreOptions, Stored};
use store_support::*;

fn options() -> EngineOptions {
    EngineOptions {
        log_segment_bytes: 64 << 10,
        log_bytes_max: 1 << 20,
        memtable_bytes: 64 << 10,
        ..Default::default()
    }
}

fn open(path: &Path) -> Result<Store, DirectoryError> {
    let directory = Arc::new(DataDirectory::open(path)?);
    Store::open(
        directory,
        &StoreOptions { reserve_bytes: Some(0), ..Default::default() },
        &options(),
        TestClock::at(NOW_US),
    )
}

fn start(path: &Path) -> Store {
    let store = open(path).unwrap();
    store.begin(StartVerdict::Confirmed, q(8)).unwrap();
    store
}

const DIR: &str = "RONDO_CRASH_DIR";

/// Runs one of the ignored tests below in a process of its own, on the directory `data` of `dir`, until it aborts;
/// what it left in the file `said`. A copy of a running store's directory would not do: files come and go under it.
fn crashed(child: &str, dir: &Path) -> String {
    let test = std::env::current_exe().unwrap();
    let output =
        Command::new(test).args(["--exact", child, "--ignored", "--nocapture"]).env(DIR, dir).output().unwrap();
    let said = fs::read_to_string(dir.join("said"));
    said.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The child's side of it: where to write, and how to end.
fn crash_dir() -> PathBuf {
    std::env::var(DIR).expect("started by a crash test").into()
}

fn crash(dir: &Path, say: &str) -> ! {
    fs::write(dir.join("said"), say).unwrap();
    std::process::abort()
}

/// Waits for the acknowledgement.
fn put_durably(store: &Store, name: &str, value: &str) {
    let (done, acked) = mpsc::channel();
    store.update(&key(name), put(value), Box::new(move |result| done.send(result).unwrap())).unwrap();
    acked.recv().unwrap().unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.is_dir() { copy(&entry, &to) } else { assert!(fs::copy(entry, to).is_ok()) }
    }
}

fn rebuild(store: &Store) -> Vec<Option<u64>> {
    while store.rebuild_digests() != Rebuild::Finished {}
    (0..8).map(|p| store.digest(PartitionId(p))).collect()
}

fn files_in(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

#[test]
fn a_clean_end_keeps_everything_and_the_trees() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let mut before: Option<(Store, Vec<Option<u64>>)> = None;
    for round in 0..4 {
        let store = start(&path);
        if let Some((old, digests)) = before.take() {
            assert_eq!(store.status().digests_ready, 8, "round {round}: the saved trees were not taken");
            assert_eq!(rebuild(&store), digests);
            assert_eq!(store.actor(), old.actor());
            assert!(store.untrusted().is_empty());
        }
        for n in 0..40 {
            put_durably(&store, &n.to_string(), &format!("{round}"));
        }
        store.tick();
        let digests = rebuild(&store);
        store.close().unwrap();
        let actor = store.actor();
        drop(store);
        // The same rows under a scan of their own.
        fs::remove_file(path.join("digests")).unwrap();
        let image = dir.path().join(format!("image{round}"));
        copy(&path, &image);
        let scanned = start(&image);
        assert_eq!((scanned.status().digests_ready, scanned.actor()), (0, actor));
        assert_eq!(rebuild(&scanned), digests);
        assert_eq!(values(&scanned, &key("7")), [round.to_string()]);
        scanned.close().unwrap();
        fs::remove_dir_all(&path).unwrap();
        copy(&image, &path);
        before = Some((scanned, digests));
    }
}

#[test]
#[ignore = "the other process of the test below"]
fn child_puts_500() {
    let dir = crash_dir();
    let store = start(&dir.join("data"));
    for n in 0..500 {
        put_durably(&store, &n.to_string(), "x");
        if n % 100 == 0 {
            store.tick();
        }
    }
    crash(&dir, &format!("{:?} {:?}", store.actor(), rebuild(&store)));
}

#[test]
fn a_crash_loses_no_acknowledged_write_and_makes_another_instance() {
    let dir = tempfile::tempdir().unwrap();
    let said = crashed("child_puts_500", dir.path());
    let store = start(&dir.path().join("data"));
    let (actor, digests) = said.split_once(' ').unwrap();
    assert_ne!(format!("{:?}", store.actor()), actor);
    assert!(store.untrusted().is_empty(), "a crash lost nothing");
    for n in 0..500 {
        assert_eq!(values(&store, &key(&n.to_string())), ["x"]);
    }
    assert_eq!(format!("{:?}", rebuild(&store)), digests);
}

#[test]
fn an_older_engine_put_back_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = start(&path);
    put_durably(&store, "a", "1");
    store.close().unwrap();
    drop(store);
    copy(&path.join("engine"), &dir.path().join("older"));
    let store = start(&path);
    put_durably(&store, "b", "2");
    store.close().unwrap();
    drop(store);

    fs::remove_dir_all(path.join("engine")).unwrap();
    copy(&dir.path().join("older"), &path.join("engine"));
    let store = start(&path);
    assert_eq!(store.untrusted().len(), 8);
    assert_eq!(store.read(&key("b")), Stored::Unknown(None), "never missing");
}

#[test]
fn a_broken_engine_is_moved_aside_and_refilled_from_a_peer() {
    let dir = tempfile::tempdir().unwrap();
    let (path, peer) = (dir.path().join("data"), start(&dir.path().join("peer")));
    let store = start(&path);
    for n in 0..200 {
        put_durably(&store, &n.to_string(), "x");
        let Stored::Found(object) = store.read(&key(&n.to_string())) else { panic!("not there") };
        merge_durably(&peer, &key(&n.to_string()), &object);
    }
    let before = store.actor();
    store.close().unwrap();
    drop(store);
    let bytes_before: u64 = files_in(&path.join("engine")).iter().map(|file| file.metadata().unwrap().len()).sum();
    for file in files_in(&path.join("engine")) {
        let damaged: Vec<u8> = fs::read(&file).unwrap().iter().map(|byte| !byte).collect();
        fs::write(file, damaged).unwrap();
    }

    let store = start(&path);
    assert_ne!(store.actor(), before);
    assert_eq!((store.status().quarantined_engines, store.untrusted().len()), (1, 8));
    let mut aside = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    let aside = aside.find(|path| path.to_string_lossy().contains("quarantine-")).unwrap();
    let bytes_after: u64 = files_in(&aside).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(bytes_after, bytes_before, "nothing of it is lost");
    assert_eq!(store.read(&key("7")), Stored::Unknown(None));

    for partition in store.untrusted() {
        let mut after = None;
        loop {
            let page = peer.scan_partition(partition, after.as_deref(), 7, 1 << 20).unwrap();
            for (row, object) in &page.rows {
                merge_durably(&store, &Key::from_row(row.clone()).unwrap(), object);
            }
            if page.complete {
                break;
            }
            after = page.last;
        }
        store.trust(partition).unwrap();
    }
    for n in 0..200 {
        assert_eq!(store.read(&key(&n.to_string())), peer.read(&key(&n.to_string())));
    }
    assert_eq!(rebuild(&store), rebuild(&peer));
    put_durably(&store, "7", "later");
}

fn merge_durably(store: &Store, key: &Key, object: &bytes::Bytes) {
    let (done, acked) = mpsc::channel();
    store.merge(key, object, Durability::Fsync, Box::new(move |result| done.send(result).unwrap())).unwrap();
    acked.recv().unwrap().unwrap();
}

#[test]
fn a_wrong_setting_is_named_and_moves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).close().unwrap();
    let directory = Arc::new(DataDirectory::open(dir.path()).unwrap());
    let wrong = EngineOptions { cache_bytes: 1, ..options() };
    let opened = Store::open(directory, &StoreOptions::default(), &wrong, TestClock::at(NOW_US));
    let Err(error) = opened else { panic!("opened") };
    assert!(error.to_string().contains("cache_bytes"), "{error}");
    assert!(dir.path().join("engine").exists());
}

#[test]
#[ignore = "the other process of the test below"]
fn child_puts_siblings() {
    let dir = crash_dir();
    let store = start(&dir.join("data"));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..20 {
                    let (done, acked) = mpsc::channel();
                    let change =
                        rondo_storage::store::Change { siblings_max: 999, ..sibling(&format!("{thread}-{n}")) };
                    store.update(&key("a"), change, Box::new(move |result| done.send(result).unwrap())).unwrap();
                    acked.recv().unwrap().unwrap();
                }
            });
        }
    });
    crash(&dir, "160");
}

/// Threads on one disk: every acknowledged sibling is there after a crash.
#[test]
fn s1_siblings_of_many_threads_are_all_durable() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(crashed("child_puts_siblings", dir.path()), "160");
    assert_eq!(values(&start(&dir.path().join("data")), &key("a")).len(), 160);
}
