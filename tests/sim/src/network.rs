//! The network between the nodes: what each message meets on its way is drawn from the seed.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::faults::Rates;
use crate::random::Random;

/// Which directions of which pairs are cut at the moment.
#[derive(Debug, Default)]
pub struct Network {
    /// (from, to).
    cuts: BTreeSet<(usize, usize)>,
}

/// What becomes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives after so long.
    Arrives(Duration),
    /// It never does, and nobody is told.
    Lost,
    /// The connection breaks after so long, and the sender is told; whether the message arrived before is left open.
    Breaks {
        /// When the sender hears of it.
        after: Duration,
        /// When it arrives all the same.
        arrives: Option<Duration>,
    },
}

impl Network {
    /// Nothing gets from the one to the other any more.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// All directions are open again.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Whether any direction is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        !self.cuts.is_empty()
    }

    /// Decides about one message.
    pub fn fate(&self, from: usize, to: usize, rates: &Rates, random: &mut Random) -> Fate {
        let delay = Self::delay(rates, random);
        if self.cuts.contains(&(from, to)) || random.chance(rates.loss) {
            return Fate::Lost;
        }
        if random.chance(rates.broken) {
            let arrives = random.chance(500).then_some(delay);
            return Fate::Breaks { after: delay + Self::delay(rates, random), arrives };
        }
        Fate::Arrives(delay)
    }

    /// Messages overtake each other, since each has a delay of its own.
    fn delay(rates: &Rates, random: &mut Random) -> Duration {
        let usual = random.duration(Duration::from_micros(100), Duration::from_micros(2_100));
        if !random.chance(rates.slow) {
            return usual;
        }
        usual + random.duration(Duration::ZERO, rates.slow_max)
    }
}
