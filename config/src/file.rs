//! The configuration file: TOML, with the line of each key for the messages.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use crate::error::ConfigError;

/// Largest configuration file in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// One `key = value` of the file.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Sections and key joined with dots.
    pub(crate) path: String,
    /// As JSON; `None` for a section without keys.
    pub(crate) value: Option<Value>,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// Every key of the file, in its order.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let unreadable = |reason: String| ConfigError::Unreadable { path: path.into(), reason };
    let metadata = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
    if metadata.len() > BYTES_MAX {
        return Err(unreadable(format!("it has {} bytes, {BYTES_MAX} are allowed", metadata.len())));
    }
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
    parse(&text).map_err(|reason| ConfigError::Syntax { path: path.into(), reason })
}

fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let values: BTreeMap<String, Value> = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_string())?;
    let spans = DeTable::parse(text).map_err(|e| e.to_string())?;
    let mut entries = Vec::new();
    let values = Value::Object(values.into_iter().collect());
    walk("", spans.get_ref(), &values, text, &mut entries);
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn walk(prefix: &str, spans: &DeTable<'_>, values: &Value, text: &str, entries: &mut Vec<Entry>) {
    for (key, spanned) in spans {
        let name = key.get_ref();
        let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
        let value = &values[name.as_ref()];
        match spanned.get_ref() {
            DeValue::Table(table) if !table.is_empty() => walk(&path, table, value, text, entries),
            inner => {
                let line = 1 + text[..key.span().start].matches('\n').count();
                let value = (!matches!(inner, DeValue::Table(_))).then(|| value.clone());
                entries.push(Entry { path, value, line });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_key_has_its_path_value_and_line() {
        let entries = parse("name = 'n1'\n\n[storage]\n# more\ncache_bytes = 5\n[log]\n").unwrap();
        let flat: Vec<_> = entries.into_iter().map(|e| (e.path, e.value, e.line)).collect();
        let expected = [
            ("name".to_string(), Some(json!("n1")), 1),
            ("storage.cache_bytes".to_string(), Some(json!(5)), 5),
            ("log".to_string(), None, 6),
        ];
        assert_eq!(flat, expected);
    }

    #[test]
    fn what_is_not_toml_is_refused_with_its_place() {
        let reason = parse("name = n1\n").unwrap_err();
        assert!(reason.contains("line 1"), "{reason}");
    }
}
