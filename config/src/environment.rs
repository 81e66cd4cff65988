//! `RONDO_STORAGE__CACHE_BYTES` is `storage.cache_bytes`.

/// What every variable of ours begins with.
const PREFIX: &str = "RONDO_";
/// Ours, but no settings of a node: the command line's, and those of the tests.
const OTHERS: [&str; 5] = ["RONDO_ENDPOINT", "RONDO_CONFIG", "RONDO_KILL_ROUNDS", "RONDO_LOAD_ALL", "RONDO_DATA"];

/// The path a variable sets; `None` if it is not a setting.
pub(crate) fn path(variable: &str, value: &str) -> Option<String> {
    let name = variable.strip_prefix(PREFIX)?;
    let ours = !OTHERS.contains(&variable) && !is_service_link(name, value);
    ours.then(|| name.to_ascii_lowercase().replace("__", "."))
}

/// Kubernetes puts `RONDO_SERVICE_HOST`, `RONDO_PORT_7700_TCP_ADDR` and the like into every pod beside a service
/// called `rondo`: refusing them as unknown settings would keep a node from starting there.
fn is_service_link(name: &str, value: &str) -> bool {
    let service = name.contains("SERVICE_HOST") || name.contains("SERVICE_PORT");
    let url = value.starts_with("tcp://") || value.starts_with("udp://");
    let port = name.split("PORT_").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    service || port || (url && name.ends_with("PORT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_underscores_separate_a_section() {
        assert_eq!(path("RONDO_GOSSIP__HEARTBEAT_MS", "1").as_deref(), Some("gossip.heartbeat_ms"));
        assert_eq!(path("RONDO_DATA_DIR", "d").as_deref(), Some("data_dir"));
        assert_eq!(path("HOME", "/"), None);
        assert_eq!(path("RONDO_ENDPOINT", "http://a"), None);
    }

    #[test]
    fn service_links_are_no_settings() {
        let links = [
            ("RONDO_SERVICE_HOST", "10.0.0.1"),
            ("RONDO_SERVICE_PORT_CLIENT", "7700"),
            ("RONDO_PORT", "tcp://10.0.0.1:7700"),
            ("RONDO_PEERS_PORT_7701_TCP_ADDR", "10.0.0.1"),
        ];
        for (name, value) in links {
            assert_eq!(path(name, value), None, "{name}");
        }
        assert_eq!(path("RONDO_PORT", "7700").as_deref(), Some("port"), "a mistake, to be named as one");
    }
}
