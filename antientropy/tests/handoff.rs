//! O1 to O4, against a network that loses messages and nodes that crash: whatever happens, no hint is lost, none is
//! forgotten that its target does not have, and in the end all of them are where they belong.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rondo_antientropy::handoff::{
    Action, BYTES_MAX, Handoff, PAGE_ROWS_MAX, Parcel, Parcels, Reach, Sent, TARGETS_MAX, WINDOW_MAX,
};
use rondo_ring::NodeId;

const A: NodeId = NodeId(0xa);
const UP: Reach = Reach::Target;
const AWAY: Reach = Reach::None;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn row(i: u64) -> Bytes {
    Bytes::from(i.to_be_bytes().to_vec())
}

fn parcel(i: u64, digest: u64, bytes: usize) -> Parcel {
    Parcel { row: row(i), object: Bytes::from(vec![0; bytes]), digest, to: A }
}

fn page_of(parcels: impl IntoIterator<Item = Parcel>) -> Option<Parcels> {
    let parcels: Vec<_> = parcels.into_iter().collect();
    Some(Parcels { last: parcels.last().map(|p| p.row.clone()), parcels, complete: true })
}

fn sends(actions: &[Action]) -> Vec<u64> {
    let number = |row: &Bytes| u64::from_be_bytes(row[..].try_into().unwrap());
    actions
        .iter()
        .filter_map(|a| if let Action::Send { parcel, .. } = a { Some(number(&parcel.row)) } else { None })
        .collect()
}

fn begun(handoff: &mut Handoff) {
    let read = Action::Read { target: A, after: None };
    assert_eq!(handoff.look(&[(A, UP)], ms(0)), [read]);
}

#[test]
fn a_hint_is_forgotten_as_the_version_that_was_acknowledged() {
    let mut handoff = Handoff::default();
    assert!(handoff.look(&[(A, AWAY)], ms(0)).is_empty());
    begun(&mut handoff);
    let actions = handoff.page(A, page_of([parcel(1, 77, 10)]), ms(1));
    assert_eq!(sends(&actions), [1]);
    let actions = handoff.sent(A, &row(1), Sent::Taken, ms(2));
    assert_eq!(actions, [Action::Forget { target: A, row: row(1), digest: 77 }]);
    assert!(handoff.look(&[(A, UP)], ms(3)).is_empty(), "no new pass before the removal is through");
    assert!(handoff.forgotten(A, ms(4)).is_empty());
    assert_eq!(handoff.look(&[(A, UP)], ms(5)), [Action::Read { target: A, after: None }], "what came meanwhile");
    assert!(handoff.page(A, page_of([]), ms(6)).is_empty());
    assert!(handoff.look(&[(A, UP)], ms(205)).is_empty(), "nothing was found: not again at once");
    assert!(handoff.look(&[], ms(205)).is_empty());
    begun(&mut handoff);
}

/// What is kept for a node that is there is found by the next pass or the one after it, not half a minute later: it was
/// counted before it could be read.
#[test]
fn a_pass_that_found_nothing_for_a_node_that_is_there_is_repeated_soon() {
    let mut handoff = Handoff::default();
    begun(&mut handoff);
    let mut now = 0;
    for pause in [200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        assert!(handoff.page(A, page_of([]), ms(now)).is_empty());
        assert!(handoff.look(&[(A, UP)], ms(now + pause - 1)).is_empty());
        now += pause;
        assert_eq!(handoff.look(&[(A, UP)], ms(now)), [Action::Read { target: A, after: None }]);
    }
}

#[test]
fn a_failed_pass_is_begun_again_after_a_pause_and_at_once_when_the_target_is_back() {
    let mut handoff = Handoff::default();
    begun(&mut handoff);
    assert_eq!(sends(&handoff.page(A, page_of((0..20).map(|i| parcel(i, i, 10))), ms(1))).len(), 8);
    for i in 0..8 {
        assert!(handoff.sent(A, &row(i), Sent::Failed, ms(2)).is_empty());
    }
    assert_eq!((handoff.active(), handoff.travelling()), (0, 0));
    assert!(handoff.look(&[(A, UP)], ms(100)).is_empty());
    assert!(handoff.look(&[(A, AWAY)], ms(101)).is_empty());
    assert_eq!(handoff.look(&[(A, UP)], ms(102)).len(), 1);
}

