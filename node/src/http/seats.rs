//! Which client connections are open, and which of them makes room for another.
//!
//! There are as many places as `limits.connections`. Once all are taken, a newcomer gets the place of the connection that
//! has been idle for longest: clients that keep connections open must not keep others out. Where none is idle, the
//! newcomer is turned away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A connection that has been idle for less keeps its place: its next request may be on the way.
const IDLE_MIN: Duration = Duration::from_secs(1);
/// A look through all connections finds so many at once, so that it is not needed for every newcomer...
const CANDIDATES_MAX: usize = 64;
/// ...and is not repeated sooner than this.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// All places.
pub(crate) struct Seats {
    places: usize,
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: HashMap<u64, Arc<Place>>,
    next: u64,
    /// Idle since when, and which; the one that has been idle for longest last.
    candidates: Vec<(u64, u64)>,
    look_again_us: u64,
}

/// What a connection says of itself.
struct Place {
    /// In µs after the origin, at least 1; 0 while a request comes in or is in work.
    idle_since_us: AtomicU64,
    wanted: Notify,
}

/// The place of one connection; free again when dropped. Its clones are the same place.
pub struct Seat(Arc<Taken>);

struct Taken {
    seats: Arc<Seats>,
    number: u64,
    place: Arc<Place>,
}

/// How a newcomer got its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// One was free.
    Free,
    /// Another connection has to leave.
    MadeRoom,
}

impl Seats {
    pub(crate) fn new(places: u64) -> Arc<Self> {
        let places = usize::try_from(places).unwrap_or(usize::MAX);
        Arc::new(Self { places, origin: Instant::now(), state: Mutex::default() })
    }

    /// A place for a newcomer; `None` where all are taken and nobody is idle.
    pub(crate) fn take(self: &Arc<Self>) -> Option<(Seat, Found)> {
        let now_us = self.now_us();
        let mut state = self.state.lock();
        let found = match state.taken.len() < self.places {
            true => Found::Free,
            false => state.make_room(now_us).then_some(Found::MadeRoom)?,
        };
        state.next += 1;
        let number = state.next;
        let place = Arc::new(Place { idle_since_us: AtomicU64::new(now_us), wanted: Notify::new() });
        state.taken.insert(number, place.clone());
        Some((Seat(Arc::new(Taken { seats: self.clone(), number, place })), found))
    }

    fn now_us(&self) -> u64 {
        (self.origin.elapsed().as_micros() as u64).max(1)
    }
}

impl State {
    /// Sends away the connection that has been idle for longest.
    fn make_room(&mut self, now_us: u64) -> bool {
        self.send_one_away() || (self.look(now_us) && self.send_one_away())
    }

    /// The next candidate that has been idle ever since it was found.
    fn send_one_away(&mut self) -> bool {
        while let Some((since_us, number)) = self.candidates.pop() {
            let still = |place: &Arc<Place>| place.idle_since_us.load(Ordering::Relaxed) == since_us;
            if self.taken.get(&number).is_some_and(still)
                && let Some(place) = self.taken.remove(&number)
            {
                place.wanted.notify_one();
                return true;
            }
        }
        false
    }

    /// Whether it has looked: candidates are those idle for longest.
    fn look(&mut self, now_us: u64) -> bool {
        if now_us < self.look_again_us {
            return false;
        }
        self.look_again_us = now_us + LOOK_PAUSE.as_micros() as u64;
        let before_us = now_us.saturating_sub(IDLE_MIN.as_micros() as u64);
        let idle = self.taken.iter().map(|(&number, place)| (place.idle_since_us.load(Ordering::Relaxed), number));
        self.candidates.extend(idle.filter(|&(since_us, _)| (1..=before_us).contains(&since_us)));
        self.candidates.sort_unstable();
        self.candidates.truncate(CANDIDATES_MAX);
        self.candidates.reverse();
        true
    }
}

impl Seat {
    /// The connection waits for its next request.
    pub(crate) fn idle(&self) {
        let since_us = &self.0.place.idle_since_us;
        if since_us.load(Ordering::Relaxed) == 0 {
            since_us.store(self.0.seats.now_us(), Ordering::Relaxed);
        }
    }

    /// A request has begun to come in.
    pub(crate) fn busy(&self) {
        self.0.place.idle_since_us.store(0, Ordering::Relaxed);
    }

    /// Until somebody else is to have the place, and it is idle still: then the connection has to end.
    pub(crate) async fn wanted(&self) {
        loop {
            self.0.place.wanted.notified().await;
            if self.0.place.idle_since_us.load(Ordering::Relaxed) != 0 {
                return;
            }
        }
    }
}

impl Clone for Seat {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.seats.state.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(seats: &Seats) -> u64 {
        seats.now_us() + 2 * IDLE_MIN.as_micros() as u64
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let seats = Seats::new(1);
        let (first, found) = seats.take().unwrap();
        assert_eq!(found, Found::Free);
        first.busy();
        assert!(seats.take().is_none());
        let other = first.clone();
        drop(first);
        assert!(seats.take().is_none(), "one clone is left");
        drop(other);
        assert!(seats.take().is_some());
    }

    #[tokio::test]
    async fn the_longest_idle_leaves_and_the_busy_stay() {
        let seats = Seats::new(3);
        let [first, second, third] = [(); 3].map(|()| seats.take().unwrap().0);
        first.busy();
        second.busy();
        while seats.now_us() <= third.0.place.idle_since_us.load(Ordering::Relaxed) {}
        second.idle();
        assert!(seats.state.lock().make_room(later(&seats)));
        tokio::time::timeout(Duration::from_secs(20), third.wanted()).await.expect("idle since it came");
        assert_eq!(seats.state.lock().taken.len(), 2);
        drop(third);
        assert_eq!(seats.state.lock().taken.len(), 2, "its place was another's already");
        assert!(seats.state.lock().make_room(later(&seats)), "the second");
        assert!(!seats.state.lock().make_room(later(&seats) + 1_000_000), "only a busy one is left");
        drop((first, second));
    }

    #[test]
    fn one_that_has_been_used_since_it_was_found_stays() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take().unwrap().0, seats.take().unwrap().0);
        assert!(seats.state.lock().look(later(&seats)));
        first.busy();
        second.busy();
        assert!(!seats.state.lock().send_one_away());
        assert!(!seats.state.lock().look(later(&seats)), "it has only just looked");
    }
}
