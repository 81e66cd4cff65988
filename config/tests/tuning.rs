//! `docs/tuning.md` names settings that exist, with the defaults they have.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use rondo_config::Settings;
use serde_json::Value;

const SECTIONS: [&str; 6] = ["log.", "limits.", "coordinator.", "gossip.", "storage.", "disk."];

fn setting<'a>(settings: &'a Value, name: &str) -> Option<&'a Value> {
    settings.pointer(&format!("/{}", name.replace('.', "/")))
}

/// What a cell of a table has in backticks, if nothing else.
fn quoted(cell: &str) -> Option<&str> {
    cell.trim().strip_prefix('`')?.strip_suffix('`')
}

fn complaints(page: &str, settings: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    for (name, rest) in rows {
        let told = quoted(rest.split('|').next().unwrap());
        let Some(real) = setting(settings, name).map(Value::to_string) else {
            complaints.push(format!("there is no setting {name}"));
            continue;
        };
        if told.is_some_and(|told| told != real) {
            complaints.push(format!("the default of {name} is {real}"));
        }
    }
    let words =
        page.split('`').skip(1).step_by(2).filter(|word| SECTIONS.iter().any(|section| word.starts_with(section)));
    complaints.extend(words.filter(|word| setting(settings, word).is_none()).map(|word| format!("no setting {word}")));
    complaints
}

#[test]
fn every_setting_of_the_tuning_page_exists_with_its_default() {
    let settings = serde_json::to_value(Settings::default()).unwrap();
    let page = include_str!("../../docs/tuning.md");
    assert!(page.matches("\n| `").count() > 20, "it is made of tables");
    assert_eq!(complaints(page, &settings), Vec::<String>::new());
    let bad =
        "| `limits.conections` | `1` |\n| `limits.connections` | `1` |\nsee `storage.cache`\n| `log.level` | any |\n";
    assert_eq!(complaints(bad, &settings).len(), 4);
}
