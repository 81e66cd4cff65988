//! Connections that only lie there do not keep others out. `make idle-connections` holds 10,000 of them.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::time::{Duration, Instant};

use rondo_tests::{Cluster, Node, RawClient, eventually, holds};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A connection makes room once it has been idle for a second.
const ROOM: Duration = Duration::from_secs(30);
const NEWCOMERS: usize = 50;
/// Of the test itself: the sockets of its nodes' logs, its client.
const OTHER_FILES: u64 = 200;

fn wanted() -> u64 {
    std::env::var("RONDO_IDLE_CONNECTIONS")
        .map_or(200, |text| text.parse().expect("RONDO_IDLE_CONNECTIONS is a number"))
}

/// As many sockets as the system lets this process have, and no more than wanted.
fn affordable(wanted: u64) -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = maximum.map_or(wanted + OTHER_FILES, |maximum| maximum.min(wanted + OTHER_FILES));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum });
    let allowed = raised.map_or_else(|_| getrlimit(Resource::Nofile).current.unwrap_or(wanted), |()| current);
    let affordable = wanted.min(allowed.saturating_sub(OTHER_FILES));
    if affordable < wanted {
        eprintln!("only {affordable} of {wanted} connections: the hard limit of open files is {maximum:?}");
    }
    affordable
}

fn ask(client: &mut RawClient) -> Result<(), String> {
    let sent = client.try_send("GET /v1/kv/b/k HTTP/1.1\r\nHost: x\r\n\r\n");
    sent.map_err(|error| error.to_string())?;
    let answer = client.answer().ok_or("closed without an answer")?;
    holds(answer.status == 200, || answer.head.clone())
}

fn connect(node: &Node) -> RawClient {
    RawClient::connect(node.client_addr())
}

#[test]
fn idle_connections_make_room_for_newcomers_and_used_ones_stay() {
    let places = affordable(wanted());
    let cluster = Cluster::builder(1).env("RONDO_N", 1).env("RONDO_LIMITS__CONNECTIONS", places).start();
    let node = &cluster[0];
    node.object("PUT", "b", "k").body("v").send().expect(204);
    let before = node.resident_bytes();
    let mut idle: Vec<RawClient> = Vec::new();
    while (idle.len() as u64) < places - 1 {
        let mut client = connect(node);
        // At the end the test's own other connections may hold the last places for a second.
        if ask(&mut client).is_ok() {
            idle.push(client);
        }
    }
    let bytes = node.resident_bytes().saturating_sub(before);
    println!("{places} connections, {} bytes of memory for each idle one", bytes / places);

    let mut used = eventually(ROOM, "the last place", || {
        let mut client = connect(node);
        ask(&mut client).map(|()| client)
    });
    let (mut slowest, mut newcomers) = (Duration::ZERO, Vec::new());
    for _ in 0..NEWCOMERS {
        newcomers.push(eventually(ROOM, "room for a newcomer", || {
            let mut client = connect(node);
            ask(&mut client).map(|()| client)
        }));
        let began = Instant::now();
        ask(&mut used).expect("a connection that is used is never sent away");
        slowest = slowest.max(began.elapsed());
    }
    println!("slowest of {NEWCOMERS} requests on the used connection while others came: {slowest:?}");
    for (number, client) in idle.iter_mut().take(NEWCOMERS / 2).enumerate() {
        assert!(client.is_closed(), "number {number} was idle for longest");
    }
    assert!(node.metric("rondo_http_connections_sent_away_total") >= NEWCOMERS as f64);
    assert!(node.metric("rondo_http_connections") <= (places + 1) as f64);
}
