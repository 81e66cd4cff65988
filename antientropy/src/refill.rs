//! A complete pass over everything the other owners hold, partition by partition.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rondo_ring::{NodeId, PartitionId};

use crate::message::{Page, PageRequest};

/// A source stops a page at this size; one object may exceed it.
pub const PAGE_BYTES_MAX: u32 = 1 << 20;

/// How long after a failed request the same source is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What the driver is asked to do. At most one `Ask` or `Merge` is outstanding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask a source; answer with [`Refill::page`] or [`Refill::failed`].
    Ask {
        /// Whom.
        source: NodeId,
        /// For what.
        request: PageRequest,
    },
    /// Merge these rows durably, then call [`Refill::merged`].
    Merge(Vec<(Bytes, Bytes)>),
    /// Every source has been passed over: this partition's reads count again. Go on with [`Refill::step`].
    Trust(PartitionId),
    /// Call [`Refill::step`] again at that time.
    WakeAt(Duration),
    /// Nothing is left to refill.
    Finished,
}

/// One partition and the sources not yet passed over.
#[derive(Clone, Debug)]
struct Pass {
    partition: PartitionId,
    sources: VecDeque<NodeId>,
    after: Option<Bytes>,
    /// Sources that failed since one last answered: when all have, the pass waits.
    failures_in_a_row: usize,
}

/// Progress, in units an operator understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Partitions that count again.
    pub partitions_done: usize,
    /// Of how many.
    pub partitions_total: usize,
    /// Rows received.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The machine. A partition whose sources do not answer goes to the back of the queue.
#[derive(Clone, Debug)]
pub struct Refill {
    queue: VecDeque<Pass>,
    /// The page being merged is the last of its source.
    source_complete: bool,
    progress: Progress,
}

