//! Finds rows and fields in CSV bytes. Nothing is copied and nothing allocated per field: a wide table's row is
//! mostly delimiters, and only the fields between them that are not empty are noted.
//!
//! The rules are those of FORMAT CSV:
//! <https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-format.html>.

use memchr::{memchr, memchr3};

const QUOTE: u8 = b'"';

/// A field that is not empty, or that is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) column: u32,
    /// Where the field starts and ends in the row, with its quotes and the blanks around them.
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Where its value starts and ends, without them.
    pub(crate) value_start: u32,
    pub(crate) value_end: u32,
    pub(crate) quoted: bool,
    /// There are doubled quotes inside.
    pub(crate) doubled: bool,
}

/// What was found at the start of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The row's content ends at `end`, the next row starts at `next`.
    Row { end: usize, next: usize },
    /// The row goes on beyond the bytes.
    Incomplete,
}

/// The scanner keeps the fields of the row it found last.
pub(crate) struct Scanner {
    delimiter: u8,
    run: [u8; 8],
    pub(crate) fields: Vec<Field>,
    /// How many fields the row has, empty ones included.
    pub(crate) count: usize,
    /// A quote stood where none may.
    pub(crate) malformed: Option<usize>,
}

impl Scanner {
    pub(crate) fn new(delimiter: u8) -> Self {
        Self { delimiter, run: [delimiter; 8], fields: Vec::new(), count: 0, malformed: None }
    }

    /// Finds the row at the start of `bytes`, which is not empty. `last`: no bytes will follow these.
    pub(crate) fn scan(&mut self, bytes: &[u8], last: bool) -> Found {
        self.fields.clear();
        self.malformed = None;
        let mut column = 0;
        let mut at = 0;
        loop {
            while bytes.len() - at >= 8 && bytes[at..at + 8] == self.run {
                at += 8;
                column += 8;
            }
            while bytes.get(at) == Some(&self.delimiter) {
                at += 1;
                column += 1;
            }
            let Some(end) = self.field(bytes, at, column, last) else { return Found::Incomplete };
            at = end;
            // A field ends at a delimiter, at the end of the row or at the end of the bytes.
            if bytes.get(at) == Some(&self.delimiter) {
                at += 1;
                column += 1;
                continue;
            }
            self.count = column as usize + 1;
            return match bytes.get(at) {
                Some(b'\n') => Found::Row { end: at, next: at + 1 },
                Some(_) => Found::Row { end: at, next: (at + 2).min(bytes.len()) },
                None => Found::Row { end: at, next: at },
            };
        }
    }

    /// Notes the field at `at` and says where it ends, or `None` if that is beyond the bytes.
    fn field(&mut self, bytes: &[u8], at: usize, column: u32, last: bool) -> Option<usize> {
        let mut open = at;
        while bytes.get(open) == Some(&b' ') {
            open += 1;
        }
        if bytes.get(open) == Some(&QUOTE) {
            return self.quoted(bytes, at, open, column, last);
        }
        let mut from = at;
        let end = loop {
            match memchr3(self.delimiter, b'\n', QUOTE, &bytes[from..]) {
                None if last => break bytes.len(),
                None => return None,
                Some(offset) if bytes[from + offset] == QUOTE => {
                    self.malformed.get_or_insert(from + offset);
                    from += offset + 1;
                }
                Some(offset) => break from + offset,
            }
        };
        let end = if end > at && bytes[end - 1] == b'\r' && bytes.get(end).is_none_or(|byte| *byte == b'\n') {
            end - 1
        } else {
            end
        };
        if end > at {
            self.note(column, (at, end), (at, end), false, false);
        }
        Some(end)
    }

