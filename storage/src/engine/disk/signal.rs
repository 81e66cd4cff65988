//! How the writer and the background threads wait for each other without ever missing a wake-up: a counter under a
//! mutex, and every wait has an end.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::segment::fatal;
use crate::engine::EngineError;

/// The two kinds of background work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Flush = 0,
    Compaction = 1,
}

/// A look at the state even if nobody said anything.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a waiting writer looks.
const WRITER_LOOK_EVERY: Duration = Duration::from_millis(20);
/// Work that is being done may take this many times the limit that holds for idleness.
const BUSY_FACTOR: u32 = 10;

#[derive(Debug, Default)]
struct State {
    requests: u64,
    finished: u64,
    busy: [bool; 2],
    failures: [Option<EngineError>; 2],
    stop: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

impl Signal {
    /// There may be work.
    pub(super) fn request(&self) {
        self.state.lock().requests += 1;
        self.changed.notify_all();
    }

    /// Ends the background threads.
    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Waits for a request later than `seen`, or a second; whether to stop.
    pub(super) fn wait_for_work(&self, seen: &mut u64) -> bool {
        let mut state = self.state.lock();
        if state.requests == *seen && !state.stop {
            self.changed.wait_for(&mut state, LOOK_EVERY);
        }
        *seen = state.requests;
        state.stop
    }

    /// Whether the threads are to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.state.lock().stop
    }

    /// A step begins.
    pub(super) fn begin(&self, work: Work) {
        self.state.lock().busy[work as usize] = true;
    }

    /// A step is over. A failure stays until the next success of the same kind.
    pub(super) fn finish(&self, work: Work, failure: Option<EngineError>) {
        let mut state = self.state.lock();
        state.busy[work as usize] = false;
        if failure.is_none() {
            state.finished += 1;
        }
        state.failures[work as usize] = failure;
        drop(state);
        self.changed.notify_all();
    }

    /// What keeps the background from working, if anything.
    pub(super) fn failure(&self) -> Option<EngineError> {
        self.state.lock().failures.iter().flatten().next().cloned()
    }

    /// Waits until `has_room`; the time it took. Ends the process where nothing moves for longer than `limit`.
    ///
    /// # Errors
    /// Why the background cannot make room.
    pub(super) fn wait_for_room(&self, limit: Duration, has_room: impl Fn() -> bool) -> Result<Duration, EngineError> {
        let started = Instant::now();
        let (mut moved, mut finished) = (started, None);
        loop {
            if has_room() {
                return Ok(started.elapsed());
            }
            let mut state = self.state.lock();
            if let Some(failure) = state.failures.iter().flatten().next() {
                return Err(failure.clone());
            }
            if finished != Some(state.finished) {
                (moved, finished) = (Instant::now(), Some(state.finished));
            }
            let factor = if state.busy.contains(&true) { BUSY_FACTOR } else { 1 };
            if moved.elapsed() > limit * factor {
                fatal(&format!("writes waited {:?} for flushes and compactions: {state:?}", moved.elapsed()));
            }
            state.requests += 1;
            self.changed.notify_all();
            self.changed.wait_for(&mut state, WRITER_LOOK_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_made_before_the_wait_is_seen() {
        let signal = Signal::default();
        signal.request();
        let (mut seen, started) = (0, Instant::now());
        assert!(!signal.wait_for_work(&mut seen));
        assert!(started.elapsed() < LOOK_EVERY / 2, "the wait ran into its end");
        assert_eq!(seen, 1);
    }

    #[test]
    fn a_waiting_writer_is_told_why_there_is_no_room() {
        let signal = Signal::default();
        signal.finish(Work::Flush, Some(EngineError::DiskFull));
        let waited = signal.wait_for_room(Duration::from_secs(5), || false);
        assert_eq!(waited, Err(EngineError::DiskFull));
        signal.finish(Work::Flush, None);
        assert_eq!(signal.failure(), None);
    }
}
