//! C11: owners that have no room for a write.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rondo_coordinator::{
    Action, Actions, CoordinatorOptions, Event, Failure, Now, Origin, QuorumChoice, QuorumKind, Refusal, ReplicaReply,
    ReplicaRequest, Write, WriteAnswer, WriteRequest,
};
use rondo_ring::{Layout, Liveness, Member, NodeId, PartitionCount, ReplicationFactor, View};
use rondo_storage::Key;
use rondo_storage::engine::{Durability, EngineError};
use rondo_storage::store::{BlindPut, Change, Updated};
use rondo_storage::versions::{ActorId, CausalContext, Conflict, Dot, Metadata, Object, Sibling};

const DEADLINE: Now = Duration::from_secs(5);

struct Writing {
    write: Write,
    owners: Vec<NodeId>,
    now: Now,
}

impl Writing {
    /// Begun, queued here and sent to the two others.
    fn begin(w: u8) -> Self {
        let (n, key) = (ReplicationFactor::new(3).unwrap(), Key::new("fruit", "apple").unwrap());
        let members = (1..=3).map(|i| Member { id: NodeId(i), zone: "z".into(), weight: 1 }).collect();
        let layout = Arc::new(Layout::found(members, PartitionCount::new(8).unwrap(), n).unwrap());
        let view = View::new(NodeId(1), layout, |_| Liveness::Up);
        let owners = [2, 3].map(NodeId).to_vec();
        let change = Change {
            context: None,
            blind: BlindPut::Overwrite,
            conflict: Conflict::Siblings,
            condition: None,
            value: Some(Bytes::from_static(b"red")),
            metadata: Metadata::default(),
            ttl: None,
            siblings_max: 100,
            durability: Durability::Fsync,
        };
        let (w, origin) = (QuorumChoice::Count(w), Origin::Client { write_id: NonZeroU64::MIN });
        let request = WriteRequest { key, change, n, w, quorum: QuorumKind::Strict, deadline: DEADLINE, origin };
        let (write, _) = Write::start(request, &view, &CoordinatorOptions::default(), Now::ZERO);
        let mut begun = Self { write, owners, now: Now::ZERO };
        let dot = Dot { actor: ActorId(1), counter: 1 };
        let mut object = Object::default();
        let sibling = Sibling { dot, value: Some(Bytes::from_static(b"red")), metadata: Metadata::default() };
        object.update(&CausalContext::default(), sibling);
        let (encoded, context) = (object.encode(), object.context);
        let updated = Updated { object: encoded, dot, context, siblings: 1, modified_us: 7, expires_us: 0, hinted: 0 };
        let actions = begun.tell(Event::Updated(Ok(updated)));
        assert_eq!(sent_to(&actions), begun.owners);
        begun
    }

    fn tell(&mut self, event: Event) -> Actions {
        self.write.on_event(event, self.now)
    }

    fn reply(&mut self, owner: usize, reply: ReplicaReply) -> Actions {
        self.tell(Event::Reply { from: self.owners[owner], result: Ok(reply) })
    }

    fn is_busy(&mut self, owner: usize) -> Actions {
        self.reply(owner, ReplicaReply::Refused(Refusal::Busy))
    }

    /// Goes on to when the machine wants to be woken.
    fn wake(&mut self, asked: &Actions) -> Actions {
        let at = asked.iter().rev().find_map(|a| if let Action::WakeAt(at) = a { Some(*at) } else { None });
        self.now = at.expect("a time to be woken at");
        self.tell(Event::Wake)
    }
}

fn sent_to(actions: &Actions) -> Vec<NodeId> {
    let merge = |a: &Action| match a {
        Action::Send { to, request: ReplicaRequest::Merge { .. }, .. } => Some(*to),
        _ => None,
    };
    actions.iter().filter_map(merge).collect()
}

fn hints(actions: &Actions) -> Vec<NodeId> {
    actions.iter().filter_map(|a| if let Action::HintHere { target, .. } = a { Some(*target) } else { None }).collect()
}

fn answer(actions: &Actions) -> Option<Result<WriteAnswer, Failure>> {
    actions.iter().find_map(|a| if let Action::AnswerWrite(result) = a { Some(result.clone()) } else { None })
}

#[test]
fn one_that_w_needs_is_asked_again_until_it_has_room() {
    let mut writing = Writing::begin(3);
    writing.tell(Event::Durable(Ok(())));
    assert_eq!(answer(&writing.reply(0, ReplicaReply::Merged)), None);
    let mut asked = Actions::new();
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let (before, refused) = (writing.now, writing.is_busy(1));
        assert_eq!(answer(&refused), None, "it may yet be met");
        asked = writing.wake(&refused);
        pauses.push((writing.now - before).as_millis());
        assert_eq!(sent_to(&asked), [writing.owners[1]]);
    }
    assert_eq!(pauses, [20, 40, 80, 160, 320, 320]);
    assert_eq!(answer(&asked), None);
    let acks = answer(&writing.reply(1, ReplicaReply::Merged)).unwrap().unwrap().acks;
    assert_eq!((acks, writing.write.is_finished()), (3, true));
}

#[test]
fn one_that_w_does_not_need_gets_a_hint() {
    let mut writing = Writing::begin(2);
    writing.tell(Event::Durable(Ok(())));
    let refused = writing.is_busy(0);
    assert_eq!((sent_to(&refused), hints(&refused)), (Vec::new(), vec![writing.owners[0]]));
    // Now there is one left, and it is needed.
    let refused = writing.is_busy(1);
    assert_eq!((answer(&refused), hints(&refused)), (None, Vec::new()));
    let asked = writing.wake(&refused);
    assert_eq!(sent_to(&asked), [writing.owners[1]]);
    assert_eq!(answer(&writing.reply(1, ReplicaReply::Merged)).unwrap().unwrap().acks, 2);
}

#[test]
fn when_time_is_over_it_has_missed_the_write() {
    let mut writing = Writing::begin(3);
    writing.tell(Event::Durable(Ok(())));
    writing.reply(0, ReplicaReply::Merged);
    writing.is_busy(1);
    writing.now = DEADLINE;
    let ended = writing.tell(Event::Wake);
    assert!(matches!(answer(&ended), Some(Err(Failure::TimedOut { required: 3, acked: 2, .. }))));
    assert_eq!(hints(&ended), [writing.owners[1]]);
    writing.tell(Event::Hinted(Ok(())));
    assert!(writing.write.is_finished());
}

#[test]
fn of_a_write_that_failed_here_it_hears_nothing() {
    let mut writing = Writing::begin(3);
    writing.reply(0, ReplicaReply::Merged);
    let refused = writing.is_busy(1);
    let failed = writing.tell(Event::Durable(Err(EngineError::Write("gone".into()))));
    assert!(answer(&failed).unwrap().is_err());
    let woken = writing.wake(&refused);
    assert_eq!((sent_to(&woken), hints(&woken)), (Vec::new(), Vec::new()));
    assert!(writing.write.is_finished());
}
