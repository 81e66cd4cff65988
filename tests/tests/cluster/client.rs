//! A client: one request at a time, to any node, with what it has seen of a key as its context.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::{ReadAnswer, WriteAnswer};
use rondo_sim::history::{Acknowledged, Answer, Asked, AskedList, AskedRead, AskedWrite};
use rondo_sim::invariants::{listings, read_your_writes};
use rondo_sim::random::Random;
use rondo_storage::Key;
use rondo_storage::versions::CausalContext;
use rondo_tests::Request;

use super::stage::{Liar, Stage};
use super::tongue;
use super::world::stays;

/// In a thousand requests, those with a sloppy quorum.
const SLOPPY: u64 = 150;

/// What a client saw last of a key.
#[derive(Clone)]
struct Seen {
    token: String,
    context: CausalContext,
}

pub(crate) struct Client {
    stage: Arc<Stage>,
    number: usize,
    random: Random,
    writes: u64,
    seen: BTreeMap<Key, Seen>,
}

impl Client {
    pub(crate) fn new(stage: Arc<Stage>, number: usize, seed: u64) -> Self {
        Self { stage, number, random: Random::new(seed ^ (number as u64) << 32), writes: 0, seen: BTreeMap::new() }
    }

    /// Until it is told to stop.
    pub(crate) fn run(mut self) {
        while !self.stage.stop.load(Ordering::Relaxed) {
            let key = self.stage.keys[self.random.index(self.stage.keys.len())].clone();
            match self.random.below(100) {
                0..45 => self.writes(key),
                45..97 => self.reads(key),
                _ => self.lists(),
            }
        }
    }

    /// Mostly one that is well.
    fn node(&mut self) -> usize {
        let nodes = self.stage.addresses.len();
        let node = self.random.index(nodes);
        let well = |&node: &usize| !self.stage.is_in_trouble(node);
        if self.random.chance(50) { node } else { (node..nodes).chain(0..node).find(well).unwrap_or(node) }
    }

    fn timeout(&mut self) -> Duration {
        Duration::from_millis(1_000 + self.random.below(2_000))
    }

    fn count(&mut self) -> u8 {
        match self.random.below(8) {
            0 => 1,
            1 => self.stage.n,
            _ => self.stage.n / 2 + 1,
        }
    }

    fn sloppy(&mut self, request: Request) -> Request {
        let kind = if self.random.chance(SLOPPY) { "sloppy" } else { "strict" };
        request.header("Rondo-Quorum", kind)
    }

    fn writes(&mut self, key: Key) {
        let (node, timeout, w) = (self.node(), self.timeout(), self.count());
        self.writes += 1;
        let label = Bytes::from(format!("text/c{}-{}", self.number, self.writes));
        let seen = self.seen.get(&key).cloned().filter(|_| self.random.chance(700));
        // A delete without a context replaces what its owner holds, which nobody knows if it is not answered.
        let deletes = !stays(&key) && seen.is_some() && self.random.chance(250);
        let asked = AskedWrite {
            key: key.clone(),
            label: label.clone(),
            w,
            n: self.stage.n,
            durable: true,
            expires: false,
            deletes,
            sloppy: false,
        };
        let told = if self.stage.liar == Liar::OfQuorums { 1 } else { w };
        let method = if deletes { "DELETE" } else { "PUT" };
        let mut request = tongue::object(method, self.stage.addresses[node], &key, timeout).w(told);
        request = self.sloppy(request);
        if !deletes {
            request = request.header("Content-Type", String::from_utf8_lossy(&label)).body(label.to_vec());
            if self.random.chance(50) {
                request = request.header("If-None-Match", "*");
            }
        }
        request = seen.iter().fold(request, |request, seen| request.context(&seen.token));
        self.stage.will_replace(&label, seen.map(|seen| seen.context).unwrap_or_default());
        let op = self.stage.open(node, Asked::Write(asked.clone()), timeout);
        let began = self.stage.now();
        let answer = match request.try_send() {
            Ok(answer) => answer,
            Err(why) => return self.stage.close(op, Err(&why)),
        };
        let mut written = tongue::written(&self.stage.tokens, &key, &answer);
        if self.stage.liar == Liar::OfOutcomes {
            written = written.map_err(|_| rondo_coordinator::Failure::Busy);
        }
        if let Ok(written) = &written {
            self.has_written(asked, began, written);
            self.seen.insert(key, Seen { token: answer.context(), context: written.context.clone() });
        }
        self.stage.close(op, Ok(&Answer::Write(written)));
    }

