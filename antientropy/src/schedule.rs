//! When which pair of nodes compares what it holds.
//!
//! Of two nodes the one with the smaller id begins, so that a pair never has two exchanges at a time; the other one can
//! ask it to hurry.

use std::collections::BTreeMap;
use std::time::Duration;

use rondo_ring::NodeId;

use crate::options::AntiEntropyOptions;
use crate::round::{Memory, Outcome};

/// Exchanges at a time: each of them keeps a few MiB.
const RUNNING_MAX: usize = 2;
/// Roots, of 8 bytes each, that a pair sends in a second at most.
const ROOTS_PER_SECOND: u32 = 1_024;
/// How long a pair whose round failed waits at first; twice as long each time.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// The longest that a pair waits, as a multiple of the shortest time, after rounds without success or progress.
const PATIENCE_MAX: u32 = 64;

/// How a pair stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// They agreed when they last looked.
    pub in_sync: bool,
    /// When they last agreed.
    pub last_success: Option<Duration>,
}

#[derive(Debug)]
struct Peer {
    /// This node begins.
    begins: bool,
    alive: bool,
    running: bool,
    due: Duration,
    /// Rounds in a row without success or progress.
    vain: u32,
    fingerprint: u64,
    memory: Memory,
    /// Under which configuration the round under way began.
    began_under: u64,
    standing: Standing,
}

/// The machine.
#[derive(Debug)]
pub struct Schedule {
    this: NodeId,
    options: AntiEntropyOptions,
    /// What the pairs share depends on it: explanations of differences hold for as long as it stays.
    configuration: u64,
    peers: BTreeMap<NodeId, Peer>,
}

impl Schedule {
    /// Nobody is known yet.
    pub fn new(this: NodeId, options: AntiEntropyOptions) -> Self {
        Self { this, options, configuration: 0, peers: BTreeMap::new() }
    }

    /// The nodes that this one shares keys with, and which of them answer. `configuration` stands for the layout and the
    /// buckets' N. One that is back is compared with at once.
    pub fn set_peers(&mut self, peers: &[(NodeId, bool)], configuration: u64, now: Duration) {
        let changed = self.configuration != configuration;
        self.configuration = configuration;
        self.peers.retain(|id, peer| peer.running || peers.iter().any(|(other, _)| other == id));
        for &(id, alive) in peers {
            let begins = self.this < id;
            let peer = self.peers.entry(id).or_insert_with(|| Peer::new(begins, now));
            if alive && !peer.alive {
                peer.hurry(now);
            }
            peer.alive = alive;
            if changed {
                peer.memory.explained.clear();
            }
        }
    }

    /// The next pair to begin with, and what it remembers; [`ended`](Self::ended) must follow.
    pub fn next(&mut self, now: Duration) -> Option<(NodeId, Memory)> {
        if self.running() >= RUNNING_MAX {
            return None;
        }
        let ready = |peer: &Peer| peer.begins && peer.alive && !peer.running && peer.due <= now;
        let (&id, peer) = self.peers.iter_mut().filter(|(_, peer)| ready(peer)).min_by_key(|(_, peer)| peer.due)?;
        peer.running = true;
        peer.began_under = self.configuration;
        Some((id, std::mem::take(&mut peer.memory)))
    }

    /// A round has ended.
    pub fn ended(&mut self, id: NodeId, outcome: Outcome, now: Duration) {
        let interval = self.options.interval();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.running = false;
        let mended = outcome.succeeded && outcome.keys_differing > 0;
        let progress = mended && outcome.fingerprint != peer.fingerprint;
        let agreed = outcome.memory.in_sync;
        // Some partition could not be compared: a tree is not built yet, say.
        let incomplete = outcome.succeeded && !outcome.complete;
        let vain = !outcome.succeeded || incomplete || (mended && !progress);
        peer.vain = if vain { peer.vain.saturating_add(1) } else { 0 };
        peer.fingerprint = outcome.fingerprint;
        if outcome.succeeded {
            peer.standing.in_sync = agreed;
        }
        if agreed {
            peer.standing.last_success = Some(now);
        }
        let roots = Duration::from_secs(1) * outcome.roots as u32 / ROOTS_PER_SECOND;
        let patience = 2_u32.saturating_pow(peer.vain).min(PATIENCE_MAX);
        peer.due = match () {
            () if progress => now,
            () if !outcome.succeeded => now + RETRY_AFTER * patience,
            () if mended => now + interval * patience,
            () if incomplete => now + (RETRY_AFTER * patience).min(interval).max(roots),
            () => now + interval.max(roots),
        };
        peer.memory = outcome.memory;
        if peer.began_under != self.configuration {
            peer.memory.explained.clear();
        }
    }

