//! The same trials through the real machines: one write and one read of its key over three owners, under virtual time,
//! each message and each commit taking what was drawn for it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::staleness::Delays;
use rondo_coordinator::{
    Action, Actions, CoordinatorOptions, Event, Now, Origin, QuorumChoice, QuorumKind, Read, ReadRequest, ReplicaReply,
    ReplicaRequest, ReplicaValue, Want, Write, WriteRequest,
};
use rondo_ring::{Layout, Liveness, Member, NodeId, PartitionCount, ReplicationFactor, View};
use rondo_storage::Key;
use rondo_storage::engine::Durability;
use rondo_storage::store::{BlindPut, Change, Stored, Updated};
use rondo_storage::versions::{ActorId, Conflict, Dot, Metadata, Object, Sibling};

use crate::distributions::N;

/// Longer than any delay that is drawn.
const DEADLINE: Now = Duration::from_secs(100_000);

/// Whether a read that is late may ask one owner more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hedging {
    Never,
    Always,
}

/// Three owners of one key, as each of them sees the cluster.
pub(crate) struct Cluster {
    key: Key,
    n: ReplicationFactor,
    /// In the layout's order.
    views: Vec<View>,
    options: CoordinatorOptions,
}

/// What is asked of a trial.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    /// In the order in which the reader asks: its own replica first.
    pub(crate) delays: &'a [Delays],
    /// Index of the replica that coordinates the write.
    pub(crate) writer: usize,
    pub(crate) r: usize,
    pub(crate) w: usize,
    /// The read begins so long after the acknowledgement.
    pub(crate) age_ms: f64,
    pub(crate) hedging: Hedging,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let n = ReplicationFactor::new(N as u8).expect("3 is allowed");
        let members = (1..=N as u128).map(|id| Member { id: NodeId(id), zone: "z".into(), weight: 1 }).collect();
        let partitions = PartitionCount::new(8).expect("a power of two");
        let layout = Arc::new(Layout::found(members, partitions, n).expect("valid members"));
        let key = Key::new("fruit", "apple").expect("a valid key");
        let owners = View::new(NodeId(1), layout.clone(), |_| Liveness::Up).owners(key.token(), n).to_vec();
        let views = owners.into_iter().map(|owner| View::new(owner, layout.clone(), |_| Liveness::Up)).collect();
        Self { key, n, views, options: CoordinatorOptions::default() }
    }

    /// Whether the read sees the write.
    pub(crate) fn sees(&self, question: Question<'_>) -> bool {
        // The reader's machine asks the others in the layout's order, which is theirs here already.
        let request = WriteRequest {
            key: self.key.clone(),
            change: change(),
            n: self.n,
            w: QuorumChoice::Count(question.w as u8),
            quorum: QuorumKind::Strict,
            deadline: DEADLINE,
            origin: Origin::Client { write_id: NonZeroU64::MIN },
        };
        let (write, actions) = Write::start(request, &self.views[question.writer], &self.options, Now::ZERO);
        let holds = std::array::from_fn(|_| None);
        let mut run =
            Run { cluster: self, question, now: Now::ZERO, agenda: BTreeMap::new(), write, holds, read: None };
        run.act_for_write(actions);
        run.until_answered()
    }

    fn index(&self, node: NodeId) -> usize {
        self.views.iter().position(|view| view.this() == node).expect("only owners are asked")
    }
}

/// What is to happen.
enum Task {
    Write(Event),
    /// The write can be read at a replica from now on.
    Visible(usize, Bytes),
    BeginRead,
    /// The read looks at a replica.
    Look(usize, Want),
    Read(Event),
}

struct Run<'a> {
    cluster: &'a Cluster,
    question: Question<'a>,
    now: Now,
    agenda: BTreeMap<(Now, usize), Task>,
    write: Write,
    holds: [Option<Bytes>; N],
    read: Option<Read>,
}

