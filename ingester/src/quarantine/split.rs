//! The rows of a file of CSV, as bytes.
//!
//! A line end within quotes belongs to the value, and a quote within quotes is doubled, so quotes simply alternate
//! between opening and closing.

use memchr::memchr2;

/// A row of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where its bytes begin.
    pub start: usize,
    /// Where they end; the line end belongs to them.
    pub end: usize,
    /// Lines of the file it takes: more than one when a value has line ends.
    pub lines: u64,
}

/// The rows of a file in their order, `most` of them; one more if there are more, so that a file of nothing but line ends
/// does not take more memory than rows that were sealed.
#[must_use]
pub(crate) fn split(content: &[u8], most: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let (mut start, mut at, mut lines, mut quoted) = (0, 0, 1, false);
    while let Some(offset) = content.get(at..).and_then(|rest| memchr2(b'"', b'\n', rest)) {
        at += offset + 1;
        if content.get(at - 1) == Some(&b'"') {
            quoted = !quoted;
        } else if quoted {
            lines += 1;
        } else {
            rows.push(Row { start, end: at, lines });
            (start, lines) = (at, 1);
            if rows.len() > most {
                return rows;
            }
        }
    }
    if start < content.len() {
        rows.push(Row { start, end: content.len(), lines });
    }
    rows
}

/// The value of the column with this number, from 0; None if the row has no such column or no value there.
#[must_use]
pub(crate) fn value(row: &[u8], column: usize) -> Option<String> {
    let row = row.strip_suffix(b"\n").unwrap_or(row);
    let row = row.strip_suffix(b"\r").unwrap_or(row);
    let mut quoted = false;
    let mut fields = row.split(|byte| {
        quoted ^= *byte == b'"';
        *byte == b'~' && !quoted
    });
    let field = fields.nth(column)?;
    let text = String::from_utf8_lossy(field);
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let text = inner.map_or_else(|| text.to_string(), |inner| inner.replace("\"\"", "\""));
    Some(text).filter(|text| !text.is_empty())
}

/// Which row of a file a reported line is, by its number from 0: if lines of the file were counted, and if rows were.
/// Redshift does not say which of the two it does. `ends` holds the last line of each row.
#[must_use]
pub(crate) fn located(ends: &[u64], line: u64) -> (Option<usize>, Option<usize>) {
    let within = |row: usize| Some(row).filter(|row| *row < ends.len());
    let by_row = usize::try_from(line).ok().and_then(|line| line.checked_sub(1)).and_then(within);
    let by_line = if line == 0 { None } else { within(ends.partition_point(|end| *end < line)) };
    (by_line, by_row)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"1~a\n2~\"b\n\"\"~\"\"\nc\"\r\n\n3~\"\"~\"d~\"";

    #[test]
    fn line_ends_within_quotes_do_not_end_a_row() {
        let rows = split(FILE, 4);
        let text: Vec<_> = rows.iter().map(|row| &FILE[row.start..row.end]).collect();
        let expected: [&[u8]; 4] = [b"1~a\n", b"2~\"b\n\"\"~\"\"\nc\"\r\n", b"\n", b"3~\"\"~\"d~\""];
        assert_eq!(text, expected);
        assert_eq!(rows.iter().map(|row| row.lines).collect::<Vec<_>>(), [1, 3, 1, 1]);
        assert!(split(b"", 0).is_empty());
    }

    #[test]
    fn splitting_ends_one_row_after_those_that_were_sealed() {
        assert_eq!(split(FILE, 3).len(), 4);
        assert_eq!(split(&b"\n".repeat(1_000_000), 2).len(), 3);
        assert_eq!(split(b"a\nb", 1).len(), 2, "the last row has no line end");
    }

    #[test]
    fn a_value_is_what_stood_there_before_it_was_quoted() {
        let rows = split(FILE, usize::MAX);
        let value = |row: usize, column| value(&FILE[rows[row].start..rows[row].end], column);
        assert_eq!(value(0, 1).as_deref(), Some("a"));
        assert_eq!(value(1, 1).as_deref(), Some("b\n\"~\"\nc"));
        assert_eq!(value(3, 2).as_deref(), Some("d~"));
        assert_eq!((value(0, 2), value(3, 1)), (None, None));
    }

    #[test]
    fn a_reported_line_is_found_whichever_way_it_was_counted() {
        let ends = [1, 4, 5, 7];
        let found: Vec<_> = (0..9).map(|line| located(&ends, line)).collect();
        let at = |line, row| (line, row);
        assert_eq!(
            found,
            [
                at(None, None),
                at(Some(0), Some(0)),
                at(Some(1), Some(1)),
                at(Some(1), Some(2)),
                at(Some(1), Some(3)),
                at(Some(2), None),
                at(Some(3), None),
                at(Some(3), None),
                at(None, None),
            ]
        );
    }
}
