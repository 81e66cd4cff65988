//! How much this node's own word is worth (Lifeguard's local health, Dadgar et al., 2018): a node that is slow itself
//! finds everyone else slow, so it waits longer before it says so.

/// The multiplier's highest value less one.
const WORST: u8 = 8;

/// 0 is well; each point makes this node wait once more as long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalHealth(u8);

impl LocalHealth {
    /// A peer answered in time.
    pub fn better(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// Something speaks against this node itself: it was stopped for a while, it accused one that is alive, it was
    /// accused, or a helper that was expected to report was not heard.
    pub fn worse(&mut self, points: u8) {
        self.0 = self.0.saturating_add(points).min(WORST);
    }

    /// How many times the usual patience, 1 to 9.
    pub fn patience(self) -> u32 {
        u32::from(self.0) + 1
    }

    /// Nothing speaks against this node: its word counts as a source of its own for others.
    pub fn is_well(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_rises_with_every_doubt_and_is_bounded() {
        let mut health = LocalHealth::default();
        assert!(health.is_well() && health.patience() == 1);
        (0..20).for_each(|_| health.worse(3));
        assert_eq!(health.patience(), 9);
        (0..8).for_each(|_| health.better());
        assert!(health.is_well());
        health.better();
        assert_eq!(health.patience(), 1);
    }
}
