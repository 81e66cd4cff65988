//! Delivery of hints to the nodes they are kept for (Dynamo, SOSP 2007, section 4.6).
//!
//! - **O1** A hint is forgotten only after a node has durably acknowledged that very version.
//! - **O2** Bounded: [`TARGETS_MAX`] targets at a time, and for each of them [`WINDOW_MAX`] hints and [`BYTES_MAX`] on
//!   their way.
//! - **O3** A target that is slow, or busy with its foreground, gets fewer at a time, down to one.
//! - **O4** Whatever is interrupted, by a crash on either side or by the network, is done again from what is still kept.
//!
//! A pass goes over all hints of a target, page by page. What came meanwhile, and what failed, is for the next pass.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rondo_ring::NodeId;

/// Targets that are delivered to at one time.
pub const TARGETS_MAX: usize = 4;
/// Hints on their way to one target.
pub const WINDOW_MAX: usize = 64;
/// Bytes of hints on their way to one target; a single larger one travels alone.
pub const BYTES_MAX: usize = 4 << 20;
/// Hints of a page.
pub const PAGE_ROWS_MAX: usize = 256;
/// Bytes after which a page ends.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// With how many a pass begins.
const WINDOW_FIRST: usize = 8;
/// A target that takes longer than this for a hint is given fewer.
const SLOW: Duration = Duration::from_millis(150);
/// How long a busy target is left alone.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Shortest pause after a pass that failed, or that sent nothing to a target that is there; doubled by each further one.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Longest pause after passes that failed.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Pause after a pass that found nothing to deliver to others than the target.
const IDLE_PAUSE: Duration = Duration::from_secs(30);

/// A hint and where it is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The key's row.
    pub row: Bytes,
    /// The envelope.
    pub object: Bytes,
    /// Of the envelope.
    pub digest: u64,
    /// Who is to acknowledge it: its target, or an owner where the target is gone for good.
    pub to: NodeId,
}

/// A page of a target's hints, without those that go nowhere at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parcels {
    /// In the order of their rows.
    pub parcels: Vec<Parcel>,
    /// Behind which row the next page begins.
    pub last: Option<Bytes>,
    /// Nothing follows.
    pub complete: bool,
}

/// Where the hints of a target may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Nowhere at the moment.
    #[default]
    None,
    /// Some of them to others than their target, which is away for good or for too long.
    Others,
    /// To their target.
    Target,
}

/// How the sending of a hint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Durable there.
    Taken,
    /// Refused for now.
    Busy,
    /// Nothing is known, or refused for a reason that does not pass by itself.
    Failed,
}

/// What the driver is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read a page; answer with [`Handoff::page`].
    Read {
        /// Whose hints.
        target: NodeId,
        /// Behind which row.
        after: Option<Bytes>,
    },
    /// Send; answer with [`Handoff::sent`].
    Send {
        /// Whose hint.
        target: NodeId,
        /// What, and to whom.
        parcel: Parcel,
    },
    /// Remove the hint if it still is this version; answer with [`Handoff::forgotten`] when that is durable or was not
    /// done.
    Forget {
        /// Whose hint.
        target: NodeId,
        /// Of what.
        row: Bytes,
        /// Which version.
        digest: u64,
    },
}

/// What one target's hints are waiting for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Until then no pass begins.
    Resting(Duration),
    /// A page is being read.
    Reading,
    /// What was read is being sent; behind `after` there is more, unless it is `None`.
    Sending { next: Option<Bytes> },
}

/// A hint on its way.
#[derive(Clone, Debug)]
struct Travelling {
    parcel: Parcel,
    since: Duration,
}

#[derive(Clone, Debug)]
struct Delivery {
    phase: Phase,
    queue: VecDeque<Parcel>,
    travelling: BTreeMap<Bytes, Travelling>,
    travelling_bytes: usize,
    /// Acknowledged, and not removed yet.
    forgetting: usize,
    window: usize,
    /// When the window was last made smaller: what was sent before says nothing about it.
    narrowed_at: Duration,
    /// Busy: nothing is sent until then.
    paused_until: Duration,
    retry_after: Duration,
    delivered: usize,
    failed: bool,
    reach: Reach,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            phase: Phase::Resting(Duration::ZERO),
            queue: VecDeque::new(),
            travelling: BTreeMap::new(),
            travelling_bytes: 0,
            forgetting: 0,
            window: WINDOW_FIRST,
            narrowed_at: Duration::ZERO,
            paused_until: Duration::ZERO,
            retry_after: RETRY_MIN,
            delivered: 0,
            failed: false,
            reach: Reach::None,
        }
    }
}

/// The machine: all targets of one node.
#[derive(Clone, Debug, Default)]
pub struct Handoff {
    deliveries: BTreeMap<NodeId, Delivery>,
}

impl Handoff {
    /// To be called often, and at once when a node comes back: for whom there are hints, and where they may go now.
    pub fn look(&mut self, targets: &[(NodeId, Reach)], now: Duration) -> Vec<Action> {
        self.deliveries.retain(|target, delivery| {
            targets.iter().any(|(kept, _)| kept == target) || !matches!(delivery.phase, Phase::Resting(_))
        });
        let mut actions = Vec::new();
        for &(target, reach) in targets {
            let active = self.active();
            let delivery = self.deliveries.entry(target).or_default();
            if reach > delivery.reach {
                // Back: whatever failed before says nothing any more.
                delivery.retry_after = RETRY_MIN;
                delivery.paused_until = now;
                if matches!(delivery.phase, Phase::Resting(_)) {
                    delivery.phase = Phase::Resting(now);
                }
            }
            delivery.reach = reach;
            let due = matches!(delivery.phase, Phase::Resting(until) if until <= now);
            if reach > Reach::None && due && active < TARGETS_MAX {
                delivery.begin(target, &mut actions);
            }
            delivery.send(target, now, &mut actions);
        }
        actions
    }