    /// The other node has begun an exchange: it says how the last one ended, and whether the roots are equal now.
    pub fn heard(&mut self, id: NodeId, in_sync: bool, now: Duration) {
        let begins = self.this < id;
        let peer = self.peers.entry(id).or_insert_with(|| Peer::new(begins, now));
        peer.standing.in_sync = in_sync;
        if in_sync {
            peer.standing.last_success = Some(now);
        }
    }

    /// Begin with this node as soon as may be.
    pub fn hurry(&mut self, id: NodeId, now: Duration) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.hurry(now);
        }
    }

    /// Everybody this node does not begin with, for it to ask them to hurry.
    pub fn others_turn(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, peer)| !peer.begins && peer.alive).map(|(&id, _)| id).collect()
    }

    /// How this node stands with the others.
    pub fn standings(&self) -> impl Iterator<Item = (NodeId, Standing)> + '_ {
        self.peers.iter().map(|(&id, peer)| (id, peer.standing))
    }

    /// Rounds under way.
    pub fn running(&self) -> usize {
        self.peers.values().filter(|peer| peer.running).count()
    }

    /// When to ask [`next`](Self::next) again, if nothing else happens.
    pub fn wake_at(&self) -> Option<Duration> {
        if self.running() >= RUNNING_MAX {
            return None;
        }
        self.peers.values().filter(|peer| peer.begins && peer.alive && !peer.running).map(|peer| peer.due).min()
    }
}

impl Peer {
    fn new(begins: bool, now: Duration) -> Self {
        Self {
            begins,
            alive: true,
            running: false,
            due: now,
            vain: 0,
            fingerprint: 0,
            memory: Memory::default(),
            began_under: 0,
            standing: Standing::default(),
        }
    }