impl Run<'_> {
    fn until_answered(&mut self) -> bool {
        loop {
            let ((now, _), task) =
                self.agenda.pop_first().expect("a machine that has not answered waits for something");
            self.now = now;
            match task {
                Task::Write(event) => {
                    let actions = self.write.on_event(event, now);
                    self.act_for_write(actions);
                }
                Task::Visible(replica, object) => self.holds[replica] = Some(object),
                Task::Look(replica, want) => self.look(replica, want),
                Task::BeginRead | Task::Read(_) => {
                    if let Some(seen) = self.step_read(task) {
                        return seen;
                    }
                }
            }
        }
    }

    fn after(&mut self, delay_ms: f64, task: Task) {
        let at = self.now + Duration::from_secs_f64(delay_ms / 1e3);
        self.at(at, task);
    }

    /// Of what is due at the same time, what was planned first comes first.
    fn at(&mut self, at: Now, task: Task) {
        let later = (0..).find(|&serial| !self.agenda.contains_key(&(at, serial)));
        self.agenda.insert((at, later.expect("there is a number left")), task);
    }

    fn act_for_write(&mut self, actions: Actions) {
        for action in actions {
            match action {
                Action::UpdateHere { .. } => {
                    let updated = updated();
                    self.replicate(self.question.writer, updated.object.clone(), Event::Durable(Ok(())));
                    self.after(0.0, Task::Write(Event::Updated(Ok(updated))));
                }
                Action::Send { to, request: ReplicaRequest::Merge { object, .. }, .. } => {
                    let event = Event::Reply { from: to, result: Ok(ReplicaReply::Merged) };
                    self.replicate(self.cluster.index(to), object, event);
                }
                Action::AnswerWrite(answer) => {
                    answer.expect("nothing fails here");
                    self.after(self.question.age_ms, Task::BeginRead);
                }
                Action::WakeAt(_) => {}
                other => unreachable!("no write of an owner does this: {other:?}"),
            }
        }
    }

    fn replicate(&mut self, replica: usize, object: Bytes, acknowledged: Event) {
        let delays = self.question.delays[replica];
        self.after(delays.write_ms, Task::Visible(replica, object));
        self.after(delays.write_ms + delays.ack_ms, Task::Write(acknowledged));
    }

    /// Whether the write was seen, once the read is answered.
    fn step_read(&mut self, task: Task) -> Option<bool> {
        let actions = match (task, &mut self.read) {
            (Task::Read(event), Some(read)) => read.on_event(event, self.now),
            _ => {
                let request = ReadRequest {
                    key: self.cluster.key.clone(),
                    n: self.cluster.n,
                    r: QuorumChoice::Count(self.question.r as u8),
                    quorum: QuorumKind::Strict,
                    at_least: None,
                    deadline: DEADLINE,
                };
                let cluster = self.cluster;
                let (read, actions) = Read::start(request, &cluster.views[0], |_| None, &cluster.options, self.now);
                self.read = Some(read);
                actions
            }
        };
        actions.into_iter().find_map(|action| self.act_for_read(action))
    }

    fn act_for_read(&mut self, action: Action) -> Option<bool> {
        match action {
            Action::ReadHere { .. } => self.ask(0, Want::Object),
            Action::Send { to, request: ReplicaRequest::Read { want, .. }, .. } => {
                self.ask(self.cluster.index(to), want);
            }
            Action::AnswerRead(answer) => {
                let object = answer.expect("nothing fails here").object;
                return Some(object.live(0).next().is_some());
            }
            Action::MayHedge { .. } => {
                let may = Event::MayHedge(self.question.hedging == Hedging::Always);
                self.after(0.0, Task::Read(may));
            }
            Action::WakeAt(at) => self.at(at, Task::Read(Event::Wake)),
            // Repairs are after the answer.
            _ => {}
        }
        None
    }

    fn ask(&mut self, replica: usize, want: Want) {
        self.after(self.question.delays[replica].read_ms, Task::Look(replica, want));
    }

    fn look(&mut self, replica: usize, want: Want) {
        let stored = self.holds[replica].clone().map_or(Stored::Missing, Stored::Found);
        let event = match replica {
            0 => Event::ReadHere(stored),
            other => {
                let value = ReplicaReply::Value(ReplicaValue::of(stored, want));
                Event::Reply { from: self.cluster.views[other].this(), result: Ok(value) }
            }
        };
        self.after(self.question.delays[replica].answer_ms, Task::Read(event));
    }
}

fn change() -> Change {
    Change {
        context: None,
        blind: BlindPut::Overwrite,
        conflict: Conflict::Siblings,
        condition: None,
        value: Some(Bytes::from_static(b"red")),
        metadata: Metadata::default(),
        ttl: None,
        siblings_max: 100,
        durability: Durability::Fsync,
    }
}

/// The first write of the key, which nobody wrote before.
fn updated() -> Updated {
    let dot = Dot { actor: ActorId(1), counter: 1 };
    let mut object = Object::default();
    let sibling = Sibling { dot, value: Some(Bytes::from_static(b"red")), metadata: Metadata::default() };
    object.update(&object.context.clone(), sibling);
    Updated {
        object: object.encode(),
        dot,
        context: object.context,
        siblings: 1,
        modified_us: 0,
        expires_us: 0,
        hinted: 0,
    }
}
