//! The container engine, through its command line.

use std::ffi::OsStr;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// Runs `docker` with these arguments; what it said, or why it failed.
pub(crate) fn try_docker<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<String, String> {
    // The engines of the distributions come without the newer builder.
    let output = Command::new("docker").args(arguments).env("DOCKER_BUILDKIT", "0").output();
    said(output.unwrap_or_else(|why| panic!("docker cannot be run: {why}")))
}

/// The output of a command that succeeded, without the last end of line.
pub(crate) fn said(output: Output) -> Result<String, String> {
    let stdout = String::from_utf8_lossy(&output.stdout).trim_end().to_string();
    let failed = || format!("{}: {stdout}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(stdout) } else { Err(failed()) }
}

/// Runs `docker` with these arguments, which have to be right.
#[track_caller]
pub(crate) fn docker<S: AsRef<OsStr> + std::fmt::Debug>(arguments: &[S]) -> String {
    try_docker(arguments).unwrap_or_else(|why| panic!("docker {arguments:?}: {why}"))
}

/// What the engine knows of a container.
#[track_caller]
pub(crate) fn inspect(container: &str) -> Value {
    let all: Value = serde_json::from_str(&docker(&["inspect", container])).unwrap();
    all[0].clone()
}

/// Everything a container has said.
pub(crate) fn logs(container: &str) -> String {
    let output = Command::new("docker").args(["logs", container]).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// A name that nothing else of the engine has, of no other run of the tests either.
pub(crate) fn fresh_name() -> String {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    format!("rondo-test-{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
}

/// Something of the engine's that is removed at the end (K4).
#[derive(Debug)]
pub(crate) struct Owned {
    kind: &'static str,
    name: String,
}

impl Owned {
    /// A volume with its owner and mode, as Kubernetes prepares it for a pod of a group.
    #[track_caller]
    pub(crate) fn volume(name: String, prepare: &str) -> Self {
        docker(&["volume", "create", &name]);
        let volume = Self { kind: "volume", name };
        volume.change(prepare);
        volume
    }

    /// Runs a command of the shell in it, as root.
    #[track_caller]
    pub(crate) fn change(&self, command: &str) {
        let mount = format!("{}:/volume:nocopy", self.name);
        let tools = super::image::tools();
        docker(&["run", "--rm", "--network", "none", "--volume", &mount, &tools, "/bin/sh", "-ec", command]);
    }

    /// A network on which nobody else is, and the beginning of its addresses, such as `172.18.0.`: the engine chooses
    /// which are free, and lets a container ask for its own only where they were asked for.
    #[track_caller]
    pub(crate) fn network(name: String) -> (Self, String) {
        docker(&["network", "create", &name]);
        let format = "{{(index .IPAM.Config 0).Subnet}}";
        let subnet = docker(&["network", "inspect", "--format", format, &name]);
        docker(&["network", "rm", &name]);
        docker(&["network", "create", "--subnet", &subnet, &name]);
        let base = subnet.split('/').next().unwrap();
        let prefix = base[..=base.rfind('.').unwrap()].to_string();
        (Self { kind: "network", name }, prefix)
    }

    pub(crate) fn container(name: String) -> Self {
        Self { kind: "container", name }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let force: &[&str] = match self.kind {
            "container" => &["rm", "--force", "--volumes"],
            "volume" => &["rm", "--force"],
            _ => &["rm"],
        };
        let arguments = [self.kind].into_iter().chain(force.iter().copied()).chain([self.name.as_str()]);
        // No panic here: the test may be panicking.
        if let Err(why) = try_docker(arguments) {
            eprintln!("left over: {} {}: {why}", self.kind, self.name);
        }
    }
}
