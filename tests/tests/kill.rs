//! kill -9 under load, round after round, of one node, two, or all at once: every acknowledged write is there at the
//! end, and what was deleted stays deleted. `RONDO_KILL_ROUNDS` (20) and `RONDO_KILL_SEED` may be set.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test helpers")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rondo_tests::{Answer, Cluster, Node, eventually, holds, request};

const WRITERS: usize = 6;
/// Acknowledged writes between two kills.
const WRITES_PER_ROUND: usize = 150;
const PROGRESS: Duration = Duration::from_secs(60);

/// What clients were told.
#[derive(Default)]
struct Acknowledged {
    /// Written once.
    once: Vec<String>,
    /// Written, then deleted.
    deleted: Vec<String>,
    /// Written again and again: the greatest number acknowledged.
    counters: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    writes: AtomicUsize,
    told: Mutex<Acknowledged>,
}

/// A client that goes on with another node when one does not answer.
struct Writer {
    number: usize,
    addresses: Vec<SocketAddr>,
    current: usize,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self) {
        let (mut counter, mut context) = (0, None::<String>);
        for turn in 0.. {
            if self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
            let key = format!("once-{}-{turn}", self.number);
            let written = self.put(&key, &key, None);
            if let Some(written) = written {
                self.after_write(turn, key, &written);
            }
            let key = format!("counter-{}", self.number);
            counter += 1;
            match self.put(&key, &counter.to_string(), context.as_deref()) {
                Some(answer) if answer.status == 409 => context = Some(answer.context()),
                Some(answer) => {
                    context = Some(answer.context());
                    self.shared.told.lock().unwrap().counters.insert(key, counter);
                }
                None => {}
            }
        }
    }

    /// Every third is deleted again.
    fn after_write(&mut self, turn: usize, key: String, written: &Answer) {
        if !turn.is_multiple_of(3) {
            self.shared.told.lock().unwrap().once.push(key);
            return;
        }
        let url = self.url(&key);
        if self.acknowledged(request("DELETE", &url).context(&written.context()).w(2)).is_some() {
            self.shared.told.lock().unwrap().deleted.push(key);
        }
    }

    fn url(&self, key: &str) -> String {
        format!("http://{}/v1/kv/kill/{key}?timeout=2s", self.addresses[self.current])
    }

    fn put(&mut self, key: &str, value: &str, context: Option<&str>) -> Option<Answer> {
        let put = request("PUT", &self.url(key)).w(2).body(value);
        self.acknowledged(context.into_iter().fold(put, rondo_tests::Request::context))
    }

    /// `None` where the client may not rely on anything.
    fn acknowledged(&mut self, request: rondo_tests::Request) -> Option<Answer> {
        match request.try_send() {
            Ok(answer) if answer.status == 204 => {
                self.shared.writes.fetch_add(1, Ordering::Relaxed);
                Some(answer)
            }
            // Of writes that failed, each may be there: the answer has the context that replaces them all.
            Ok(answer) if answer.status == 409 && answer.text().contains("too-many-siblings") => Some(answer),
            Ok(answer) => {
                assert!([503, 504].contains(&answer.status), "a write is acknowledged or fails as it may: {answer:?}");
                self.current = (self.current + 1) % self.addresses.len();
                None
            }
            Err(_) => {
                self.current = (self.current + 1) % self.addresses.len();
                None
            }
        }
    }
}

/// xorshift64*: which nodes are killed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    /// The nodes to kill in a round; every fifth round it is all of them.
    fn victims(&mut self, round: usize) -> Vec<usize> {
        match round % 5 {
            4 => vec![0, 1, 2],
            2 => {
                let spared = self.roll(3);
                (0..3).filter(|&node| node != spared).collect()
            }
            _ => vec![self.roll(3)],
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn no_acknowledged_write_is_lost() {
    let rounds = setting("RONDO_KILL_ROUNDS", 20) as usize;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = setting("RONDO_KILL_SEED", now | 1);
    println!("{rounds} rounds, RONDO_KILL_SEED={seed}");
    let mut cluster = Cluster::start(3);
    let shared = Arc::new(Shared::default());
    let addresses: Vec<SocketAddr> = cluster.nodes().iter().map(Node::client_addr).collect();
    let writer = |number: usize| {
        let (addresses, shared) = (addresses.clone(), shared.clone());
        std::thread::spawn(move || Writer { number, addresses, current: number % 3, shared }.run())
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    let mut dice = Dice(seed | 1);
    for round in 0..rounds {
        under_load(&shared);
        let victims = dice.victims(round);
        victims.iter().for_each(|&victim| cluster[victim].begin_kill());
        victims.iter().for_each(|&victim| cluster[victim].kill());
        cluster.start_missing();
    }
    under_load(&shared);
    shared.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("a writer saw what it may not see");
    }
    verify(&cluster, &shared.told.lock().unwrap(), rounds);
}

fn under_load(shared: &Shared) {
    let goal = shared.writes.load(Ordering::Relaxed) + WRITES_PER_ROUND;
    eventually(PROGRESS, "acknowledged writes", || {
        let done = shared.writes.load(Ordering::Relaxed);
        holds(done >= goal, || format!("{done} of {goal}"))
    });
}

fn verify(cluster: &Cluster, told: &Acknowledged, rounds: usize) {
    println!("{} values, {} deletes, {} counters", told.once.len(), told.deleted.len(), told.counters.len());
    assert!(told.once.len() + told.deleted.len() >= rounds * WRITES_PER_ROUND / 4 && !told.deleted.is_empty());
    assert_eq!(told.counters.len(), WRITERS);
    for (index, key) in told.once.iter().enumerate() {
        let get = cluster[index % 3].object("GET", "kill", key).r(2).send();
        assert_eq!((get.status, get.text().as_str()), (200, key.as_str()), "an acknowledged write is lost");
    }
    for (index, key) in told.deleted.iter().enumerate() {
        let get = cluster[index % 3].object("GET", "kill", key).r(2).send();
        assert_eq!(get.status, 404, "a deleted value is back: {get:?}");
    }
    for (key, acknowledged) in &told.counters {
        let list = cluster[0].object("GET", "kill", key).header("Accept", "application/vnd.rondo.siblings+json");
        let list = list.r(2).send().expect(200).json();
        let numbers = list["siblings"].as_array().unwrap().iter().map(|s| s["text"].as_str().unwrap().parse::<u64>());
        let newest = numbers.map(Result::unwrap).max().unwrap();
        // A later write that failed may have come through all the same.
        assert!(newest >= *acknowledged, "{key}: {acknowledged} was acknowledged, {list} is there");
    }
}
