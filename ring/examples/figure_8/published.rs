//! Figure 8 as published, read off the plot to about ±0.003.

/// One abscissa of the figure.
pub(crate) struct Point {
    /// Tokens of all nodes together; for strategy 3 also the number of partitions.
    pub(crate) tokens: usize,
    /// Efficiency of strategies 1, 2 and 3.
    pub(crate) strategies: [f64; 3],
}

/// All ten points.
pub(crate) const FIGURE_8: [Point; 10] = [
    Point { tokens: 60, strategies: [0.521, 0.532, 0.861] },
    Point { tokens: 120, strategies: [0.609, 0.611, 0.869] },
    Point { tokens: 240, strategies: [0.690, 0.701, 0.901] },
    Point { tokens: 480, strategies: [0.759, 0.760, 0.920] },
    Point { tokens: 960, strategies: [0.821, 0.822, 0.941] },
    Point { tokens: 1_920, strategies: [0.869, 0.851, 0.960] },
    Point { tokens: 3_840, strategies: [0.909, 0.881, 0.971] },
    Point { tokens: 7_680, strategies: [0.931, 0.870, 0.981] },
    Point { tokens: 15_360, strategies: [0.950, 0.851, 0.981] },
    Point { tokens: 30_720, strategies: [0.960, 0.841, 0.990] },
];
