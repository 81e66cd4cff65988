//! Records of a `{"key":…,"value":…}` file, plain or gzip.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::value::RawValue;

/// One line.
#[derive(Clone, Debug)]
pub struct Record {
    /// The key.
    pub key: String,
    /// The value's bytes as they stand in the line.
    pub value: Vec<u8>,
}

/// All records of a file. Read without any code of the program under test.
pub fn records(path: &Path) -> Vec<Record> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let zipped = path.extension().is_some_and(|extension| extension == "gz");
    let source: Box<dyn Read> = if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let lines = BufReader::new(source).lines().map(|line| line.expect("the data set is text"));
    lines.filter(|line| !line.trim().is_empty()).map(|line| record(&line)).collect()
}

fn record(line: &str) -> Record {
    let fields: std::collections::BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let key = serde_json::from_str(fields["key"].get()).expect("a key is text");
    Record { key, value: fields["value"].get().as_bytes().to_vec() }
}
