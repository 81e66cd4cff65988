//! What other systems were seen to do to a request that had every right to be quick, or at least honest: forty
//! milliseconds for nothing, and 500 under load.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rondo_tests::{Answer, Cluster, Node, request};

/// A segment that Nagle's algorithm holds back leaves with the acknowledgement of the one before, which the other side
/// delays by this.
const DELAYED_ACKNOWLEDGEMENT: Duration = Duration::from_millis(40);
/// One segment, several, and more than a loopback device takes at once.
const SIZES: [usize; 3] = [10, 3_000, 150_000];
const REPETITIONS: usize = 41;

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}

/// One request at a time, so that nothing else pushes a segment out; all owners have to answer. The median, since the
/// machine may be busy: a delay of this kind hits every request.
#[test]
fn no_request_waits_for_a_delayed_acknowledgement() {
    let cluster = Cluster::start(4);
    cluster.settled(&[0, 1, 2, 3], "healthy");
    for size in SIZES {
        // The fourth node owns only some of the keys: it forwards.
        for node in [&cluster[0], &cluster[3]] {
            let value = vec![b'x'; size];
            let key = |i: usize| format!("k{size}-{i}");
            let put = |i: usize| node.object("PUT", "tails", &key(i)).w(3).body(value.clone()).send().expect(204).took;
            let get = |i: usize| node.object("GET", "tails", &key(i)).r(3).send().expect(200).took;
            put(0);
            let puts = median((0..REPETITIONS).map(put).collect());
            let gets = median((0..REPETITIONS).map(get).collect());
            let name = node.name();
            assert!(puts < DELAYED_ACKNOWLEDGEMENT, "a PUT of {size} bytes through {name} takes {puts:?}");
            assert!(gets < DELAYED_ACKNOWLEDGEMENT, "a GET of {size} bytes through {name} takes {gets:?}");
        }
    }
}

const CLIENTS: usize = 48;
/// Of each client.
const REQUESTS: usize = 60;
/// Far fewer than there are clients.
const IN_FLIGHT_MAX: usize = 6;

type Statuses = BTreeMap<u16, usize>;

/// Requests as fast as they are answered, of every kind of quorum, with little time.
fn hammer(node: &Node, client: usize, statuses: &Mutex<Statuses>) {
    for i in 0..REQUESTS {
        let (key, quorum) = (format!("k{}", (client + i) % 20), 1 + i % 3);
        let asked = match i % 2 {
            0 => node.object("PUT", "crowd", &key).w(quorum).body("v"),
            _ => node.object("GET", "crowd", &key).r(quorum),
        };
        let answer = asked.header("Rondo-Timeout", "200ms").send();
        is_honest(&answer);
        *statuses.lock().unwrap().entry(answer.status).or_default() += 1;
    }
}

/// What may be said under load: done, nothing there, or come back later.
fn is_honest(answer: &Answer) {
    let later = [429, 503, 504].contains(&answer.status);
    assert!(later || [200, 204, 404].contains(&answer.status), "{answer:?}\n{}", answer.text());
    assert_eq!(later, answer.header("Retry-After").is_some(), "{answer:?}");
    if later {
        let problem = answer.clone().problem(answer.status);
        assert_eq!(problem["retryable"], true, "{problem}");
        assert!(answer.status != 429 || problem["outcome"].is_null(), "turned away before any work: {problem}");
    }
}

#[test]
fn overload_is_said_as_such_and_never_as_an_error_of_the_server() {
    let cluster = Cluster::builder(3).env("RONDO_LIMITS__REQUESTS_IN_FLIGHT", IN_FLIGHT_MAX).start();
    cluster.settled(&[0, 1, 2], "healthy");
    let statuses = Mutex::new(Statuses::new());
    // A third of the requests need the node that hangs, and fill the places for as long as they may.
    cluster[2].pause();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (node, statuses) = (&cluster[client % 2], &statuses);
            scope.spawn(move || hammer(node, client, statuses));
        }
    });
    cluster[2].resume();
    let statuses = statuses.into_inner().unwrap();
    let count = |status| statuses.get(&status).copied().unwrap_or(0);
    assert!(count(429) > 0 && count(204) > 0 && count(503) + count(504) > 0, "too little was asked: {statuses:?}");
    // Overload is over when it is over.
    cluster.settled(&[0, 1, 2], "healthy");
    let began = Instant::now();
    for node in cluster.nodes() {
        node.object("PUT", "crowd", "after").w(2).body("v").send().expect(204);
        request("GET", &node.url("/livez")).send().expect(200);
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
