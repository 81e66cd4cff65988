//! The data directory: one process, one node, one cluster, one format; what is wrong is named.

#![allow(clippy::unwrap_used, reason = "a helper's panic fails its test")]

mod store_support;

use std::fs;

use rondo_storage::store::{DataDirectory, DirectoryError, FORMAT, StartHistory};
use store_support::*;

#[test]
fn a_directory_keeps_its_node_and_counts_its_starts() {
    let machine = Machine::new();
    let first = machine.directory().unwrap();
    let (node, instance) = (first.node(), first.start().instance);
    assert_eq!((first.start().counter, first.cluster()), (1, None));
    drop(first);
    let second = machine.directory().unwrap();
    assert_eq!((second.node(), second.start().counter, second.start().instance), (node, 2, instance));
    assert_eq!(second.starts().counter(), 2);
    assert_ne!(Machine::new().directory().unwrap().node(), node);
}

#[test]
fn a_directory_in_use_is_refused_until_it_is_free() {
    let machine = Machine::new();
    let held = machine.directory().unwrap();
    let error = machine.directory().unwrap_err();
    assert!(matches!(error, DirectoryError::InUse(_)));
    let text = error.to_string();
    assert!(text.contains("in use by another process") && text.contains(machine.dir.path().to_str().unwrap()));
    drop(held);
    assert_eq!(machine.directory().unwrap().start().counter, 2, "the refused start was not counted");
}

#[test]
fn another_clusters_directory_is_refused() {
    let machine = Machine::new();
    let directory = machine.directory().unwrap();
    directory.join(7).unwrap();
    directory.join(7).unwrap();
    drop(directory);
    let directory = machine.directory().unwrap();
    assert_eq!(directory.cluster(), Some(7));
    let error = directory.join(8).unwrap_err();
    assert!(matches!(error, DirectoryError::Foreign { here: 7, asked: 8, .. }), "{error}");
    assert_eq!(directory.cluster(), Some(7));
}

#[test]
fn a_newer_format_is_refused_with_both_numbers() {
    let machine = Machine::new();
    let path = machine.directory().unwrap().path().to_owned();
    fs::write(path.join("FORMAT"), format!("rondo-data {}\n", FORMAT + 1)).unwrap();
    let before = fs::read(path.join("node.json")).unwrap();
    let error = machine.directory().unwrap_err().to_string();
    assert!(error.contains("format 2") && error.contains("up to format 1"), "{error}");
    assert_eq!(fs::read(path.join("node.json")).unwrap(), before, "nothing was changed");
    for text in ["", "rondo-data", "rondo-data 0", "something else 1"] {
        fs::write(path.join("FORMAT"), text).unwrap();
        assert!(matches!(machine.directory(), Err(DirectoryError::Damaged { .. })), "{text:?}");
    }
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
    assert!(matches!(DataDirectory::open(dir.path()), Err(DirectoryError::NotOurs(_))));
    assert!(!dir.path().join("node.json").exists());
    fs::rename(dir.path().join("thesis.tex"), dir.path().join(".hidden")).unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    assert!(DataDirectory::open(dir.path()).is_ok(), "a mounted volume is empty enough");
}

#[test]
fn a_damaged_identity_is_refused_and_never_made_up_anew() {
    let machine = Machine::new();
    let path = machine.directory().unwrap().path().to_owned();
    let identity = fs::read_to_string(path.join("node.json")).unwrap();
    fs::write(path.join("node.json"), identity.replacen("\"counter\": 1", "\"counter\": 2", 1)).unwrap();
    let error = machine.directory().unwrap_err();
    assert!(matches!(error, DirectoryError::Damaged { .. }) && error.to_string().contains("node.json"), "{error}");

    fs::remove_file(path.join("node.json")).unwrap();
    fs::create_dir(path.join("engine")).unwrap();
    let error = machine.directory().unwrap_err();
    assert!(matches!(error, DirectoryError::Damaged { .. }) && error.to_string().contains("missing"), "{error}");
    fs::remove_dir(path.join("engine")).unwrap();
    assert_eq!(machine.directory().unwrap().start().counter, 1, "a first start that was cut short begins again");
}

#[test]
fn a_place_one_cannot_write_in_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = DataDirectory::open(&file.path().join("data")).unwrap_err();
    assert!(matches!(error, DirectoryError::Io { .. }), "{error}");
    assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
}

#[test]
fn an_identity_of_the_first_format_still_opens() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("FORMAT"), "rondo-data 1\n").unwrap();
    fs::write(dir.path().join("node.json"), include_str!("fixtures/node-v1.json")).unwrap();
    let directory = DataDirectory::open(dir.path()).unwrap();
    assert_eq!(directory.node().to_string(), "0102030405060708090a0b0c0d0e0f10");
    assert_eq!(directory.cluster(), Some(0xc0ffee));
    assert_eq!(directory.start().counter, 4);
    let history: StartHistory = directory.starts();
    assert_eq!(history.instance(), Some(rondo_storage::versions::ActorId(0x1234_5678_9abc_def0)));
}
