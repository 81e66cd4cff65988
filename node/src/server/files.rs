//! What the node must remember of the cluster, in small files of the data directory.

use std::sync::Arc;

use rondo_gossip::bootstrap::Seat;
use rondo_gossip::{Entry, FoundingState, NodeInfo};
use rondo_storage::store::{DataDirectory, DirectoryError};

const FOUNDING: &str = "cluster.json";
const MEMBERS: &str = "members.json";
const REGISTRY: &str = "buckets.json";
const ADDRESSES: &str = "addresses.json";

/// The cluster's files of one data directory.
pub struct Files {
    directory: Arc<DataDirectory>,
    /// As it is on disk: most changes of the machine's clockwork change nothing that must be durable.
    founding: FoundingState,
}

/// Where this process listens, for whoever started it with port 0.
#[derive(serde::Serialize)]
struct Addresses {
    client_addr: String,
    peer_addr: String,
}

impl Files {
    /// Reads what is there. A directory that is bound to a cluster and does not know it any more is refused: it would
    /// take part in founding another.
    pub fn open(directory: Arc<DataDirectory>) -> Result<Self, DirectoryError> {
        let founding = directory.kept(FOUNDING)?.unwrap_or_default();
        match (&founding, directory.cluster()) {
            // Again, if the process ended between the two steps of `keep_founding`.
            (FoundingState::Formed(founding), _) => directory.join(founding.cluster)?,
            // Taken, or not yet: the machine sees by the node's id which.
            (FoundingState::Claimed(seat), Some(cluster)) if seat.founding.cluster == cluster => {}
            (_, Some(cluster)) => {
                let reason = format!("it does not have the cluster {cluster:032x} that the data directory belongs to");
                return Err(DirectoryError::Damaged { path: directory.path().join(FOUNDING), reason });
            }
            (_, None) => {}
        }
        Ok(Self { directory, founding })
    }

    /// As it is on disk.
    pub fn founding(&self) -> &FoundingState {
        &self.founding
    }

    /// Durable when it returns; binds the directory to the cluster once there is one.
    pub fn keep_founding(&mut self, state: &FoundingState) -> Result<(), DirectoryError> {
        if *state == self.founding {
            return Ok(());
        }
        // In this order: bound first and killed then, a proposer would come back with its proposal withdrawn, to found
        // a cluster that its directory refuses.
        self.directory.keep(FOUNDING, state)?;
        if let FoundingState::Formed(founding) = state {
            self.directory.join(founding.cluster)?;
        }
        self.founding = state.clone();
        Ok(())
    }

    /// After the place was kept: makes this the directory of that member, durably when it returns. A process that ends
    /// between the two is a free node still.
    pub fn take_place(&self, seat: &Seat, members: &[NodeInfo]) -> Result<(), DirectoryError> {
        self.keep_members(members)?;
        self.directory.take_place(seat.node, seat.founding.cluster, seat.start)
    }

    /// The members' records as last heard.
    pub fn members(&self) -> Result<Vec<NodeInfo>, DirectoryError> {
        Ok(self.directory.kept(MEMBERS)?.unwrap_or_default())
    }

    /// Durable when it returns.
    pub fn keep_members(&self, members: &[NodeInfo]) -> Result<(), DirectoryError> {
        self.directory.keep(MEMBERS, &members)
    }

    /// Bucket properties.
    pub fn registry(&self) -> Result<Vec<Entry>, DirectoryError> {
        Ok(self.directory.kept(REGISTRY)?.unwrap_or_default())
    }

    /// Durable when it returns.
    pub fn keep_registry(&self, entries: &[&Entry]) -> Result<(), DirectoryError> {
        self.directory.keep(REGISTRY, &entries)
    }
}

/// Says where this process listens: plain JSON, for scripts.
pub fn publish_addresses(
    directory: &DataDirectory,
    client: std::net::SocketAddr,
    peer: std::net::SocketAddr,
) -> std::io::Result<()> {
    let addresses = Addresses { client_addr: client.to_string(), peer_addr: peer.to_string() };
    let text = serde_json::to_vec(&addresses).expect("two strings have a JSON form");
    let beside = directory.path().join("addresses.new");
    std::fs::write(&beside, text)?;
    std::fs::rename(beside, directory.path().join(ADDRESSES))
}

#[cfg(test)]
mod tests {
    use rondo_gossip::Founding;
    use rondo_ring::{Layout, Member, NodeId, PartitionCount, ReplicationFactor};

    use super::*;

    fn formed(cluster: u128, directory: &DataDirectory) -> FoundingState {
        let member = Member { id: directory.node(), zone: "z".into(), weight: 1 };
        let (partitions, n) = (PartitionCount::new(16).unwrap(), ReplicationFactor::new(1).unwrap());
        let layout = Layout::found(vec![member], partitions, n).unwrap();
        FoundingState::Formed(Box::new(Founding { cluster, proposer: directory.node(), members: Vec::new(), layout }))
    }

    #[test]
    fn a_founding_cut_short_between_its_two_files_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Arc::new(DataDirectory::open(dir.path()).unwrap());
        let state = formed(7, &directory);
        directory.keep(FOUNDING, &state).unwrap();
        assert_eq!(Files::open(directory.clone()).unwrap().founding(), &state);
        assert_eq!(directory.cluster(), Some(7));
    }

    #[test]
    fn a_place_is_taken_in_one_step_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Arc::new(DataDirectory::open(dir.path()).unwrap());
        let FoundingState::Formed(founding) = formed(7, &directory) else { unreachable!() };
        let seat = Seat { founding: *founding, node: NodeId(9), start: 5 };
        let mut files = Files::open(directory.clone()).unwrap();
        files.keep_founding(&FoundingState::Claimed(Box::new(seat.clone()))).unwrap();
        assert_ne!(directory.node(), seat.node);
        assert!(matches!(Files::open(directory.clone()).unwrap().founding(), FoundingState::Claimed(_)));

        files.take_place(&seat, &[]).unwrap();
        drop(files);
        drop(directory);
        let directory = Arc::new(DataDirectory::open(dir.path()).unwrap());
        assert_eq!((directory.node(), directory.cluster(), directory.start().counter), (seat.node, Some(7), 6));
        let mut files = Files::open(directory.clone()).unwrap();
        files.keep_founding(&FoundingState::Formed(Box::new(seat.founding))).unwrap();
        assert!(matches!(directory.take_place(NodeId(10), 7, 9), Err(DirectoryError::Foreign { .. })));
    }

    #[test]
    fn a_directory_that_forgot_its_cluster_or_has_another_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Arc::new(DataDirectory::open(dir.path()).unwrap());
        let mut files = Files::open(directory.clone()).unwrap();
        files.keep_founding(&formed(7, &directory)).unwrap();
        directory.keep(FOUNDING, &FoundingState::Free).unwrap();
        assert!(matches!(Files::open(directory.clone()), Err(DirectoryError::Damaged { .. })));
        directory.keep(FOUNDING, &formed(8, &directory)).unwrap();
        assert!(matches!(Files::open(directory), Err(DirectoryError::Foreign { here: 7, asked: 8, .. })));
    }
}
