//! F1, F2, F3, F4 through the public interface.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use rondo_config::{Flag, Loaded, Origin, SHIPPED, Settings, Sources};
use serde_json::{Value, json};

struct Given {
    directory: tempfile::TempDir,
    sources: Sources,
}

fn given(file: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Given {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rondo.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let flags = flags.iter().map(|(key, value)| Flag { key, value: value.to_string() }).collect();
    Given { directory, sources: Sources { file: Some(path), environment, flags } }
}

impl Given {
    fn load(&self) -> Loaded {
        self.sources.load().unwrap()
    }

    /// Errors with the directory's name taken out.
    fn errors(&self) -> Vec<String> {
        let text = self.sources.load().unwrap_err().to_string();
        let directory = format!("{}/", self.directory.path().display());
        text.lines().map(|line| line.replace(&directory, "")).collect()
    }
}

fn row(loaded: &Loaded, key: &str) -> (Value, String) {
    let row = loaded.rows().into_iter().find(|row| row.key == key).unwrap();
    let file_name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let origin = match row.origin {
        Origin::File { path, line } => format!("{}:{line}", file_name(path)),
        other => other.to_string(),
    };
    (row.value, origin)
}

#[test]
fn later_layers_win_and_every_value_knows_where_it_was_set() {
    let file = "name = 'f'\nzone = 'f'\nweight = 2\nseeds = ['a:1']\n[gossip]\nheartbeat_ms = 100\n";
    let environment = [("RONDO_ZONE", "e"), ("RONDO_WEIGHT", "3"), ("RONDO_SEEDS", "b:1, c:2"), ("RONDO_NAME", "")];
    let loaded = given(file, &environment, &[("weight", "4"), ("insecure", "true")]).load();
    assert_eq!(row(&loaded, "name"), (json!("f"), "rondo.toml:1".into()), "an empty variable is not set");
    assert_eq!(row(&loaded, "zone"), (json!("e"), "RONDO_ZONE".into()));
    assert_eq!(row(&loaded, "weight"), (json!(4), "--weight".into()));
    assert_eq!(row(&loaded, "insecure"), (json!(true), "--insecure".into()));
    assert_eq!(row(&loaded, "seeds"), (json!(["b:1", "c:2"]), "RONDO_SEEDS".into()));
    assert_eq!(row(&loaded, "gossip.heartbeat_ms"), (json!(100), "rondo.toml:6".into()));
    assert_eq!(row(&loaded, "gossip.suspicion_min_ms"), (json!(2000), "default".into()));
    assert_eq!(row(&loaded, "bootstrap_expect"), (Value::Null, "default".into()));
    assert_eq!(loaded.settings.weight, 4);
}

#[test]
fn text_becomes_what_the_setting_takes() {
    let environment = [
        ("RONDO_NAME", "123"),
        ("RONDO_BOOTSTRAP_EXPECT", "3"),
        ("RONDO_LIMITS__VALUE_BYTES", "1_000"),
        ("RONDO_LOG__FORMAT", "json"),
        ("RONDO_CLUSTER_SECRET_FILE", "/s"),
        ("RONDO_PARTITIONS", "1024"),
    ];
    let settings = given("", &environment, &[]).load().settings;
    assert_eq!((settings.name.as_str(), settings.bootstrap_expect), ("123", Some(3)));
    assert_eq!((settings.limits.value_bytes, settings.partitions.get()), (1_000, 1_024));
    assert_eq!(settings.log.format, rondo_config::LogFormat::Json);
    assert_eq!(settings.cluster_secret_file, Some(PathBuf::from("/s")));
}

#[test]
fn unknown_keys_are_errors_with_a_suggestion() {
    let file = "data_dri = 'x'\n[gosip]\n[gossip]\nheartbeat = 5\n[storage_engine]\nheartbeat_ms = 5\n";
    let errors = given(file, &[("RONDO_LOG__LEVLE", "info"), ("RONDO_QQQQQQQQ", "1")], &[]).errors();
    let expected = [
        r#"rondo.toml:1: there is no setting "data_dri"; did you mean "data_dir"?"#,
        r#"rondo.toml:2: there is no setting "gosip"; `rondo config show` lists them all"#,
        r#"rondo.toml:4: there is no setting "gossip.heartbeat"; did you mean "gossip.heartbeat_ms"?"#,
        r#"rondo.toml:6: there is no setting "storage_engine.heartbeat_ms"; did you mean "gossip.heartbeat_ms"?"#,
        r#"RONDO_LOG__LEVLE: there is no setting "log.levle"; did you mean "log.level"?"#,
        r#"RONDO_QQQQQQQQ: there is no setting "qqqqqqqq"; `rondo config show` lists them all"#,
    ];
    assert_eq!(errors, expected);
}

#[test]
fn a_bad_value_is_named_with_its_origin_and_what_is_allowed() {
    let file = "weight = 'heavy'\ngossip = 5\nn = 8\nclient_addr = 'localhost'\n";
    let environment = [("RONDO_INSECURE", "yes"), ("RONDO_BOOTSTRAP_EXPECT", "300"), ("RONDO_LOG__FORMAT", "xml")];
    let errors = given(file, &environment, &[("seeds", "a:0"), ("zone", "a b")]).errors();
    let expected = [
        r#"rondo.toml:1: weight = "heavy": a whole number from 0 to 4294967295 is allowed"#,
        r#"rondo.toml:2: gossip = 5: this is a section with settings of its own"#,
        r#"rondo.toml:3: n = 8: 8 replicas: 1 to 7 are allowed"#,
        r#"rondo.toml:4: client_addr = "localhost": an IP address with a port is needed, such as 127.0.0.1:7700"#,
        r#"RONDO_INSECURE: insecure = "yes": true or false is allowed"#,
        r#"RONDO_BOOTSTRAP_EXPECT: bootstrap_expect = "300": a whole number from 0 to 255 is allowed"#,
        r#"RONDO_LOG__FORMAT: log.format = "xml": `text` or `json` is allowed"#,
    ];
    assert_eq!(errors[..7], expected);
    assert!(errors.iter().any(|e| e == r#"--zone: zone = "a b": 1 to 64 of A-Z a-z 0-9 . _ - are allowed"#));
    assert!(errors.iter().any(|e| e.starts_with("--seeds: seeds = [\"a:0\"]: \"a:0\" is not host:port")));
}

#[test]
fn a_level_that_would_log_nothing_is_refused() {
    let level = |text| given("", &[("RONDO_LOG__LEVEL", text)], &[]).sources.load();
    assert!(level("info,rondo_node::peers=debug").is_ok() && level("off").is_ok());
    for bad in ["inof", "info,", "a=b", "=info", "info debug"] {
        let errors = level(bad).unwrap_err().to_string();
        assert!(errors.contains("log.level") && errors.contains("off, error, warn"), "{errors}");
    }
}

#[test]
fn values_are_held_against_each_other() {
    let file = "peer_addr = '127.0.0.1:7700'\n[gossip]\nheartbeat_ms = 1000\n[limits]\ntimeout_default_ms = 70000\n";
    let errors = given(file, &[], &[]).errors();
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(
        errors.iter().any(|e| e.starts_with("rondo.toml:1: peer_addr = ") && e.contains("two different addresses"))
    );
    assert!(errors.iter().any(|e| e == "rondo.toml:5: limits.timeout_default_ms = 70000: 1 to 60000 is allowed"));
    assert!(errors.iter().any(|e| e.contains("gossip.probe_timeout_ms = 400: heartbeat_ms / 2 to 60,000")));
    let errors = given("", &[("RONDO_STORAGE__CACHE_BYTES", "1000")], &[]).errors();
    let expected = "RONDO_STORAGE__CACHE_BYTES: storage.cache_bytes = 1000: allowed are 1048576 to 1099511627776";
    assert_eq!(errors, [expected]);
}

#[test]
fn beyond_loopback_a_secret_and_the_word_are_needed() {
    let open = [("client_addr", "192.0.2.1:7700")];
    let errors = given("", &[], &open).errors();
    assert_eq!(errors.len(), 2);
    assert!(errors[0].contains("needs cluster_secret_file"));
    assert!(errors[1].contains("needs insecure = true (--insecure): this release has neither TLS nor access tokens"));
    let said = [("client_addr", "192.0.2.1:7700"), ("cluster_secret_file", "s"), ("insecure", "true")];
    assert!(!given("", &[], &said).load().settings.on_loopback());
}

#[test]
fn a_listener_on_every_address_says_which_one_others_reach() {
    let every = [("peer_addr", "0.0.0.0:7701"), ("cluster_secret_file", "s"), ("insecure", "true")];
    let errors = given("", &[], &every).errors();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("set advertise to the host:port others reach"));
    let mut named = every.to_vec();
    named.push(("advertise", "n1.example.net:7701"));
    let settings = given("", &[], &named).load().settings;
    assert_eq!(settings.advertised_peer("0.0.0.0:7701".parse().unwrap()), "n1.example.net:7701");
    assert_eq!(settings.advertised_client("127.0.0.1:9".parse().unwrap()), "127.0.0.1:9");
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_an_error() {
    let mut broken = given("name = ", &[], &[]);
    assert!(broken.errors()[0].starts_with("rondo.toml: not valid TOML: "));
    broken.sources.file = Some(broken.directory.path().join("none.toml"));
    assert!(broken.errors()[0].starts_with("none.toml: the configuration file cannot be read: "));
}

/// Every setting stands in the shipped file with its default: a line without its "#" changes nothing.
#[test]
fn the_shipped_file_shows_every_default() {
    let is_setting =
        |line: &&str| line.strip_prefix("# ").is_some_and(|rest| rest.contains(" = ") && starts_a_key(rest));
    let settings: Vec<&str> = SHIPPED.lines().filter(is_setting).collect();
    let uncommented = |line: &str| line.strip_prefix("# ").filter(|_| is_setting(&line)).unwrap_or(line).to_string();
    let active: Vec<String> = SHIPPED.lines().map(uncommented).collect();
    let loaded = given(&active.join("\n"), &[], &[]).load();
    let rows = loaded.rows();
    assert_eq!(settings.len(), rows.len());
    let unset: Vec<_> = rows.iter().filter(|row| row.origin == Origin::Default).map(|row| &row.key).collect();
    assert!(unset.is_empty(), "not in the shipped file: {unset:?}");
    // These have no fixed default, or none at all; the file shows an example.
    let examples = |settings: Settings| Settings {
        name: String::new(),
        worker_threads: 1,
        advertise: None,
        advertise_client: None,
        bootstrap_expect: None,
        cluster_secret_file: None,
        store: rondo_storage::store::StoreOptions::default(),
        ..settings
    };
    assert_eq!(examples(loaded.settings), examples(Settings::default()));
    assert_eq!(given(SHIPPED, &[], &[]).load().settings, Settings::default());
}

fn starts_a_key(text: &str) -> bool {
    text.split(" = ").next().is_some_and(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}
