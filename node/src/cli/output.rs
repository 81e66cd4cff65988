//! What the user sees.

use std::io::{self, ErrorKind, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::failure::Failure;

/// Shape of a result on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Writes a result. A closed pipe ends the command without a complaint, as `rondo members | head -1` should.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(Failure::ClosedPipe),
        Err(e) => Err(Failure::Failed(format!("the result cannot be written to stdout: {e}"))),
        Ok(()) => Ok(()),
    }
}

/// Writes a result and the end of its last line.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(format!("{}\n", text.trim_end_matches('\n')).as_bytes())
}

/// Writes JSON, one value, indented.
pub(super) fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}"))
}

/// Writes a line to stderr. Nobody is left to be told when that fails.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A table without lines: columns for people that `awk` can read as well.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// `1.5 MiB`.
pub(super) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["n1".to_string(), "up".to_string()], vec!["a-long-name".to_string(), "down".to_string()]];
        let expected = "NAME         STATE\nn1           up\na-long-name  down";
        assert_eq!(table(&["name", "state"], &rows), expected);
        assert_eq!(table(&["name"], &[]), "NAME");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!((bytes(5), bytes(3 << 19)), ("5 B".into(), "1.50 MiB".into()));
    }
}
