//! Damaged and outdated disks: never a wrong value, repaired from the replicas, counted; no dot used twice.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rondo_tests::{Cluster, Node, copy_directory, eventually, holds};

const KEYS: usize = 300;
const REPAIRED: Duration = Duration::from_secs(60);
/// Small, so that there are tables as well as a log.
const MEMTABLE_BYTES: usize = 64 << 10;

fn start() -> Cluster {
    let cluster = Cluster::builder(3).env("RONDO_STORAGE__MEMTABLE_BYTES", MEMTABLE_BYTES).start();
    cluster.settled(&[0, 1, 2], "healthy");
    cluster
}

/// What was acknowledged by all three: key and value.
type Written = BTreeMap<String, String>;

/// A value that no compression makes small.
fn value(key: &str, version: &str) -> String {
    let mut state = key
        .bytes()
        .chain(version.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut text = format!("{key} {version} ");
    while text.len() < 1_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text += &format!("{:016x}", state);
    }
    text
}

fn write(cluster: &Cluster, nodes: &[usize], keys: std::ops::Range<usize>, version: &str, written: &mut Written) {
    for number in keys {
        let key = format!("key-{number}");
        let value = value(&key, version);
        let node = &cluster[nodes[number % nodes.len()]];
        node.object("PUT", "d", &key).w(nodes.len()).body(value.as_bytes()).send().expect(204);
        written.insert(key, value);
    }
}

