//! What is wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

use crate::layers::Origin;

/// One thing that is wrong. No setting takes effect.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or not readable.
    #[error("{}: the configuration file cannot be read: {reason}", path.display())]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{}: not valid TOML: {reason}", path.display())]
    Syntax {
        /// As given.
        path: PathBuf,
        /// Where and why, over several lines.
        reason: String,
    },
    /// No setting has this key (F1).
    #[error("{origin}: there is no setting {key:?}{}", meant(.suggestion))]
    Unknown {
        /// Where it stands.
        origin: Origin,
        /// As written; for a variable, what its name stands for.
        key: String,
        /// A key that exists and looks like it.
        suggestion: Option<String>,
    },
    /// The value does not fit the setting, or does not go together with the others (F2).
    #[error("{origin}: {key} = {value}: {allowed}")]
    Invalid {
        /// Where it was set.
        origin: Origin,
        /// Its path, such as `storage.cache_bytes`.
        key: String,
        /// As JSON.
        value: String,
        /// What is wrong and what is allowed.
        allowed: String,
    },
}

fn meant(suggestion: &Option<String>) -> String {
    match suggestion {
        Some(key) => format!("; did you mean {key:?}?"),
        None => "; `rondo config show` lists them all".into(),
    }
}

/// Everything that is wrong, one thing a line (F2).
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}
