//! One CSV cell, as `FORMAT CSV DELIMITER '~' QUOTE '"' EMPTYASNULL` reads it.

use memchr::{memchr, memchr3};

pub(super) const DELIMITER: u8 = b'~';
const QUOTE: u8 = b'"';

/// Appends `value`, quoted if it needs to be. An empty one is NULL, as the absence of any.
pub(super) fn write(value: &[u8], row: &mut Vec<u8>) {
    if needs_quotes(value) { write_quoted(value, row) } else { row.extend_from_slice(value) }
}

fn needs_quotes(value: &[u8]) -> bool {
    edge_is_blank(value)
        || memchr3(DELIMITER, QUOTE, b'\n', value).is_some()
        || memchr(b'\r', value).is_some()
        // The end of data to PostgreSQL's COPY, if it stands alone in a line; and COPY's default for NULL.
        || value == b"\\."
        || value == b"\\N"
}

/// Whether a reader that trims cells would change it. Also true for some characters that no reader trims.
pub(super) fn edge_is_blank(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| byte.is_some_and(|byte| *byte <= b' ');
    blank(value.first()) || blank(value.last())
}

/// Appends `value` between quotes, those inside doubled.
pub(super) fn write_quoted(value: &[u8], row: &mut Vec<u8>) {
    row.reserve(value.len() + value.len() / 4 + 2);
    row.push(QUOTE);
    let mut rest = value;
    while let Some(at) = memchr(QUOTE, rest) {
        let (before, after) = rest.split_at(at + 1);
        row.extend_from_slice(before);
        row.push(QUOTE);
        rest = after;
    }
    row.extend_from_slice(rest);
    row.push(QUOTE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_only_if_a_reader_could_take_it_for_something_else() {
        for (value, expected) in [
            ("", ""),
            ("plain, 'text' \\ |", "plain, 'text' \\ |"),
            ("a~b", "\"a~b\""),
            ("a\"b", "\"a\"\"b\""),
            ("\"", "\"\"\"\""),
            ("a\nb", "\"a\nb\""),
            ("a\rb", "\"a\rb\""),
            (" a", "\" a\""),
            ("a ", "\"a \""),
            ("\ta", "\"\ta\""),
            ("\\.", "\"\\.\""),
            ("\\N", "\"\\N\""),
            ("\\NN", "\\NN"),
        ] {
            let mut row = Vec::new();
            write(value.as_bytes(), &mut row);
            assert_eq!(String::from_utf8(row).unwrap(), expected);
        }
    }
}
