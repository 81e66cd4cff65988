//! Waiting for something to become true. The only place in the tests where anything sleeps.

use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Tries until it succeeds; its result. Panics with `what` and the last reason once `within` has passed.
#[track_caller]
pub fn eventually<T>(within: Duration, what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + within;
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(why) if Instant::now() >= deadline => panic!("not within {within:?}: {what}; last: {why}"),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

/// For [`eventually`]: `Err` with a description where the condition does not hold.
pub fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(otherwise()) }
}

/// The steps of something that has to take its time, such as a body sent slowly: an iterator that gives `steps`
/// numbers, one every `every`.
pub fn pace(steps: usize, every: Duration) -> impl Iterator<Item = usize> {
    (0..steps).inspect(move |_| std::thread::sleep(every))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tries_until_it_succeeds() {
        let mut tries = 0;
        let got = eventually(Duration::from_secs(10), "three tries", || {
            tries += 1;
            holds(tries == 3, || format!("{tries}")).map(|()| tries)
        });
        assert_eq!(got, 3);
    }

    #[test]
    #[should_panic(expected = "not within 1ms: the impossible; last: no")]
    fn it_gives_up_with_the_last_reason() {
        eventually(Duration::from_millis(1), "the impossible", || Err::<(), _>("no".into()));
    }
}
