//! The arguments, as clap takes them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::bench::BenchArgs;
use super::client::Endpoint;
use super::completions::Shell;
use super::output::Output;

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 degraded.";

/// A Dynamo-style replicated key-value store.
#[derive(Debug, Parser)]
#[command(name = "rondo", version, after_help = EXIT_CODES, propagate_version = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run one node
    Server(ServerArgs),
    /// Run a local cluster, each node its own process
    Dev(DevArgs),
    /// Health of the cluster; exit code 4 when it is not whole
    Status(StatusArgs),
    /// The nodes of the cluster
    Members(Target),
    /// How the keys are divided, or where one key lives
    Ring(RingArgs),
    /// Writes that a node keeps for others which are away
    Hints(Target),
    /// Whether the replicas agree, and what has been done about it
    Repair(RepairArgs),
    /// Write a value to stdout as it is stored
    Get(GetArgs),
    /// Store a value from an argument, a file or stdin
    Put(PutArgs),
    /// Delete a key
    Del(DelArgs),
    /// List the keys of a bucket
    Ls(LsArgs),
    /// Store the {"key":…,"value":…} lines of a file
    Load(LoadArgs),
    /// Measure requests a second, their latency, and the CPU time they cost every node
    Bench(BenchArgs),
    /// Properties of buckets
    #[command(subcommand)]
    Bucket(BucketCommand),
    /// Settings of a node
    #[command(subcommand)]
    Config(ConfigCommand),
    /// A script that completes command lines, for a shell to read
    Completions {
        /// Which shell's
        shell: Shell,
    },
}

/// Which cluster, and how to show what it says.
#[derive(Clone, Debug, Args)]
pub(super) struct Target {
    /// Client address of a node; several with commas: the first that can be reached
    #[arg(long, value_name = "URL", env = "RONDO_ENDPOINT", default_value = "http://127.0.0.1:7700")]
    #[arg(value_delimiter = ',')]
    pub(super) endpoint: Vec<Endpoint>,
    /// How to show the result
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

/// `rondo status`.
#[derive(Clone, Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// Instead, how likely a read with R = 1 or 2 sees a write that is so and so old
    #[arg(long, conflicts_with = "ready")]
    pub(super) staleness: bool,
    /// Instead, whether the node asked takes requests; exit code 4 when it does not
    #[arg(long)]
    pub(super) ready: bool,
}

/// `rondo repair`.
#[derive(Clone, Debug, Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// Have the node compare itself with all others now, instead of within the next seconds
    #[arg(long)]
    pub(super) now: bool,
}

/// `rondo server`. Each flag that is not one of the command line's own is a setting (docs/configuration.md).
#[derive(Clone, Debug, Default, Args)]
pub(super) struct ServerArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "RONDO_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// Unique in the cluster [default: the host name]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Where everything durable is kept [default: rondo-data]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<String>,
    /// Where clients are listened to [default: 127.0.0.1:7700]
    #[arg(long, value_name = "IP:PORT")]
    pub(super) client_addr: Option<String>,
    /// Where the other nodes are listened to [default: 127.0.0.1:7701]
    #[arg(long, value_name = "IP:PORT")]
    pub(super) peer_addr: Option<String>,
    /// How the other nodes reach this one [default: the peer address]
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) advertise: Option<String>,
    /// How clients reach this one [default: the client address]
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) advertise_client: Option<String>,
    /// Peer addresses to find the cluster through
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(super) seeds: Option<String>,
    /// Found a cluster together with so many nodes, this one included
    #[arg(long, value_name = "K")]
    pub(super) bootstrap_expect: Option<String>,
    /// Failure domain [default: default]
    #[arg(long)]
    pub(super) zone: Option<String>,
    /// Share of the keys relative to the other nodes [default: 1]
    #[arg(long)]
    pub(super) weight: Option<String>,
    /// File with the secret that all nodes of the cluster share
    #[arg(long, value_name = "FILE")]
    pub(super) cluster_secret_file: Option<String>,
    /// Listen beyond loopback without TLS and access tokens
    #[arg(long)]
    pub(super) insecure: bool,
    /// End when stdin ends: how the nodes of `rondo dev` follow it
    #[arg(long, hide = true)]
    pub(super) exit_with_parent: bool,
}

