//! C11: owners that have no room for a write.

use super::*;

struct Writing {
    write: Write,
    /// The other owners.
    owners: Vec<NodeId>,
    now: Now,
}

impl Writing {
    /// Begun, queued here and sent to the two others.
    fn begin(w: u8) -> Self {
        let (view, _, owners) = views(0);
        let (write, _) = put(&view, w, client());
        let mut begun = Self { write, owners: owners[1..].to_vec(), now: Now::ZERO };
        let actions = begun.tell(Event::Updated(Ok(updated())));
        assert_eq!(sent_to(&actions), begun.owners);
        begun
    }

    fn tell(&mut self, event: Event) -> Actions {
        self.write.on_event(event, self.now)
    }

    fn merged(&mut self, owner: usize) -> Actions {
        self.tell(reply(self.owners[owner], ReplicaReply::Merged))
    }

    fn is_busy(&mut self, owner: usize) -> Actions {
        self.tell(reply(self.owners[owner], ReplicaReply::Refused(Refusal::Busy)))
    }

    /// Goes on to when the machine wants to be woken.
    fn wake(&mut self, asked: &Actions) -> Actions {
        self.now = wakes_at(asked).expect("a time to be woken at");
        self.tell(Event::Wake)
    }
}

fn sent_to(actions: &Actions) -> Vec<NodeId> {
    merges(actions).into_iter().map(|(to, _)| to).collect()
}

fn hints(actions: &Actions) -> Vec<NodeId> {
    actions.iter().filter_map(|a| if let Action::HintHere { target, .. } = a { Some(*target) } else { None }).collect()
}

#[test]
fn one_that_w_needs_is_asked_again_until_it_has_room() {
    let mut writing = Writing::begin(3);
    writing.tell(Event::Durable(Ok(())));
    assert_eq!(write_answer(&writing.merged(0)), None);
    let mut asked = Actions::new();
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let (before, refused) = (writing.now, writing.is_busy(1));
        assert_eq!(write_answer(&refused), None, "it may yet be met");
        asked = writing.wake(&refused);
        pauses.push((writing.now - before).as_millis());
        assert_eq!(sent_to(&asked), [writing.owners[1]]);
    }
    assert_eq!(pauses, [20, 40, 80, 160, 320, 320]);
    assert_eq!(write_answer(&asked), None);
    let acks = write_answer(&writing.merged(1)).unwrap().unwrap().acks;
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
    assert_eq!((write_answer(&refused), hints(&refused)), (None, Vec::new()));
    let asked = writing.wake(&refused);
    assert_eq!(sent_to(&asked), [writing.owners[1]]);
    assert_eq!(write_answer(&writing.merged(1)).unwrap().unwrap().acks, 2);
}

#[test]
fn when_time_is_over_it_has_missed_the_write() {
    let mut writing = Writing::begin(3);
    writing.tell(Event::Durable(Ok(())));
    writing.merged(0);
    writing.is_busy(1);
    writing.now = DEADLINE;
    let ended = writing.tell(Event::Wake);
    assert!(matches!(write_answer(&ended), Some(Err(Failure::TimedOut { required: 3, acked: 2, .. }))));
    assert_eq!(hints(&ended), [writing.owners[1]]);
    writing.tell(Event::Hinted(Ok(())));
    assert!(writing.write.is_finished());
}

#[test]
fn of_a_write_that_failed_here_it_hears_nothing() {
    let mut writing = Writing::begin(3);
    writing.merged(0);
    let refused = writing.is_busy(1);
    let failed = writing.tell(Event::Durable(Err(EngineError::Write("gone".into()))));
    assert!(write_answer(&failed).unwrap().is_err());
    let woken = writing.wake(&refused);
    assert_eq!((sent_to(&woken), hints(&woken)), (Vec::new(), Vec::new()));
    assert!(writing.write.is_finished());
}
