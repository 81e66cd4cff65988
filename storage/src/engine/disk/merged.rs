//! Several sources of rows in order as one.

use std::iter::Peekable;

use lsm_tree::InternalValue;

/// Rows in order, of those with one key the newest first.
pub(super) type Source<'a> = Box<dyn Iterator<Item = lsm_tree::Result<InternalValue>> + 'a>;

/// Each key once: of several sources that have it, as the first says.
pub(super) struct Merged<'a> {
    sources: Vec<Peekable<Source<'a>>>,
}

impl<'a> Merged<'a> {
    /// Newest source first.
    pub(super) fn new(sources: impl IntoIterator<Item = Source<'a>>) -> Self {
        Self { sources: sources.into_iter().map(Iterator::peekable).collect() }
    }

    /// The source that comes next: the one with the lowest key, or one that failed.
    fn first(&mut self) -> Option<usize> {
        let mut first: Option<(usize, &[u8])> = None;
        for (at, source) in self.sources.iter_mut().enumerate() {
            match source.peek() {
                Some(Err(_)) => return Some(at),
                Some(Ok(row)) if first.is_none_or(|(_, lowest)| *row.key.user_key < *lowest) => {
                    first = Some((at, &row.key.user_key));
                }
                Some(Ok(_)) | None => {}
            }
        }
        first.map(|(at, _)| at)
    }
}

impl Iterator for Merged<'_> {
    type Item = lsm_tree::Result<InternalValue>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.first()?;
        let row = self.sources[at].next()?;
        if let Ok(row) = &row {
            for source in &mut self.sources[at..] {
                // What failed stays, to be told of next.
                while source
                    .next_if(|other| other.as_ref().is_ok_and(|it| it.key.user_key == row.key.user_key))
                    .is_some()
                {}
            }
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use lsm_tree::ValueType;

    use super::*;

    fn row(key: &str, value: &str) -> lsm_tree::Result<InternalValue> {
        Ok(InternalValue::from_components(key, value, 1, ValueType::Value))
    }

    fn source(rows: &[(&str, &str)]) -> Source<'static> {
        Box::new(rows.iter().map(|(key, value)| row(key, value)).collect::<Vec<_>>().into_iter())
    }

    #[test]
    fn of_several_the_first_source_counts_and_the_first_in_it() {
        let sources = [
            source(&[("b", "new"), ("d", "new")]),
            source(&[]),
            source(&[("a", "old"), ("a", "older"), ("b", "old"), ("d", "old"), ("e", "old"), ("e", "older")]),
            source(&[("b", "oldest"), ("c", "oldest")]),
        ];
        let rows = Merged::new(sources).map(Result::unwrap).map(|row| (row.key.user_key.to_vec(), row.value.to_vec()));
        let expected = [("a", "old"), ("b", "new"), ("c", "oldest"), ("d", "new"), ("e", "old")];
        assert!(rows.eq(expected.map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))));
    }

    #[test]
    fn a_failure_is_told_of_once_and_before_what_may_be_wrong_because_of_it() {
        let failing = [row("a", "1"), Err(lsm_tree::Error::Unrecoverable), row("c", "1")];
        let mut rows = Merged::new([source(&[("a", "0"), ("b", "0")]), Box::new(failing.into_iter())]);
        let mut next = || rows.next().map(|row| row.map(|row| row.key.user_key.to_vec()).ok());
        assert_eq!([next(), next()], [Some(Some(b"a".to_vec())), Some(None)]);
        assert_eq!([next(), next(), next()], [Some(Some(b"b".to_vec())), Some(Some(b"c".to_vec())), None]);
    }
}
