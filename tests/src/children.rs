//! Child processes that never outlive their test.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::eventually;

/// How a child ended.
pub type Ended = ExitStatus;

/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(20);

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Child(std::process::Child);

/// A command without the `RONDO_…` variables of this process (H4): they belong to the tests, not to the program.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"RONDO_") {
            command.env_remove(name);
        }
    }
    command
}

impl Child {
    /// Starts a command whose output goes to the end of a file.
    pub(crate) fn spawn(mut command: Command, log: &Path) -> Self {
        let open = || File::options().create(true).append(true).open(log);
        let file = open().expect("a temporary directory takes files");
        let errors = file.try_clone().expect("a file handle can be doubled");
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        Self(command.spawn().expect("the program under test can be started"))
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Sends a signal; nothing happens where it has ended.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid(), signal);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<Ended> {
        self.0.try_wait().expect("a child of this process can be waited for")
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(GONE);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> Ended {
        eventually(within, "the end of a process", || self.ended().ok_or_else(|| "it runs".into()))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Also ends one that is stopped. No panic here: the test may be panicking.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The last lines of a file.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let all: Vec<&str> = text.lines().collect();
    let name = path.file_name().unwrap_or(OsStr::new("?")).to_string_lossy();
    format!("--- end of {name}\n{}\n", all[all.len().saturating_sub(lines)..].join("\n"))
}