/// Through every node at R=1 and R=2, and each answer is the value acknowledged: damage is no vote, and neither is a
/// disk that may lack what it once had.
fn never_wrong(cluster: &Cluster, written: &Written, damage: &str) {
    for node in cluster.nodes() {
        for (key, value) in written {
            for r in [1, 2] {
                let get = node.object("GET", "d", key).r(r).send();
                let right = get.status == 200 && get.text() == *value;
                assert!(right, "{damage}: {key} at R={r} from {}: {} {}", node.name(), get.status, get.text());
            }
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Files of the stopped node's engine, tables or log, with something in them.
fn engine_files(node: &Node, tables: bool) -> Vec<PathBuf> {
    let all = files(&node.data_dir().join("engine"));
    let wanted = |path: &PathBuf| {
        let place = path.to_string_lossy().into_owned();
        place.contains("/tables/") == tables && (tables || place.contains("/log")) && path.metadata().unwrap().len() > 0
    };
    let found: Vec<_> = all.iter().filter(|path| wanted(path)).cloned().collect();
    assert!(!found.is_empty(), "nothing to damage among {all:?}");
    found
}

fn overwrite(path: &Path, at: u64, change: impl Fn(u8) -> u8, bytes: usize) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut there = vec![0; bytes];
    file.seek(SeekFrom::Start(at)).unwrap();
    let read = file.read(&mut there).unwrap();
    let changed: Vec<u8> = there[..read].iter().map(|&byte| change(byte)).collect();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&changed).unwrap();
}

/// A bit every 2,000 bytes.
fn flip_bits(paths: &[PathBuf]) {
    for path in paths {
        let length = path.metadata().unwrap().len();
        (500..length).step_by(2_000).for_each(|at| overwrite(path, at, |byte| byte ^ 4, 1));
    }
}

/// A page in the middle of what each file holds: of one file alone, newer ones might have replaced every row.
fn zero_a_page(paths: &[PathBuf]) {
    for path in paths {
        let content = fs::read(path).unwrap();
        let end = content.iter().rposition(|&byte| byte != 0).unwrap_or(0);
        overwrite(path, (end / 2 / 4_096 * 4_096) as u64, |_| 0, 4_096);
    }
}

/// What the node found, whichever way: rows it could not read, or an engine it moved aside.
fn counted(node: &Node) -> f64 {
    node.metric("rondo_store_damaged_total") + node.metric("rondo_store_quarantined_engines")
}

/// A read of all owners of every key; then the node's own disk has every value again and trusts itself.
fn repaired(cluster: &Cluster, written: &Written) {
    for (key, value) in written {
        let get = cluster[0].object("GET", "d", key).r(2).header("Rondo-Timeout", "20s").send().expect(200);
        assert_eq!(&get.text(), value);
    }
    let node = &cluster[2];
    eventually(REPAIRED, "a trusted disk", || {
        let untrusted = node.metric("rondo_store_untrusted_partitions");
        holds(untrusted == 0.0, || format!("{untrusted} partitions are not"))
    });
    for (key, value) in written {
        eventually(REPAIRED, "a repaired disk", || {
            node.object("GET", "d", key).r(3).send();
            let local = node.local("d", key);
            let whole = local["damaged"] == false && local["versions"][0]["text"] == value.as_str();
            holds(whole, || format!("{key}: {} {}", local["damaged"], local["versions"][0]["etag"]))
        });
    }
}

#[test]
fn damaged_tables_give_no_wrong_value_and_are_repaired() {
    let mut cluster = start();
    let mut written = Written::new();
    write(&cluster, &[0, 1, 2], 0..KEYS, "first", &mut written);
    for (name, damage) in [("bits flipped", flip_bits as fn(&[PathBuf])), ("a page zeroed", zero_a_page)] {
        assert_eq!(cluster[2].terminate().code(), Some(0));
        damage(&engine_files(&cluster[2], true));
        cluster[2].start();
        cluster[2].wait_ready();
        never_wrong(&cluster, &written, name);
        assert!(counted(&cluster[2]) > 0.0, "{name}: nothing was noticed");
        repaired(&cluster, &written);
        never_wrong(&cluster, &written, name);
        write(&cluster, &[0, 1, 2], 0..KEYS, name, &mut written);
    }
}

#[test]
fn a_damaged_log_gives_no_wrong_value_and_is_repaired() {
    let mut cluster = start();
    let mut written = Written::new();
    for (name, damage) in [("bits flipped", flip_bits as fn(&[PathBuf])), ("a page zeroed", zero_a_page)] {
        write(&cluster, &[0, 1, 2], 0..KEYS / 3, name, &mut written);
        // Not terminated: a clean end leaves nothing in the log.
        cluster[2].kill();
        damage(&engine_files(&cluster[2], false));
        cluster[2].start();
        cluster[2].wait_ready();
        never_wrong(&cluster, &written, name);
        assert!(counted(&cluster[2]) > 0.0, "{name}: nothing was noticed");
        repaired(&cluster, &written);
        never_wrong(&cluster, &written, name);
    }
}

/// Every dot on any disk with its value: one dot is one value, always.
fn note_dots(cluster: &Cluster, keys: usize, dots: &mut BTreeMap<(String, String, u64), String>) {
    for node in cluster.nodes() {
        for key in (0..keys).map(|number| format!("key-{number}")) {
            for version in node.local("d", &key)["versions"].as_array().unwrap() {
                let (actor, counter) = (version["dot"]["actor"].as_str().unwrap(), version["dot"]["counter"].as_u64());
                let text = version["text"].as_str().unwrap_or("deleted").to_string();
                let seen = dots.entry((key.clone(), actor.into(), counter.unwrap())).or_insert_with(|| text.clone());
                assert_eq!(*seen, text, "{}: a dot of {key} was used twice", node.name());
            }
        }
    }
}

#[test]
fn an_old_copy_of_a_directory_loses_nothing_and_repeats_no_dot() {
    let mut cluster = start();
    let (mut written, mut dots) = (Written::new(), BTreeMap::new());
    let keys = KEYS / 3;
    write(&cluster, &[0, 1, 2], 0..keys, "old", &mut written);
    let data = cluster[2].data_dir().to_path_buf();
    let old = cluster.directory().join("old");
    note_dots(&cluster, keys, &mut dots);
    assert_eq!(cluster[2].terminate().code(), Some(0));
    copy_directory(&data, &old);
    cluster[2].start();
    cluster[2].wait_ready();
    cluster.settled(&[0, 1, 2], "healthy");
    // Through the node itself, so that the dots are its own; and acknowledged by it and one other.
    for (number, version) in ["newer", "newest"].into_iter().enumerate() {
        for key in (number * keys / 4..keys).map(|number| format!("key-{number}")) {
            let value = value(&key, version);
            cluster[2].object("PUT", "d", &key).w(2).body(value.as_bytes()).send().expect(204);
            written.insert(key, value);
        }
        note_dots(&cluster, keys, &mut dots);
    }
    assert_eq!(cluster[2].terminate().code(), Some(0));
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&old, &data).unwrap();
    cluster[2].start();
    cluster[2].wait_ready();
    never_wrong(&cluster, &written, "an old copy");
    note_dots(&cluster, keys, &mut dots);
    cluster.settled(&[0, 1, 2], "healthy");
    for key in (0..keys).map(|number| format!("key-{number}")) {
        let value = value(&key, "after");
        let context = cluster[2].object("GET", "d", &key).r(2).send().expect(200).context();
        cluster[2].object("PUT", "d", &key).w(2).context(&context).body(value.as_bytes()).send().expect(204);
        written.insert(key, value);
    }
    note_dots(&cluster, keys, &mut dots);
    never_wrong(&cluster, &written, "written after an old copy");
    assert!(dots.len() >= 3 * keys, "{} dots were seen, too few to prove anything", dots.len());
}

#[test]
fn an_emptied_disk_is_filled_again() {
    let mut cluster = start();
    let mut written = Written::new();
    write(&cluster, &[0, 1, 2], 0..KEYS / 3, "v", &mut written);
    cluster[2].kill();
    // The identity stays, what it held is gone.
    fs::remove_dir_all(cluster[2].data_dir().join("engine")).unwrap();
    cluster[2].start();
    cluster[2].wait_ready();
    never_wrong(&cluster, &written, "an emptied disk");
    repaired(&cluster, &written);
}
