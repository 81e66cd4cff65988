//! The command line as a user types it.

use std::io::{Read, Seek, SeekFrom, Write};
use std::process::Stdio;
use std::time::Duration;

use crate::children::command;
use crate::wait::eventually;

/// Longer than everything a test lets a command do.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a command said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; -1 for a signal.
    pub code: i32,
    /// Bytes of stdout.
    pub stdout: Vec<u8>,
    /// stderr.
    pub stderr: String,
}

impl Output {
    /// Panics with everything said unless it ended so.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        let stdout = String::from_utf8_lossy(&self.stdout);
        assert_eq!(self.code, code, "stdout:\n{stdout}\nstderr:\n{}", self.stderr);
        self
    }

    /// stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Panics unless stderr has all of these.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in stderr:\n{}", self.stderr);
        }
        self
    }
}

/// A command to run.
#[derive(Debug)]
#[must_use]
pub struct Run {
    command: std::process::Command,
    stdin: Vec<u8>,
}

/// `rondo` with these arguments.
pub fn rondo<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    let mut command = command(crate::binary());
    command.args(arguments);
    Run { command, stdin: Vec::new() }
}

impl Run {
    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it this on stdin.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Runs it to its end, within three minutes.
    #[track_caller]
    pub fn run(mut self) -> Output {
        let file = || tempfile::tempfile().expect("there is room for temporary files");
        let (mut input, mut stdout, mut stderr) = (file(), file(), file());
        input.write_all(&self.stdin).and_then(|()| input.seek(SeekFrom::Start(0))).expect("a file takes bytes");
        let clone = |file: &std::fs::File| Stdio::from(file.try_clone().expect("a file handle can be doubled"));
        self.command.stdin(clone(&input)).stdout(clone(&stdout)).stderr(clone(&stderr));
        let mut child = self.command.spawn().expect("the program under test can be started");
        let status = eventually(PATIENCE, "the end of a command", || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        });
        let read = |file: &mut std::fs::File| {
            let mut bytes = Vec::new();
            let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
            bytes
        };
        let stderr = String::from_utf8_lossy(&read(&mut stderr)).into_owned();
        Output { code: status.code().unwrap_or(-1), stdout: read(&mut stdout), stderr }
    }
}
