//! Which crate may use which: the table in ARCHITECTURE.md against the manifests.

use std::collections::{BTreeMap, BTreeSet};

/// A crate's folder and those it uses.
pub(crate) type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The rows `| `name` | … | arrows |` of the table whose last column is "arrows to".
pub(crate) fn drawn(document: &str) -> Arrows {
    let rows = document.lines().skip_while(|line| !(line.starts_with("| crate") && line.contains("arrows to")));
    let mut arrows = Arrows::new();
    for row in rows.skip(2).take_while(|line| line.starts_with('|')) {
        let columns: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (name, to) = (columns[0].trim_matches('`').to_string(), *columns.last().unwrap());
        let to = match to {
            "all of the above" => arrows.keys().cloned().collect(),
            // The binary is started, not linked.
            "–" | "the binary" => BTreeSet::new(),
            list => list.split(',').map(|one| one.trim().trim_matches('`').to_string()).collect(),
        };
        arrows.insert(name, to);
    }
    arrows
}

/// The `rondo-…` dependencies of each manifest, those for its tests included. A crate is known by its folder, whose last
/// part is its name.
pub(crate) fn real<'a>(manifests: impl Iterator<Item = (&'a str, &'a str)>) -> Arrows {
    let manifests: Vec<_> = manifests.map(|(path, text)| (path.trim_end_matches("/Cargo.toml"), text)).collect();
    let folder = |name: &str| {
        let is_it = |folder: &&str| folder.rsplit('/').next() == Some(name);
        manifests.iter().map(|(folder, _)| *folder).find(is_it).unwrap_or(name).to_string()
    };
    let uses = |text: &str| -> BTreeSet<String> {
        let manifest: toml::Table = text.parse().unwrap();
        let tables = ["dependencies", "dev-dependencies", "build-dependencies"].map(|name| manifest.get(name));
        let names = tables.into_iter().flatten().filter_map(|table| table.as_table()).flat_map(|table| table.keys());
        names.filter_map(|name| name.strip_prefix("rondo-")).map(folder).collect()
    };
    manifests.iter().map(|(folder, text)| (folder.to_string(), uses(text))).collect()
}

/// Where the two differ, either way.
pub(crate) fn complaints(drawn: &Arrows, real: &Arrows) -> Vec<String> {
    let names: BTreeSet<&String> = drawn.keys().chain(real.keys()).collect();
    let differing = names.into_iter().filter(|&name| drawn.get(name) != real.get(name));
    differing.map(|name| format!("{name}: drawn {:?}, real {:?}", drawn.get(name), real.get(name))).collect()
}

#[test]
fn a_wrong_arrow_is_found() {
    let document = "text\n| crate | what | arrows to |\n|---|---|---|\n| `a` | x | – |\n| `b` | y | `a` |\n\
                    | `c` | y | all of the above |\n\n| `d` | no row of it | `a` |\n";
    let drawn = drawn(document);
    assert_eq!(drawn["c"], ["a", "b"].map(String::from).into());
    let none = "[dependencies]\nserde = \"1\"\n";
    let both = "[dependencies]\nrondo-a.workspace = true\n[dev-dependencies]\nrondo-b.workspace = true\n";
    let of = |b: &str, c: &str| real([("a/Cargo.toml", none), ("b/Cargo.toml", b), ("c/Cargo.toml", c)].into_iter());
    let good = "[dependencies]\nrondo-a.workspace = true\n";
    assert!(complaints(&drawn, &of(good, both)).is_empty());
    assert_eq!(complaints(&drawn, &of(both, both)).len(), 1, "an arrow that is not drawn");
    assert_eq!(complaints(&drawn, &of(none, both)).len(), 1, "a drawn arrow that is not there");
    assert_eq!(complaints(&drawn, &real([("a/Cargo.toml", none)].into_iter())).len(), 2, "a crate that is not there");
}
