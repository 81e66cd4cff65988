//! The README's first command, as far as a program can check it: `rondo dev --demo --exit`.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::net::TcpListener;

use rondo_tests::{Output, rondo};

/// Ports of three nodes from a base: below those that the system gives to outgoing connections, and apart from those of
/// the other test here, which may run at the same time.
fn bases(test: u16) -> impl Iterator<Item = u16> {
    let first = 10_000 + 10_000 * test + (std::process::id() % 200) as u16 * 30;
    (0..100).map(move |step| first + 30 * step).filter(|&base| ports(base).all(is_free))
}

fn ports(base: u16) -> impl Iterator<Item = u16> {
    (0..3).flat_map(move |node| [base + 10 * node, base + 10 * node + 1])
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Runs `rondo dev` on ports that were free a moment ago; whoever took one since makes it a matter of the next.
fn dev(test: u16, more: &[&str]) -> (u16, Output) {
    let attempt = |base: u16| {
        let base_port = base.to_string();
        let arguments = ["dev", "--base-port", &base_port].into_iter().chain(more.iter().copied());
        (base, rondo(arguments).run())
    };
    let taken = |output: &Output| output.stdout.is_empty() && output.stderr.contains("cannot be listened at");
    bases(test).map(attempt).find(|(_, output)| !taken(output)).expect("there are free ports")
}

#[test]
fn the_demo_loses_a_node_and_gets_over_it() {
    let (base, output) = dev(0, &["--demo", "--exit"]);
    let shown = output.expect(0).text();
    for part in ["500 records", "kill -9", "503", "409", "Rondo-Context", "500 of 500 equal"] {
        assert!(shown.contains(part), "{part:?} is not in the transcript:\n{shown}");
    }
    // Every process has ended: its port can be had again.
    for port in ports(base) {
        assert!(is_free(port), "somebody still listens at {port}");
    }
}

#[test]
fn a_port_in_use_is_an_error_before_anything_starts() {
    let base = bases(1).next().expect("there are free ports");
    let taken = TcpListener::bind(("127.0.0.1", base)).unwrap();
    let output = rondo(["dev", "--base-port", &base.to_string()]).run().expect(1);
    let output = output.says(&[&base.to_string(), "client port of n1", "--base-port"]);
    drop(taken);
    assert!(output.stdout.is_empty(), "{output:?}");
}
