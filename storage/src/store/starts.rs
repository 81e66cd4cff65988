//! Is this directory what this node last served from, or an old copy of it?
//!
//! An old copy looks healthy to itself. What tells it apart is the memory of others: every start of a node has a
//! number, its peers remember the last one they saw, and a directory whose own count does not fit what they saw is not
//! the one that made those writes. `docs/decisions/0004-storage-instances.md` has the reasoning.

use serde::{Deserialize, Serialize};

use crate::versions::ActorId;

/// One start of a node, as it tells its peers and as they remember it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// 1 for the first start of a directory; one more with each.
    pub counter: u64,
    /// The storage instance it began to serve with.
    pub instance: ActorId,
}

/// What the peers' memory says of this start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartVerdict {
    /// The last start that served is the last that the peers saw: this is the directory that made those writes.
    Confirmed,
    /// Nobody could say so: a new instance id. Reads count.
    Unconfirmed,
    /// The peers saw a start that this directory knows nothing of: it is an old copy. A new instance id, and its reads
    /// count for nothing until it is refilled.
    Stale {
        /// The highest counter any peer has seen of this node.
        highest_seen: u64,
    },
}

/// One start in the directory's own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lived {
    #[serde(flatten)]
    start: Start,
    /// It began to serve: writes may have been acknowledged.
    served: bool,
}

/// The directory's own memory of its starts: the last [`StartHistory::KEPT`], this one included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartHistory {
    lived: Vec<Lived>,
}

impl StartHistory {
    /// How many records are kept: what lies further back confirms nothing.
    pub const KEPT: usize = 32;

    /// The counter of this start; 0 before the first.
    pub fn counter(&self) -> u64 {
        self.lived.last().map_or(0, |lived| lived.start.counter)
    }

    /// The instance this start holds at the moment.
    pub fn instance(&self) -> Option<ActorId> {
        self.lived.last().map(|lived| lived.start.instance)
    }

    /// Whether any start served; also where that is no longer remembered.
    pub(super) fn has_served(&self) -> bool {
        self.lived.len() >= Self::KEPT || self.lived.iter().any(|lived| lived.served)
    }

    pub(super) fn push(&mut self, start: Start, served: bool) {
        self.lived.push(Lived { start, served });
        let surplus = self.lived.len().saturating_sub(Self::KEPT);
        self.lived.drain(..surplus);
    }

    pub(super) fn set_served(&mut self) {
        if let Some(lived) = self.lived.last_mut() {
            lived.served = true;
        }
    }

    /// Whether this directory made that start. A start may be in the history more than once, with another instance.
    fn knows(&self, start: Start) -> bool {
        self.lived.iter().any(|lived| lived.start == start)
    }

    /// Whether a start after that one, and before this one, served.
    fn served_after(&self, counter: u64) -> bool {
        let earlier = |lived: &&Lived| lived.start.counter > counter && lived.start.counter < self.counter();
        self.lived.iter().filter(earlier).any(|lived| lived.served)
    }

    fn forgot(&self, counter: u64) -> bool {
        self.lived.len() >= Self::KEPT && self.lived.first().is_some_and(|lived| counter < lived.start.counter)
    }
}

/// Judges a start by what every peer that could be asked saw last of this node (`None`: never saw it). To be asked
/// before this start is announced to anybody.
pub fn judge_start(ours: &StartHistory, seen: impl IntoIterator<Item = Option<Start>>) -> StartVerdict {
    let seen: Vec<Start> = seen.into_iter().flatten().collect();
    let highest_seen = seen.iter().map(|start| start.counter).max().unwrap_or(0);
    let of_another = |start: &&Start| !ours.knows(**start) && !ours.forgot(start.counter);
    if highest_seen >= ours.counter() || seen.iter().any(|start| of_another(&start)) {
        return StartVerdict::Stale { highest_seen };
    }
    // Nobody saw this node, and none of its starts has served: there is nothing it could have forgotten.
    if ours.served_after(highest_seen) || ours.forgot(highest_seen) {
        return StartVerdict::Unconfirmed;
    }
    StartVerdict::Confirmed
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ActorId = ActorId(0xa);
    const B: ActorId = ActorId(0xb);

    fn start(counter: u64, instance: ActorId) -> Start {
        Start { counter, instance }
    }

    /// Starts 1 to n with instance A, all but the last served.
    fn history(n: u64) -> StartHistory {
        let mut history = StartHistory::default();
        (1..=n).for_each(|counter| history.push(start(counter, A), counter < n));
        history
    }

    #[test]
    fn the_start_after_the_last_one_seen_is_confirmed() {
        let seen = [Some(start(4, A)), None, Some(start(2, A))];
        assert_eq!(judge_start(&history(5), seen), StartVerdict::Confirmed);
    }

    #[test]
    fn a_fresh_directory_needs_nobody() {
        assert_eq!(judge_start(&history(1), []), StartVerdict::Confirmed);
        assert_eq!(judge_start(&history(1), [None, None]), StartVerdict::Confirmed);
    }

    #[test]
    fn without_a_peer_that_saw_the_last_one_it_is_unconfirmed() {
        assert_eq!(judge_start(&history(5), []), StartVerdict::Unconfirmed);
        assert_eq!(judge_start(&history(5), [None]), StartVerdict::Unconfirmed);
        assert_eq!(judge_start(&history(5), [Some(start(3, A))]), StartVerdict::Unconfirmed);
    }

    #[test]
    fn a_counter_seen_already_means_an_old_copy() {
        for seen in [5, 6, 900] {
            let verdict = judge_start(&history(5), [Some(start(4, A)), Some(start(seen, A))]);
            assert_eq!(verdict, StartVerdict::Stale { highest_seen: seen });
        }
        assert_eq!(judge_start(&history(1), [Some(start(1, A))]), StartVerdict::Stale { highest_seen: 1 });
    }

    #[test]
    fn a_copy_that_counted_on_alone_is_seen_by_the_instance() {
        let seen = [Some(start(4, B))];
        assert_eq!(judge_start(&history(5), seen), StartVerdict::Stale { highest_seen: 4 });
        let seen = [Some(start(3, B)), Some(start(4, A))];
        assert_eq!(judge_start(&history(5), seen), StartVerdict::Stale { highest_seen: 4 });
    }

    #[test]
    fn starts_that_never_served_do_not_count() {
        let mut ours = history(4);
        ours.set_served();
        (5..9).for_each(|counter| ours.push(start(counter, B), false));
        assert_eq!(judge_start(&ours, [Some(start(4, A))]), StartVerdict::Confirmed);
        assert_eq!(judge_start(&ours, [Some(start(3, A))]), StartVerdict::Unconfirmed);
    }

    #[test]
    fn what_is_no_longer_remembered_confirms_nothing() {
        let mut ours = StartHistory::default();
        (1..=100).for_each(|counter| ours.push(start(counter, A), false));
        assert_eq!(judge_start(&ours, [Some(start(2, B))]), StartVerdict::Unconfirmed);
        assert_eq!(judge_start(&ours, [Some(start(99, A))]), StartVerdict::Confirmed);
        assert_eq!(ours.lived.len(), StartHistory::KEPT);
    }
}
