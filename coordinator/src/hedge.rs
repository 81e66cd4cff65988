//! How many reads may ask an owner more than they need.
//!
//! A hedge hides one slow owner at the price of a little work of another (Dean and Barroso, The Tail at Scale, CACM
//! 2013). Where all owners are slow it hides nothing and makes them slower: hence a budget.

use std::sync::atomic::{AtomicU32, Ordering};

/// What a read adds to the credit is one, what a hedge takes is this: five hedges in a hundred reads.
const PRICE: u32 = 20;
/// Most credit: what reads left unused, and what there is at the beginning. Ten hedges.
const CREDIT_MAX: u32 = 10 * PRICE;

/// The credit of all reads of one driver: of any number of reads, at most a twentieth and ten more are hedged.
#[derive(Debug)]
pub struct HedgeBudget(AtomicU32);

impl Default for HedgeBudget {
    fn default() -> Self {
        Self(AtomicU32::new(CREDIT_MAX))
    }
}

impl HedgeBudget {
    /// One more read begins.
    pub fn earn(&self) {
        let more = |credit| (credit < CREDIT_MAX).then_some(credit + 1);
        // Err means that there is the most already.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether one more hedge may be sent.
    pub fn spend(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |credit| credit.checked_sub(PRICE)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hedges_are_a_twentieth_of_the_reads_and_a_few() {
        let budget = HedgeBudget::default();
        let mut hedges = 0;
        for _ in 0..10_000 {
            budget.earn();
            hedges += u32::from(budget.spend());
        }
        assert_eq!(hedges, 10 + 10_000 / PRICE - 1, "each read wants one; the first finds the credit full");
    }

    #[test]
    fn what_is_not_used_is_not_saved_up() {
        let budget = HedgeBudget::default();
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10);
    }
}
