//! Rules about sources.

/// Lines of a file, its tests not counted.
const LINES_MAX: usize = 500;

/// The text from the first `#[cfg(test)]` on.
pub(crate) fn tests_of(text: &str) -> &str {
    text.find("#[cfg(test)]").map_or("", |at| &text[at..])
}

/// A file begins with what it is for.
pub(crate) fn undocumented(text: &str) -> Vec<String> {
    let documented = text.starts_with("//! ");
    (!documented).then(|| "does not begin with a //! line".to_string()).into_iter().collect()
}

/// Nobody reads a file of a thousand lines.
pub(crate) fn too_long(text: &str) -> Vec<String> {
    let lines = text[..text.len() - tests_of(text).len()].lines().count();
    (lines > LINES_MAX).then(|| format!("{lines} lines, {LINES_MAX} are allowed")).into_iter().collect()
}

/// Spelled in two parts, so that this file has none of them.
const LEFTOVERS: [(&str, &str); 7] =
    [("to", "do!("), ("unimple", "mented!("), ("db", "g!("), ("FIX", "ME"), ("XX", "X"), ("TO", "DO"), ("HA", "CK:")];

/// What was meant to be done before it was committed.
pub(crate) fn leftovers(text: &str) -> Vec<String> {
    found(text, LEFTOVERS.map(|(one, other)| [one, other].concat()))
}

const MACHINES: [(&str, &str); 4] = [("/ho", "me/"), ("/ro", "ot/"), ("/wo", "rk/"), ("/Use", "rs/")];

/// Paths that exist on one machine only.
pub(crate) fn machine_paths(text: &str) -> Vec<String> {
    found(text, MACHINES.map(|(one, other)| [one, other].concat()))
}

const SLEEP: &str = "sleep";

/// A test that sleeps is slow on a good day and wrong on a bad one: it waits for a condition, with a deadline.
pub(crate) fn sleeps(text: &str) -> Vec<String> {
    found(text, ["thread::", "time::", "{ ", "    "].map(|before| format!("{before}{SLEEP}(")))
}

fn found<const N: usize>(text: &str, words: [String; N]) -> Vec<String> {
    let lines = text.lines().enumerate();
    let named = |(index, line): (usize, &str)| {
        words
            .iter()
            .find(|word| line.contains(*word))
            .map(|word| format!("line {}: {word}: {}", index + 1, line.trim()))
    };
    lines.filter_map(named).collect()
}

/// The crate-local clippy.toml that keeps time and threads out of a machine.
pub(crate) fn clocks_allowed(name: &str, clippy: &str) -> Vec<String> {
    let parsed: toml::Table = clippy.parse().unwrap();
    let methods = parsed.get("disallowed-methods").and_then(|list| list.as_array()).cloned().unwrap_or_default();
    let paths: Vec<&str> = methods.iter().filter_map(|method| method.get("path")?.as_str()).collect();
    let needed = ["time::Instant::now", "time::SystemTime::now", "thread::spawn"].map(|path| format!("std::{path}"));
    let needed = needed.into_iter().chain([format!("std::thread::{SLEEP}")]);
    let missing = needed.filter(|path| !paths.contains(&path.as_str()));
    missing.map(|path| format!("{name}/clippy.toml does not forbid {path}")).collect()
}

#[test]
fn bad_samples_are_found() {
    assert_eq!(undocumented("use std::fs;\n").len(), 1);
    assert!(undocumented("//! It.\n").is_empty());

    let long = "x\n".repeat(LINES_MAX);
    assert!(too_long(&format!("{long}#[cfg(test)]\n{long}")).is_empty(), "tests are not counted");
    assert_eq!(too_long(&format!("{long}x\n")).len(), 1);

    for (one, other) in LEFTOVERS {
        assert_eq!(leftovers(&format!("fn f() {{\n    {one}{other}) }}\n")).len(), 1, "{one}{other}");
    }
    assert!(leftovers("a method, a dog\n").is_empty());
    for (one, other) in MACHINES {
        assert_eq!(machine_paths(&format!("in {one}{other}me\n")).len(), 1);
    }
    assert!(machine_paths("/v1/kv/homework/rooter\n").is_empty());

    let asleep = format!("std::thread::{SLEEP}(d);\n");
    assert_eq!(sleeps(&asleep).len(), 1);
    assert!(sleeps(tests_of(&format!("{asleep}#[cfg(test)]\nmod tests {{}}\n"))).is_empty());
    assert_eq!(sleeps(tests_of(&format!("#[cfg(test)]\nmod tests {{ {asleep} }}\n"))).len(), 1);

    assert_eq!(clocks_allowed("x", "allow-unwrap-in-tests = true\n").len(), 4);
    let some = "disallowed-methods = [{ path = \"std::time::Instant::now\", reason = \"r\" }]\n";
    assert_eq!(clocks_allowed("x", some).len(), 3);
}
