//! A table on its way to balance: who holds what, who meets whom, and what an exchange would cost.

use smallvec::SmallVec;

use crate::balance::Exchange;
use crate::share::{Share, ZoneRules};

/// The owners of one partition, as indexes into the members.
pub(crate) type Owners = SmallVec<[u16; 7]>;

/// The rows and what is counted of them.
pub(crate) struct Table<'a> {
    rules: &'a ZoneRules,
    shares: Vec<Share>,
    rows: Vec<Owners>,
    /// The rows it began with: what their owners already hold, and need not be sent.
    origin: Vec<Owners>,
    /// Whether exchanges may add to what has to be copied.
    copies_permitted: bool,
    /// Per node, its partitions.
    held: Vec<Vec<u16>>,
    /// In how many partitions two nodes meet, at index a · members + b.
    meetings: Vec<u16>,
}

impl<'a> Table<'a> {
    /// A table that begins with these rows.
    pub(crate) fn new(rules: &'a ZoneRules, shares: Vec<Share>, rows: Vec<Owners>) -> Self {
        let nodes = shares.len();
        let (held, meetings) = (vec![Vec::new(); nodes], vec![0; nodes * nodes]);
        let empty = vec![Owners::new(); rows.len()];
        let mut table = Self { rules, shares, rows: empty, origin: rows, copies_permitted: true, held, meetings };
        for partition in 0..table.rows.len() {
            for place in 0..table.origin[partition].len() {
                table.add(partition, table.origin[partition][place]);
            }
        }
        table
    }

    /// Whether [`balance`](crate::balance::balance) may use exchanges that add to what has to be copied.
    pub(crate) fn permit_copies(&mut self, permitted: bool) {
        self.copies_permitted = permitted;
    }

    /// Ends the work.
    pub(crate) fn into_rows(self) -> (&'a ZoneRules, Vec<Owners>) {
        (self.rules, self.rows)
    }

    /// Drops owners that the rules no longer allow side by side: those with the greatest surplus go. Only changed
    /// zones make any go.
    pub(crate) fn drop_disallowed(&mut self) {
        for partition in 0..self.rows.len() {
            let mut candidates = self.rows[partition].clone();
            candidates.sort_by(|&a, &b| self.surplus(a).total_cmp(&self.surplus(b)));
            let mut kept = Owners::new();
            for node in candidates {
                if self.rules.allow_addition(&kept, node) { kept.push(node) } else { self.remove(partition, node) }
            }
        }
    }

    /// Fills the free places of all rows. `previous` has the places of those that stayed.
    pub(crate) fn refill(&mut self, previous: &[Vec<Option<u16>>]) {
        // Neighbouring partitions tend to have the same owners, hence the same nodes that may fill a place. Taking
        // the partitions in a scattered order keeps one group from using up what another depends on. An odd stride
        // visits each once, as their number is a power of two.
        let stride = (self.rows.len() * 5 / 8) | 1;
        for turn in 0..self.rows.len() {
            let partition = turn * stride % self.rows.len();
            while self.rows[partition].len() < self.rules.width() {
                let node = self.best_addition(partition);
                self.add(partition, node);
            }
        }
        for (row, previous) in self.rows.iter_mut().zip(previous) {
            restore_places(row, previous);
        }
    }

    /// Who fills a free place: one that lacks most, or rather, among those below their share, one that has to do
    /// with the other owners already.
    fn best_addition(&self, partition: usize) -> u16 {
        let nodes = 0..self.shares.len() as u16;
        let allowed = nodes.filter(|&node| self.rules.allow_addition(&self.rows[partition], node));
        let rank = |node: u16| {
            let share = &self.shares[usize::from(node)];
            let load = self.load(node);
            let satisfied = usize::from(load >= share.floor) + usize::from(load >= share.ceil);
            (satisfied, self.new_neighbours(partition, None, node))
        };
        allowed
            .min_by(|&a, &b| rank(a).cmp(&rank(b)).then(self.surplus(a).total_cmp(&self.surplus(b))))
            .expect("invariant: an allowed set of owners can be completed")
    }

