//! A listing, from the client's request to its page of keys (C8; docs/decisions/0007-listings.md).
//!
//! Each node asked streams the keys it holds of some partitions, in byte order, page by page. For every partition so
//! many owners are asked as R needs. The streams are merged; a key comes out once R owners of its partition have
//! spoken of everything up to it. Nothing beyond the end of the shortest page that is needed is said before the next
//! page of that stream is there. An owner that is slow is not waited for: another owner of its partitions is asked in
//! addition, from there on. What the replicas hold of a key travels as an outline, an object whose values are replaced
//! by their lengths, so that replicas that differ are merged without another question.

mod cover;
mod stream;

use rondo_ring::{Liveness, NodeId, PartitionCount, ReplicationFactor, View};
use rondo_storage::store::{ListPage, ListRange};
use rondo_storage::versions::{Conflict, ETag, Object, Sibling};
use smallvec::SmallVec;

use crate::Now;
use crate::answer::{Failure, Outcome};
use crate::choice::QuorumChoice;
use crate::message::ListQuery;
use crate::options::CoordinatorOptions;
use crate::quorum::{Decision, Quorum};
use cover::{Asked, Cover, GroupId};
use stream::{Reach, Stream, Waiting};

/// Rows asked of a replica at once.
const ROWS_MAX: usize = 2_048;
/// Rows asked for beyond those expected of a stream: keys are spread over the partitions by chance.
const ROWS_SPARE: usize = 16;
/// Keys looked at for one answer, those that turn out to be deleted included. The answer may be short then.
const KEYS_MAX: usize = 50_000;

/// A listing as a client asks for it.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// Of which bucket.
    pub bucket: String,
    /// What the keys begin with; may be empty.
    pub prefix: String,
    /// Only keys behind this one.
    pub after: Option<String>,
    /// Most keys of the answer, at least 1.
    pub limit: usize,
    /// N of the bucket.
    pub n: ReplicationFactor,
    /// R: owners of each partition that have to be heard.
    pub r: QuorumChoice,
    /// Which versions are shown.
    pub conflict: Conflict,
    /// Wall clock in µs since 1970, for what has expired.
    pub now_us: u64,
    /// The client is answered by then.
    pub deadline: Now,
}

/// A page of a bucket's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListAnswer {
    /// In byte order of the keys. May be short, or even empty, although more follow.
    pub items: Vec<ListItem>,
    /// Continue behind this key; `None`: there are no more.
    pub next: Option<String>,
}

/// One key that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListItem {
    /// The key.
    pub key: String,
    /// Of all its versions.
    pub etag: ETag,
    /// How many versions.
    pub siblings: usize,
    /// Of all versions together.
    pub bytes: u64,
    /// When the last of them was written, µs since 1970.
    pub modified_us: u64,
}

/// What the driver is asked to do.
#[derive(Clone, Debug)]
pub enum ListAction {
    /// A page of what a node holds, this one included. Answered with exactly one [`ListEvent::Page`].
    Ask {
        /// Of which.
        from: NodeId,
        /// Comes back with the answer.
        stream: usize,
        /// Which page.
        query: Box<ListQuery>,
        /// Give up then.
        deadline: Now,
    },
    /// The client's answer: exactly once.
    Answer(Result<ListAnswer, Failure>),
    /// Deliver [`ListEvent::Wake`] then; replaces an earlier wish.
    WakeAt(Now),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum ListEvent {
    /// `Ask` ended.
    Page {
        /// As it was asked.
        stream: usize,
        /// The page; `None` where the node refused, failed or did not answer.
        page: Option<Box<ListPage>>,
    },
    /// The time of `WakeAt` has come.
    Wake,
}

/// What one event leads to.
pub type ListActions = SmallVec<[ListAction; 4]>;

/// One listing: feed it events until it has answered.
#[derive(Debug)]
pub struct List {
    request: ListRequest,
    options: CoordinatorOptions,
    of: PartitionCount,
    down: Vec<NodeId>,
    cover: Cover,
    streams: Vec<Stream>,
    /// Every key up to here has been decided.
    decided: Reach,
    items: Vec<ListItem>,
    keys: usize,
    answered: bool,
}

impl List {
    /// Begins.
    pub fn start(request: ListRequest, view: &View, options: &CoordinatorOptions, now: Now) -> (Self, ListActions) {
        let is_down = |node: &NodeId| view.liveness(*node) == Liveness::Down;
        let mut list = Self {
            of: view.layout().partitions(),
            down: view.layout().members().iter().map(|member| member.id).filter(is_down).collect(),
            cover: Cover::new(view, request.n, request.r),
            streams: Vec::new(),
            decided: request.after.clone().map_or(Reach::Start, Reach::Key),
            items: Vec::new(),
            keys: 0,
            answered: false,
            options: options.clone(),
            request,
        };
        let mut actions = ListActions::new();
        list.advance(now, &mut actions);
        (list, actions)
    }