/// What is too old for a target that is away goes to others, now and then; its target's return is not waited for.
#[test]
fn a_target_that_comes_back_ends_the_rest_of_what_went_to_others() {
    let mut handoff = Handoff::default();
    assert_eq!(handoff.look(&[(A, Reach::Others)], ms(0)).len(), 1);
    assert!(handoff.page(A, page_of([]), ms(1)).is_empty());
    assert!(handoff.look(&[(A, Reach::Others)], ms(5_000)).is_empty(), "nothing could go anywhere");
    assert_eq!(handoff.look(&[(A, UP)], ms(5_001)).len(), 1);
}

/// O2, O3.
#[test]
fn what_travels_follows_the_targets_answers() {
    let mut handoff = Handoff::default();
    begun(&mut handoff);
    let actions = handoff.page(A, page_of((0..200).map(|i| parcel(i, i, 10))), ms(0));
    let mut travelling = VecDeque::from(sends(&actions));
    assert_eq!(travelling.len(), 8);
    for _ in 0..100 {
        let next = travelling.pop_front().unwrap();
        travelling.extend(sends(&handoff.sent(A, &row(next), Sent::Taken, ms(1))));
    }
    assert_eq!((travelling.len(), handoff.travelling()), (WINDOW_MAX, WINDOW_MAX));
    let slow = travelling.pop_front().unwrap();
    let actions = handoff.sent(A, &row(slow), Sent::Taken, ms(1_000));
    assert!(sends(&actions).is_empty(), "half as many from now on");
    let busy = travelling.pop_front().unwrap();
    assert!(sends(&handoff.sent(A, &row(busy), Sent::Busy, ms(1_001))).is_empty());
    while let Some(next) = travelling.pop_front() {
        assert!(sends(&handoff.sent(A, &row(next), Sent::Taken, ms(1_002))).is_empty(), "a busy target is left alone");
    }
    assert_eq!(sends(&handoff.look(&[(A, UP)], ms(1_102))).first(), Some(&busy), "and asked again");
}

