//! What a run came to.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::connection::{NoAnswer, Taken};
use super::mix::Operation;

/// Three digits of a latency are kept, up to an hour.
const DIGITS: u8 = 3;
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Counts of one operation.
#[derive(Clone, Debug)]
pub(crate) struct OperationTally {
    /// Of every answer and of every request that was given up, µs.
    pub(crate) latency_us: Histogram<u64>,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) no_answer: BTreeMap<&'static str, u64>,
}

/// Counts of one generator thread, or of all.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    operations: [OperationTally; Operation::ALL.len()],
    /// From when a request should have begun to when it did, µs.
    pub(crate) lag_us: Histogram<u64>,
    pub(crate) answers: u64,
    /// Answers that came before the run's time was over: throughput is made of these.
    pub(crate) answers_in_time: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    /// Requests that were due and never begun.
    pub(crate) not_begun: u64,
    /// The beginning of the first answer that nobody expected.
    pub(crate) complaint: Option<String>,
}

/// One request and what became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) operation: Operation,
    pub(crate) sent_bytes: usize,
    pub(crate) result: Result<Taken, NoAnswer>,
    /// From the intended start.
    pub(crate) latency: Duration,
    /// From the intended start to the real one.
    pub(crate) lag: Duration,
    pub(crate) in_time: bool,
}

impl OperationTally {
    fn new() -> Self {
        Self { latency_us: histogram(), statuses: BTreeMap::new(), no_answer: BTreeMap::new() }
    }

    fn add(&mut self, other: &Self) {
        merge(&mut self.latency_us, &other.latency_us);
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (name, count) in &other.no_answer {
            *self.no_answer.entry(name).or_default() += count;
        }
    }
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            operations: [OperationTally::new(), OperationTally::new()],
            lag_us: histogram(),
            answers: 0,
            answers_in_time: 0,
            sent_bytes: 0,
            received_bytes: 0,
            not_begun: 0,
            complaint: None,
        }
    }

    pub(crate) fn of(&self, operation: Operation) -> &OperationTally {
        &self.operations[operation as usize]
    }

    /// Of all operations, µs.
    pub(crate) fn latency_us(&self) -> Histogram<u64> {
        let mut all = histogram();
        self.operations.iter().for_each(|tally| merge(&mut all, &tally.latency_us));
        all
    }

    /// Counts one. A refused or broken connection has no latency: it would only make the others look better.
    pub(crate) fn record(&mut self, done: Done) {
        let tally = &mut self.operations[done.operation as usize];
        self.lag_us.saturating_record(us(done.lag));
        match done.result {
            Ok(taken) => {
                *tally.statuses.entry(taken.status).or_default() += 1;
                tally.latency_us.saturating_record(us(done.latency));
                self.answers += 1;
                self.answers_in_time += u64::from(done.in_time);
                self.sent_bytes += done.sent_bytes as u64;
                self.received_bytes += taken.bytes as u64;
            }
            Err(why) => {
                *tally.no_answer.entry(why.name()).or_default() += 1;
                if why == NoAnswer::Timeout {
                    tally.latency_us.saturating_record(us(done.latency));
                }
            }
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (tally, others) in self.operations.iter_mut().zip(&other.operations) {
            tally.add(others);
        }
        merge(&mut self.lag_us, &other.lag_us);
        self.answers += other.answers;
        self.answers_in_time += other.answers_in_time;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.not_begun += other.not_begun;
        self.complaint = self.complaint.take().or(other.complaint);
    }

    /// Requests without an answer, by kind; every kind is there.
    pub(crate) fn no_answer(&self) -> BTreeMap<&'static str, u64> {
        let count = |name| self.operations.iter().filter_map(|tally| tally.no_answer.get(name)).sum();
        NoAnswer::ALL.map(|why| (why.name(), count(why.name()))).into()
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).expect("the bounds are constants that a test has tried")
}

fn merge(into: &mut Histogram<u64>, other: &Histogram<u64>) {
    into.add(other).expect("all histograms have the same bounds");
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(operation: Operation, result: Result<u16, NoAnswer>, latency_us: u64) -> Done {
        let result = result.map(|status| Taken { status, bytes: 100 });
        let latency = Duration::from_micros(latency_us);
        Done { operation, sent_bytes: 50, result, latency, lag: Duration::ZERO, in_time: latency_us < 1_000 }
    }

    #[test]
    fn threads_add_up() {
        let (mut one, mut other) = (Tally::new(), Tally::new());
        one.record(done(Operation::Put, Ok(204), 200));
        one.record(done(Operation::Get, Ok(200), 100));
        other.record(done(Operation::Put, Ok(503), 5_000_000));
        other.record(done(Operation::Put, Err(NoAnswer::Timeout), u64::MAX));
        other.record(done(Operation::Get, Err(NoAnswer::Connect), 1));
        one.add(other);
        assert_eq!(one.of(Operation::Put).statuses, BTreeMap::from([(204, 1), (503, 1)]));
        assert_eq!((one.answers, one.answers_in_time, one.sent_bytes, one.received_bytes), (3, 2, 150, 300));
        assert_eq!(one.no_answer(), BTreeMap::from([("broken", 0), ("connect", 1), ("malformed", 0), ("timeout", 1)]));
        let all = one.latency_us();
        assert_eq!(all.len(), 4, "a refused connection has no latency");
        assert_eq!(all.value_at_quantile(0.5), 200);
        assert!(all.max() >= LATENCY_US_MAX - LATENCY_US_MAX / 1_000);
    }
}
