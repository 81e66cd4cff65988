//! Limits and times of the peer transport.

use std::time::Duration;

use rondo_coordinator::wire::OBJECT_BYTES_MAX;

use super::Lane;

/// Most bytes of one operation: an object with its key and frame.
pub(super) const OP_BYTES_MAX: usize = OBJECT_BYTES_MAX + (256 << 10);
/// Most bytes of one control message: a page of a refill is a mebibyte and one object more.
pub(super) const CONTROL_BYTES_MAX: usize = OP_BYTES_MAX + (1 << 20);
/// Most operations of a batch that a server takes.
pub(super) const BATCH_OPS_MAX: usize = 4_096;

/// One class of operations to one peer, from one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneOptions {
    /// Connections, each with one batch in flight: at least 1.
    pub connections: usize,
    /// Most operations in a batch: 1 to 4,096.
    pub batch_ops_max: usize,
    /// Bytes beyond which a batch takes no further operation. A larger single operation travels alone.
    pub batch_bytes_max: usize,
    /// Most operations waiting; beyond it they are `NotSent` at once.
    pub queue_ops_max: usize,
    /// Bytes waiting beyond which operations are `NotSent` at once.
    pub queue_bytes_max: usize,
    /// A batch unanswered for so long ends its connection.
    pub batch_timeout: Duration,
    /// A batch unanswered for so long makes the peer suspect.
    pub suspect_after: Duration,
}

impl LaneOptions {
    const FOREGROUND: Self = Self {
        connections: 1,
        batch_ops_max: 256,
        batch_bytes_max: 4 << 20,
        queue_ops_max: 4_096,
        queue_bytes_max: 64 << 20,
        batch_timeout: Duration::from_secs(2),
        suspect_after: Duration::from_millis(300),
    };
}

/// What the side that connects goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerOptions {
    /// Single keys are read in batches.
    pub read: LaneOptions,
    /// Durable merges.
    pub write: LaneOptions,
    /// Forwarded writes: a batch waits for the slowest quorum in it, so several are in flight.
    pub forward: LaneOptions,
    /// Repair.
    pub background: LaneOptions,
    /// Pages of listings: few in a batch, since they are large and a batch is answered as a whole.
    pub list: LaneOptions,
    /// Delivery of hints: small batches, so that a busy peer's answer comes soon.
    pub hint: LaneOptions,
    /// Name lookup, connection and handshake together.
    pub connect_timeout: Duration,
    /// How long operations wait for a connection that failed before; then they are `NotSent` while it goes on.
    pub reconnect_patience: Duration,
    /// Shortest pause after a failed connection; doubled at each further one, with jitter.
    pub backoff_min: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// The side that accepts.
    pub server: ServerOptions,
}

impl PeerOptions {
    /// The options of a lane.
    pub fn lane(&self, lane: Lane) -> &LaneOptions {
        match lane {
            Lane::Read => &self.read,
            Lane::Write => &self.write,
            Lane::Forward => &self.forward,
            Lane::Background => &self.background,
            Lane::List => &self.list,
            Lane::Hint => &self.hint,
        }
    }
}

impl Default for PeerOptions {
    fn default() -> Self {
        let forward = LaneOptions {
            connections: 8,
            batch_timeout: Duration::from_secs(10),
            suspect_after: Duration::from_secs(1),
            ..LaneOptions::FOREGROUND
        };
        let background = LaneOptions {
            queue_ops_max: 1_024,
            batch_timeout: Duration::from_secs(10),
            suspect_after: Duration::from_secs(5),
            ..LaneOptions::FOREGROUND
        };
        let list = LaneOptions {
            connections: 2,
            batch_ops_max: 4,
            queue_ops_max: 256,
            batch_timeout: Duration::from_secs(5),
            suspect_after: Duration::from_secs(2),
            ..LaneOptions::FOREGROUND
        };
        let hint = LaneOptions {
            batch_ops_max: 64,
            batch_bytes_max: 1 << 20,
            queue_ops_max: 256,
            batch_timeout: Duration::from_secs(5),
            suspect_after: Duration::from_secs(5),
            ..LaneOptions::FOREGROUND
        };
        Self {
            read: LaneOptions::FOREGROUND,
            write: LaneOptions::FOREGROUND,
            forward,
            background,
            list,
            hint,
            connect_timeout: Duration::from_secs(1),
            reconnect_patience: Duration::from_millis(100),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            server: ServerOptions::default(),
        }
    }
}

/// What the side that accepts goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// Most connections at a time; further ones are closed at once.
    pub connections_max: usize,
    /// Most of them that have not proved the secret yet.
    pub handshakes_max: usize,
    /// A connection that has not proved the secret by then is closed.
    pub handshake_timeout: Duration,
    /// A connection without a whole request for so long is closed.
    pub idle_timeout: Duration,
    /// A body must arrive within.
    pub body_timeout: Duration,
    /// Most bytes of a batch.
    pub batch_bytes_max: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            handshakes_max: 128,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(120),
            body_timeout: Duration::from_secs(10),
            batch_bytes_max: OP_BYTES_MAX + (8 << 20),
        }
    }
}
