//! The lines of a file, checked.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use rondo_storage::Key;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::failure::Failure;

/// Bytes a line may have beyond its value: a key of 1,024 bytes may be written as 6,144 characters.
const AROUND_VALUE_BYTES_MAX: u64 = 16 << 10;
/// More bad lines than these are only counted.
const NAMED_MAX: usize = 20;

/// How many records there are, and the bytes of their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Totals {
    pub(in crate::cli) records: u64,
    pub(in crate::cli) bytes: u64,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Record {
    /// Counted from 1.
    pub(in crate::cli) line: u64,
    pub(in crate::cli) key: String,
    /// The JSON text exactly as it stands in the line.
    pub(in crate::cli) value: Bytes,
}

/// What is wrong with a line, and what is allowed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file}:{line}: {what}")]
pub(in crate::cli) struct BadLine {
    file: String,
    line: u64,
    what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// A file's records in their order. Empty lines are passed over.
pub(in crate::cli) struct Lines {
    name: String,
    bucket: String,
    value_bytes_max: u64,
    reader: Box<dyn BufRead>,
    line: u64,
    text: Vec<u8>,
    broken: bool,
}

impl Lines {
    /// Opens a file, gzip or not.
    pub(in crate::cli) fn open(path: &Path, bucket: &str, value_bytes_max: u64) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let unreadable = |e: io::Error| Failure::Failed(format!("{name}: the file cannot be read: {e}"));
        let file = File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.is_dir() {
            return Err(Failure::Failed(format!("{name}: this is a directory; a file is needed")));
        }
        Self::over(&name, Box::new(file), bucket, value_bytes_max).map_err(unreadable)
    }

    /// The same for anything that can be read. Gzip is known by its first two bytes, not by a file's name.
    pub(in crate::cli) fn over(
        name: &str,
        source: Box<dyn Read>,
        bucket: &str,
        value_bytes_max: u64,
    ) -> io::Result<Self> {
        let mut plain = BufReader::with_capacity(64 << 10, source);
        let is_gzip = plain.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn BufRead> =
            if is_gzip { Box::new(BufReader::new(MultiGzDecoder::new(plain))) } else { Box::new(plain) };
        let (name, bucket, text) = (name.into(), bucket.into(), Vec::new());
        Ok(Self { name, bucket, value_bytes_max, reader, line: 0, text, broken: false })
    }

    /// Reads to the end. Names every bad line, up to a number.
    pub(in crate::cli) fn check(self) -> Result<Totals, Failure> {
        let (mut totals, mut bad, mut named) = (Totals::default(), 0usize, Vec::new());
        for line in self {
            match line {
                Ok(record) => {
                    totals.records += 1;
                    totals.bytes += record.value.len() as u64;
                }
                Err(error) => {
                    bad += 1;
                    named.extend((bad <= NAMED_MAX).then(|| error.to_string()));
                }
            }
        }
        if bad == 0 {
            return Ok(totals);
        }
        if bad > NAMED_MAX {
            named.push(format!("… and {} more", bad - NAMED_MAX));
        }
        named.push(format!("nothing was written: {bad} bad lines, {} good ones", totals.records));
        Err(Failure::Failed(named.join("\n")))
    }

    fn read_line(&mut self) -> Option<Result<Record, BadLine>> {
        loop {
            self.text.clear();
            self.line += 1;
            let most = self.value_bytes_max + AROUND_VALUE_BYTES_MAX;
            match self.reader.by_ref().take(most).read_until(b'\n', &mut self.text) {
                Ok(0) => return None,
                Err(e) => {
                    self.broken = true;
                    return Some(Err(self.bad(format!("the file cannot be read any further: {e}"))));
                }
                Ok(_) if !self.text.ends_with(b"\n") && self.text.len() as u64 == most => {
                    // The rest of a line that is too long to be kept.
                    self.broken = self.reader.skip_until(b'\n').is_err();
                    return Some(Err(self.too_large(&format!("more than {}", self.value_bytes_max))));
                }
                Ok(_) if self.text.trim_ascii().is_empty() => {}
                Ok(_) => return Some(self.parse()),
            }
        }
    }

    fn parse(&self) -> Result<Record, BadLine> {
        let text = std::str::from_utf8(&self.text).map_err(|e| self.bad(format!("not UTF-8: {e}")))?;
        let line: Line<'_> = serde_json::from_str(text).map_err(|e| self.bad(explain(&e)))?;
        Key::new(&self.bucket, &line.key).map_err(|e| self.bad(e.to_string()))?;
        let value = line.value.get();
        if value.len() as u64 > self.value_bytes_max {
            return Err(self.too_large(&value.len().to_string()));
        }
        Ok(Record { line: self.line, key: line.key.into_owned(), value: value.to_string().into() })
    }

