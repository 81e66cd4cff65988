//! Time as this node saw it pass: a stop of its process, a starved thread or a clock that jumps are no time (G9).

use std::time::Duration;

/// A clock that a gap between two looks does not move further than `step_max`.
#[derive(Clone, Debug)]
pub(super) struct Presence {
    looked: Duration,
    seen: Duration,
    step_max: Duration,
}

impl Presence {
    pub(super) fn new(now: Duration, step_max: Duration) -> Self {
        Self { looked: now, seen: now, step_max }
    }

    /// Time as it was seen to pass.
    pub(super) fn now(&self) -> Duration {
        self.seen
    }

    /// As it would be at `now`, without having looked.
    pub(super) fn at(&self, now: Duration) -> Duration {
        self.seen + now.saturating_sub(self.looked).min(self.step_max)
    }

    /// Looks at the clock; how much passed unseen.
    pub(super) fn look(&mut self, now: Duration) -> Duration {
        let gap = now.saturating_sub(self.looked);
        self.seen = self.at(now);
        self.looked = self.looked.max(now);
        gap.saturating_sub(self.step_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_no_time() {
        let ms = Duration::from_millis;
        let mut presence = Presence::new(ms(1_000), ms(200));
        assert_eq!((presence.look(ms(1_100)), presence.now()), (ms(0), ms(1_100)));
        assert_eq!(presence.at(ms(9_000)), ms(1_300));
        assert_eq!((presence.look(ms(4_100)), presence.now()), (ms(2_800), ms(1_300)));
        assert_eq!((presence.look(ms(4_000)), presence.now()), (ms(0), ms(1_300)), "a clock that goes back");
        assert_eq!((presence.look(ms(4_200)), presence.now()), (ms(0), ms(1_400)));
    }
}