    fn has_written(&self, asked: AskedWrite, began: Duration, written: &WriteAnswer) {
        let mut history = self.stage.history();
        let at = self.stage.now();
        let key = asked.key.clone();
        self.stage.has_dot(&mut history, &key, (&asked.label, asked.deletes), written.dot);
        // Where only owners counted it is as good as strict: the answer says so.
        let asked = AskedWrite { sloppy: written.sloppy, ..asked };
        if written.sloppy {
            history.count("sloppy acknowledgements");
        }
        if written.hinted > 0 {
            history.count("hinted acknowledgements");
        }
        history.key(&key).acknowledged.push(Acknowledged { asked, dot: written.dot, began, at });
    }

    fn reads(&mut self, key: Key) {
        let (node, timeout, r) = (self.node(), self.timeout(), self.count());
        let may_send = self.random.chance(250) && self.stage.liar != Liar::OfKeys;
        let seen = self.seen.get(&key).cloned().filter(|_| may_send);
        let told = if self.stage.liar == Liar::OfQuorums { 1 } else { r };
        let asked_of = match self.stage.liar {
            Liar::OfKeys => self.stage.keys.iter().find(|other| **other != key).unwrap().clone(),
            _ => key.clone(),
        };
        let request = tongue::object("GET", self.stage.addresses[node], &asked_of, timeout).r(told);
        let mut request = request.header("Accept", "application/vnd.rondo.siblings+json");
        request = self.sloppy(request);
        let must_cover = read_your_writes::owed(self.stage.history().key(&key), r);
        let at_least = seen.as_ref().map(|seen| seen.context.clone());
        let asked = AskedRead { key: key.clone(), r, n: self.stage.n, at_least, must_cover };
        request = seen.iter().fold(request, |request, seen| request.context(&seen.token));
        let op = self.stage.open(node, Asked::Read(asked), timeout);
        let answer = match request.try_send() {
            Ok(answer) => answer,
            Err(why) => return self.stage.close(op, Err(&why)),
        };
        let read = tongue::read(&self.stage.tokens, &asked_of, &answer);
        if let Ok(read) = &read {
            self.has_read(&key, &answer, read);
        }
        self.stage.close(op, Ok(&Answer::Read(read)));
    }

    fn has_read(&mut self, key: &Key, answer: &rondo_tests::Answer, read: &ReadAnswer) {
        self.stage.learn(&mut self.stage.history(), key, &read.object);
        let token = answer.header("Rondo-Context").filter(|_| self.stage.liar != Liar::OfKeys);
        if let Some(token) = token {
            let (token, context) = (token.to_string(), read.object.context.clone());
            self.seen.insert(key.clone(), Seen { token, context });
        }
    }

    fn lists(&mut self) {
        let (node, timeout, r) = (self.node(), self.timeout(), self.stage.n / 2 + 1);
        let staying: Vec<Key> = self.stage.keys.iter().filter(|key| stays(key)).cloned().collect();
        let must_have = listings::owed(&mut self.stage.history(), &staying, r);
        let request = tongue::listing(self.stage.addresses[node], self.stage.keys[0].bucket(), r, timeout);
        let op = self.stage.open(node, Asked::List(AskedList { must_have }), timeout);
        match request.try_send() {
            Ok(answer) => self.stage.close(op, Ok(&Answer::List(tongue::listed(&answer)))),
            Err(why) => self.stage.close(op, Err(&why)),
        }
    }
}
