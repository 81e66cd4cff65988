//! Rules about documents: what they name has to be there.

use std::collections::BTreeMap;
use std::path::{Component, Path};

const EXTENSIONS: [&str; 8] = [".md", ".rs", ".toml", ".json", ".jsonl", ".yml", ".hex", ".sh"];

/// What stands between single backticks, outside of fenced blocks.
fn quoted(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut words = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            words.extend(line.split('`').skip(1).step_by(2));
        }
    }
    words
}

/// A path of this repository: made of plain names, under something that is at the root or with an extension of ours.
fn looks_like_a_path(word: &str, exists: impl Fn(&str) -> bool) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./-{},".contains(c);
    let Some((first, _)) = word.split_once('/') else { return false };
    let ours = exists(first) || EXTENSIONS.iter().any(|extension| word.ends_with(extension));
    !first.is_empty() && word.chars().all(plain) && ours && first.chars().all(|c| c != '.')
}

/// `a/{b,c}.rs` is two paths.
fn expanded(word: &str) -> Vec<String> {
    let parts = word.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (list, after))) = parts else { return vec![word.to_string()] };
    list.split(',').map(|one| format!("{before}{one}{after}")).collect()
}

/// Paths in backticks that do not exist.
pub(crate) fn missing_paths(text: &str, exists: impl Fn(&str) -> bool + Copy) -> Vec<String> {
    let paths = quoted(text).into_iter().filter(|word| looks_like_a_path(word, exists));
    let missing = paths.flat_map(expanded).filter(|path| !exists(path));
    missing.map(|path| format!("there is no {path}")).collect()
}

/// Links to files, `[text](target)`, that lead nowhere. `path` is the document's own.
pub(crate) fn missing_links(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    let missing = files.filter(|target| !exists(&resolved(path, target)));
    missing.map(|target| format!("the link to {target} leads nowhere")).collect()
}

fn resolved(document: &str, target: &str) -> String {
    let target = target.split('#').next().unwrap();
    let joined = Path::new(document).parent().unwrap().join(target);
    let mut parts: Vec<&str> = Vec::new();
    for component in joined.components() {
        match component {
            Component::ParentDir => drop(parts.pop()),
            Component::Normal(name) => parts.push(name.to_str().unwrap()),
            _ => {}
        }
    }
    parts.join("/")
}

/// The targets of a Makefile.
pub(crate) fn make_targets(makefile: &str) -> Vec<String> {
    let rules = makefile.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name);
    let plain = |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    rules.filter(plain).map(String::from).collect()
}

/// `make x` in backticks or at the start of a line of code, without a target x.
pub(crate) fn missing_targets(text: &str, targets: &[String]) -> Vec<String> {
    let code = text.lines().filter(|line| line.starts_with("    ") || line.starts_with("make ")).map(str::trim_start);
    let wanted = quoted(text).into_iter().chain(code).filter_map(|command| command.strip_prefix("make "));
    let names = wanted.filter_map(|rest| rest.split_whitespace().next());
    let missing = names.filter(|name| !targets.iter().any(|target| target == name));
    missing.map(|name| format!("there is no target {name} in the Makefile")).collect()
}

/// Names, numbers and sections of the decision records.
pub(crate) fn incomplete_decisions(records: &[(&str, &str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut numbers = BTreeMap::new();
    for (path, text) in records {
        let name = path.rsplit('/').next().unwrap();
        let number = name.split('-').next().unwrap();
        if number.len() != 4 || number.parse::<u16>().is_err() {
            complaints.push(format!("{path}: a record's name begins with four digits"));
        }
        if let Some(other) = numbers.insert(number, path) {
            complaints.push(format!("{path} has the number of {other}"));
        }
        if !text.starts_with(&format!("# {number} ")) {
            complaints.push(format!("{path}: its first line is not \"# {number} …\""));
        }
        let has =
            |heading: &str| text.lines().any(|line| line.strip_prefix("## ").is_some_and(|h| h.starts_with(heading)));
        if !has("Context") || !has("Decision") || !(has("Measure") || has("Consequences")) {
            complaints.push(format!("{path}: Context, Decision, and Measurement or Consequences are needed"));
        }
    }
    complaints
}

/// Changes have a place before they are released.
pub(crate) fn changelog(text: &str) -> Vec<String> {
    let has = text.lines().any(|line| line.starts_with("## ") && line.contains("Unreleased"));
    (!has).then(|| "CHANGELOG.md has no section Unreleased".to_string()).into_iter().collect()
}

#[test]
fn bad_samples_are_found() {
    let exists = |path: &str| ["node", "node/src", "docs/a.md", "docs", "node/src/x.rs"].contains(&path);
    let good = "`node/src/x.rs`, `docs`, `application/json`, `/v1/kv`, `a b/c.rs`, `W/`, `http://x/y.md`, `../x`\n\
                ```text\n`node/gone`\n```\n";
    assert!(missing_paths(good, exists).is_empty(), "{:?}", missing_paths(good, exists));
    for bad in ["`node/gone`", "`nod/src/x.rs`", "`docs/{a,b}.md`", "`docs/decisions/x.md`"] {
        assert_eq!(missing_paths(bad, exists).len(), 1, "{bad}");
    }

    assert!(
        missing_links("docs/b.md", "[a](a.md#part) [x](../node/src/x.rs) [w](https://w) [p](#p)", exists).is_empty()
    );
    assert_eq!(missing_links("docs/b.md", "[a](gone.md) and [b](node/src/x.rs)", exists).len(), 2);

    let targets = make_targets(".PHONY: a b\ncheck: fmt ## it\nfmt:\n\tcargo x: y\nbench-engine:\n");
    assert_eq!(targets, ["check", "fmt", "bench-engine"]);
    assert!(missing_targets("`make check`, `make`, we make tea\n\n    make fmt   # that\n", &targets).is_empty());
    assert_eq!(missing_targets("`make chekc`\n\n    make tea\n", &targets).len(), 2);

    let record = |number: &str| format!("# {number} T\n## Context\n## Decision\n## Measurements\n");
    let (one, two) = (record("0001"), record("0002"));
    assert!(incomplete_decisions(&[("d/0001-a.md", &one), ("d/0002-b.md", &two)]).is_empty());
    assert_eq!(incomplete_decisions(&[("d/0001-a.md", &one), ("d/0001-b.md", &one)]).len(), 1);
    assert_eq!(incomplete_decisions(&[("d/0001-a.md", &two)]).len(), 1);
    assert_eq!(incomplete_decisions(&[("d/0001-a.md", "# 0001 T\n## Context\n## Decision\n")]).len(), 1);
    assert!(!incomplete_decisions(&[("d/a.md", "# a T\n## Context\n## Decision\n## Consequences\n")]).is_empty());

    assert!(changelog("# C\n## [Unreleased]\n").is_empty());
    assert_eq!(changelog("# C\n## 1.0\nUnreleased\n").len(), 1);
}
