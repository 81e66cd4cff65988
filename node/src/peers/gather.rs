//! The replies of one received batch, collected from whichever threads they come from.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rondo_coordinator::{ReplicaError, ReplicaReply, ReplyTo};
use tokio::sync::Notify;
use tokio::time::timeout;

type OpResult = Result<ReplicaReply, ReplicaError>;

struct State {
    /// Empty once they are taken.
    results: Vec<Option<OpResult>>,
    left: usize,
}

pub(super) struct Gather {
    state: Mutex<State>,
    complete: Notify,
}

impl Gather {
    pub(super) fn new(count: usize) -> Arc<Self> {
        let state = State { results: vec![None; count], left: count };
        Arc::new(Self { state: Mutex::new(state), complete: Notify::new() })
    }

    /// Where the result of one operation goes. Dropped without being called it counts as `Lost`, so that an answer
    /// that never comes holds up the others no longer than it must.
    pub(super) fn reply_to(self: &Arc<Self>, index: usize) -> ReplyTo {
        let place = Place { gather: Arc::clone(self), index };
        Box::new(move |result| place.gather.fill(place.index, result))
    }

    pub(super) fn fill(&self, index: usize, result: OpResult) {
        let mut state = self.state.lock();
        let State { results, left } = &mut *state;
        if let Some(place @ None) = results.get_mut(index) {
            *place = Some(result);
            *left -= 1;
            if *left == 0 {
                self.complete.notify_one();
            }
        }
    }

    /// All results in order, when they are there or `limit` has passed: what is missing then has timed out.
    pub(super) async fn results(&self, limit: Duration) -> Vec<OpResult> {
        let complete = async {
            while self.state.lock().left > 0 {
                self.complete.notified().await;
            }
        };
        // Err means that some are missing, which shows in the results.
        let _ = timeout(limit, complete).await;
        let results = std::mem::take(&mut self.state.lock().results);
        results.into_iter().map(|result| result.unwrap_or(Err(ReplicaError::TimedOut))).collect()
    }
}

struct Place {
    gather: Arc<Gather>,
    index: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gather.fill(self.index, Err(ReplicaError::Lost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_keep_the_order_of_the_operations() {
        let gather = Gather::new(3);
        let [first, second, third] = [0, 1, 2].map(|index| gather.reply_to(index));
        third(Err(ReplicaError::NotSent));
        drop(second);
        first(Ok(ReplicaReply::Merged));
        let results = gather.results(Duration::from_secs(60)).await;
        assert!(matches!(results[..], [Ok(ReplicaReply::Merged), Err(ReplicaError::Lost), Err(ReplicaError::NotSent)]));
    }

    #[tokio::test]
    async fn what_never_answers_has_timed_out() {
        let gather = Gather::new(2);
        let (first, second) = (gather.reply_to(0), gather.reply_to(1));
        first(Ok(ReplicaReply::Merged));
        let results = gather.results(Duration::from_millis(1)).await;
        assert!(matches!(results[..], [Ok(ReplicaReply::Merged), Err(ReplicaError::TimedOut)]));
        second(Ok(ReplicaReply::Merged));
    }
}
