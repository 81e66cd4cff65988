//! File descriptors: the soft limit that a shell or a service manager gives is mostly far below what a node may use.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Listeners, the commit log, small files, the runtime's own.
const OTHERS: u64 = 256;

/// Raises the soft limit so that `connections` of clients, as many `peers` and the engine's `tables` fit, and says so
/// where the hard limit does not let it.
pub(super) fn provide(connections: u64, peers: u64, tables: u64) {
    let needed = connections.saturating_add(peers).saturating_add(tables).saturating_add(OTHERS);
    let given = raised(getrlimit(Resource::Nofile), needed);
    // Refused by a sandbox, perhaps: then it is as it was.
    let allowed = match setrlimit(Resource::Nofile, given) {
        Ok(()) => given.current,
        Err(_) => getrlimit(Resource::Nofile).current,
    };
    if let Some(allowed) = allowed.filter(|&allowed| allowed < needed) {
        let fit = allowed.saturating_sub(needed - connections);
        tracing::warn!(
            allowed,
            needed,
            connections,
            fit,
            "fewer file descriptors are allowed than limits.connections may need: raise the hard limit (ulimit -Hn, \
             LimitNOFILE=) or lower limits.connections"
        );
    }
}

/// Never lowered, never above the hard limit. `None` is "unlimited".
fn raised(limit: Rlimit, needed: u64) -> Rlimit {
    let wanted = limit.maximum.map_or(needed, |maximum| needed.min(maximum));
    Rlimit { current: limit.current.map(|current| current.max(wanted)), maximum: limit.maximum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_goes_up_as_far_as_it_may_and_never_down() {
        let soft = |current, maximum| raised(Rlimit { current, maximum }, 10_000).current;
        assert_eq!(soft(Some(1_024), Some(20_000)), Some(10_000));
        assert_eq!(soft(Some(1_024), Some(4_096)), Some(4_096));
        assert_eq!(soft(Some(1_024), None), Some(10_000));
        assert_eq!(soft(Some(12_000), Some(20_000)), Some(12_000));
        assert_eq!(soft(None, None), None);
    }
}