impl Refill {
    /// Partitions with the nodes to pass over for each (every other node that may own keys of it, A1).
    pub fn new(partitions: impl IntoIterator<Item = (PartitionId, Vec<NodeId>)>) -> Self {
        let queue: VecDeque<_> = partitions
            .into_iter()
            .map(|(partition, sources)| Pass { partition, sources: sources.into(), after: None, failures_in_a_row: 0 })
            .collect();
        let progress = Progress { partitions_total: queue.len(), ..Progress::default() };
        Self { queue, source_complete: false, progress }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The next thing to do.
    pub fn step(&mut self) -> Action {
        let Some(pass) = self.queue.front() else { return Action::Finished };
        let Some(&source) = pass.sources.front() else {
            let partition = pass.partition;
            self.queue.pop_front();
            self.progress.partitions_done += 1;
            return Action::Trust(partition);
        };
        let request = PageRequest { partition: pass.partition, after: pass.after.clone(), bytes_max: PAGE_BYTES_MAX };
        Action::Ask { source, request }
    }

    /// A source answered. A page of another partition or one that does not advance is taken for a failure: a source
    /// that repeats itself must not keep the pass going for ever.
    pub fn page(&mut self, page: Page, now: Duration) -> Action {
        let Some(pass) = self.queue.front_mut() else { return Action::Finished };
        let advances = page.complete || page.last > pass.after;
        if page.partition != pass.partition || !advances {
            return self.failed(now);
        }
        pass.failures_in_a_row = 0;
        pass.after = page.last.or(pass.after.take());
        self.progress.rows += page.rows.len() as u64;
        self.progress.bytes += page.rows.iter().map(|(row, object)| (row.len() + object.len()) as u64).sum::<u64>();
        self.source_complete = page.complete;
        Action::Merge(page.rows)
    }

    /// The rows of the last page are durable here.
    pub fn merged(&mut self) -> Action {
        if std::mem::take(&mut self.source_complete)
            && let Some(pass) = self.queue.front_mut()
        {
            pass.sources.pop_front();
            pass.after = None;
        }
        self.step()
    }

    /// A source did not answer, or the merge failed: another source, another partition, or a wait.
    pub fn failed(&mut self, now: Duration) -> Action {
        self.source_complete = false;
        if let Some(mut pass) = self.queue.pop_front() {
            // The next source starts from the beginning, and so does this one when its turn comes again.
            pass.after = None;
            pass.sources.rotate_left(1);
            pass.failures_in_a_row += 1;
            self.queue.push_back(pass);
        }
        if self.queue.iter().all(|pass| pass.failures_in_a_row >= pass.sources.len()) {
            self.queue.iter_mut().for_each(|pass| pass.failures_in_a_row = 0);
            return Action::WakeAt(now + RETRY_AFTER);
        }
        self.step()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    type Rows = BTreeMap<Bytes, Bytes>;

    fn rows(from: u8, to: u8) -> Rows {
        (from..to).map(|i| (Bytes::from(vec![i]), Bytes::from(vec![i; 10]))).collect()
    }

    fn answer(rows: &Rows, request: &PageRequest, rows_max: usize) -> Page {
        let after = |row: &Bytes| request.after.as_ref().is_none_or(|after| row > after);
        let left: Vec<_> = rows.iter().filter(|(row, _)| after(row)).map(|(k, v)| (k.clone(), v.clone())).collect();
        let complete = left.len() <= rows_max;
        let rows: Vec<_> = left.into_iter().take(rows_max).collect();
        Page { partition: request.partition, last: rows.last().map(|(row, _)| row.clone()), rows, complete }
    }

    /// Drives a refill; `fails(n)` says whether the n-th question fails. Returns what was merged before each trust.
    fn drive(mut refill: Refill, sources: &BTreeMap<NodeId, Rows>, fails: impl Fn(u32) -> bool) -> (Rows, Vec<u16>) {
        let (mut here, mut trusted, mut asked) = (Rows::new(), Vec::new(), 0);
        let mut now = Duration::ZERO;
        let mut action = refill.step();
        for _ in 0..10_000 {
            action = match action {
                Action::Ask { source, request } => {
                    asked += 1;
                    if fails(asked) {
                        refill.failed(now)
                    } else {
                        refill.page(answer(&sources[&source], &request, 3), now)
                    }
                }
                Action::Merge(rows) => {
                    here.extend(rows);
                    refill.merged()
                }
                Action::Trust(partition) => {
                    trusted.push(partition.0);
                    refill.step()
                }
                Action::WakeAt(at) => {
                    assert!(at > now, "a wait must pass time");
                    now = at;
                    refill.step()
                }
                Action::Finished => return (here, trusted),
            };
        }
        panic!("the refill never finished");
    }

    #[test]
    fn a_partition_is_trusted_after_a_pass_over_every_source() {
        let sources = BTreeMap::from([(A, rows(0, 10)), (B, rows(5, 20))]);
        let refill = Refill::new([(PartitionId(7), vec![A, B])]);
        let (here, trusted) = drive(refill, &sources, |_| false);
        assert_eq!(here, rows(0, 20));
        assert_eq!(trusted, [7]);
    }

    #[test]
    fn failures_delay_but_never_skip_a_source() {
        let sources = BTreeMap::from([(A, rows(0, 10)), (B, rows(5, 20))]);
        for pattern in 2..9 {
            let refill = Refill::new((0..5).map(|p| (PartitionId(p), vec![A, B])));
            let (here, trusted) = drive(refill, &sources, |n| n < 40 && n % pattern != 0);
            assert_eq!(here, rows(0, 20));
            assert_eq!(trusted.iter().collect::<BTreeSet<_>>().len(), 5);
        }
    }

    #[test]
    fn a_source_that_repeats_itself_is_a_failure() {
        let mut refill = Refill::new([(PartitionId(0), vec![A])]);
        let partition = PartitionId(0);
        let last = Some(Bytes::from_static(&[2]));
        let page = Page { partition, rows: rows(0, 3).into_iter().collect(), last, complete: false };
        assert!(matches!(refill.page(page.clone(), Duration::ZERO), Action::Merge(_)));
        assert!(matches!(refill.merged(), Action::Ask { .. }));
        assert!(matches!(refill.page(page, Duration::ZERO), Action::WakeAt(_)));
        let empty = Page { partition, rows: Vec::new(), last: None, complete: false };
        assert!(matches!(refill.page(empty, Duration::ZERO), Action::WakeAt(_)), "an empty page that goes on");
        let damaged = Page { partition, rows: Vec::new(), last: Some(Bytes::from_static(&[9])), complete: false };
        assert!(matches!(refill.page(damaged, Duration::ZERO), Action::Merge(_)), "unreadable rows are passed over");
    }

    #[test]
    fn nothing_to_refill_is_finished_and_no_sources_is_trust() {
        assert_eq!(Refill::new([]).step(), Action::Finished);
        let mut lonely = Refill::new([(PartitionId(3), vec![])]);
        assert_eq!(lonely.step(), Action::Trust(PartitionId(3)));
        assert_eq!(lonely.progress(), Progress { partitions_done: 1, partitions_total: 1, rows: 0, bytes: 0 });
    }
}
