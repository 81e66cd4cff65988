//! How much each member should own: shares proportional to weight, as far as the failure domains allow.

use crate::layout::Member;
use crate::preference::zone_indexes;

/// Errors of the floating-point search are far below this, and exact shares that are not whole numbers are at least
/// one part in a million (the largest sum of weights) away from one.
pub(crate) const ROUNDING_TOLERANCE: f64 = 1e-7;

/// Steps of each bisection: more than a double has bits, so the result does not depend on where it stops.
const BISECTION_STEPS: usize = 80;

/// Which sets of owners are allowed: as many distinct nodes as `width` says, spread over the zones as evenly as the
/// zones' sizes allow (invariants R1 and R2).
///
/// With the level k such that Σ min(size, k) ≤ width < Σ min(size, k + 1), every zone holds at least min(size, k)
/// and at most min(size, k + 1) of a partition's owners. From `width` zones on that means: at most one in each.
pub(crate) struct ZoneRules {
    width: usize,
    zone_of: Vec<usize>,
    least: Vec<usize>,
    most: Vec<usize>,
}

impl ZoneRules {
    /// The rules for these members, of whose set each partition gets `width` owners (at most as many as there are).
    pub(crate) fn new(members: &[Member], width: usize) -> Self {
        let zone_of = zone_indexes(members);
        let zones = zone_of.iter().max().map_or(0, |highest| highest + 1);
        let mut sizes = vec![0; zones];
        zone_of.iter().for_each(|&zone| sizes[zone] += 1);
        let capped = |level: usize| sizes.iter().map(|&size| size.min(level)).collect::<Vec<usize>>();
        let fits = |level: &usize| capped(*level).iter().sum::<usize>() <= width;
        // Level 0 always fits.
        let level = (0..=width).rev().find(fits).unwrap_or(0);
        Self { width, zone_of, least: capped(level), most: capped(level + 1) }
    }

    /// Holds a zone to one number of owners per partition where its shares leave no other: a zone whose members are to
    /// own as much as its bounds allow, or as little, has that many of every partition's owners.
    pub(crate) fn tighten(&mut self, shares: &[Share], partitions: usize) {
        let mut totals = vec![0.0; self.zones()];
        shares.iter().zip(&self.zone_of).for_each(|(share, &zone)| totals[zone] += share.exact);
        for (zone, total) in totals.into_iter().enumerate() {
            let full = |owners: usize| (total - (owners * partitions) as f64).abs() < ROUNDING_TOLERANCE;
            if full(self.least[zone]) {
                self.most[zone] = self.least[zone];
            } else if full(self.most[zone]) {
                self.least[zone] = self.most[zone];
            }
        }
    }

    /// Owners per partition: min(N, members).
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// How many members there are.
    pub(crate) fn members(&self) -> usize {
        self.zone_of.len()
    }

    /// How many zones there are.
    pub(crate) fn zones(&self) -> usize {
        self.least.len()
    }

    /// The zone of a member, 0 … zones − 1 in order of the zones' names.
    pub(crate) fn zone_of(&self, member: u16) -> usize {
        self.zone_of[usize::from(member)]
    }

    /// Whether a complete, allowed set of owners stays allowed when `leaver` is replaced by `joiner`.
    pub(crate) fn allow_exchange(&self, owners: &[u16], leaver: u16, joiner: u16) -> bool {
        if owners.contains(&joiner) {
            return false;
        }
        let (from, to) = (self.zone_of(leaver), self.zone_of(joiner));
        from == to || (self.held(owners, from) > self.least[from] && self.held(owners, to) < self.most[to])
    }

    /// Whether an allowed, incomplete set of owners can take one more and still be completed.
    pub(crate) fn allow_addition(&self, owners: &[u16], joiner: u16) -> bool {
        let to = self.zone_of(joiner);
        let held = self.held(owners, to);
        if owners.contains(&joiner) || held >= self.most[to] {
            return false;
        }
        // Below its least the place is reserved for this zone anyway; above it, the reserved ones must stay free.
        held < self.least[to] || self.reserved(owners) + owners.len() < self.width
    }

    fn held(&self, owners: &[u16], zone: usize) -> usize {
        owners.iter().filter(|&&owner| self.zone_of(owner) == zone).count()
    }

    /// Places that only zones below their least may fill.
    fn reserved(&self, owners: &[u16]) -> usize {
        let all: usize = self.least.iter().sum();
        let taken: usize = owners
            .iter()
            .enumerate()
            .filter(|&(i, &owner)| self.held(&owners[..i], self.zone_of(owner)) < self.least[self.zone_of(owner)])
            .count();
        all - taken
    }
}

/// What a member should own: between `floor` and `ceil` partitions, which differ by at most one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share {
    pub(crate) exact: f64,
    pub(crate) floor: usize,
    pub(crate) ceil: usize,
}

impl Share {
    fn of(exact: f64) -> Self {
        let floor = (exact + ROUNDING_TOLERANCE).floor() as usize;
        let ceil = (exact - ROUNDING_TOLERANCE).ceil() as usize;
        Self { exact, floor, ceil: ceil.max(floor) }
    }

    /// What the exact share has beyond the floor: 0 for a whole number.
    pub(crate) fn fraction(&self) -> f64 {
        if self.floor == self.ceil { 0.0 } else { self.exact - self.floor as f64 }
    }

    /// An equal part of a whole number.
    pub(crate) fn part(whole: usize, parts: usize) -> Self {
        Self { exact: whole as f64 / parts as f64, floor: whole / parts, ceil: whole.div_ceil(parts) }
    }
}

/// The members' shares of `partitions` · width replicas: proportional to weight, but no node more than all the
/// partitions once and no zone outside its bounds. What a limit takes from one is spread over the others by weight.
pub(crate) fn shares(members: &[Member], rules: &ZoneRules, partitions: usize) -> Vec<Share> {
    let whole = partitions as f64;
    let mut weights = vec![Vec::new(); rules.zones()];
    for (index, member) in members.iter().enumerate() {
        weights[rules.zone_of[index]].push(f64::from(member.weight));
    }
    let zone_total = |zone: usize, scale: f64| {
        let wanted: f64 = weights[zone].iter().map(|w| (w * scale).min(whole)).sum();
        wanted.clamp(rules.least[zone] as f64 * whole, rules.most[zone] as f64 * whole)
    };
    let all_zones = |scale: f64| (0..rules.zones()).map(|zone| zone_total(zone, scale)).sum();
    let scale = scale_reaching(rules.width as f64 * whole, whole, all_zones);
    let scales: Vec<f64> = (0..rules.zones())
        .map(|zone| {
            let nodes = |scale: f64| weights[zone].iter().map(|w| (w * scale).min(whole)).sum();
            scale_reaching(zone_total(zone, scale), whole, nodes)
        })
        .collect();
    let exact = |(index, m): (usize, &Member)| (f64::from(m.weight) * scales[rules.zone_of[index]]).min(whole);
    members.iter().enumerate().map(exact).map(Share::of).collect()
}

/// The argument in 0 … `highest` at which a rising function reaches `wanted`.
fn scale_reaching(wanted: f64, highest: f64, function: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, highest);
    for _ in 0..BISECTION_STEPS {
        let middle = (low + high) / 2.0;
        if function(middle) < wanted { low = middle } else { high = middle }
    }
    high
}