/// `rondo dev`.
#[derive(Clone, Debug, Args)]
pub(super) struct DevArgs {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(super) nodes: u8,
    /// Where data and logs are kept [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Client port of the first node; its peer port is one above, the next node's ten above
    #[arg(long, default_value_t = 7700, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) base_port: u16,
    /// Lose a node and get over it, with real requests
    #[arg(long)]
    pub(super) demo: bool,
    /// End after the demo
    #[arg(long, requires = "demo")]
    pub(super) exit: bool,
}

/// `rondo ring`.
#[derive(Clone, Debug, Args)]
pub(super) struct RingArgs {
    /// Show where this key lives
    pub(super) key: Option<String>,
    /// The key's bucket
    #[arg(long, default_value = "default")]
    pub(super) bucket: String,
    #[command(flatten)]
    pub(super) target: Target,
}

/// What every object command takes.
#[derive(Clone, Debug, Args)]
pub(super) struct ObjectArgs {
    /// The key
    pub(super) key: String,
    /// Its bucket
    #[arg(long, default_value = "default")]
    pub(super) bucket: String,
    /// Causal context of an earlier answer
    #[arg(long)]
    pub(super) context: Option<String>,
    /// strict: only the key's owners count; sloppy: other nodes may stand in for them
    #[arg(long, value_name = "KIND")]
    pub(super) quorum: Option<String>,
    /// Deadline of the request, such as 250ms or 2s
    #[arg(long, value_name = "DURATION")]
    pub(super) timeout: Option<String>,
    #[command(flatten)]
    pub(super) target: Target,
}

/// `rondo get`.
#[derive(Clone, Debug, Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    pub(super) object: ObjectArgs,
    /// Replicas that must answer: a number, one, quorum, all, local-quorum
    #[arg(long)]
    pub(super) r: Option<String>,
    /// Of several concurrent versions the one of this ETag
    #[arg(long, value_name = "ETAG")]
    pub(super) sibling: Option<String>,
}

/// `rondo put`.
#[derive(Clone, Debug, Args)]
pub(super) struct PutArgs {
    #[command(flatten)]
    pub(super) object: ObjectArgs,
    /// The value; "-" or none: stdin
    #[arg(conflicts_with = "file")]
    pub(super) value: Option<String>,
    /// Take the value from a file
    #[arg(long)]
    pub(super) file: Option<PathBuf>,
    /// Media type of the value [default: text/plain for an argument, else application/octet-stream]
    #[arg(long, value_name = "TYPE")]
    pub(super) content_type: Option<String>,
    /// Replicas that must have it on disk: a number, one, quorum, all, local-quorum, each-quorum
    #[arg(long)]
    pub(super) w: Option<String>,
    /// How long the value lives, in seconds or such as 90s, 15m, 1h, 7d [default: the bucket's]
    #[arg(long, value_name = "DURATION")]
    pub(super) ttl: Option<String>,
    /// Only if what is there has this ETag; "*": if anything is there
    #[arg(long, value_name = "ETAG")]
    pub(super) if_match: Option<String>,
    /// Only if nothing is there
    #[arg(long, value_name = "*", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    #[arg(value_parser = ["*"], hide_possible_values = true, conflicts_with = "if_match")]
    pub(super) if_none_match: Option<String>,
}

/// `rondo del`.
#[derive(Clone, Debug, Args)]
pub(super) struct DelArgs {
    #[command(flatten)]
    pub(super) object: ObjectArgs,
    /// Replicas that must have it on disk: a number, one, quorum, all, local-quorum, each-quorum
    #[arg(long)]
    pub(super) w: Option<String>,
    /// Only if what is there has this ETag; "*": if anything is there
    #[arg(long, value_name = "ETAG")]
    pub(super) if_match: Option<String>,
}