    fn surplus(&self, node: u16) -> f64 {
        self.load(node) as f64 - self.shares[usize::from(node)].exact
    }

    fn add(&mut self, partition: usize, owner: u16) {
        self.count_meetings(partition, owner, |count| *count += 1);
        self.rows[partition].push(owner);
        self.held[usize::from(owner)].push(partition as u16);
    }

    fn remove(&mut self, partition: usize, owner: u16) {
        self.rows[partition].retain(|node| *node != owner);
        self.count_meetings(partition, owner, |count| *count -= 1);
        self.held[usize::from(owner)].retain(|&held| usize::from(held) != partition);
    }

    /// Changes the counts of a node and the owners of a partition it is not among.
    fn count_meetings(&mut self, partition: usize, node: u16, change: fn(&mut u16)) {
        let (nodes, node) = (self.shares.len(), usize::from(node));
        for other in self.rows[partition].iter().map(|&other| usize::from(other)) {
            change(&mut self.meetings[node * nodes + other]);
            change(&mut self.meetings[other * nodes + node]);
        }
    }

    fn permits(&self, partition: u16, from: u16, to: u16) -> bool {
        (self.copies_permitted || self.copies(partition, from, to) <= 0)
            && self.rules.allow_exchange(&self.rows[usize::from(partition)], from, to)
    }

    /// Replicas that this exchange adds to those to be copied: −1, 0 or 1.
    fn copies(&self, partition: u16, from: u16, to: u16) -> i8 {
        let origin = &self.origin[usize::from(partition)];
        i8::from(!origin.contains(&to)) - i8::from(!origin.contains(&from))
    }

    /// How many of the partition's owners, `but` excepted, a node does not yet meet anywhere.
    fn new_neighbours(&self, partition: usize, but: Option<u16>, node: u16) -> usize {
        let meets = &self.meetings[usize::from(node) * self.shares.len()..][..self.shares.len()];
        let others = self.rows[partition].iter().filter(|&&other| Some(other) != but);
        others.filter(|&&other| meets[usize::from(other)] == 0).count()
    }
}

/// Puts those who stayed where they were, and the new ones, which follow them in the row, into the gaps. With
/// another number of owners places mean nothing, only the order of those who stayed does.
fn restore_places(row: &mut Owners, previous: &[Option<u16>]) {
    if row.len() != previous.len() {
        row.sort_by_key(|node| previous.iter().position(|place| *place == Some(*node)).unwrap_or(previous.len()));
        return;
    }
    let stayed = |node: &u16| previous.contains(&Some(*node));
    let (now, mut new) = (row.clone(), row.clone().into_iter().filter(|node| !stayed(node)));
    for (place, before) in row.iter_mut().zip(previous) {
        let before = before.filter(|node| now.contains(node));
        *place = before.or_else(|| new.next()).expect("invariant: as many new owners as gaps");
    }
}

impl Exchange for Table<'_> {
    fn shares(&self) -> &[Share] {
        &self.shares
    }

    fn load(&self, node: u16) -> usize {
        self.held[usize::from(node)].len()
    }

    fn possible(&self, from: u16, to: u16) -> bool {
        self.held[usize::from(from)].iter().any(|&p| self.permits(p, from, to))
    }

    /// The one that adds the fewest copies, then the fewest neighbours.
    fn best(&self, from: u16, to: u16) -> Option<u16> {
        let held = self.held[usize::from(from)].iter().copied();
        held.filter(|&p| self.permits(p, from, to))
            .min_by_key(|&p| (self.copies(p, from, to), self.new_neighbours(p.into(), Some(from), to), p))
    }

    fn hand_over(&mut self, partition: u16, from: u16, to: u16) {
        let index = usize::from(partition);
        let place = self.rows[index].iter().position(|&owner| owner == from);
        self.remove(index, from);
        self.add(index, to);
        if let Some(place) = place {
            self.rows[index][place..].rotate_right(1);
        }
    }
}
