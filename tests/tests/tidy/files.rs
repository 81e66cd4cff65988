//! Every text file of the repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rondo_tests::workspace;

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Markdown.
    Document,
    /// `Cargo.toml` of a crate.
    Manifest,
    /// Rust, tests and examples included.
    Rust,
    /// Rust in the `src` of a crate.
    Source,
    /// Everything that a person wrote.
    AnyText,
}

/// Path from the root, and text.
pub(crate) struct Files(BTreeMap<String, String>);

impl Files {
    /// As it is on disk, without what is built or hidden.
    pub(crate) fn of_repository() -> Self {
        let mut files = BTreeMap::new();
        collect(&workspace(), "", &mut files);
        Self(files)
    }

    /// Those of one kind; data is nobody's prose.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = (&str, &str)> {
        let wanted = move |path: &str| match kind {
            Kind::Document => path.ends_with(".md"),
            Kind::Manifest => path.ends_with("/Cargo.toml"),
            Kind::Rust => path.ends_with(".rs"),
            Kind::Source => path.ends_with(".rs") && path.split('/').any(|part| part == "src"),
            Kind::AnyText => !path.ends_with(".lock") && !path.contains("/fixtures/"),
        };
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str())).filter(move |(path, _)| wanted(path))
    }

    /// One file.
    #[track_caller]
    pub(crate) fn text(&self, path: &str) -> &str {
        self.0.get(path).unwrap_or_else(|| panic!("there is no {path}"))
    }

    /// Whether there is such a file or directory, hidden ones included.
    pub(crate) fn exists(&self, path: &str) -> bool {
        workspace().join(path).exists()
    }
}

fn collect(directory: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        let skipped = name.starts_with('.') && name != ".ci" || ["target", "data"].contains(&path.as_str());
        if skipped {
            continue;
        }
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{path}/"), files);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            files.insert(path, text);
        }
    }
}
