//! What clients and the test share: who can be asked, who is in trouble, and the history.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rondo_sim::history::{Answer, Asked, AskedWrite, At, Coordinated, History, Label, Op};
use rondo_sim::invariants::{self, dots};
use rondo_storage::Key;
use rondo_storage::versions::{ActorId, CausalContext, ContextTokens, Dot, Object};

/// On top of a deadline, for the way there and back on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// What a test makes of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Liar {
    /// They say what they ask and hear.
    #[default]
    Honest,
    /// They ask for one owner, and say that it was a quorum.
    OfQuorums,
    /// They say of one key what they heard of another.
    OfKeys,
    /// They say that a write that failed is nowhere, whatever they were told.
    OfOutcomes,
}

/// Everything shared.
pub(crate) struct Stage {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) keys: Vec<Key>,
    pub(crate) n: u8,
    pub(crate) tokens: ContextTokens,
    pub(crate) liar: Liar,
    pub(crate) stop: AtomicBool,
    /// Odd while the node is in trouble: then it may fail requests.
    troubles: Vec<AtomicU64>,
    began: Instant,
    history: Mutex<History>,
    /// What a healthy node has answered to a request that a quorum could carry out.
    failures: Mutex<Vec<String>>,
    /// What each write replaces: what its client had seen, and nothing else (the bucket's `blind_put` is `sibling`).
    replaces: Mutex<BTreeMap<Label, CausalContext>>,
    /// When a stopped node went on, by node.
    resumed: Mutex<Vec<Option<At>>>,
}

impl Stage {
    pub(crate) fn new(addresses: Vec<SocketAddr>, keys: Vec<Key>, tokens: ContextTokens, liar: Liar) -> Self {
        let nodes = addresses.len();
        Self {
            addresses,
            keys,
            n: 3,
            tokens,
            liar,
            stop: AtomicBool::new(false),
            troubles: (0..nodes).map(|_| AtomicU64::new(0)).collect(),
            began: Instant::now(),
            history: Mutex::new(History::default()),
            failures: Mutex::new(Vec::new()),
            replaces: Mutex::default(),
            resumed: Mutex::new(vec![None; nodes]),
        }
    }

