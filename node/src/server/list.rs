//! Carries out what a listing asks for. Nothing goes on after its answer, and one that nobody waits for ends.

use std::sync::Arc;

use rondo_coordinator::{
    Failure, List, ListAction, ListAnswer, ListEvent, ListQuery, ListRequest, Now, ReplicaReply, ReplicaRequest, Trace,
};
use rondo_ring::{NodeId, View};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout_at;

use crate::server::drive::Driver;

/// One question to one node.
struct Question {
    from: NodeId,
    stream: usize,
    query: ListQuery,
    deadline: Now,
}

impl Driver {
    /// A page of a bucket's keys. The trace goes with every question to the peers.
    pub async fn list(
        self: &Arc<Self>,
        request: ListRequest,
        view: &View,
        trace: Option<&Trace>,
    ) -> Result<ListAnswer, Failure> {
        let mut wake_at = request.deadline;
        let (mut list, mut actions) = List::start(request, view, &self.options, self.clock.now());
        // Bounded by the questions that are open: one a stream.
        let (events, mut received) = unbounded_channel();
        loop {
            for action in actions {
                match action {
                    ListAction::Answer(answer) => return answer,
                    ListAction::WakeAt(at) => wake_at = at,
                    ListAction::Ask { from, stream, query, deadline } => {
                        let question = Question { from, stream, query: *query, deadline };
                        self.ask(question, view.this(), trace, events.clone());
                    }
                }
            }
            let event = timeout_at(self.clock.instant(wake_at), received.recv()).await;
            let event = event.map_or(ListEvent::Wake, |event| event.expect("`events` keeps the channel open"));
            actions = list.on_event(event, self.clock.now());
        }
    }

    fn ask(
        self: &Arc<Self>,
        question: Question,
        this: NodeId,
        trace: Option<&Trace>,
        events: UnboundedSender<ListEvent>,
    ) {
        let Question { from, stream, query, deadline } = question;
        // A listing that has ended no longer listens.
        let tell = move |page| drop(events.send(ListEvent::Page { stream, page }));
        if from == this {
            let driver = self.clone();
            tokio::spawn(async move { tell(driver.pages.read(&driver.store, query).await.ok().map(Box::new)) });
            return;
        }
        let reply = Box::new(move |result| match result {
            Ok(ReplicaReply::Listed(page)) => tell(Some(page)),
            _ => tell(None),
        });
        self.replicas.send(from, ReplicaRequest::List(Box::new(query)), trace, deadline, reply);
    }
}
