//! The outcomes of many trials, in order.

/// Quantiles and shares of what was measured. Not empty.
#[derive(Clone, Debug)]
pub struct Sorted(Vec<f64>);

impl Sorted {
    /// Sorts; of nothing it makes a single zero.
    pub(super) fn new(mut outcomes: Vec<f64>) -> Self {
        if outcomes.is_empty() {
            outcomes.push(0.0);
        }
        outcomes.sort_unstable_by(f64::total_cmp);
        Self(outcomes)
    }

    /// The least outcome that so large a share (0 to 1) does not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    /// Which share is at most this.
    pub fn share_up_to(&self, limit: f64) -> f64 {
        self.0.partition_point(|&outcome| outcome <= limit) as f64 / self.0.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_shares_are_each_other_s_inverse() {
        let sorted = Sorted::new((1..=1_000).rev().map(f64::from).collect());
        assert_eq!(
            [0.0, 0.001, 0.5, 0.999, 1.0].map(|share| sorted.quantile(share)),
            [1.0, 1.0, 500.0, 999.0, 1_000.0]
        );
        assert_eq!([0.5, 1.0, 500.5, 2_000.0].map(|limit| sorted.share_up_to(limit)), [0.0, 0.001, 0.5, 1.0]);
    }
}
