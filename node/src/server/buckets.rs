//! Bucket properties as requests need them: parsed once, when the registry changes.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rondo_coordinator::Bucket;
use rondo_gossip::Entry;

/// Shared by all workers; a look-up takes no lock.
pub struct Buckets {
    defaults: Arc<Bucket>,
    set: ArcSwap<HashMap<String, Arc<Bucket>>>,
}

impl Buckets {
    /// None set yet.
    pub fn new(defaults: Bucket) -> Self {
        Self { defaults: Arc::new(defaults), set: ArcSwap::default() }
    }

    /// Properties of a bucket: the cluster's defaults unless set.
    pub fn get(&self, name: &str) -> Arc<Bucket> {
        self.set.load().get(name).unwrap_or(&self.defaults).clone()
    }

    /// Properties of a bucket that was never set.
    pub fn defaults(&self) -> &Bucket {
        &self.defaults
    }

    /// Every bucket that was set, by name.
    pub fn all(&self) -> Vec<(String, Arc<Bucket>)> {
        let mut all: Vec<_> = self.set.load().iter().map(|(name, bucket)| (name.clone(), bucket.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The largest n in force: how deep into a preference list this cluster's keys may be.
    pub fn n_max(&self) -> u8 {
        let set = self.set.load();
        set.values().map(|bucket| bucket.n.get()).chain([self.defaults.n.get()]).max().unwrap_or(1)
    }

    /// Takes the registry as it now is. An entry of a later release that this one cannot read leaves the defaults.
    /// For the one task that owns the registry: of two at once the older could win.
    pub fn take<'a>(&self, registry: impl Iterator<Item = &'a Entry>) {
        let mut set = HashMap::new();
        for entry in registry {
            let Some(value) = &entry.value else { continue };
            match serde_json::from_str::<serde_json::Map<_, _>>(value).map(|fields| self.defaults.changed(&fields)) {
                Ok(Ok(bucket)) => {
                    set.insert(entry.name.clone(), Arc::new(bucket));
                }
                _ => tracing::warn!(bucket = entry.name, "properties of another release: the defaults are used"),
            }
        }
        self.set.store(Arc::new(set));
    }
}
