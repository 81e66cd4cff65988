//! How a command ends when it does not end well.

use std::process::ExitCode;

use super::output::say;

/// What to tell the user, and the exit code that goes with it.
#[derive(Debug)]
pub(super) enum Failure {
    /// 1: what was asked for did not happen, or not all of it.
    Failed(String),
    /// 2: it was asked for in a way that makes no sense.
    Usage(String),
    /// 3: no node answered.
    Unreachable(String),
    /// 4: the cluster answered, and is not whole. What there is to say has been printed.
    Degraded,
    /// 0: whoever read stdout has seen enough.
    ClosedPipe,
}

impl Failure {
    /// Prints the message; gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        let (code, message) = match self {
            Self::Failed(message) => (1, Some(message)),
            Self::Usage(message) => (2, Some(message)),
            Self::Unreachable(message) => (3, Some(message)),
            Self::Degraded => (4, None),
            Self::ClosedPipe => (0, None),
        };
        for line in message.iter().flat_map(|text| text.lines()) {
            say(&format!("rondo: {line}"));
        }
        ExitCode::from(code)
    }
}
