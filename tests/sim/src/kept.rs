//! Seeds that found something, with what it was. They run before all others.

/// A seed and what it found.
pub const KEPT: &[(u64, &str)] = &[];
