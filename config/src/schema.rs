//! The keys there are, taken from the default settings themselves: there is no second list to keep.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::settings::Settings;

/// Every setting's path with its default. `null` where a setting has none.
pub(crate) fn defaults() -> BTreeMap<String, Value> {
    leaves(&serde_json::to_value(Settings::default()).expect("settings are maps of plain values"))
}

/// The paths and values under a tree; arrays are values.
pub(crate) fn leaves(tree: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    if let Value::Object(table) = tree {
        collect("", table, &mut found);
    }
    found
}

fn collect(prefix: &str, table: &Map<String, Value>, found: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(inner) if !inner.is_empty() => collect(&path, inner, found),
            value => drop(found.insert(path, value.clone())),
        }
    }
}

/// The settings that a set of leaves stands for, or what serde says.
pub(crate) fn settings(leaves: &BTreeMap<String, Value>) -> Result<Settings, serde_json::Error> {
    let mut tree = Map::new();
    for (path, value) in leaves {
        let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
        let mut table = &mut tree;
        for name in section.split('.').filter(|name| !name.is_empty()) {
            let inner = table.entry(name).or_insert_with(|| Value::Object(Map::new()));
            table = inner.as_object_mut().expect("a path of the schema is either a section or a setting");
        }
        table.insert(key.into(), value.clone());
    }
    serde_json::from_value(Value::Object(tree))
}

/// Whether a path names a section.
pub(crate) fn is_section(schema: &BTreeMap<String, Value>, path: &str) -> bool {
    schema.keys().any(|key| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The path that may have been meant: near by spelling, or the same last word in another section.
pub(crate) fn nearest(schema: &BTreeMap<String, Value>, path: &str) -> Option<String> {
    let distance = |key: &&String| strsim::damerau_levenshtein(key, path);
    let near = schema.keys().min_by_key(distance).filter(|key| distance(key) <= 2.max(path.len() / 4));
    let word = path.rsplit('.').next().unwrap_or(path);
    let elsewhere = || schema.keys().find(|key| key.rsplit('.').next() == Some(word));
    near.or_else(elsewhere).cloned()
}

/// What serde expected, in words an operator understands.
pub(crate) fn allowed(message: &str) -> String {
    let expected = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected);
    let whole = |max: u64| format!("a whole number from 0 to {max} is allowed");
    match expected {
        "u8" => whole(u8::MAX.into()),
        "u16" => whole(u16::MAX.into()),
        "u32" => whole(u32::MAX.into()),
        "u64" | "usize" => whole(i64::MAX as u64),
        "a boolean" => "true or false is allowed".into(),
        "a string" | "path string" => "text is needed".into(),
        "a sequence" => "a list of texts is needed".into(),
        text if text.contains("socket address") => "an IP address with a port is needed, such as 127.0.0.1:7700".into(),
        text if message.contains("expected") => format!("{text} is allowed"),
        text => text.into(),
    }
}
