//! Seeds that found something, with what it was. They run before all others.

/// A seed and what it found.
pub const KEPT: &[(u64, &str)] = &[
    (56, "a stand-in that was heard twice no longer counted as one: a sloppy read said that it was strict"),
    (270, "the same, with a stand-in that held nothing"),
    (133, "a pass over the hints of a node that was back found them not yet readable, and rested for 30 s"),
    (1037, "a row that was damaged late, and that nobody read again, stayed as it was: the trees do not see it"),
];
