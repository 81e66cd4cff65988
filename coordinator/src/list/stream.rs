//! One replica's keys of some partitions, in order, page by page.

use std::collections::VecDeque;

use rondo_ring::{NodeId, PartitionSet, Token};
use rondo_storage::store::{ListPage, Listed};
use rondo_storage::versions::Object;

use crate::Now;
use crate::list::cover::GroupId;

/// How far something has come in the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// Nowhere.
    Start,
    /// Through this key.
    Key(String),
    /// Through all keys.
    End,
}

impl Reach {
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(key),
            Self::Start | Self::End => None,
        }
    }

    /// Whether this key is no further.
    pub(super) fn covers(&self, key: &str) -> bool {
        match self {
            Self::Start => false,
            Self::Key(through) => key <= through.as_str(),
            Self::End => true,
        }
    }
}

/// A question for a page that has no answer yet.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// The page is to begin behind this.
    pub(super) after: Reach,
    /// When others are asked as well; `None`: they were.
    pub(super) late_at: Option<Now>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) node: NodeId,
    pub(super) groups: Vec<GroupId>,
    pub(super) partitions: PartitionSet,
    /// It has spoken of every key up to here, and nothing is known of what it holds beyond.
    pub(super) reach: Reach,
    pub(super) waiting: Option<Waiting>,
    /// Ascending, none beyond `reach`.
    rows: VecDeque<(String, Object)>,
    /// It gave no page, or one that is none.
    failed: bool,
}

impl Stream {
    pub(super) fn new(node: NodeId, groups: Vec<GroupId>, partitions: PartitionSet) -> Self {
        let (rows, reach) = (VecDeque::new(), Reach::Start);
        Self { node, groups, partitions, reach, waiting: None, rows, failed: false }
    }

    /// Its votes count.
    pub(super) fn is_alive(&self) -> bool {
        !self.failed
    }

    /// It is to be asked for its next page.
    pub(super) fn is_thirsty(&self) -> bool {
        let hopeful = self.is_alive() && self.waiting.is_none() && self.reach != Reach::End;
        hopeful && self.rows.is_empty() && !self.partitions.is_empty()
    }

    /// Nothing it holds counts any more.
    pub(super) fn fail(&mut self) {
        (self.failed, self.waiting) = (true, None);
        self.rows.clear();
    }

    /// Takes the page it waits for, if it is one: in the order of the keys, of this prefix, and further than before.
    /// Gives the partitions that the replica does not vote on.
    pub(super) fn take(&mut self, page: ListPage, bucket: &str, prefix: &str) -> Option<PartitionSet> {
        let after = self.waiting.take()?.after;
        let through = page.through.map_or(Reach::End, Reach::Key);
        let keys = page.rows.iter().map(|row| row.key.as_str());
        let ordered = keys.clone().zip(keys.clone().skip(1)).all(|(one, next)| one < next);
        let inside = keys.clone().all(|key| key.starts_with(prefix) && !after.covers(key) && through.covers(key));
        if !ordered || !inside || through <= after || page.untrusted.of() != self.partitions.of() {
            return None;
        }
        let mut lost = page.untrusted;
        for Listed { key, outline } in page.rows {
            match outline {
                Some(outline) => self.rows.push_back((key, outline)),
                None => lost.insert(self.partitions.of().partition_of(token(bucket, &key))),
            }
        }
        self.reach = through;
        lost.iter().for_each(|partition| self.partitions.remove(partition));
        let partitions = &self.partitions;
        self.rows.retain(|(key, _)| partitions.covers(token(bucket, key)));
        Some(lost)
    }

    /// The next key.
    pub(super) fn head(&self) -> Option<&str> {
        self.rows.front().map(|(key, _)| key.as_str())
    }

    /// What it holds of the key, if that is its next.
    pub(super) fn pop(&mut self, key: &str) -> Option<Object> {
        if self.head() != Some(key) {
            return None;
        }
        self.rows.pop_front().map(|(_, object)| object)
    }

    /// Forgets what has been decided without it.
    pub(super) fn skip(&mut self, through: &Reach) {
        while self.head().is_some_and(|key| through.covers(key)) {
            self.rows.pop_front();
        }
    }
}

fn token(bucket: &str, key: &str) -> Token {
    Token::of(bucket.as_bytes(), key.as_bytes())
}
