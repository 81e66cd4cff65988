//! The image under test, made by the `Dockerfile`. No registry is asked: both its bases are made of files of this
//! machine. One has a shell and, in the place of cargo, a script that hands out the program that was built already.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rondo_tests::{binary, workspace};

use super::engine::{docker, said, try_docker};

const IMAGE: &str = "rondo-test";
const TOOLS: &str = "rondo-test-tools";
const RUNTIME: &str = "rondo-test-runtime";
const PROGRAMS: [&str; 6] = ["sh", "mkdir", "cp", "chmod", "chown", "cat"];

/// Only what the Dockerfile says is built.
const CARGO: &str = r#"#!/bin/sh
set -eu
expected="build --release --locked --package rondo-node --bin rondo"
[ "$*" = "$expected" ] || { echo "cargo $*" >&2; exit 1; }
for needed in Cargo.lock tests/Cargo.toml config/rondo.toml node/fixtures/packages.jsonl node/src/main.rs; do
    [ -f "$needed" ] || { echo "$needed is not in the build's context" >&2; exit 1; }
done
[ ! -e target ] || { echo "what was built before is in the build's context" >&2; exit 1; }
mkdir -p target/release
cp /rondo target/release/rondo
"#;

/// The name of the image, built once.
#[track_caller]
pub(crate) fn image() -> &'static str {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        tools();
        import(RUNTIME, |root| copy_libraries(binary(), root));
        let (builder, runtime) = (format!("BUILDER={TOOLS}"), format!("RUNTIME={RUNTIME}"));
        let context = workspace();
        let arguments = ["build", "--quiet", "--force-rm", "--tag", IMAGE, "--build-arg", &builder];
        replace(IMAGE, || {
            docker(&[&arguments[..], &["--build-arg", &runtime, &context.to_string_lossy()]].concat());
        });
    });
    IMAGE
}

/// The name of an image with a shell.
#[track_caller]
pub(crate) fn tools() -> String {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        import(TOOLS, |root| {
            for program in PROGRAMS {
                let path = found(program);
                fs::copy(&path, root.join("bin").join(program)).unwrap();
                copy_libraries(&path, root);
            }
            fs::copy(binary(), root.join("rondo")).unwrap();
            let cargo = root.join("bin/cargo");
            fs::write(&cargo, CARGO).unwrap();
            fs::set_permissions(&cargo, PermissionsExt::from_mode(0o755)).unwrap();
        });
    });
    TOOLS.into()
}

/// Makes an image of the files that `fill` puts into a directory.
fn import(name: &str, fill: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    for path in ["bin", "tmp"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    fill(&root);
    let archive = directory.path().join("root.tar");
    // The directory of a test belongs to one user; a root belongs to everybody.
    fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--create", "--file"]).arg(&archive).arg("--directory").arg(&root).arg(".");
    said(tar.output().unwrap()).unwrap();
    replace(name, || {
        docker(&["import", "--change", "ENV PATH=/bin", &archive.to_string_lossy(), name]);
    });
}

/// Nothing stays of an image that had the name before, nor of the stages of a build (K4).
fn replace(name: &str, make: impl FnOnce()) {
    let nameless = || try_docker(["images", "--quiet", "--no-trunc", "--filter", "dangling=true"]).unwrap_or_default();
    let before = nameless();
    make();
    let after = nameless();
    for image in after.lines().filter(|image| !before.contains(*image)) {
        // It may be in use by another run of the tests, or be a part of the new one.
        if let Err(why) = try_docker(["rmi", image]) {
            println!("{name}: {image} stays: {why}");
        }
    }
}

fn found(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all: Vec<PathBuf> = std::env::split_paths(&path).map(|directory| directory.join(program)).collect();
    let first = all.iter().find(|path| path.is_file()).unwrap_or_else(|| panic!("there is no {program}"));
    fs::canonicalize(first).unwrap()
}

/// The shared libraries of a program, at the paths where they are here.
fn copy_libraries(program: &Path, root: &Path) {
    let listed = said(Command::new("ldd").arg(program).output().unwrap()).unwrap();
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    for path in paths {
        let to = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        // Links are followed.
        fs::copy(path, to).unwrap();
    }
}