    /// What follows from an event.
    pub fn on_event(&mut self, event: ListEvent, now: Now) -> ListActions {
        let mut actions = ListActions::new();
        if self.answered {
            return actions;
        }
        match event {
            ListEvent::Page { stream, page } => self.heard(stream, page),
            ListEvent::Wake if now >= self.request.deadline => self.time_out(&mut actions),
            ListEvent::Wake => self.hedge(now),
        }
        self.advance(now, &mut actions);
        actions
    }

    /// Answered.
    pub fn is_finished(&self) -> bool {
        self.answered
    }

    fn heard(&mut self, index: usize, page: Option<Box<ListPage>>) {
        let Some(stream) = self.streams.get_mut(index).filter(|stream| stream.waiting.is_some()) else { return };
        let rows = page.as_ref().map_or(0, |page| page.rows.len());
        match page.and_then(|page| stream.take(*page, &self.request.bucket, &self.request.prefix)) {
            None => {
                stream.fail();
                self.cover.fail(stream.node, &stream.groups);
            }
            Some(lost) => {
                stream.skip(&self.decided);
                self.keys += rows;
                if !lost.is_empty() {
                    self.lose(index, &lost);
                }
            }
        }
    }

    /// The replica of a stream does not vote on some partitions (C4): others of their owners have to.
    fn lose(&mut self, index: usize, lost: &rondo_ring::PartitionSet) {
        let (node, groups) = (self.streams[index].node, self.streams[index].groups.clone());
        for group in groups {
            let Some(part) = self.cover.split(group, node, lost) else { continue };
            for (other, stream) in self.streams.iter_mut().enumerate() {
                if other != index && stream.groups.contains(&group) {
                    stream.groups.push(part);
                }
            }
        }
    }

    fn hedge(&mut self, now: Now) {
        for index in 0..self.streams.len() {
            let Stream { waiting, groups, .. } = &mut self.streams[index];
            let Some(waiting) = waiting.as_mut().filter(|waiting| waiting.late_at.is_some_and(|at| at <= now)) else {
                continue;
            };
            waiting.late_at = None;
            let asked = self.cover.ask_one_more(groups);
            self.open(asked);
        }
    }

    /// Decides what can be decided, and asks for what is needed to go on.
    fn advance(&mut self, now: Now, actions: &mut ListActions) {
        if self.answered {
            return;
        }
        if let Some(group) = self.cover.lost() {
            return self.answer(Err(self.unavailable(group)), actions);
        }
        let asked = self.cover.ask_as_needed();
        self.open(asked);
        self.decide();
        let more = self.items.len() > self.request.limit;
        if more {
            self.items.truncate(self.request.limit);
        }
        match (more, &self.decided) {
            (true, _) => self.page(self.items.last().map(|item| item.key.clone()), actions),
            (false, Reach::End) => self.page(None, actions),
            (false, Reach::Key(through)) if self.keys >= KEYS_MAX => self.page(Some(through.clone()), actions),
            _ => self.ask(now, actions),
        }
    }

    fn open(&mut self, asked: Asked) {
        for (node, groups) in asked {
            let partitions = self.cover.partitions(&groups);
            self.streams.push(Stream::new(node, groups, partitions));
        }
    }

    /// The keys up to the point that R owners of every partition have spoken of.
    fn decide(&mut self) {
        let safe = self.safe();
        while self.items.len() <= self.request.limit {
            let heads = self.streams.iter().filter_map(Stream::head);
            let Some(key) = heads.min().filter(|key| safe.covers(key)).map(str::to_owned) else {
                self.decided = safe.max(std::mem::replace(&mut self.decided, Reach::Start));
                return;
            };
            let mut merged: Option<Object> = None;
            for held in self.streams.iter_mut().filter_map(|stream| stream.pop(&key)) {
                match &mut merged {
                    None => merged = Some(held),
                    Some(object) if *object == held => {}
                    Some(object) => object.merge(held),
                }
            }
            let item = merged.and_then(|object| item(&key, &object, &self.request));
            self.items.extend(item);
            self.decided = Reach::Key(key);
        }
    }

