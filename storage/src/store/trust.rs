//! Which partitions' reads count. After a loss none does, until a pass over the other owners has refilled each.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use rondo_ring::{PartitionCount, PartitionId, Token};
use serde::{Deserialize, Serialize};

/// What is not to be trusted, as it is kept in `node.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Distrust {
    /// All reads count.
    #[default]
    Nothing,
    /// No read counts. Written before Q is known.
    Everything,
    /// These partitions of Q, in order.
    Partitions {
        /// Q.
        of: PartitionCount,
        /// Never empty.
        list: Vec<PartitionId>,
    },
}

impl Distrust {
    /// In terms of Q, now that it is known.
    pub(super) fn in_partitions(self, partitions: PartitionCount) -> Self {
        match self {
            Self::Partitions { of, list } if of == partitions => Self::Partitions { of, list },
            Self::Nothing => Self::Nothing,
            Self::Everything | Self::Partitions { .. } => {
                Self::Partitions { of: partitions, list: (0..partitions.get()).map(PartitionId).collect() }
            }
        }
    }

    fn covers(&self, token: Token) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Partitions { of, list } => list.binary_search(&of.partition_of(token)).is_ok(),
        }
    }

    fn with(&self, of: PartitionCount, partition: PartitionId) -> Self {
        let mut list = match self {
            Self::Everything => return Self::Everything,
            Self::Partitions { list, .. } => list.clone(),
            Self::Nothing => Vec::new(),
        };
        if let Err(place) = list.binary_search(&partition) {
            list.insert(place, partition);
        }
        Self::Partitions { of, list }
    }

    fn without(&self, partition: PartitionId) -> Self {
        match self {
            Self::Partitions { of, list } => {
                let list: Vec<_> = list.iter().copied().filter(|&other| other != partition).collect();
                if list.is_empty() { Self::Nothing } else { Self::Partitions { of: *of, list } }
            }
            other => other.clone(),
        }
    }
}

/// The same in memory, asked by every read.
#[derive(Debug)]
pub(super) struct Trust {
    /// Nearly always false, and then all that a read looks at.
    any: AtomicBool,
    /// Never locked during a write to the disk.
    distrust: RwLock<Distrust>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Trust {
    pub(super) fn new(distrust: Distrust) -> Self {
        Self {
            any: AtomicBool::new(distrust != Distrust::Nothing),
            distrust: RwLock::new(distrust),
            changing: Mutex::default(),
        }
    }

    pub(super) fn set(&self, distrust: Distrust) {
        let mut held = self.distrust.write();
        self.any.store(distrust != Distrust::Nothing, Ordering::Release);
        *held = distrust;
    }

    /// Whether every read counts.
    pub(super) fn is_whole(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    pub(super) fn covers(&self, token: Token) -> bool {
        !self.any.load(Ordering::Acquire) || !self.distrust.read().covers(token)
    }

    /// Ends the distrust of a partition once `persist` has made that durable.
    pub(super) fn add<E>(
        &self,
        partition: PartitionId,
        persist: impl FnOnce(&Distrust) -> Result<(), E>,
    ) -> Result<(), E> {
        self.change(|held| held.without(partition), persist)
    }

    /// Begins the distrust of a partition once `persist` has made that durable.
    pub(super) fn remove<E>(
        &self,
        of: PartitionCount,
        partition: PartitionId,
        persist: impl FnOnce(&Distrust) -> Result<(), E>,
    ) -> Result<(), E> {
        self.change(|held| held.with(of, partition), persist)
    }

    fn change<E>(
        &self,
        change: impl FnOnce(&Distrust) -> Distrust,
        persist: impl FnOnce(&Distrust) -> Result<(), E>,
    ) -> Result<(), E> {
        let _changing = self.changing.lock();
        let held = self.distrust.read().clone();
        let changed = change(&held);
        if changed != held {
            persist(&changed)?;
            self.set(changed);
        }
        Ok(())
    }

    pub(super) fn untrusted(&self) -> Vec<PartitionId> {
        match &*self.distrust.read() {
            Distrust::Partitions { list, .. } => list.clone(),
            Distrust::Nothing | Distrust::Everything => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(q: u16) -> PartitionCount {
        PartitionCount::new(q).unwrap()
    }

    #[test]
    fn partitions_are_trusted_one_by_one_and_only_when_that_is_durable() {
        let trust = Trust::new(Distrust::Everything);
        assert!(!trust.covers(Token(0)) && !trust.covers(Token(u64::MAX)));
        trust.set(Distrust::Everything.in_partitions(count(2)));
        assert_eq!(trust.untrusted(), [PartitionId(0), PartitionId(1)]);

        assert_eq!(trust.add(PartitionId(0), |_| Err("full")), Err("full"));
        assert!(!trust.covers(Token(0)));
        trust.add(PartitionId(0), |_| Ok::<_, ()>(())).unwrap();
        assert!(trust.covers(Token(0)) && !trust.covers(Token(u64::MAX)));
        trust.add(PartitionId(1), |left| if *left == Distrust::Nothing { Ok(()) } else { Err(()) }).unwrap();
        assert!(trust.covers(Token(u64::MAX)) && trust.untrusted().is_empty());
    }

    #[test]
    fn a_partition_is_distrusted_again_without_the_others() {
        let trust = Trust::new(Distrust::Nothing);
        trust.remove(count(2), PartitionId(1), |_| Ok::<_, ()>(())).unwrap();
        trust.remove(count(2), PartitionId(1), |_| Err(())).expect("nothing changes, so nothing is made durable");
        assert!(trust.covers(Token(0)) && !trust.covers(Token(u64::MAX)));
        assert_eq!(trust.remove(count(2), PartitionId(0), |_| Err("full")), Err("full"));
        assert_eq!(trust.untrusted(), [PartitionId(1)]);
    }

    #[test]
    fn another_q_means_everything() {
        let half = Distrust::Partitions { of: count(2), list: vec![PartitionId(1)] };
        assert_eq!(half.clone().in_partitions(count(2)), half);
        assert_eq!(half.in_partitions(count(4)), Distrust::Everything.in_partitions(count(4)));
        assert_eq!(Distrust::Nothing.in_partitions(count(4)), Distrust::Nothing);
    }
}
