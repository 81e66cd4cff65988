//! Random numbers that are the same in every run of a seed.

use std::time::Duration;

/// SplitMix64 (Steele, Lea and Flood, 2014): every state is good, so that neighbouring seeds have nothing in common.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `end` − 1; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    /// An index into something of that length.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// True this often in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// From `low` to just below `high`, to the microsecond.
    pub fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low).as_micros() as u64;
        low + Duration::from_micros(self.below(span))
    }

    /// Around a mean, as independent events come: the exponential distribution, cut at five times the mean.
    pub fn around(&mut self, mean: Duration) -> Duration {
        let unit = (self.below(1 << 32) + 1) as f64 / (1_u64 << 32) as f64;
        mean.mul_f64((-unit.ln()).min(5.0))
    }
}