    fn too_large(&self, count: &str) -> BadLine {
        let max = self.value_bytes_max;
        self.bad(format!("the value has {count} bytes: at most {max} are allowed (--value-bytes-max)"))
    }

    fn bad(&self, what: String) -> BadLine {
        BadLine { file: self.name.clone(), line: self.line, what }
    }
}

impl Iterator for Lines {
    type Item = Result<Record, BadLine>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken { None } else { self.read_line() }
    }
}

/// serde's message without its line number, which is always 1 here.
fn explain(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let at = format!(" at line {} column {}", error.line(), error.column());
    let cause = message.strip_suffix(&at).unwrap_or(&message);
    let kind = if error.is_data() { "not a record" } else { "not JSON" };
    format!("{kind}: {cause} (column {}); a line is {{\"key\": text, \"value\": any JSON}}", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(text: &[u8]) -> Lines {
        Lines::over("f", Box::new(io::Cursor::new(text.to_vec())), "b", 40).unwrap()
    }

    fn only_error(text: &[u8]) -> String {
        let mut found: Vec<_> = lines(text).collect();
        assert_eq!(found.len(), 1);
        found.pop().unwrap().unwrap_err().to_string()
    }

    #[test]
    fn a_value_is_the_text_that_stands_there() {
        let text = br#"{"key":"a\u00e9/b","value":{"z": 1.0,  "a":"\u00e9"}}

            { "value" : null , "key" : "n" }"#;
        let found: Vec<Record> = lines(text).map(Result::unwrap).collect();
        assert_eq!((found[0].key.as_str(), &found[0].value[..]), ("aé/b", &br#"{"z": 1.0,  "a":"\u00e9"}"#[..]));
        assert_eq!((found[1].line, found[1].key.as_str(), &found[1].value[..]), (3, "n", &b"null"[..]));
        assert_eq!(lines(text).check().unwrap(), Totals { records: 2, bytes: 29 });
    }

    #[test]
    fn a_bad_line_is_named_with_what_is_wrong_and_allowed() {
        let schema = "a line is {\"key\": text, \"value\": any JSON}";
        assert_eq!(only_error(b"hello"), format!("f:1: not JSON: expected value (column 1); {schema}"));
        assert!(only_error(b"{\"key\":\"a\"}").starts_with("f:1: not a record: missing field `value`"));
        assert!(only_error(b"{\"value\":1}").contains("missing field `key`"));
        assert!(only_error(b"{\"key\":\"a\",\"value\":1,\"ttl\":1}").contains("unknown field `ttl`"));
        assert!(only_error(b"{\"key\":\"a\",\"key\":\"b\",\"value\":1}").contains("duplicate field `key`"));
        assert!(only_error(b"{\"key\":1,\"value\":1}").contains("invalid type: integer `1`, expected a string"));
        assert!(only_error(b"{\"key\":\"a\",\"value\":1} x").contains("not JSON: trailing characters"));
        assert!(only_error(b"{\"key\":\"\",\"value\":1}").contains("the key is empty: 1 to 1,024 bytes are allowed"));
        assert!(only_error(b"\xff\n").contains("f:1: not UTF-8"));
        let long = format!("{{\"key\":\"{}\",\"value\":1}}", "k".repeat(1_025));
        assert!(only_error(long.as_bytes()).contains("the key has 1025 bytes"));
        let large = format!("{{\"key\":\"a\",\"value\":\"{}\"}}", "v".repeat(39));
        assert!(only_error(large.as_bytes()).contains("the value has 41 bytes: at most 40 are allowed"));
    }

    #[test]
    fn a_line_that_never_ends_is_not_kept_and_the_next_one_is_read() {
        let mut text = vec![b'x'; 100_000];
        text.extend_from_slice(b"\n{\"key\":\"a\",\"value\":1}\n");
        let found: Vec<_> = lines(&text).collect();
        assert!(found[0].as_ref().unwrap_err().to_string().contains("f:1: the value has more than 40 bytes"));
        assert_eq!(found[1].as_ref().unwrap().line, 2);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn every_bad_line_is_counted_and_the_first_ones_are_named() {
        let text = b"{\"key\":\"a\",\"value\":1}\n".repeat(2);
        let text = [text, b"x\n".repeat(25)].concat();
        let Failure::Failed(message) = lines(&text).check().unwrap_err() else { panic!("exit code 1") };
        assert!(message.starts_with("f:3: not JSON") && message.contains("… and 5 more"), "{message}");
        assert!(message.ends_with("nothing was written: 25 bad lines, 2 good ones"));
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes_and_a_cut_file_is_an_error() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(b"{\"key\":\"a\",\"value\":1}\n{\"key\":\"b\",\"value\":2}\n").unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(lines(&packed).check().unwrap().records, 2);
        let found: Vec<_> = lines(&packed[..packed.len() - 6]).collect();
        assert!(found.last().unwrap().as_ref().unwrap_err().to_string().contains("cannot be read any further"));
    }
}