    /// The streams vote, the one that has come furthest first; the one that decides the last group bounds what is safe.
    fn safe(&self) -> Reach {
        let mut tallies: Vec<Option<Quorum>> = (0..self.cover.len()).map(|group| self.cover.tally(group)).collect();
        let mut undecided = tallies.iter().flatten().count();
        let mut voters: Vec<&Stream> = self.streams.iter().filter(|stream| stream.is_alive()).collect();
        voters.sort_by(|one, other| other.reach.cmp(&one.reach));
        for stream in voters {
            for &group in &stream.groups {
                let Some(tally) = &mut tallies[group] else { continue };
                tally.ack(stream.node);
                if tally.decision() == Decision::Satisfied {
                    tallies[group] = None;
                    undecided -= 1;
                }
            }
            if undecided == 0 {
                return stream.reach.clone();
            }
        }
        Reach::Start
    }

    /// The next page of every stream that has been used up, at once.
    fn ask(&mut self, now: Now, actions: &mut ListActions) {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            if !stream.is_thirsty() {
                continue;
            }
            let after = stream.reach.clone().max(self.decided.clone());
            let deadline = match self.down.contains(&stream.node) {
                true => self.request.deadline.min(now + self.options.down_patience()),
                false => self.request.deadline,
            };
            let ListRequest { bucket, prefix, limit, .. } = &self.request;
            let missing = limit + 1 - self.items.len();
            let share = missing * stream.partitions.len() * 5 / 4 / usize::from(self.of.get());
            let rows_max = (share + ROWS_SPARE).min(ROWS_MAX) as u32;
            let (bucket, prefix, partitions) = (bucket.clone(), prefix.clone(), stream.partitions.clone());
            let range = ListRange { bucket, prefix, after: after.key().map(str::to_owned), partitions };
            let query = Box::new(ListQuery { range, rows_max });
            actions.push(ListAction::Ask { from: stream.node, stream: index, query, deadline });
            stream.waiting = Some(Waiting { after, late_at: Some(now + self.options.page_patience()) });
        }
        let late = self.streams.iter().filter_map(|stream| stream.waiting.as_ref()?.late_at);
        actions.push(ListAction::WakeAt(late.fold(self.request.deadline, Now::min)));
    }

    fn page(&mut self, next: Option<String>, actions: &mut ListActions) {
        let items = std::mem::take(&mut self.items);
        self.answer(Ok(ListAnswer { items, next }), actions);
    }

    /// A short page is better than none: the client comes further with each one.
    fn time_out(&mut self, actions: &mut ListActions) {
        let began = self.request.after.clone().map_or(Reach::Start, Reach::Key);
        match self.decided.key().filter(|_| self.decided > began).map(str::to_owned) {
            Some(through) => self.page(Some(through), actions),
            None => {
                let group = (0..self.cover.len()).find(|&group| self.count(group).1.decision() == Decision::Undecided);
                let (acked, tally) = self.count(group.unwrap_or_default());
                let (required, n, outcome) = (tally.required(), tally.n(), Outcome::NotApplied);
                self.answer(Err(Failure::TimedOut { required, acked, n, outcome }), actions);
            }
        }
    }

    fn unavailable(&self, group: GroupId) -> Failure {
        let (acked, tally) = self.count(group);
        let (required, n) = (tally.required(), tally.n());
        Failure::Unavailable { required, acked, n, outcome: Outcome::NotApplied }
    }

    /// Who has spoken of a group's next key.
    fn count(&self, group: GroupId) -> (u8, Quorum) {
        let mut tally = self.cover.quorum(group).clone();
        let ahead =
            |stream: &&Stream| stream.is_alive() && stream.groups.contains(&group) && stream.reach > self.decided;
        self.streams.iter().filter(ahead).for_each(|stream| tally.ack(stream.node));
        (tally.acked(), tally)
    }

    /// Exactly once (C6).
    fn answer(&mut self, result: Result<ListAnswer, Failure>, actions: &mut ListActions) {
        if !std::mem::replace(&mut self.answered, true) {
            actions.push(ListAction::Answer(result));
        }
    }
}

/// What a client is shown of a key; nothing of one that is deleted or has expired (C5).
fn item(key: &str, object: &Object, request: &ListRequest) -> Option<ListItem> {
    let live: SmallVec<[&Sibling; 4]> = object.shown(request.now_us, request.conflict).collect();
    let etag = ETag::of(live.iter().map(|sibling| sibling.dot))?;
    Some(ListItem {
        key: key.to_owned(),
        etag,
        siblings: live.len(),
        bytes: live.iter().map(|sibling| sibling.outlined_bytes()).sum(),
        modified_us: live.iter().map(|sibling| sibling.metadata.modified_us).max().unwrap_or(0),
    })
}
