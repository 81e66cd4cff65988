//! The latency distributions of the PBS paper (VLDB 2012), and how a trial is drawn from them.

use rondo_coordinator::staleness::Delays;

/// Replicas in the paper's tables.
pub(crate) const N: usize = 3;
/// One way between two data centres, ms.
const WAN_MS: f64 = 75.0;

/// SplitMix64 (Steele, Lea and Flood, 2014): the same seed, the same table.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0, at most 1: its logarithm is finite.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// With probability `body` a Pareto distribution, otherwise the exponential tail. Times in ms.
pub(crate) struct Mixture {
    body: f64,
    minimum: f64,
    shape: f64,
    rate: f64,
}

impl Mixture {
    fn draw(&self, random: &mut Random) -> f64 {
        if random.unit() <= self.body {
            self.minimum * random.unit().powf(-1.0 / self.shape)
        } else {
            -random.unit().ln() / self.rate
        }
    }
}

const SSD: Mixture = Mixture { body: 0.9122, minimum: 0.235, shape: 10.0, rate: 1.66 };
const DISK_WRITE: Mixture = Mixture { body: 0.38, minimum: 1.05, shape: 1.51, rate: 0.183 };
const YMMR_WRITE: Mixture = Mixture { body: 0.939, minimum: 3.0, shape: 3.35, rate: 0.0028 };
const YMMR: Mixture = Mixture { body: 0.982, minimum: 1.5, shape: 3.8, rate: 0.0217 };

/// One of the paper's four production fits: the delays of all replicas are drawn independently.
pub(crate) struct Fit {
    pub(crate) name: &'static str,
    write: Mixture,
    /// A, R and S.
    others: Mixture,
    /// Every replica in a data centre of its own.
    wan: bool,
}

/// In the order of the paper's table.
pub(crate) const FITS: [Fit; 4] = [
    Fit { name: "LNKD-SSD", write: SSD, others: SSD, wan: false },
    Fit { name: "LNKD-DISK", write: DISK_WRITE, others: SSD, wan: false },
    Fit { name: "YMMR", write: YMMR_WRITE, others: YMMR, wan: false },
    Fit { name: "WAN", write: DISK_WRITE, others: SSD, wan: true },
];

impl Fit {
    /// One trial. The first replica is the reader's own, the one whose index is returned the writer's own: only WAN
    /// makes a difference of that.
    pub(crate) fn draw(&self, random: &mut Random, replicas: &mut [Delays]) -> usize {
        let writer = random.below(replicas.len());
        for (index, replica) in replicas.iter_mut().enumerate() {
            let way = |away: bool| if self.wan && away { WAN_MS } else { 0.0 };
            let (write_way, read_way) = (way(index != writer), way(index != 0));
            *replica = Delays {
                write_ms: write_way + self.write.draw(random),
                ack_ms: write_way + self.others.draw(random),
                read_ms: read_way + self.others.draw(random),
                answer_ms: read_way + self.others.draw(random),
            };
        }
        writer
    }
}
