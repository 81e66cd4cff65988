//! What has news value: each piece is told a bounded number of times, the least told first, then the newest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Names of things to tell; what is told of them is looked up when it is sent, so that it is never old.
#[derive(Clone, Debug)]
pub(crate) struct Queue<K> {
    order: BTreeSet<(u32, Reverse<u64>, K)>,
    places: BTreeMap<K, (u32, Reverse<u64>)>,
    pushed: u64,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { order: BTreeSet::new(), places: BTreeMap::new(), pushed: 0 }
    }
}

impl<K: Ord + Clone> Queue<K> {
    /// There is something new to tell of it: from the beginning.
    pub(crate) fn push(&mut self, key: K) {
        self.remove(&key);
        self.pushed += 1;
        self.insert(key, 0, Reverse(self.pushed));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn insert(&mut self, key: K, told: u32, age: Reverse<u64>) {
        self.order.insert((told, age, key.clone()));
        self.places.insert(key, (told, age));
    }

    fn remove(&mut self, key: &K) {
        if let Some((told, age)) = self.places.remove(key) {
            self.order.remove(&(told, age, key.clone()));
        }
    }

    /// What to tell now, of at most `bytes_max` together by `bytes_of`; what was told `times` often is told no more.
    /// Something larger than `bytes_max` would never be told, so the first is taken whatever its size.
    pub(crate) fn take(&mut self, times: u32, bytes_max: usize, bytes_of: impl Fn(&K) -> usize) -> Vec<K> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        for (_, _, key) in &self.order {
            bytes += bytes_of(key);
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(key.clone());
        }
        for key in &taken {
            let (told, age) = self.places[key];
            self.remove(key);
            if told + 1 < times {
                self.insert(key.clone(), told + 1, age);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_told_as_often_as_it_should_be_and_within_the_bytes() {
        let mut queue = Queue::default();
        (0..5).for_each(|key| queue.push(key));
        assert_eq!(queue.take(2, 30, |_| 10), [4, 3, 2], "the newest first");
        assert_eq!(queue.take(2, 30, |_| 10), [1, 0, 4], "what was not told yet before what was");
        queue.push(0);
        assert_eq!(queue.take(2, 10, |_| 99), [0], "news of it, and larger than allowed");
        let mut told: Vec<i32> =
            std::iter::from_fn(|| Some(queue.take(2, 30, |_| 10)).filter(|some| !some.is_empty())).flatten().collect();
        told.sort_unstable();
        assert_eq!(told, [0, 1, 2, 3]);
        assert!(queue.is_empty());
    }
}