/// O2.
#[test]
fn large_hints_travel_alone_and_few_targets_are_served_at_once() {
    let mut handoff = Handoff::default();
    begun(&mut handoff);
    let large = (0..4).map(|i| parcel(i, i, BYTES_MAX / 2 + 1));
    assert_eq!(sends(&handoff.page(A, page_of(large), ms(0))), [0]);
    let targets: Vec<_> = (1..=6).map(|i| (NodeId(i), UP)).collect();
    let actions = handoff.look(&[&[(A, UP)], &targets[..]].concat(), ms(1));
    let reads = actions.iter().filter(|action| matches!(action, Action::Read { .. })).count();
    assert_eq!((reads, handoff.active()), (TARGETS_MAX - 1, TARGETS_MAX));
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the two disks hold: version by row.
#[derive(Default)]
struct World {
    kept: BTreeMap<Bytes, u64>,
    /// Every version the target has durably.
    target: BTreeSet<(Bytes, u64)>,
    /// What is on its way, and when it arrives.
    due: Vec<(Duration, Due)>,
    delivered: usize,
    again: usize,
}

enum Due {
    Page(Option<Bytes>),
    Arrives(Parcel),
    /// Sent by a process that is gone: nobody waits for the answer.
    Stray(Parcel),
    Reply(Bytes, Sent),
    Forget(Bytes, u64),
    Forgotten,
}

impl World {
    fn carry_out(&mut self, actions: Vec<Action>, now: Duration, dice: &mut Dice) {
        for action in actions {
            let delay = ms(1 + dice.below(40));
            let due = match action {
                Action::Read { after, .. } => Due::Page(after),
                Action::Send { parcel, .. } if dice.chance(10) => Due::Reply(parcel.row, Sent::Failed),
                Action::Send { parcel, .. } => Due::Arrives(parcel),
                Action::Forget { row, digest, .. } => Due::Forget(row, digest),
            };
            self.due.push((now + delay, due));
        }
    }

    fn page(&self, after: Option<&Bytes>) -> Option<Parcels> {
        let left: Vec<_> = self.kept.iter().filter(|(row, _)| after.is_none_or(|after| *row > after)).collect();
        let parcels: Vec<_> = left
            .iter()
            .take(7)
            .map(|&(row, &digest)| Parcel { row: row.clone(), object: Bytes::from_static(b"o"), digest, to: A })
            .collect();
        let last = parcels.last().map(|parcel| parcel.row.clone());
        Some(Parcels { complete: left.len() <= 7, parcels, last })
    }

    fn happen(&mut self, due: Due, handoff: &mut Handoff, (up, now): (bool, Duration), dice: &mut Dice) {
        let delay = ms(1 + dice.below(40));
        let actions = match due {
            Due::Page(after) => handoff.page(A, self.page(after.as_ref()), now),
            Due::Arrives(parcel) => {
                let sent = match (up, dice.below(10)) {
                    (true, 0) => Sent::Busy,
                    (true, _) => {
                        self.again += usize::from(!self.target.insert((parcel.row.clone(), parcel.digest)));
                        // Its word may be lost.
                        if dice.chance(10) { Sent::Failed } else { Sent::Taken }
                    }
                    (false, _) => Sent::Failed,
                };
                self.due.push((now + delay, Due::Reply(parcel.row, sent)));
                return;
            }
            Due::Stray(parcel) => {
                if up {
                    self.target.insert((parcel.row, parcel.digest));
                }
                return;
            }
            Due::Reply(row, sent) => handoff.sent(A, &row, sent, now),
            Due::Forget(row, digest) => {
                assert!(self.target.contains(&(row.clone(), digest)), "O1");
                if self.kept.get(&row) == Some(&digest) {
                    self.kept.remove(&row);
                    self.delivered += 1;
                }
                self.due.push((now + delay, Due::Forgotten));
                return;
            }
            Due::Forgotten => handoff.forgotten(A, now),
        };
        self.carry_out(actions, now, dice);
    }
}

#[test]
fn whatever_is_lost_or_crashes_all_hints_arrive() {
    let (mut delivered, mut again) = (0, 0);
    for seed in 1..=300 {
        let mut dice = Dice(seed * 7_919);
        let (mut world, mut handoff) = (World::default(), Handoff::default());
        let (mut up, mut version) = (false, 0);
        let mut written = BTreeMap::new();
        for tick in 0..6_000_u64 {
            let (now, faults) = (ms(tick * 10), tick < 3_000);
            if faults && dice.chance(20) {
                version += 1;
                let key = row(dice.below(40));
                world.kept.insert(key.clone(), version);
                written.insert(key, version);
            }
            if faults && dice.chance(1) {
                up = !up;
            }
            if faults && dice.below(400) == 0 {
                // The holder crashes: what it knew of the delivery is gone, and what it had sent may yet arrive.
                handoff = Handoff::default();
                let strays = std::mem::take(&mut world.due).into_iter().filter_map(|(at, due)| match due {
                    Due::Arrives(parcel) => Some((at, Due::Stray(parcel))),
                    _ => None,
                });
                world.due = strays.collect();
            }
            up |= !faults;
            let count = usize::from(!world.kept.is_empty());
            let actions = handoff.look(&[(A, if up { UP } else { AWAY })][..count], now);
            world.carry_out(actions, now, &mut dice);
            let (happens, later) = std::mem::take(&mut world.due).into_iter().partition(|(at, _)| *at <= now);
            world.due = later;
            let happens: Vec<_> = happens;
            for (_, due) in happens {
                world.happen(due, &mut handoff, (up, now), &mut dice);
            }
            assert!(handoff.travelling() <= WINDOW_MAX && PAGE_ROWS_MAX > 0);
        }
        assert!(world.kept.is_empty(), "seed {seed}: {} are left", world.kept.len());
        for (key, version) in written {
            assert!(world.target.contains(&(key, version)), "seed {seed}: the last version of each is there");
        }
        delivered += world.delivered;
        again += world.again;
    }
    assert!(delivered > 10_000 && again > 0, "{delivered} delivered, {again} of them again: the test tests nothing");
}
