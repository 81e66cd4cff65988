//! The order of the owners within each row: who comes first coordinates forwarded writes, and the owners of a bucket
//! with a smaller N are the first of the row.

use crate::balance::{Exchange, balance};
use crate::share::{Share, ZoneRules};
use crate::table::Owners;

/// Orders the owners so that each node comes first, second, … in an equal part of its partitions, and so that the
/// first of a row are in as many zones as the row has. Changes no set of owners, and the order only where it must.
pub(crate) fn spread(rules: &ZoneRules, rows: &mut [Owners]) {
    for place in 0..rules.width().saturating_sub(1) {
        let mut level = Level::new(rules, rows, place);
        balance(&mut level);
    }
}

/// One place of the order being balanced; the places before it are settled.
struct Level<'a> {
    rules: &'a ZoneRules,
    rows: &'a mut [Owners],
    place: usize,
    shares: Vec<Share>,
    /// Per node, the partitions in which it has this place.
    held: Vec<Vec<u16>>,
}

impl<'a> Level<'a> {
    fn new(rules: &'a ZoneRules, rows: &'a mut [Owners], place: usize) -> Self {
        let mut left = vec![0_usize; rules.members()];
        let mut held = vec![Vec::new(); rules.members()];
        for (partition, row) in rows.iter_mut().enumerate() {
            let best = (place..row.len()).find(|&at| eligible(rules, row, place, at)).unwrap_or(place);
            row[place..=best].rotate_right(1);
            held[usize::from(row[place])].push(partition as u16);
            row[place..].iter().for_each(|&node| left[usize::from(node)] += 1);
        }
        let places = rules.width() - place;
        let shares = left.into_iter().map(|left| Share::part(left, places)).collect();
        Self { rules, rows, place, shares, held }
    }

    /// The partitions in which `from` can yield to `to`, each with the place that `to` has now.
    fn candidates(&self, from: u16, to: u16) -> impl Iterator<Item = (usize, u16)> {
        self.held[usize::from(from)].iter().filter_map(move |&partition| {
            let row = &self.rows[usize::from(partition)];
            let at = row.iter().position(|&node| node == to)?;
            (at > self.place && eligible(self.rules, row, self.place, at)).then_some((at, partition))
        })
    }
}

/// Whether the owner at `at` may come at `place`: its zone is as rare among those before as any that is left.
fn eligible(rules: &ZoneRules, row: &[u16], place: usize, at: usize) -> bool {
    let (settled, left) = row.split_at(place);
    let seen = |node: u16| settled.iter().filter(|&&other| rules.zone_of(other) == rules.zone_of(node)).count();
    left.iter().all(|&other| seen(row[at]) <= seen(other))
}

impl Exchange for Level<'_> {
    fn shares(&self) -> &[Share] {
        &self.shares
    }

    fn load(&self, node: u16) -> usize {
        self.held[usize::from(node)].len()
    }

    fn possible(&self, from: u16, to: u16) -> bool {
        self.candidates(from, to).next().is_some()
    }

    /// One in which the new one comes soonest already.
    fn best(&self, from: u16, to: u16) -> Option<u16> {
        self.candidates(from, to).min().map(|(_, partition)| partition)
    }

    fn hand_over(&mut self, partition: u16, from: u16, to: u16) {
        let row = &mut self.rows[usize::from(partition)];
        if let Some(at) = row.iter().position(|&node| node == to) {
            row.swap(self.place, at);
        }
        self.held[usize::from(from)].retain(|&held| held != partition);
        self.held[usize::from(to)].push(partition);
    }
}