    fn hurry(&mut self, now: Duration) {
        self.vain = 0;
        self.due = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: NodeId = NodeId(1);
    const THIS: NodeId = NodeId(2);
    const GREAT: NodeId = NodeId(3);
    const MS: Duration = Duration::from_millis(1);

    fn schedule(peers: &[(NodeId, bool)]) -> Schedule {
        let mut schedule = Schedule::new(THIS, AntiEntropyOptions::default());
        schedule.set_peers(peers, 1, Duration::ZERO);
        schedule
    }

    fn succeeded(in_sync: bool, keys_differing: u64, fingerprint: u64) -> Outcome {
        let memory = Memory { in_sync, ..Memory::default() };
        Outcome { succeeded: true, complete: true, memory, keys_differing, fingerprint, ..Outcome::default() }
    }

    /// When the next round is, after this one.
    fn next_after(schedule: &mut Schedule, outcome: Outcome, now: Duration) -> Duration {
        assert_eq!(schedule.next(now).map(|(peer, _)| peer), Some(GREAT));
        assert_eq!(schedule.next(now), None, "one exchange of a pair at a time");
        schedule.ended(GREAT, outcome, now);
        schedule.wake_at().unwrap() - now
    }

    #[test]
    fn the_smaller_one_begins_and_only_with_those_that_answer() {
        let mut schedule = schedule(&[(SMALL, true), (GREAT, false)]);
        assert_eq!((schedule.next(MS), schedule.wake_at()), (None, None));
        schedule.set_peers(&[(SMALL, true), (GREAT, true)], 1, 5 * MS);
        assert_eq!(schedule.wake_at(), Some(5 * MS));
        assert_eq!(schedule.others_turn(), [SMALL]);
        assert_eq!(schedule.next(5 * MS).map(|(peer, _)| peer), Some(GREAT));
    }

    #[test]
    fn a_difference_is_followed_up_and_no_progress_is_waited_out() {
        let mut schedule = schedule(&[(GREAT, true)]);
        let interval = AntiEntropyOptions::default().interval();
        assert_eq!(next_after(&mut schedule, succeeded(true, 0, 0), MS), interval);
        let mut now = MS + interval;
        assert_eq!(next_after(&mut schedule, succeeded(false, 5, 77), now), Duration::ZERO);
        for times in [2, 4, 8, 16, 32, 64, 64] {
            assert_eq!(next_after(&mut schedule, succeeded(false, 5, 77), now), interval * times);
            now += interval * times;
        }
        assert_eq!(next_after(&mut schedule, succeeded(true, 0, 0), now), interval);
    }

    #[test]
    fn a_failure_is_tried_again_sooner_and_a_return_ends_the_wait() {
        let mut schedule = schedule(&[(GREAT, true)]);
        let mut now = Duration::ZERO;
        for times in [2, 4, 8, 16, 32, 64, 64] {
            let wait = next_after(&mut schedule, Outcome::default(), now);
            assert_eq!(wait, RETRY_AFTER * times);
            now += wait;
        }
        schedule.ended(GREAT, Outcome::default(), now);
        schedule.set_peers(&[(GREAT, false)], 1, now);
        schedule.set_peers(&[(GREAT, true)], 1, now);
        assert_eq!(schedule.wake_at(), Some(now));
    }

    #[test]
    fn what_could_not_be_compared_is_looked_at_again_soon() {
        let mut schedule = schedule(&[(GREAT, true)]);
        let interval = AntiEntropyOptions::default().interval();
        let mut now = Duration::ZERO;
        for times in [2, 4, 8, 16, 32] {
            let incomplete = Outcome { complete: false, ..succeeded(false, 0, 0) };
            let wait = next_after(&mut schedule, incomplete, now);
            assert_eq!(wait, (RETRY_AFTER * times).min(interval));
            now += wait;
        }
        assert_eq!(next_after(&mut schedule, succeeded(true, 0, 0), now), interval);
    }

    /// The other side may begin before this one has looked who shares keys with it.
    #[test]
    fn what_is_heard_of_a_pair_before_it_is_known_stays() {
        let mut schedule = Schedule::new(THIS, AntiEntropyOptions::default());
        schedule.heard(SMALL, true, MS);
        schedule.set_peers(&[(SMALL, true)], 1, 2 * MS);
        let standing = schedule.standings().next().map(|(_, standing)| standing);
        assert_eq!(standing, Some(Standing { in_sync: true, last_success: Some(MS) }));
    }

    #[test]
    fn explanations_end_with_the_configuration_they_were_found_under() {
        let mut schedule = schedule(&[(GREAT, true)]);
        let memory = Memory { explained: [(rondo_ring::PartitionId(3), 9)].into(), ..Memory::default() };
        schedule.next(Duration::ZERO).unwrap();
        schedule.ended(
            GREAT,
            Outcome { succeeded: true, memory: memory.clone(), ..Outcome::default() },
            Duration::ZERO,
        );
        schedule.set_peers(&[(GREAT, true)], 1, Duration::ZERO);
        let later = Duration::from_secs(100);
        assert_eq!(schedule.next(later), Some((GREAT, memory.clone())));
        schedule.ended(GREAT, Outcome { succeeded: true, memory, ..Outcome::default() }, later);
        schedule.set_peers(&[(GREAT, true)], 2, later);
        assert_eq!(schedule.next(2 * later), Some((GREAT, Memory::default())));
    }

    #[test]
    fn many_roots_are_compared_less_often() {
        let mut schedule = schedule(&[(GREAT, true)]);
        let outcome = Outcome { roots: 16_384, ..succeeded(false, 0, 0) };
        assert_eq!(next_after(&mut schedule, outcome, MS), Duration::from_secs(16));
    }

    #[test]
    fn both_sides_know_how_they_stand() {
        let mut schedule = schedule(&[(SMALL, true)]);
        let standing = |schedule: &Schedule| schedule.standings().next().unwrap().1;
        assert_eq!(standing(&schedule), Standing::default());
        schedule.heard(SMALL, true, MS);
        schedule.heard(SMALL, false, 2 * MS);
        assert_eq!(standing(&schedule), Standing { in_sync: false, last_success: Some(MS) });
    }
}
