//! Which ports the nodes of `rondo dev` listen at.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::cli::failure::Failure;

/// From one node's ports to the next one's.
const STEP: u32 = 10;

/// Client and peer address of each node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ports(pub(super) Vec<(SocketAddr, SocketAddr)>);

impl Ports {
    /// Node i (from 1): client port base + 10·(i − 1), peer port one above.
    pub(super) fn plan(base: u16, nodes: u8) -> Result<Self, Failure> {
        let last = u32::from(base) + STEP * (u32::from(nodes) - 1) + 1;
        if last > u32::from(u16::MAX) {
            let why =
                format!("--base-port {base} with {nodes} nodes would need port {last}: 65,535 is the last there is");
            return Err(Failure::Usage(why));
        }
        let addr = |port: u32| SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16));
        let pair = |i: u32| (addr(u32::from(base) + STEP * i), addr(u32::from(base) + STEP * i + 1));
        Ok(Self((0..nodes.into()).map(pair).collect()))
    }

    /// Binds each for a moment: better one clear message now than a node that ends.
    pub(super) fn check_free(&self) -> Result<(), Failure> {
        for (i, (client, peer)) in self.0.iter().enumerate() {
            for (addr, what) in [(client, "client"), (peer, "peer")] {
                TcpListener::bind(addr).map_err(|e| {
                    let (port, node) = (addr.port(), i + 1);
                    Failure::Failed(format!(
                        "port {port}, the {what} port of n{node}, cannot be listened at: {e}; --base-port moves them all"
                    ))
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_the_contract() {
        let ports: Vec<_> = Ports::plan(7700, 3).unwrap().0.iter().map(|(c, p)| (c.port(), p.port())).collect();
        assert_eq!(ports, [(7700, 7701), (7710, 7711), (7720, 7721)]);
        assert!(Ports::plan(65_514, 3).is_ok());
        assert!(matches!(Ports::plan(65_515, 3), Err(Failure::Usage(why)) if why.contains("need port 65536")));
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let Err(Failure::Failed(why)) = Ports(vec![(addr, addr)]).check_free() else { panic!("exit code 1") };
        assert!(why.starts_with(&format!("port {}, the client port of n1, cannot be listened at: ", addr.port())));
    }
}
