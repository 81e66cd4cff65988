//! `rondo dev`: a local cluster, each node its own process with its own data directory.

mod demo;
mod local;
mod ports;
mod transcript;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::local::LocalCluster;
use self::ports::Ports;
use super::arguments::DevArgs;
use super::failure::Failure;
use super::output::print;

/// Random bytes of a new cluster secret, written as hexadecimal digits.
const SECRET_BYTES: usize = 32;

pub(super) async fn run(args: &DevArgs) -> Result<(), Failure> {
    let ports = Ports::plan(args.base_port, args.nodes)?;
    ports.check_free()?;
    // Before there is anything to stop.
    let mut stop = Stop::new()?;
    let directory = Directory::new(args.data_dir.as_deref())?;
    let secret = secret_file(&directory.path())?;
    let mut cluster = LocalCluster::new(&directory.path(), &secret, &ports);
    let result = tokio::select! {
        biased;
        () = stop.asked() => Err(Failure::Failed("interrupted".into())),
        result = work(args, &mut cluster, &directory) => result,
    };
    let result = match result {
        Ok(()) if !args.exit => wait(&mut cluster, &mut stop).await,
        result => result,
    };
    cluster.stop().await;
    directory.end(result)
}

async fn work(args: &DevArgs, cluster: &mut LocalCluster, directory: &Directory) -> Result<(), Failure> {
    print(&format!("starting {} nodes, data and logs in {}", args.nodes, directory.path().display()))?;
    cluster.start().await?;
    print(&cluster.table())?;
    if args.demo {
        demo::run(cluster).await?;
    }
    if !args.exit {
        print(&transcript::to_try(cluster))?;
    }
    Ok(())
}

/// Until the user stops it. A node that ends by itself is told of, and the others go on.
async fn wait(cluster: &mut LocalCluster, stop: &mut Stop) -> Result<(), Failure> {
    loop {
        tokio::select! {
            biased;
            () = stop.asked() => return Ok(()),
            news = cluster.next_end() => print(&news)?,
        }
    }
}

/// Ctrl-C and SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|e| Failure::Failed(format!("signals cannot be listened to: {e}")));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Where the nodes live.
enum Directory {
    /// The user's, kept.
    Kept(PathBuf),
    /// Removed at the end, unless something went wrong: the logs say what.
    Temporary(TempDir),
}

impl Directory {
    fn new(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            let made = tempfile::Builder::new().prefix("rondo-dev-").tempdir();
            let failed = |e| Failure::Failed(format!("no temporary directory can be made: {e} (try --data-dir)"));
            return made.map(Self::Temporary).map_err(failed);
        };
        let failed = |e| Failure::Failed(format!("{}: the data directory cannot be made: {e}", path.display()));
        fs::create_dir_all(path).map_err(failed)?;
        fs::canonicalize(path).map(Self::Kept).map_err(failed)
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Kept(path) => path.clone(),
            Self::Temporary(directory) => directory.path().into(),
        }
    }

    fn end(self, result: Result<(), Failure>) -> Result<(), Failure> {
        match (self, result) {
            (Self::Temporary(directory), Err(Failure::Failed(why))) => {
                let path = directory.keep();
                Err(Failure::Failed(format!("{why}\ndata and logs are kept in {}", path.display())))
            }
            (_, result) => result,
        }
    }
}

/// The secret of this cluster: that of an earlier run in the same directory, or a new one.
fn secret_file(directory: &Path) -> Result<PathBuf, Failure> {
    let path = directory.join("cluster-secret");
    let failed = |e: &dyn std::fmt::Display| Failure::Failed(format!("{}: {e}", path.display()));
    let mut random = [0; SECRET_BYTES];
    getrandom::fill(&mut random).map_err(|e| failed(&e))?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(path),
        Err(e) => Err(failed(&e)),
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| path.clone()).map_err(|e| failed(&e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_made_once_and_is_one_that_nodes_take() {
        let directory = tempfile::tempdir().unwrap();
        let path = secret_file(directory.path()).unwrap();
        let first = rondo_config::ClusterSecret::read(&path).unwrap();
        assert_eq!(secret_file(directory.path()).unwrap(), path);
        assert!(rondo_config::ClusterSecret::read(&path).unwrap() == first);
        assert_eq!(first.as_bytes().len(), 2 * SECRET_BYTES);
    }

    #[test]
    fn logs_outlive_a_failure_and_nothing_else() {
        let ended = |result| {
            let directory = Directory::new(None).unwrap();
            let path = directory.path();
            let result = directory.end(result);
            (path, result)
        };
        assert!(!ended(Ok(())).0.exists());
        assert!(!ended(Err(Failure::ClosedPipe)).0.exists());
        let (path, result) = ended(Err(Failure::Failed("no".into())));
        let Err(Failure::Failed(why)) = result else { panic!("still a failure") };
        assert!(path.exists() && why == format!("no\ndata and logs are kept in {}", path.display()));
        fs::remove_dir_all(path).unwrap();
    }
}
