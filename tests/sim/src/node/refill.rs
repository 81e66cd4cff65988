//! Drives a refill and serves as a source of others', as `node/src/server/refill.rs` does.

use std::time::Duration;

use bytes::Bytes;
use rondo_antientropy::{Action, Page, PageRequest, Refill};
use rondo_ring::{NodeId, PartitionId};
use rondo_storage::Key;
use rondo_storage::engine::Durability;

use super::calls::Caller;
use super::disk::Waits;
use super::packet::Body;
use crate::mutant::Mutant;
use crate::world::{Happens, World};

/// Rows of one page.
const ROWS_MAX: usize = 4_096;
/// Merges in the writer's queue at one time.
const MERGES_MAX: usize = 64;
/// How long a page may take.
const PAGE_LIMIT: Duration = Duration::from_secs(10);

/// A refill in progress.
#[derive(Debug)]
pub struct RunningRefill {
    machine: Refill,
    /// Rows of the page in hand that are not in the writer's queue yet.
    rest: Vec<(Bytes, Bytes)>,
    /// Rows in the queue.
    merging: usize,
    all_merged: bool,
}

impl World {
    /// To be called about once a second.
    pub(crate) fn look_for_lost_partitions(&mut self, node: usize) {
        let process = self.nodes[node].running();
        if process.refill.is_some() || self.mutant == Mutant::NeverHeals {
            return;
        }
        let untrusted = process.store.untrusted();
        if untrusted.is_empty() {
            return;
        }
        self.history.count("refills");
        let partitions: Vec<_> =
            untrusted.into_iter().map(|partition| (partition, self.sources(node, partition))).collect();
        let mut machine = Refill::new(partitions);
        let action = machine.step();
        let refill = RunningRefill { machine, rest: Vec::new(), merging: 0, all_merged: true };
        self.nodes[node].running().refill = Some(refill);
        self.carry_out_refill(node, action);
    }

    /// The other nodes that may own keys of it.
    fn sources(&self, node: usize, partition: PartitionId) -> Vec<NodeId> {
        let list = self.layout.preference_list(partition);
        let owners = &list[..list.len().min(usize::from(self.setup.n))];
        owners.iter().copied().filter(|&owner| owner != self.nodes[node].id).collect()
    }

    fn carry_out_refill(&mut self, node: usize, action: Action) {
        let now = self.clock(node);
        match action {
            Action::Ask { source, request } => {
                self.call(node, source, Body::Page(request), Caller::Refill, now + PAGE_LIMIT);
            }
            Action::Merge(rows) => {
                if let Some(refill) = &mut self.nodes[node].running().refill {
                    (refill.rest, refill.all_merged) = (rows, true);
                }
                self.merge_some(node);
            }
            Action::Trust(partition) => {
                let process = self.nodes[node].running();
                if process.store.trust(partition).is_ok() {
                    self.history.count("partitions refilled");
                }
                self.step_refill(node);
            }
            Action::WakeAt(at) => {
                let at = self.nodes[node].running().world_time(at);
                self.at_node(at, node, Happens::Refill);
            }
            Action::Finished => self.nodes[node].running().refill = None,
        }
    }

    fn step_refill(&mut self, node: usize) {
        if let Some(refill) = &mut self.nodes[node].running().refill {
            let action = refill.machine.step();
            self.carry_out_refill(node, action);
        }
    }

    pub(crate) fn refill_goes_on(&mut self, node: usize) {
        self.step_refill(node);
    }

    pub(crate) fn refill_was_answered(&mut self, node: usize, page: Option<Page>) {
        let now = self.clock(node);
        let Some(refill) = &mut self.nodes[node].running().refill else { return };
        let action = match page {
            Some(page) => refill.machine.page(page, now),
            None => refill.machine.failed(now),
        };
        self.carry_out_refill(node, action);
    }

    /// A few rows at a time; when all are durable the refill goes on.
    fn merge_some(&mut self, node: usize) {
        let now = self.clock(node);
        let Some(refill) = &mut self.nodes[node].running().refill else { return };
        if refill.rest.is_empty() || !refill.all_merged {
            refill.rest.clear();
            let action = if refill.all_merged { refill.machine.merged() } else { refill.machine.failed(now) };
            return self.carry_out_refill(node, action);
        }
        let some: Vec<_> = refill.rest.drain(..refill.rest.len().min(MERGES_MAX)).collect();
        refill.merging = some.len();
        for (row, object) in some {
            let (store, done) = self.store_and_done(node, Waits::Refill);
            let key = Key::from_row(row);
            let accepted = key.is_ok_and(|key| store.merge(&key, &object, Durability::Fsync, done).is_ok());
            if !accepted {
                self.refill_merged_one(node, false);
            }
        }
    }

    pub(crate) fn refill_merged_one(&mut self, node: usize, done: bool) {
        let Some(refill) = &mut self.nodes[node].running().refill else { return };
        refill.all_merged &= done;
        refill.merging -= 1;
        if refill.merging == 0 {
            self.merge_some(node);
        }
    }

    pub(crate) fn serve_page(&mut self, node: usize, from: usize, (call, life): (u64, u64), request: &PageRequest) {
        let store = self.nodes[node].running().store.clone();
        let after = request.after.as_deref();
        let page = store.scan_partition(request.partition, after, ROWS_MAX, request.bytes_max as usize).ok();
        let page = page.map(|page| {
            Box::new(Page { partition: request.partition, rows: page.rows, last: page.last, complete: page.complete })
        });
        self.reply(node, from, (call, life), Body::Paged(page));
    }
}
