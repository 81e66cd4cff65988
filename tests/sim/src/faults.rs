//! What goes wrong in a run, and how often: drawn from the seed, so that some runs are nearly quiet, some have one kind
//! of trouble only, and some have everything at once.

use std::time::Duration;

use crate::random::Random;

/// How often messages and disks fail, in a thousand.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// Messages that vanish.
    pub loss: u64,
    /// Messages that take up to `slow_max` longer.
    pub slow: u64,
    /// See `slow`.
    pub slow_max: Duration,
    /// Messages whose connection breaks.
    pub broken: u64,
    /// Commits that fail.
    pub disk: u64,
}

/// One kind of trouble that comes again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// kill -9: what is not on disk is gone.
    Crash,
    /// The machine loses its power: what no fsync followed is gone too.
    PowerLoss,
    /// SIGSTOP for a while.
    Pause,
    /// Some directions of the network are cut for a while.
    Partition,
    /// A wall clock is set, by up to an hour.
    ClockJump,
    /// A disk comes back empty.
    DiskLoss,
    /// A disk comes back as it was some time ago.
    OldDisk,
    /// A row can no longer be read.
    Damage,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Crash,
        Self::PowerLoss,
        Self::Pause,
        Self::Partition,
        Self::ClockJump,
        Self::DiskLoss,
        Self::OldDisk,
        Self::Damage,
    ];

    /// Of a hundred runs so many have it.
    fn per_cent(self) -> u64 {
        match self {
            Self::Crash | Self::Partition => 60,
            Self::Pause => 50,
            Self::PowerLoss | Self::ClockJump => 35,
            Self::DiskLoss | Self::OldDisk | Self::Damage => 25,
        }
    }

    /// Only so many may be away at a time.
    #[must_use]
    pub fn takes_a_node_away(self) -> bool {
        matches!(self, Self::Crash | Self::PowerLoss | Self::Pause | Self::DiskLoss | Self::OldDisk)
    }

    /// What is acknowledged by one node only may be gone with it.
    #[must_use]
    pub fn loses_a_disk(self) -> bool {
        matches!(self, Self::DiskLoss | Self::OldDisk | Self::Damage)
    }
}

/// The drawn kinds of trouble, each with the mean time between two of it.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// While the trouble lasts.
    pub rates: Rates,
    /// In the order of [`Trouble::ALL`].
    pub troubles: Vec<(Trouble, Duration)>,
    /// How many nodes may be away at a time.
    pub away_max: usize,
}

impl Plan {
    /// Drawn from the seed.
    pub fn draw(random: &mut Random, nodes: usize) -> Self {
        let often = |random: &mut Random, per_cent: u64, up_to: u64| match random.below(100) < per_cent {
            true => 1 + random.below(up_to),
            false => 0,
        };
        let rates = Rates {
            loss: often(random, 60, 40),
            slow: often(random, 60, 80),
            slow_max: random.duration(Duration::from_millis(20), Duration::from_millis(1_500)),
            broken: often(random, 50, 30),
            disk: often(random, 30, 15),
        };
        let mut troubles = Vec::new();
        for trouble in Trouble::ALL {
            if random.below(100) < trouble.per_cent() {
                troubles.push((trouble, random.duration(Duration::from_secs(3), Duration::from_secs(12))));
            }
        }
        Self { rates, troubles, away_max: 1 + random.index(nodes - 1) }
    }

    /// Whether the run has it.
    #[must_use]
    pub fn has(&self, trouble: Trouble) -> bool {
        self.troubles.iter().any(|(drawn, _)| *drawn == trouble)
    }
}
