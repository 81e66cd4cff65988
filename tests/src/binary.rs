//! Where the program under test is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// What the program is made of.
const SOURCES: [&str; 7] = ["ring", "storage", "gossip", "coordinator", "antientropy", "config", "node"];
/// Another program to test, for those who know what they do.
const OVERRIDE: &str = "RONDO_TEST_BINARY";

/// The root of the repository.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the tests are a directory of the workspace").into()
}

/// The `rondo` of this build's profile; built where it is missing or older than its sources. Test processes that run
/// at the same time build once: cargo lets them take turns.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os(OVERRIDE).map_or_else(built, PathBuf::from))
}

fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    // <target>/<profile>/deps/<test>
    let profile = test.parent().and_then(Path::parent).expect("test programs are in <profile>/deps");
    let binary = profile.join(format!("rondo{}", std::env::consts::EXE_SUFFIX));
    if modified(&binary).is_none_or(|built| newest_source() > built) {
        build(profile);
    }
    assert!(binary.exists(), "cargo built no {}", binary.display());
    binary
}

fn build(directory: &Path) {
    let target = directory.parent().expect("a profile's directory is in the target directory");
    let name = directory.file_name().and_then(|name| name.to_str()).expect("profiles have plain names");
    let profile = if name == "debug" { "dev" } else { name };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--workspace", "--bin", "rondo", "--profile", profile]);
    command.current_dir(workspace()).env("CARGO_TARGET_DIR", target);
    let status = command.status().expect("cargo runs the tests, so it can be run");
    assert!(status.success(), "the program under test does not build");
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn newest_source() -> SystemTime {
    let folders = SOURCES.iter().map(|name| workspace().join(name));
    let manifests = folders.clone().filter_map(|folder| modified(&folder.join("Cargo.toml")));
    let files = folders.filter_map(|folder| newest_in(&folder.join("src")));
    manifests.chain(files).chain(modified(&workspace().join("Cargo.lock"))).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn newest_in(directory: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    entries.filter_map(|path| if path.is_dir() { newest_in(&path) } else { modified(&path) }).max()
}
