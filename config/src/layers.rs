//! Defaults < file < environment < flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

use crate::error::{ConfigError, ConfigErrors};
use crate::settings::Settings;
use crate::{environment, file, schema};

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In the configuration file.
    File {
        /// As given.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// By an environment variable of this name.
    Environment(String),
    /// By a flag of this name, without the dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// A flag that was given.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The setting it stands for, such as `data_dir`.
    pub key: &'static str,
    /// Its value as typed.
    pub value: String,
}

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// Variables of the environment; those that do not begin with `RONDO_` are left alone. An empty value counts as
    /// not set.
    pub environment: Vec<(String, String)>,
    /// Flags.
    pub flags: Vec<Flag>,
}

/// Settings that are valid, and where each came from (F3).
#[derive(Debug)]
pub struct Loaded {
    /// All of them.
    pub settings: Settings,
    origins: BTreeMap<String, Origin>,
}

/// One line of `rondo config show`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The setting's path.
    pub key: String,
    /// As JSON; `null` where it is not set and has no default.
    pub value: Value,
    /// Where it was set.
    pub origin: Origin,
}

impl Loaded {
    /// Every setting with its value and origin: those without a section first, then section by section.
    pub fn rows(&self) -> Vec<Row> {
        let tree = serde_json::to_value(&self.settings).expect("settings are maps of plain values");
        let origin = |key: &str| self.origins.get(key).cloned().unwrap_or(Origin::Default);
        let row = |(key, value): (String, Value)| Row { origin: origin(&key), key, value };
        let mut rows: Vec<Row> = schema::leaves(&tree).into_iter().map(row).collect();
        rows.sort_by_key(|row| row.key.contains('.'));
        rows
    }
}

impl Sources {
    /// Lays the sources over each other. Either everything is right, or everything that is wrong is named (F2).
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        let mut layers = Layers::new();
        if let Some(path) = &self.file {
            layers.add_file(path);
        }
        for (variable, value) in &self.environment {
            let path = environment::path(variable, value).filter(|_| !value.is_empty());
            if let Some(path) = path {
                layers.add_text(&path, value, Origin::Environment(variable.clone()));
            }
        }
        for flag in &self.flags {
            layers.add_text(flag.key, &flag.value, Origin::Flag(flag.key.replace('_', "-")));
        }
        layers.finish()
    }
}

/// The values so far: always such that settings can be made of them.
struct Layers {
    schema: BTreeMap<String, Value>,
    values: BTreeMap<String, Value>,
    origins: BTreeMap<String, Origin>,
    errors: Vec<ConfigError>,
}

impl Layers {
    fn new() -> Self {
        let schema = schema::defaults();
        Self { values: schema.clone(), schema, origins: BTreeMap::new(), errors: Vec::new() }
    }

    fn add_file(&mut self, path: &std::path::Path) {
        let entries = match file::read(path) {
            Ok(entries) => entries,
            Err(error) => return self.errors.push(error),
        };
        for entry in entries {
            let origin = Origin::File { path: path.into(), line: entry.line };
            match entry.value {
                Some(value) if self.is_known(&entry.path, &value.to_string(), &origin) => {
                    self.add(&entry.path, &[value], origin)
                }
                None if !schema::is_section(&self.schema, &entry.path) => self.unknown(&entry.path, origin),
                _ => {}
            }
        }
    }

    /// A variable and a flag are text: what it means depends on what the setting takes.
    fn add_text(&mut self, path: &str, text: &str, origin: Origin) {
        if !self.is_known(path, text, &origin) {
            return;
        }
        if self.schema[path].is_array() {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            return self.add(path, &[items.collect()], origin);
        }
        let mut candidates = vec![Value::String(text.into())];
        candidates.extend(text.replace('_', "").parse::<u64>().ok().map(Value::from));
        candidates.extend(text.parse::<bool>().ok().map(Value::from));
        self.add(path, &candidates, origin);
    }

    fn is_known(&mut self, path: &str, value: &str, origin: &Origin) -> bool {
        let known = self.schema.contains_key(path);
        if !known && schema::is_section(&self.schema, path) {
            self.invalid(path, value, "this is a section with settings of its own".into(), origin.clone());
        } else if !known {
            self.unknown(path, origin.clone());
        }
        known
    }

    fn invalid(&mut self, path: &str, value: &str, allowed: String, origin: Origin) {
        let value = value.chars().take(100).collect();
        self.errors.push(ConfigError::Invalid { origin, key: path.into(), value, allowed });
    }

    fn unknown(&mut self, path: &str, origin: Origin) {
        let suggestion = schema::nearest(&self.schema, path);
        self.errors.push(ConfigError::Unknown { origin, key: path.into(), suggestion });
    }

    /// Sets one value, the first candidate that the setting takes. One at a time, so that an error is this value's.
    fn add(&mut self, path: &str, candidates: &[Value], origin: Origin) {
        let before = self.values[path].clone();
        let mut refused = String::new();
        for candidate in candidates {
            self.values.insert(path.into(), candidate.clone());
            match schema::settings(&self.values) {
                Ok(_) => return drop(self.origins.insert(path.into(), origin)),
                Err(error) => refused = schema::allowed(&error.to_string()),
            }
        }
        self.values.insert(path.into(), before);
        self.invalid(path, &candidates[0].to_string(), refused, origin);
    }

    fn finish(mut self) -> Result<Loaded, ConfigErrors> {
        let settings = schema::settings(&self.values).expect("every value was tried when it was set");
        for misfit in settings.validate() {
            let origin = self.origins.get(&misfit.key).cloned().unwrap_or(Origin::Default);
            let value = self.values.get(&misfit.key).map(ToString::to_string).unwrap_or_default();
            self.invalid(&misfit.key, &value, misfit.allowed, origin);
        }
        if self.errors.is_empty() {
            Ok(Loaded { settings, origins: self.origins })
        } else {
            Err(ConfigErrors(self.errors))
        }
    }
}
