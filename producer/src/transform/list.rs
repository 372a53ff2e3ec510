//! A list variable as one text: its values joined by their delimiter.

use crate::transform::outcome::ColumnCounts;
use crate::transform::scan::{self, Scanner};
use crate::transform::text;
use crate::transform::value::{self, Shape, shape};

use shared::schema::MAX_DELIMITER_BYTES;

/// A list before it is joined.
pub(super) enum List<'a> {
    /// An array, and the delimiter that the record names.
    Array(&'a str, Sent),
    /// One value, already joined or never a list: kept as it is.
    Single(&'a str),
}

/// The delimiter that the record names.
pub(super) enum Sent {
    Nothing,
    Usable(Delimiter),
    /// It is no character and no short text.
    Unusable,
}

/// Reads `raw` as an array, as `{values, delim}`, or as a single value.
pub(super) fn read(raw: &str) -> List<'_> {
    match shape(raw) {
        Shape::Array(array) => List::Array(array, Sent::Nothing),
        Shape::Object(object) => {
            let (mut values, mut delimiter) = (None, None);
            // The object is known to be valid: nothing can fail.
            let _ = Scanner::of_valid(object).members(object, |key, value| match key {
                // A key may come twice: the last that is not empty counts, as with any other.
                "values" => value::keep_last(&mut values, value),
                "delim" => value::keep_last(&mut delimiter, value),
                _ => {}
            });
            match values {
                Some(values) if values.starts_with('[') => {
                    let sent = delimiter
                        .filter(|raw| !value::is_empty(raw) && *raw != "0")
                        .map(|raw| Delimiter::read(raw).map_or(Sent::Unusable, Sent::Usable));
                    List::Array(values, sent.unwrap_or(Sent::Nothing))
                }
                Some(values) => List::Single(values),
                // Not the expected object: its JSON text is better than nothing.
                None => List::Single(object),
            }
        }
        Shape::Null | Shape::Bool(_) | Shape::Number(_) | Shape::String(_) => List::Single(raw),
    }
}

/// The longest start of an array that has whole elements only and at most `max` bytes with the bracket that closes it.
pub(super) fn whole_elements(raw: &str, max: usize) -> Option<&str> {
    let Shape::Array(array) = shape(raw) else { return None };
    let ends = scan::elements(array).map(|element| element.end);
    array.get(..ends.take_while(|end| *end < max).last()?)
}

/// Appends the array's values to `out`. A value that is null leaves its place empty.
pub(super) fn join(array: &str, delimiter: Delimiter, out: &mut Vec<u8>, counts: &mut ColumnCounts) {
    let mut between: &[u8] = &[];
    for element in scan::elements(array) {
        out.extend_from_slice(between);
        between = delimiter.bytes.get(..delimiter.length).unwrap_or_default();
        let value = array.get(element).unwrap_or_default();
        match shape(value) {
            Shape::String(string) => text::unescape(string, out, counts),
            Shape::Null => {}
            Shape::Bool(_) | Shape::Number(_) | Shape::Array(_) | Shape::Object(_) => {
                out.extend_from_slice(value.as_bytes());
            }
        }
    }
}

/// Stands between values: a few bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delimiter {
    bytes: [u8; MAX_DELIMITER_BYTES],
    length: usize,
}

impl Delimiter {
    /// A number is a character code; so is a string of two digits or more; any other string is the delimiter.
    fn read(raw: &str) -> Option<Self> {
        let text = match shape(raw) {
            Shape::Number(text) => text,
            Shape::String(text) if text.len() > 1 && text.iter().all(u8::is_ascii_digit) => text,
            Shape::String(string) => {
                let (mut text, mut counts) = (Vec::new(), ColumnCounts::default());
                text::unescape(string, &mut text, &mut counts);
                return Self::new(&text).filter(|_| counts.is_zero());
            }
            Shape::Null | Shape::Bool(_) | Shape::Array(_) | Shape::Object(_) => return None,
        };
        let code = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u32>().ok());
        code.and_then(char::from_u32).filter(|c| *c != '\0').map(Self::from)
    }

    /// These bytes, if they are few, and at least one.
    pub(super) fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_DELIMITER_BYTES];
        bytes.get_mut(..text.len()).filter(|_| !text.is_empty())?.copy_from_slice(text);
        Some(Self { bytes, length: text.len() })
    }
}

impl From<char> for Delimiter {
    fn from(c: char) -> Self {
        let mut bytes = [0; MAX_DELIMITER_BYTES];
        let length = c.encode_utf8(&mut bytes).len();
        Self { bytes, length }
    }
}

impl Default for Delimiter {
    fn default() -> Self {
        Self::from(',')
    }
}