    /// How many targets are being delivered to.
    pub fn active(&self) -> usize {
        self.deliveries.values().filter(|delivery| !matches!(delivery.phase, Phase::Resting(_))).count()
    }

    /// Hints on their way.
    pub fn travelling(&self) -> usize {
        self.deliveries.values().map(|delivery| delivery.travelling.len()).sum()
    }

    /// A page was read; `None` where it could not be.
    pub fn page(&mut self, target: NodeId, page: Option<Parcels>, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(delivery) = self.deliveries.get_mut(&target).filter(|d| d.phase == Phase::Reading) else {
            return actions;
        };
        let next = match page {
            Some(page) => {
                delivery.queue.extend(page.parcels);
                page.last.filter(|_| !page.complete)
            }
            None => {
                delivery.failed = true;
                None
            }
        };
        delivery.phase = Phase::Sending { next };
        delivery.go_on(target, now, &mut actions);
        actions
    }

    /// A hint arrived, or did not. Only the version that was sent is forgotten (O1).
    pub fn sent(&mut self, target: NodeId, row: &Bytes, sent: Sent, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(delivery) = self.deliveries.get_mut(&target) else { return actions };
        let Some(Travelling { parcel, since }) = delivery.travelling.remove(row) else { return actions };
        delivery.travelling_bytes -= parcel.object.len();
        match sent {
            Sent::Taken => {
                delivery.adapt(since, now);
                delivery.delivered += 1;
                delivery.forgetting += 1;
                actions.push(Action::Forget { target, row: parcel.row, digest: parcel.digest });
            }
            Sent::Busy => {
                delivery.narrow(now);
                delivery.paused_until = now + BUSY_PAUSE;
                delivery.queue.push_front(parcel);
            }
            Sent::Failed => {
                delivery.failed = true;
                delivery.queue.clear();
            }
        }
        delivery.go_on(target, now, &mut actions);
        actions
    }

    /// A removal is through, or was not made.
    pub fn forgotten(&mut self, target: NodeId, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(delivery) = self.deliveries.get_mut(&target) {
            delivery.forgetting = delivery.forgetting.saturating_sub(1);
            delivery.go_on(target, now, &mut actions);
        }
        actions
    }
}

impl Delivery {
    fn begin(&mut self, target: NodeId, actions: &mut Vec<Action>) {
        (self.delivered, self.failed, self.window) = (0, false, WINDOW_FIRST);
        self.phase = Phase::Reading;
        actions.push(Action::Read { target, after: None });
    }

    /// Sends what may be sent, reads on when that is nothing more, and rests at the end.
    fn go_on(&mut self, target: NodeId, now: Duration, actions: &mut Vec<Action>) {
        if self.failed || self.reach == Reach::None {
            self.queue.clear();
        }
        self.send(target, now, actions);
        let Phase::Sending { next } = &mut self.phase else { return };
        if !self.queue.is_empty() {
            return;
        }
        match next.take() {
            Some(after) if !self.failed && self.reach > Reach::None => {
                self.phase = Phase::Reading;
                actions.push(Action::Read { target, after: Some(after) });
            }
            // Not before the last removal is on disk: the next pass would find what was delivered.
            _ if self.travelling.is_empty() && self.forgetting == 0 => self.rest(now),
            _ => {}
        }
    }

    fn rest(&mut self, now: Duration) {
        let pause = match (self.failed, self.delivered) {
            (false, 1..) => {
                self.retry_after = RETRY_MIN;
                Duration::ZERO
            }
            (false, 0) if self.reach != Reach::Target => IDLE_PAUSE,
            // Nothing went out although the target is there: what is kept for it is not readable yet, or the target was
            // away while the page was read.
            _ => {
                let pause = self.retry_after;
                self.retry_after = (pause * 2).min(RETRY_MAX);
                pause
            }
        };
        self.phase = Phase::Resting(now + pause);
    }

    fn send(&mut self, target: NodeId, now: Duration, actions: &mut Vec<Action>) {
        if self.reach == Reach::None || self.failed || now < self.paused_until {
            return;
        }
        while self.travelling.len() < self.window
            && let Some(parcel) = self.queue.front()
            && (self.travelling.is_empty() || self.travelling_bytes + parcel.object.len() <= BYTES_MAX)
        {
            let Some(parcel) = self.queue.pop_front() else { break };
            self.travelling_bytes += parcel.object.len();
            self.travelling.insert(parcel.row.clone(), Travelling { parcel: parcel.clone(), since: now });
            actions.push(Action::Send { target, parcel });
        }
    }

    /// One more at a time for a quick answer, fewer for a slow one (O3).
    fn adapt(&mut self, since: Duration, now: Duration) {
        if now.saturating_sub(since) <= SLOW {
            self.window = (self.window + 1).min(WINDOW_MAX);
        } else if since >= self.narrowed_at {
            self.narrow(now);
        }
    }

    fn narrow(&mut self, now: Duration) {
        self.window = (self.window / 2).max(1);
        self.narrowed_at = now;
    }
}
