//! Which keys a run asks for.

use std::str::FromStr;

use rand::RngExt;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

const ALLOWED: &str = "uniform, sequential, zipf or zipf:EXPONENT (0 to 10) is allowed";
/// What YCSB calls zipfian.
const EXPONENT: f64 = 0.99;
const EXPONENT_MAX: f64 = 10.0;

/// How often each key is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Popularity {
    /// All the same.
    Uniform,
    /// One after the other, over and over.
    Sequential,
    /// The k-th key in proportion to 1/k^exponent.
    Zipf(f64),
}

impl FromStr for Popularity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, exponent) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
        match (name, exponent) {
            ("uniform", None) => Ok(Self::Uniform),
            ("sequential", None) => Ok(Self::Sequential),
            ("zipf", None) => Ok(Self::Zipf(EXPONENT)),
            ("zipf", Some(exponent)) => {
                let exponent: f64 = exponent.parse().map_err(|_| ALLOWED)?;
                if (0.0..=EXPONENT_MAX).contains(&exponent) { Ok(Self::Zipf(exponent)) } else { Err(ALLOWED.into()) }
            }
            _ => Err(ALLOWED.into()),
        }
    }
}

impl std::fmt::Display for Popularity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Sequential => f.write_str("sequential"),
            Self::Zipf(exponent) => write!(f, "zipf:{exponent}"),
        }
    }
}

/// The keys of a run: numbers from 0, written with leading zeros so that all have the same length.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    count: u64,
    digits: usize,
    popularity: Popularity,
    zipf: Option<Zipf<f64>>,
}

impl Keys {
    pub(crate) fn new(count: u64, digits: usize, popularity: Popularity) -> Result<Self, String> {
        let needed = count.saturating_sub(1).to_string().len();
        if digits < needed {
            return Err(format!("--key-size {digits}: {count} keys need {needed} bytes at least"));
        }
        let zipf = match popularity {
            Popularity::Zipf(exponent) => Some(Zipf::new(count as f64, exponent).map_err(|e| e.to_string())?),
            _ => None,
        };
        Ok(Self { count, digits, popularity, zipf })
    }

    /// The same keys, each once before any again.
    pub(crate) fn in_sequence(&self) -> Self {
        Self { popularity: Popularity::Sequential, zipf: None, ..self.clone() }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn popularity(&self) -> Popularity {
        self.popularity
    }

    pub(crate) fn bytes(&self) -> usize {
        self.digits
    }

    /// The key of the request with this number.
    pub(crate) fn pick(&self, request: u64, random: &mut SmallRng) -> u64 {
        match &self.zipf {
            // A rank is 1 to count, as a float.
            Some(zipf) => (zipf.sample(random) as u64).clamp(1, self.count) - 1,
            None if self.popularity == Popularity::Sequential => request % self.count,
            None => random.random_range(0..self.count),
        }
    }

    /// Appends a key as it stands in a path.
    pub(crate) fn write(&self, mut key: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.digits, b'0');
        for digit in out[start..].iter_mut().rev() {
            if key == 0 {
                break;
            }
            *digit = b'0' + (key % 10) as u8;
            key /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn picked(popularity: &str, requests: u64) -> Vec<u64> {
        let keys = Keys::new(100, 16, popularity.parse().unwrap()).unwrap();
        let mut random = SmallRng::seed_from_u64(7);
        (0..requests).map(|request| keys.pick(request, &mut random)).collect()
    }

    fn times(keys: &[u64], key: u64) -> usize {
        keys.iter().filter(|&&found| found == key).count()
    }

    #[test]
    fn every_distribution_stays_among_the_keys() {
        for popularity in ["uniform", "sequential", "zipf", "zipf:0", "zipf:1", "zipf:2.5"] {
            assert!(picked(popularity, 10_000).iter().all(|&key| key < 100), "{popularity}");
        }
        assert_eq!(picked("sequential", 201)[99..=200], (99..=200).map(|n| n % 100).collect::<Vec<u64>>());
    }

    #[test]
    fn zipf_prefers_the_first_and_uniform_nobody() {
        let zipf = picked("zipf:1", 50_000);
        // 1/k over the 100th harmonic number, 5.187: 19.3 % and half of it.
        let (first, second) = (times(&zipf, 0), times(&zipf, 1));
        assert!((9_200..10_100).contains(&first) && (4_500..5_200).contains(&second), "{first} {second}");
        let uniform = picked("uniform", 50_000);
        assert!((0..100).all(|key| (380..640).contains(&times(&uniform, key))));
        assert_eq!(picked("zipf", 100), picked("zipf", 100), "the seed decides");
    }

    #[test]
    fn keys_have_one_length() {
        let keys = Keys::new(1_000, 6, Popularity::Uniform).unwrap();
        let mut out = b"/".to_vec();
        keys.write(0, &mut out);
        keys.write(907, &mut out);
        assert_eq!(out, b"/000000000907");
        assert!(Keys::new(1_001, 3, Popularity::Uniform).unwrap_err().contains("4 bytes at least"));
        assert!(Keys::new(1_000, 3, Popularity::Uniform).is_ok());
    }

    #[test]
    fn what_is_no_distribution_is_refused_with_what_is() {
        for bad in ["", "zipf:", "zipf:-1", "zipf:11", "zipf:NaN", "uniform:1", "pareto"] {
            assert!(bad.parse::<Popularity>().unwrap_err().contains("is allowed"), "{bad}");
        }
    }
}
