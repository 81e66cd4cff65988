//! The rules of the house, as far as a program can check them. Each rule is a function from text to complaints, and is
//! shown a bad sample as well as this repository: a rule that cannot fail checks nothing.

#![allow(clippy::unwrap_used, reason = "test helpers")]

mod arrows;
mod code;
mod documents;
mod files;

use files::{Files, Kind};

#[track_caller]
fn is_tidy(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// All complaints of a rule about the text of each file.
fn each(kind: Kind, rule: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    let all = Files::of_repository();
    let complaints = all
        .of(kind)
        .flat_map(|(path, text)| rule(path, text).into_iter().map(move |complaint| format!("{path}: {complaint}")));
    complaints.collect()
}

#[test]
fn crates_depend_on_each_other_as_drawn() {
    let all = Files::of_repository();
    let drawn = arrows::drawn(all.text("ARCHITECTURE.md"));
    assert!(drawn.len() >= 8, "{drawn:?}");
    let real = arrows::real(all.of(Kind::Manifest));
    is_tidy(&arrows::complaints(&drawn, &real));
}

#[test]
fn paths_and_links_in_documents_exist() {
    let all = Files::of_repository();
    let exists = |path: &str| all.exists(path);
    is_tidy(&each(Kind::Document, |_, text| documents::missing_paths(text, exists)));
    is_tidy(&each(Kind::Document, |path, text| documents::missing_links(path, text, exists)));
}

#[test]
fn make_targets_in_documents_exist() {
    let all = Files::of_repository();
    let targets = documents::make_targets(all.text("Makefile"));
    assert!(targets.contains(&"check".to_string()));
    is_tidy(&each(Kind::Document, |_, text| documents::missing_targets(text, &targets)));
}

#[test]
fn decisions_are_complete() {
    let all = Files::of_repository();
    let records: Vec<_> = all.of(Kind::Document).filter(|(path, _)| path.starts_with("docs/decisions/")).collect();
    assert!(records.len() >= 4, "{}", records.len());
    is_tidy(&documents::incomplete_decisions(&records));
}

#[test]
fn the_changelog_has_a_place_for_what_is_not_released() {
    is_tidy(&documents::changelog(Files::of_repository().text("CHANGELOG.md")));
}

#[test]
fn every_source_file_says_what_it_is() {
    is_tidy(&each(Kind::Source, |_, text| code::undocumented(text)));
}

#[test]
fn files_are_not_too_long() {
    is_tidy(&each(Kind::Source, |_, text| code::too_long(text)));
}

#[test]
fn nothing_is_left_over() {
    is_tidy(&each(Kind::AnyText, |_, text| code::leftovers(text)));
}

#[test]
fn no_path_of_one_machine_is_named() {
    is_tidy(&each(Kind::AnyText, |_, text| code::machine_paths(text)));
}

#[test]
fn tests_do_not_sleep() {
    // Where a deadline is kept: the harness's `eventually` and `pace`, and the peer lanes' own `eventually`.
    let not_the_harness = |path: &str, text: &str| match path {
        "tests/src/wait.rs" | "node/tests/peers/support.rs" => Vec::new(),
        _ if path.contains("/tests/") || path.starts_with("tests/") => code::sleeps(text),
        _ => code::sleeps(code::tests_of(text)),
    };
    is_tidy(&each(Kind::Rust, not_the_harness));
}

#[test]
fn machines_have_no_clock() {
    let all = Files::of_repository();
    for name in ["ring", "gossip", "coordinator", "antientropy"] {
        is_tidy(&code::clocks_allowed(name, all.text(&format!("{name}/clippy.toml"))));
    }
}
