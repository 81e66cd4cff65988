//! A data directory: one process at a time, one node, one cluster, a format this release reads.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs4::{FileExt, TryLockError};
use parking_lot::Mutex;
use rondo_ring::NodeId;

use super::identity::{Identity, new_instance};
use super::starts::{Start, StartHistory};
use super::trust::Distrust;
use super::{DirectoryError, files};
use crate::engine::{Engine, EngineError};
use crate::versions::ActorId;

/// The layout of the directory and of everything in it, the engine's files included: whoever changes one raises it.
pub const FORMAT: u32 = 1;

/// How many engines moved aside are kept before a start is refused. They are never deleted.
const QUARANTINES_MAX: usize = 8;

const FORMAT_FILE: &str = "FORMAT";
const FORMAT_WORD: &str = "rondo-data";
const LOCK_FILE: &str = "LOCK";
const IDENTITY_FILE: &str = "node.json";
const ENGINE_DIR: &str = "engine";
const PROBE_DIR: &str = "engine-probe";
const QUARANTINE_PREFIX: &str = "quarantine-";

/// A data directory, locked for this process until it is dropped; this start is counted, durably.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    identity: Mutex<Identity>,
    /// The instance was made by this start: nobody can have seen a write of it.
    new_here: bool,
    /// Held for its lock.
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory where it does not exist, locks it, checks its format, reads who this node is (or makes that
    /// up, once), and counts this start.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        fs::create_dir_all(path).map_err(DirectoryError::io("create", path))?;
        let lock = lock(path)?;
        let fresh = check_format(path)?;
        let identity_file = path.join(IDENTITY_FILE);
        let mut identity = match files::read_sealed::<Identity>(&identity_file)? {
            Some(identity) => identity,
            None if fresh || !path.join(ENGINE_DIR).exists() => Identity::new()?,
            None => {
                let reason = "it is missing, and there is an engine".into();
                return Err(DirectoryError::Damaged { path: identity_file, reason });
            }
        };
        let new_here = identity.starts.counter() == 0;
        identity.count_start()?;
        files::replace_sealed(&identity_file, &identity)?;
        Ok(Self { path: path.into(), identity: Mutex::new(identity), new_here, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This node's identity: it belongs to the directory, never to an address.
    pub fn node(&self) -> NodeId {
        self.identity.lock().node
    }

    /// The cluster it belongs to, once it does.
    pub fn cluster(&self) -> Option<u128> {
        self.identity.lock().cluster
    }

    /// Binds the directory to a cluster, durably and for ever; another cluster's is refused.
    pub fn join(&self, cluster: u128) -> Result<(), DirectoryError> {
        match self.cluster() {
            Some(here) if here == cluster => Ok(()),
            Some(here) => Err(DirectoryError::Foreign { path: self.path.clone(), here, asked: cluster }),
            None => self.change(|identity| identity.cluster = Some(cluster)),
        }
    }

    /// Makes the directory of a node that has never served that of a member which lost its own, in one step: its id, its
    /// cluster, and a start of it with that number, which may have served, so that nothing here counts until it is
    /// refilled. From the next [`open`](Self::open) on; this process is no one any more.
    pub fn take_place(&self, node: NodeId, cluster: u128, counter: u64) -> Result<(), DirectoryError> {
        if let Some(here) = self.cluster() {
            return Err(DirectoryError::Foreign { path: self.path.clone(), here, asked: cluster });
        }
        let instance = new_instance()?;
        self.change(|identity| {
            (identity.node, identity.cluster) = (node, Some(cluster));
            identity.starts = StartHistory::default();
            identity.starts.push(Start { counter, instance }, true);
            identity.distrust = Distrust::Everything;
        })
    }

    /// What this directory knows of its starts: for [`judge_start`](super::judge_start).
    pub fn starts(&self) -> StartHistory {
        self.identity.lock().starts.clone()
    }

    /// This start, to be told to the peers once it has been judged and begun.
    pub fn start(&self) -> Start {
        let identity = self.identity.lock();
        let instance = identity.starts.instance().expect("opening the directory counted a start with an instance");
        Start { counter: identity.starts.counter(), instance }
    }

    /// Keeps a small record of the node in a file of its own, durably: after a crash the old one is there or the new.
    pub fn keep<T: serde::Serialize>(&self, name: &str, record: &T) -> Result<(), DirectoryError> {
        files::replace_sealed(&self.file(name), record)
    }

    /// A record that was kept, `None` where there is none.
    pub fn kept<T: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, DirectoryError> {
        files::read_sealed(&self.file(name))
    }

    pub(super) fn instance_is_new(&self) -> bool {
        self.new_here
    }

    pub(super) fn distrust(&self) -> Distrust {
        self.identity.lock().distrust.clone()
    }

    /// Changes `node.json`: durably, or not at all.
    pub(super) fn change(&self, change: impl FnOnce(&mut Identity)) -> Result<(), DirectoryError> {
        let mut identity = self.identity.lock();
        let mut changed = identity.clone();
        change(&mut changed);
        files::replace_sealed(&self.path.join(IDENTITY_FILE), &changed)?;
        *identity = changed;
        Ok(())
    }

    /// What is here may lack writes this node once acknowledged: no dot of its own is safe, and no read counts.
    pub(super) fn declare_lost(&self) -> Result<ActorId, DirectoryError> {
        let instance = new_instance()?;
        self.change(|identity| {
            identity.set_instance(instance, false);
            identity.distrust = Distrust::Everything;
        })?;
        Ok(instance)
    }

    pub(super) fn engine_path(&self) -> PathBuf {
        self.path.join(ENGINE_DIR)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Engines moved aside.
    pub(super) fn quarantined(&self) -> Result<usize, DirectoryError> {
        let names = names_in(&self.path)?;
        Ok(names.iter().filter(|name| name.starts_with(QUARANTINE_PREFIX)).count())
    }

    /// Before an engine is moved aside: whether one can be opened here at all (settings, limits, a full disk), and
    /// whether this process may read the files of the one there is. If not, that is what is wrong, and nothing is moved.
    pub(super) fn check_fault_is_the_engines<E>(
        &self,
        open_engine: impl Fn(&Path) -> Result<Arc<E>, EngineError>,
    ) -> Result<(), DirectoryError>
    where
        E: Engine + ?Sized,
    {
        let probe = self.path.join(PROBE_DIR);
        // What cannot be removed is in the way of the next probe, which then fails and says so.
        let _ = fs::remove_dir_all(&probe);
        let opened = open_engine(&probe).and_then(|engine| engine.close());
        let _ = fs::remove_dir_all(&probe);
        opened?;
        check_readable(&self.engine_path())
    }

    /// Moves the engine aside, where it stays until somebody has looked at it.
    pub(super) fn quarantine(&self, now_us: u64) -> Result<PathBuf, DirectoryError> {
        let count = self.quarantined()?;
        if count >= QUARANTINES_MAX {
            return Err(DirectoryError::QuarantineFull { path: self.path.clone(), count });
        }
        let seconds = now_us / 1_000_000;
        let free = (0..=QUARANTINES_MAX).map(|n| self.path.join(format!("{QUARANTINE_PREFIX}{seconds}-{n}")));
        let aside = free.into_iter().find(|path| !path.exists());
        let aside = aside.expect("there are fewer quarantined engines than names to choose from");
        let engine = self.engine_path();
        fs::rename(&engine, &aside).map_err(DirectoryError::io("move aside", &engine))?;
        files::sync_parent(&aside)?;
        Ok(aside)
    }
}

fn lock(path: &Path) -> Result<File, DirectoryError> {
    let file = path.join(LOCK_FILE);
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
    let lock = opened.map_err(DirectoryError::io("write in the data directory", &file))?;
    match FileExt::try_lock(&lock) {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(DirectoryError::InUse(path.into())),
        Err(TryLockError::Error(error)) => Err(DirectoryError::io("lock", &file)(error)),
    }
}

/// Whether the directory is fresh. One that is not ours is left alone: it may be somebody's home.
fn check_format(path: &Path) -> Result<bool, DirectoryError> {
    let file = path.join(FORMAT_FILE);
    let Some(text) = files::read(&file)? else {
        let ours =
            |name: &String| name == LOCK_FILE || name == "FORMAT.new" || name == "lost+found" || name.starts_with('.');
        if !names_in(path)?.iter().all(ours) {
            return Err(DirectoryError::NotOurs(path.into()));
        }
        files::replace(&file, format!("{FORMAT_WORD} {FORMAT}\n").as_bytes())?;
        return Ok(true);
    };
    let text = String::from_utf8_lossy(&text);
    let number = text.trim().strip_prefix(FORMAT_WORD).and_then(|number| number.trim().parse::<u32>().ok());
    match number {
        Some(FORMAT) => Ok(false),
        Some(found) if found > FORMAT => Err(DirectoryError::Newer { path: path.into(), found, supported: FORMAT }),
        _ => {
            let reason = format!("it should say `{FORMAT_WORD} {FORMAT}`");
            Err(DirectoryError::Damaged { path: file, reason })
        }
    }
}

/// Permissions only: what the disk cannot read is damage, and the engine has said so.
fn check_readable(path: &Path) -> Result<(), DirectoryError> {
    for name in names_in(path)? {
        let path = path.join(name);
        if path.is_dir() {
            check_readable(&path)?;
        } else if let Err(error) = OpenOptions::new().read(true).write(true).open(&path)
            && error.kind() == ErrorKind::PermissionDenied
        {
            return Err(DirectoryError::io("open", &path)(error));
        }
    }
    Ok(())
}

fn names_in(path: &Path) -> Result<Vec<String>, DirectoryError> {
    let entries = fs::read_dir(path).map_err(DirectoryError::io("list", path))?;
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names = Vec::new();
    for entry in entries {
        match name(entry) {
            Ok(name) => names.push(name),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(DirectoryError::io("list", path)(error)),
        }
    }
    Ok(names)
}
