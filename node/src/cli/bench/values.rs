//! The values a run writes.

use std::ops::Range;
use std::str::FromStr;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// The most a node can be configured to take.
const BYTES_MAX: usize = 32 << 20;
/// How many of the possible values differ in their bytes: each begins at another place of the same random bytes.
const PLACES: usize = 4 << 10;
const ALLOWED: &str = "a size such as 100, 1KiB or 2MiB (32 MiB at most), uniform:MIN-MAX or zipf:MIN-MAX is allowed";
/// Small values are the common ones.
const EXPONENT: f64 = 0.99;

/// How large the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// All of one size.
    Fixed(usize),
    /// Every size as often as any other, both ends included.
    Uniform(usize, usize),
    /// The smallest is the most common, the k-th smallest in proportion to 1/k^0.99.
    Zipf(usize, usize),
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, range)) = text.split_once(':') else { return Ok(Self::Fixed(size(text)?)) };
        let (min, max) = range.split_once('-').ok_or(ALLOWED)?;
        let (min, max) = (size(min)?, size(max)?);
        match name {
            _ if min > max => Err(format!("{min} is more than {max}; {ALLOWED}")),
            "uniform" => Ok(Self::Uniform(min, max)),
            "zipf" => Ok(Self::Zipf(min, max)),
            _ => Err(ALLOWED.into()),
        }
    }
}

fn size(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(ALLOWED.into()),
    };
    let bytes = text[..digits].parse::<usize>().ok().and_then(|count| count.checked_mul(unit));
    bytes.filter(|bytes| *bytes <= BYTES_MAX).ok_or_else(|| ALLOWED.into())
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes}"),
            Self::Uniform(min, max) => write!(f, "uniform:{min}-{max}"),
            Self::Zipf(min, max) => write!(f, "zipf:{min}-{max}"),
        }
    }
}

/// Values that no compression makes smaller, cut from one piece of random bytes.
#[derive(Debug)]
pub(crate) struct Values {
    sizes: Sizes,
    zipf: Option<Zipf<f64>>,
    bytes: Vec<u8>,
}

impl Values {
    pub(crate) fn new(sizes: Sizes, seed: u64) -> Self {
        let (largest, zipf) = match sizes {
            Sizes::Fixed(bytes) => (bytes, None),
            Sizes::Uniform(_, max) => (max, None),
            Sizes::Zipf(min, max) => (max, Zipf::new((max - min + 1) as f64, EXPONENT).ok()),
        };
        let mut bytes = vec![0; largest + PLACES];
        SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
        Self { sizes, zipf, bytes }
    }

    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes
    }

    pub(crate) fn pick(&self, random: &mut SmallRng) -> &[u8] {
        let size = match (self.sizes, &self.zipf) {
            (Sizes::Fixed(bytes), _) => bytes,
            (Sizes::Zipf(min, max), Some(zipf)) => (min + zipf.sample(random) as usize - 1).min(max),
            (Sizes::Uniform(min, max) | Sizes::Zipf(min, max), _) => random.random_range(min..=max),
        };
        let start = random.random_range(0..PLACES);
        let place: Range<usize> = start..start + size;
        &self.bytes[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(sizes: &str) -> Vec<usize> {
        let values = Values::new(sizes.parse().unwrap(), 1);
        let mut random = SmallRng::seed_from_u64(2);
        (0..10_000).map(|_| values.pick(&mut random).len()).collect()
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("0", 0), ("100", 100), ("100 B", 100), ("1KiB", 1024), ("32MiB", 32 << 20)] {
            assert_eq!(text.parse::<Sizes>().unwrap(), Sizes::Fixed(bytes), "{text}");
        }
        for bad in ["", "1kb", "-1", "33MiB", "uniform:5", "uniform:9-1", "gauss:1-2", "99999999999999999999", "1.5KiB"]
        {
            assert!(bad.parse::<Sizes>().unwrap_err().contains("allowed"), "{bad}");
        }
    }

    #[test]
    fn a_distribution_keeps_within_its_range() {
        assert!(picked("64").iter().all(|&bytes| bytes == 64));
        let uniform = picked("uniform:100-200");
        assert!(uniform.iter().all(|bytes| (100..=200).contains(bytes)));
        assert!(uniform.contains(&100) && uniform.contains(&200));
        let zipf = picked("zipf:100-2000");
        assert!(zipf.iter().all(|bytes| (100..=2000).contains(bytes)));
        let small = zipf.iter().filter(|&&bytes| bytes < 200).count();
        assert!(small > 5_000, "{small} of 10,000 are small");
        assert!(picked("zipf:5-5").iter().all(|&bytes| bytes == 5));
    }
}