    fn quoted(&mut self, bytes: &[u8], at: usize, open: usize, column: u32, last: bool) -> Option<usize> {
        let mut from = open + 1;
        let mut doubled = false;
        let close = loop {
            match memchr(QUOTE, &bytes[from..]) {
                Some(offset) => {
                    let quote = from + offset;
                    match bytes.get(quote + 1) {
                        Some(&QUOTE) => {
                            doubled = true;
                            from = quote + 2;
                        }
                        None if !last => return None,
                        _ => break quote,
                    }
                }
                None if last => {
                    // The quote was never closed: all that is left is one bad row.
                    self.malformed.get_or_insert(open);
                    return Some(bytes.len());
                }
                None => return None,
            }
        };
        let mut end = close + 1;
        while bytes.get(end) == Some(&b' ') {
            end += 1;
        }
        match bytes.get(end) {
            None if !last => return None,
            None | Some(b'\n') => {}
            Some(byte) if *byte == self.delimiter => {}
            Some(b'\r') if bytes.get(end + 1) == Some(&b'\n') => {}
            Some(b'\r') if bytes.len() == end + 1 && !last => return None,
            Some(b'\r') if bytes.len() == end + 1 => {}
            Some(_) => {
                // Text behind the closing quote: find the end of the row by the next delimiter or line end.
                self.malformed.get_or_insert(end);
                let offset = bytes[end..].iter().position(|byte| *byte == self.delimiter || *byte == b'\n');
                return match offset {
                    Some(offset) => Some(end + offset),
                    None if last => Some(bytes.len()),
                    None => None,
                };
            }
        }
        self.note(column, (at, end), (open + 1, close), true, doubled);
        Some(end)
    }

    fn note(
        &mut self,
        column: u32,
        field: (usize, usize),
        value: (usize, usize),
        quoted: bool,
        doubled: bool,
    ) {
        self.fields.push(Field {
            column,
            start: offset(field.0),
            end: offset(field.1),
            value_start: offset(value.0),
            value_end: offset(value.1),
            quoted,
            doubled,
        });
    }
}

/// Rows are refused long before 4 GiB.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of fields, the values noted, and whether it is malformed.
    type Row = (usize, Vec<(u32, String)>, bool);

    fn rows(bytes: &[u8]) -> Vec<Row> {
        let mut scanner = Scanner::new(b'~');
        let mut rows = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let Found::Row { end, next } = scanner.scan(rest, true) else { panic!("incomplete at the end") };
            let values = scanner.fields.iter().map(|field| {
                let value = &rest[field.value_start as usize..field.value_end as usize];
                assert!(field.end as usize <= end);
                (field.column, String::from_utf8(value.to_vec()).unwrap())
            });
            rows.push((scanner.count, values.collect(), scanner.malformed.is_some()));
            rest = &rest[next..];
        }
        rows
    }

    fn value(column: u32, text: &str) -> (u32, String) {
        (column, text.to_owned())
    }

    #[test]
    fn runs_of_delimiters_are_counted() {
        let row = format!("a{}b{}\n", "~".repeat(21), "~".repeat(9));
        assert_eq!(rows(row.as_bytes()), [(31, vec![value(0, "a"), value(21, "b")], false)]);
        assert_eq!(rows(b"~~\n~\n"), [(3, vec![], false), (2, vec![], false)]);
    }

    #[test]
    fn quotes_protect_delimiters_and_line_ends() {
        assert_eq!(
            rows(b"\"a~\r\n\"\"b\"~ \"c\" ~\"\"\r\nlast"),
            [
                (3, vec![value(0, "a~\r\n\"\"b"), value(1, "c"), value(2, "")], false),
                (1, vec![value(0, "last")], false)
            ]
        );
    }

    #[test]
    fn misplaced_quotes_spoil_their_row_only() {
        let found = rows(b"a\"b~c\nx~\"y\"z\nok~ok\n\"open~\n");
        let verdicts: Vec<bool> = found.iter().map(|row| row.2).collect();
        assert_eq!(verdicts, [true, true, false, true]);
    }

    #[test]
    fn a_row_cut_anywhere_is_incomplete_until_its_end_is_seen() {
        let row = b"1~\"a\"\"b\"~ \"c\"~d\r\n";
        let mut scanner = Scanner::new(b'~');
        for cut in 1..row.len() {
            assert_eq!(scanner.scan(&row[..cut], false), Found::Incomplete, "cut at {cut}");
        }
        assert_eq!(scanner.scan(row, false), Found::Row { end: row.len() - 2, next: row.len() });
        assert_eq!(scanner.fields.len(), 4);
    }
}
