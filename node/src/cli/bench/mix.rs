//! Which operations a run is made of.

use std::str::FromStr;

use rand::RngExt;
use rand::rngs::SmallRng;

const ALLOWED: &str = "get, put, or shares such as get=80,put=20 (whole numbers, not all 0) is allowed";

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    Put,
}

impl Operation {
    pub(crate) const ALL: [Self; 2] = [Self::Get, Self::Put];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
        }
    }
}

/// Shares of the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mix {
    get: u32,
    put: u32,
}

impl Mix {
    /// Nothing but this.
    pub(crate) fn only(operation: Operation) -> Self {
        Self { get: u32::from(operation == Operation::Get), put: u32::from(operation == Operation::Put) }
    }

    pub(crate) fn has(&self, operation: Operation) -> bool {
        match operation {
            Operation::Get => self.get > 0,
            Operation::Put => self.put > 0,
        }
    }

    pub(crate) fn pick(&self, random: &mut SmallRng) -> Operation {
        // Where there is no choice no random number is spent.
        let get = self.put == 0 || self.get > 0 && random.random_range(0..self.get + self.put) < self.get;
        if get { Operation::Get } else { Operation::Put }
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut shares = [None, None];
        for part in text.split(',') {
            let (name, share) = part.split_once('=').unwrap_or((part, "1"));
            let place = Operation::ALL.iter().position(|operation| operation.name() == name.trim()).ok_or(ALLOWED)?;
            let share = share.trim().parse::<u16>().map_err(|_| ALLOWED)?;
            if shares[place].replace(u32::from(share)).is_some() {
                return Err(format!("{} is there twice; {ALLOWED}", name.trim()));
            }
        }
        let [get, put] = shares.map(Option::unwrap_or_default);
        if get + put == 0 { Err(ALLOWED.into()) } else { Ok(Self { get, put }) }
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { put: 0, .. } => f.write_str("get"),
            Self { get: 0, .. } => f.write_str("put"),
            Self { get, put } => write!(f, "get={get},put={put}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_mix_is_one_word_or_shares() {
        let parsed = |text: &str| text.parse::<Mix>().map(|mix| mix.to_string());
        for (text, shown) in [("get", "get"), ("put", "put"), ("get=80,put=20", "get=80,put=20"), ("put=5", "put")] {
            assert_eq!(parsed(text).unwrap(), shown);
        }
        for bad in ["", "del", "get=0", "get=-1", "get=1,get=2", "get=1;put=2", "get=99999"] {
            assert!(parsed(bad).unwrap_err().contains("allowed"), "{bad}");
        }
    }

    #[test]
    fn shares_are_kept() {
        let mut random = SmallRng::seed_from_u64(1);
        let mix: Mix = "get=80,put=20".parse().unwrap();
        let gets = (0..10_000).filter(|_| mix.pick(&mut random) == Operation::Get).count();
        assert!((7_800..8_200).contains(&gets), "{gets}");
        let put = Mix::only(Operation::Put);
        assert!((0..100).all(|_| put.pick(&mut random) == Operation::Put) && !put.has(Operation::Get));
    }
}