/// `rondo ls`.
#[derive(Clone, Debug, Args)]
pub(super) struct LsArgs {
    /// The bucket
    pub(super) bucket: String,
    /// Only keys that begin with this
    pub(super) prefix: Option<String>,
    /// Stop after so many keys
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
    /// Owners of each partition that must answer: a number, one, quorum, all, local-quorum
    #[arg(long)]
    pub(super) r: Option<String>,
    /// strict: only the owners of a partition count
    #[arg(long, value_name = "KIND")]
    pub(super) quorum: Option<String>,
    /// Deadline of each step, such as 250ms or 2s
    #[arg(long, value_name = "DURATION")]
    pub(super) timeout: Option<String>,
    #[command(flatten)]
    pub(super) target: Target,
}

/// `rondo load`.
#[derive(Clone, Debug, Args)]
pub(super) struct LoadArgs {
    /// JSON lines, plain or gzip
    pub(super) file: PathBuf,
    /// Where the records go
    #[arg(long, default_value = "default")]
    pub(super) bucket: String,
    /// Replicas that must have a record on disk [default: the bucket's]
    #[arg(long)]
    pub(super) w: Option<String>,
    /// Requests at one time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) concurrency: u16,
    /// Largest value the cluster takes, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = rondo_config::HttpLimits::default().value_bytes)]
    pub(super) value_bytes_max: u64,
    /// Give a record up after trying for so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(super) retry_for: Duration,
    #[command(flatten)]
    pub(super) target: Target,
}

/// `rondo bucket`.
#[derive(Debug, Subcommand)]
pub(super) enum BucketCommand {
    /// Buckets whose properties were set
    Ls(Target),
    /// Properties of a bucket
    Get {
        /// Its name
        bucket: String,
        #[command(flatten)]
        target: Target,
    },
    /// Set properties of a bucket
    Set {
        /// Its name
        bucket: String,
        /// PROPERTY=VALUE, such as n=3 or blind_put=sibling
        #[arg(required = true, value_name = "PROPERTY=VALUE")]
        properties: Vec<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Give a bucket the cluster's defaults again
    Reset {
        /// Its name
        bucket: String,
        #[command(flatten)]
        target: Target,
    },
}

/// `rondo config`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Each setting with its value and where it was set
    Show {
        #[command(flatten)]
        server: Box<ServerArgs>,
        /// How to show the result
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Exit code 1 if a node would not start with these settings
    Check {
        #[command(flatten)]
        server: Box<ServerArgs>,
    },
    /// Make a file with a new cluster secret, where there is none
    Secret {
        /// Readable by its owner only; one that is there is checked and kept
        file: PathBuf,
    },
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u32 = text.parse().map_err(|_| "a whole number of seconds is needed".to_string())?;
    if (1..=86_400).contains(&seconds) { Ok(Duration::from_secs(seconds.into())) } else { Err("1 to 86,400".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |line: &str| Arguments::try_parse_from(line.split(' ')).unwrap_err().exit_code();
        for line in [
            "rondo dev --exit",
            "rondo dev --nodes 0",
            "rondo put k v --file f",
            "rondo put k v --if-none-match --if-match a-1",
            "rondo put k v --if-none-match=a-1",
            "rondo bucket set b",
            "rondo status --endpoint https://n1",
            "rondo load f --concurrency 0",
            "rondo load f --retry-for 0",
            "rondo get",
            "rondo frobnicate",
        ] {
            assert_eq!(refused(line), 2, "{line}");
        }
    }

    #[test]
    fn a_condition_without_a_value_does_not_swallow_the_key() {
        let line = ["rondo", "put", "--if-none-match", "k", "v"];
        let Command::Put(args) = Arguments::try_parse_from(line).unwrap().command else { panic!("put") };
        assert_eq!((&*args.object.key, args.value.as_deref()), ("k", Some("v")));
        assert_eq!(args.if_none_match.as_deref(), Some("*"));
    }

    #[test]
    fn several_endpoints_are_separated_by_commas() {
        let line = ["rondo", "status", "--endpoint", "http://a:1,b:2", "--output", "json"];
        let Command::Status(StatusArgs { target, .. }) = Arguments::try_parse_from(line).unwrap().command else {
            panic!("status")
        };
        assert_eq!((target.endpoint.len(), target.output), (2, Output::Json));
    }
}