    pub(crate) fn now(&self) -> At {
        self.began.elapsed()
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn failures(&self) -> MutexGuard<'_, Vec<String>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this node may fail.
    pub(crate) fn in_trouble(&self, node: usize) {
        let before = self.troubles[node].fetch_add(1, Ordering::SeqCst);
        assert!(before.is_multiple_of(2), "n{} is in trouble already", node + 1);
    }

    /// From now on it may not.
    pub(crate) fn out_of_trouble(&self, node: usize) {
        let before = self.troubles[node].fetch_add(1, Ordering::SeqCst);
        assert!(!before.is_multiple_of(2), "n{} is in no trouble", node + 1);
    }

    /// A stopped node is about to go on.
    pub(crate) fn resumes(&self, node: usize) {
        self.resumed.lock().unwrap_or_else(PoisonError::into_inner)[node] = Some(self.now());
    }

    pub(crate) fn is_in_trouble(&self, node: usize) -> bool {
        !self.troubles[node].load(Ordering::SeqCst).is_multiple_of(2)
    }

    /// What this write is about to replace.
    pub(crate) fn will_replace(&self, label: &Label, context: CausalContext) {
        self.replaces.lock().unwrap_or_else(PoisonError::into_inner).insert(label.clone(), context);
    }

    /// A write of this name has this dot, as its answer or a version that is shown says.
    pub(crate) fn has_dot(&self, history: &mut History, key: &Key, (label, deletes): (&Label, bool), dot: Dot) {
        let replaces = self.replaces.lock().unwrap_or_else(PoisonError::into_inner).get(label).cloned();
        let Some(replaces) = replaces else { return };
        dots::coordinated(history, key, Coordinated { label: label.clone(), dot, replaces, deletes }, self.now());
    }

    /// The dots of values that are shown: their label is shown with them. A write whose own answer never came has one
    /// only so, and one that two owners carried out has two.
    pub(crate) fn learn(&self, history: &mut History, key: &Key, object: &Object) {
        for sibling in object.siblings.iter().filter(|sibling| sibling.value.is_some()) {
            self.has_dot(history, key, (&sibling.metadata.content_type, false), sibling.dot);
        }
    }

    /// Writes that no client was told of and whose dot was never shown may have been carried out, and replaced others.
    pub(crate) fn suppose_unknown_writes(&self, history: &mut History) {
        let all = self.replaces.lock().unwrap_or_else(PoisonError::into_inner);
        for of_key in history.keys.values_mut() {
            let known: BTreeSet<&Label> = of_key.dots.values().chain(&of_key.nowhere).collect();
            let unknown = of_key.asked.values().filter(|asked| !known.contains(&asked.label));
            // No instance has this id, so that nothing covers the dot.
            let dot = Dot { actor: ActorId(0), counter: 1 };
            let made = unknown.filter_map(|AskedWrite { label, deletes, .. }| {
                let (label, deletes, replaces) = (label.clone(), *deletes, all.get(label)?.clone());
                Some(Coordinated { label, dot, replaces, deletes })
            });
            let made: Vec<Coordinated> = made.collect();
            of_key.coordinated.extend(made);
        }
    }

    /// A request is about to be sent. Its number, and the state of its node's troubles.
    pub(crate) fn open(&self, node: usize, asked: Asked, timeout: Duration) -> (u64, u64) {
        let troubles = self.troubles[node].load(Ordering::SeqCst);
        let mut history = self.history();
        if let Asked::Write(write) = &asked {
            history.key(&write.key).asked.insert(write.label.clone(), write.clone());
        }
        let (began, id) = (self.now(), history.ops.len() as u64);
        let deadline = began + timeout + SLACK;
        let op = Op { node, asked, began, deadline, stopped_until: None, ended: None, answers: 0, orphaned: false };
        history.ops.insert(id, op);
        (id, troubles)
    }

    /// The request has ended. `Err`: the connection broke, which only a node in trouble may do.
    pub(crate) fn close(&self, (id, before): (u64, u64), answer: Result<&Answer, &str>) {
        let mut history = self.history();
        let at = self.now();
        let op = history.ops.get_mut(&id).expect("it was opened");
        let node = op.node;
        let troubled = !before.is_multiple_of(2) || self.troubles[node].load(Ordering::SeqCst) != before;
        let resumed = self.resumed.lock().unwrap_or_else(PoisonError::into_inner)[node];
        // It may have begun to read the request only then.
        op.stopped_until =
            resumed.filter(|resumed| *resumed > op.began).map(|resumed| resumed + op.deadline - op.began);
        let op = match answer {
            Ok(_) => {
                op.answers += 1;
                op.ended = Some(at);
                op.clone()
            }
            Err(_) if troubled => {
                op.orphaned = true;
                return history.count("requests whose node died");
            }
            Err(why) => return self.failures().push(format!("n{} broke the connection: {why}", node + 1)),
        };
        let Ok(answer) = answer else { return };
        history.count(answer.kind());
        if let Some(failed) = failure(&op.asked, answer).filter(|_| !troubled) {
            self.failures().push(format!("n{} at {at:?}, asked at {:?}: {failed}", node + 1, op.began));
        }
        invariants::on_answer(&mut history, &op, answer, at);
    }
}

/// What a cluster that has lost one node says no to, although a quorum could have said yes.
fn failure(asked: &Asked, answer: &Answer) -> Option<String> {
    use rondo_coordinator::Failure::{ConditionFailed, TooManySiblings};
    let failure = match answer {
        Answer::Write(Err(failure)) | Answer::Read(Err(failure)) | Answer::List(Err(failure)) => failure,
        _ => return None,
    };
    let could = match asked {
        Asked::Write(AskedWrite { w, n, .. }) => *w <= *n / 2 + 1,
        // What a context names may be where nobody can be asked.
        Asked::Read(read) => read.r <= read.n / 2 + 1 && read.at_least.is_none(),
        Asked::List(_) => true,
    };
    let at_fault = matches!(failure, ConditionFailed { .. } | TooManySiblings { .. });
    (could && !at_fault).then(|| format!("{failure:?} to {asked:?}"))
}
