//! Carries out what a listing asks for, as `node/src/server/list.rs` does.

use rondo_coordinator::{List, ListAction, ListActions, ListEvent, ListQuery, ListRequest, Now, ReplicaRequest};

use super::calls::Caller;
use super::packet::Body;
use super::requests::PAGE_TAKES;
use crate::history::Answer;
use crate::world::{Happens, World};

/// One listing in progress.
#[derive(Debug)]
pub struct RunningList {
    machine: List,
    wake: Option<Now>,
    op: u64,
    /// What is being read here, by stream.
    reading: Vec<(usize, ListQuery)>,
}

impl World {
    pub(crate) fn begin_list(&mut self, node: usize, request: ListRequest, op: u64) {
        let (id, now, wake) = (self.serial(), self.clock(node), request.deadline);
        let process = self.nodes[node].running();
        let (machine, actions) = List::start(request, &process.view, &self.options, now);
        process.lists.insert(id, RunningList { machine, wake: None, op, reading: Vec::new() });
        self.wake_list_at(node, id, wake);
        self.carry_out_list(node, id, actions);
    }

    pub(crate) fn tell_list(&mut self, node: usize, id: u64, event: ListEvent) {
        let now = self.clock(node);
        let Some(running) = self.nodes[node].running().lists.get_mut(&id) else { return };
        let actions = running.machine.on_event(event, now);
        self.carry_out_list(node, id, actions);
    }

    pub(crate) fn wake_list(&mut self, node: usize, id: u64) {
        let now = self.clock(node);
        let Some(running) = self.nodes[node].running().lists.get_mut(&id) else { return };
        if running.wake.is_some_and(|wake| wake <= now) {
            running.wake = None;
            self.tell_list(node, id, ListEvent::Wake);
        }
    }

    fn wake_list_at(&mut self, node: usize, id: u64, at: Now) {
        let process = self.nodes[node].running();
        if let Some(running) = process.lists.get_mut(&id) {
            running.wake = Some(at);
            let at = process.world_time(at);
            self.at_node(at, node, Happens::Wake { machine: id });
        }
    }

    fn carry_out_list(&mut self, node: usize, id: u64, actions: ListActions) {
        for action in actions {
            match action {
                ListAction::Answer(result) => {
                    if let Some(running) = self.nodes[node].running().lists.remove(&id) {
                        self.answer(running.op, &Answer::List(result));
                    }
                    return;
                }
                ListAction::WakeAt(at) => self.wake_list_at(node, id, at),
                ListAction::Ask { from, stream, query, .. } if from == self.nodes[node].id => {
                    let takes = self.random.duration(PAGE_TAKES.0, PAGE_TAKES.1);
                    if let Some(running) = self.nodes[node].running().lists.get_mut(&id) {
                        running.reading.push((stream, *query));
                    }
                    self.at_node(self.now + takes, node, Happens::Page { list: id, stream });
                }
                ListAction::Ask { from, stream, query, deadline } => {
                    let body = Body::Replica(Box::new(ReplicaRequest::List(query)));
                    self.call(node, from, body, Caller::List(id, stream), deadline);
                }
            }
        }
    }

    pub(crate) fn page_was_read(&mut self, node: usize, id: u64, stream: usize) {
        let Some(running) = self.nodes[node].running().lists.get_mut(&id) else { return };
        let Some(place) = running.reading.iter().position(|(of, _)| *of == stream) else { return };
        let (_, query) = running.reading.remove(place);
        let page = self.page_of(node, &query).ok();
        self.tell_list(node, id, ListEvent::Page { stream, page });
    }
}
