//! Starting again as somebody else: the same program with the same arguments takes the place of this process.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;

const CLIENT_ADDR: &str = "--client-addr";
const PEER_ADDR: &str = "--peer-addr";

/// The process goes on as a new one, with the same id to whoever started it and at the same ports: nothing of who it was
/// is left, no connection, thread or lock. Returns only where that fails.
pub(super) fn start_again(client: SocketAddr, peer: SocketAddr) -> std::io::Error {
    let arguments = arguments(std::env::args_os().skip(1), client, peer);
    let again = |program| Command::new(program).args(arguments).exec();
    std::env::current_exe().map_or_else(|error| error, again)
}

/// With the addresses that are bound: where port 0 was asked for, the system would choose another.
fn arguments(given: impl Iterator<Item = OsString>, client: SocketAddr, peer: SocketAddr) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut given = given;
    while let Some(argument) = given.next() {
        let of = |flag: &str| {
            argument
                .to_str()
                .and_then(|text| text.strip_prefix(flag))
                .filter(|rest| rest.is_empty() || rest.starts_with('='))
        };
        match of(CLIENT_ADDR).or_else(|| of(PEER_ADDR)) {
            Some("") => drop(given.next()),
            Some(_) => {}
            None => kept.push(argument),
        }
    }
    let bound = [(CLIENT_ADDR, client), (PEER_ADDR, peer)];
    kept.extend(bound.into_iter().flat_map(|(flag, address)| [flag.into(), address.to_string().into()]));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_addresses_are_replaced() {
        let (client, peer) = ("127.0.0.1:7".parse().unwrap(), "127.0.0.1:8".parse().unwrap());
        let with = |text: &str| {
            let again = arguments(text.split(' ').map(OsString::from), client, peer);
            again.join(&OsString::from(" ")).into_string().unwrap()
        };
        let bound = "--client-addr 127.0.0.1:7 --peer-addr 127.0.0.1:8";
        assert_eq!(with("server --name n1 --insecure"), format!("server --name n1 --insecure {bound}"));
        let given = "server --client-addr 0.0.0.0:0 --name n1 --peer-addr=[::]:0 --insecure";
        assert_eq!(with(given), format!("server --name n1 --insecure {bound}"));
    }
}
