//! CSV as COPY reads it: rows of a file and values of a row, as bytes.
//!
//! A line end within quotes belongs to the value, and a quote within quotes is doubled, so quotes simply alternate
//! between opening and closing. The crate `csv` does not do here: it passes over empty lines, which COPY counts as rows.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2};

/// Bytes of a row at most: 4 MiB, and each quote in it may be doubled.
pub(crate) const MAX_ROW: usize = 9 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub start: usize,
    /// Where they end; the line end belongs to them.
    pub end: usize,
    /// Lines of the file it takes: more than one when a value has line ends.
    pub lines: u64,
}

/// What `separator` separates outside quotes; nothing behind the last one.
fn parts(content: &[u8], separator: u8) -> impl Iterator<Item = Range<usize>> {
    let (mut start, mut at, mut quoted) = (0, 0, false);
    std::iter::from_fn(move || {
        let first = Some(start).filter(|start| *start < content.len())?;
        while let Some(offset) = content.get(at..).and_then(|rest| memchr2(b'"', separator, rest)) {
            at += offset + 1;
            if content.get(at - 1) == Some(&b'"') {
                quoted = !quoted;
            } else if !quoted {
                start = at;
                return Some(first..at - 1);
            }
        }
        start = content.len();
        Some(first..start)
    })
}

/// `most` rows of a file, and one more if there are more: a file of nothing but line ends must not fill the memory.
pub(crate) fn rows(content: &[u8], most: usize) -> Vec<Row> {
    let lines = |row: &Range<usize>| memchr_iter(b'\n', content.get(row.clone()).unwrap_or_default()).count();
    let row = |row: Range<usize>| Row {
        start: row.start,
        end: content.len().min(row.end + 1),
        lines: lines(&row) as u64 + 1,
    };
    parts(content, b'\n').take(most.saturating_add(1)).map(row).collect()
}

/// The value of the column with this number, from 0; None if the row has no such column or no value there.
pub(super) fn value(row: &[u8], column: usize) -> Option<String> {
    let cell = cell(row, column)?;
    Some(String::from_utf8_lossy(&cell).into_owned()).filter(|text| !text.is_empty())
}

/// The bytes of that value; those of a value in quotes are copied only where there is a quote within. None if the row has
/// no such column, or ends with the separator before it.
pub(crate) fn cell(row: &[u8], column: usize) -> Option<Cow<'_, [u8]>> {
    let row = row.strip_suffix(b"\n").unwrap_or(row);
    let row = row.strip_suffix(b"\r").unwrap_or(row);
    let cell = row.get(parts(row, b'~').nth(column)?)?;
    let Some(inner) = cell.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Some(Cow::Borrowed(cell));
    };
    if memchr(b'"', inner).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr(b'"', rest) {
        text.extend_from_slice(rest.get(..=at).unwrap_or_default());
        // The second of the two.
        let after = rest.get(at + 1..).unwrap_or_default();
        rest = after.strip_prefix(b"\"").unwrap_or(after);
    }
    text.extend_from_slice(rest);
    Some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"1~a\n2~\"b\n\"\"~\"\"\nc\"\r\n\n3~\"\"~\"d~\"";

    #[test]
    fn line_ends_within_quotes_do_not_end_a_row() {
        let rows = rows(FILE, 4);
        let text: Vec<_> = rows.iter().map(|row| &FILE[row.start..row.end]).collect();
        let expected: [&[u8]; 4] = [b"1~a\n", b"2~\"b\n\"\"~\"\"\nc\"\r\n", b"\n", b"3~\"\"~\"d~\""];
        assert_eq!(text, expected);
        assert_eq!(rows.iter().map(|row| row.lines).collect::<Vec<_>>(), [1, 3, 1, 1]);
        assert!(super::rows(b"", 0).is_empty());
    }

    #[test]
    fn splitting_ends_one_row_after_those_that_were_sealed() {
        assert_eq!(rows(FILE, 3).len(), 4);
        assert_eq!(rows(&b"\n".repeat(1_000_000), 2).len(), 3);
        assert_eq!(rows(b"a\nb", 1).len(), 2, "the last row has no line end");
        let unclosed = rows(b"a\n\"b\n", 9);
        assert_eq!(
            (unclosed.len(), unclosed[1].end, unclosed[1].lines),
            (2, 5, 2),
            "its quote is not closed"
        );
    }

    #[test]
    fn a_value_is_what_stood_there_before_it_was_quoted() {
        let rows = rows(FILE, usize::MAX);
        let value = |row: usize, column| value(&FILE[rows[row].start..rows[row].end], column);
        assert_eq!(value(0, 1).as_deref(), Some("a"));
        assert_eq!(value(1, 1).as_deref(), Some("b\n\"~\"\nc"));
        assert_eq!(value(3, 2).as_deref(), Some("d~"));
        assert_eq!((value(0, 2), value(3, 1)), (None, None));
    }
}
