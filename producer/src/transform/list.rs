//! A list variable as one text: its values joined by their delimiter.

use super::stats::ColumnCounts;
use super::text;
use super::value::{Shape, shape};
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;

const DEFAULT_DELIMITER: char = ',';

/// What a list is, before it is joined.
pub(super) enum List<'a> {
    /// An array, and what goes between its values.
    Array(&'a str, Delimiter),
    /// One value, already joined or never a list: kept as it is.
    Single(&'a str),
}

/// Takes `raw` for an array, for `{values, delim}`, or for a single value.
pub(super) fn read(raw: &str) -> List<'_> {
    match shape(raw) {
        Shape::Array(array) => List::Array(array, Delimiter::default()),
        Shape::Object(object) => {
            let fields =
                serde_json::Deserializer::from_str(object).deserialize_map(FieldsVisitor).unwrap_or_default();
            match fields.values {
                Some(values) if values.starts_with('[') => {
                    List::Array(values, fields.delimiter.map(Delimiter::read).unwrap_or_default())
                }
                Some(values) => List::Single(values),
                // Not the object that was expected: its JSON text is better than nothing.
                None => List::Single(object),
            }
        }
        Shape::Null | Shape::Bool(_) | Shape::Number(_) | Shape::String(_) => List::Single(raw),
    }
}

/// Appends the array's values to `out`. A value that is null leaves its place empty.
pub(super) fn join(array: &str, delimiter: Delimiter, out: &mut Vec<u8>, counts: &mut ColumnCounts) {
    let mut join = Join { delimiter, out, counts };
    // The array is known to be valid: there is nothing to fail.
    let _ = serde_json::Deserializer::from_str(array).deserialize_seq(&mut join);
}

/// What stands between values: few bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delimiter {
    bytes: [u8; 8],
    length: usize,
}

impl Delimiter {
    /// A number is a character code; so is a string of two digits or more; another string stands for itself.
    fn read(raw: &str) -> Self {
        let text = match shape(raw) {
            Shape::Number(text) => text,
            Shape::String(text) if text.len() > 1 && text.iter().all(u8::is_ascii_digit) => text,
            Shape::String(text) => return Self::of_string(text),
            Shape::Null | Shape::Bool(_) | Shape::Array(_) | Shape::Object(_) => return Self::default(),
        };
        let code = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u32>().ok());
        code.and_then(char::from_u32).filter(|c| *c != '\0').map_or_else(Self::default, Self::from)
    }

    fn of_string(string: &[u8]) -> Self {
        let mut text = Vec::new();
        let mut counts = ColumnCounts::default();
        text::unescape(string, &mut text, &mut counts);
        let mut bytes = [0; 8];
        match bytes.get_mut(..text.len()) {
            Some(place) if !text.is_empty() && counts.is_zero() => {
                place.copy_from_slice(&text);
                Self { bytes, length: text.len() }
            }
            _ => Self::default(),
        }
    }
}

impl From<char> for Delimiter {
    fn from(c: char) -> Self {
        let mut bytes = [0; 8];
        let length = c.encode_utf8(&mut bytes).len();
        Self { bytes, length }
    }
}

impl Default for Delimiter {
    fn default() -> Self {
        Self::from(DEFAULT_DELIMITER)
    }
}

struct Join<'o> {
    delimiter: Delimiter,
    out: &'o mut Vec<u8>,
    counts: &'o mut ColumnCounts,
}

impl<'de> Visitor<'de> for &mut Join<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let mut first = true;
        while let Some(value) = array.next_element::<&RawValue>()? {
            if !std::mem::take(&mut first) {
                self.out
                    .extend_from_slice(self.delimiter.bytes.get(..self.delimiter.length).unwrap_or_default());
            }
            match shape(value.get()) {
                Shape::String(string) => text::unescape(string, self.out, self.counts),
                Shape::Null => {}
                Shape::Bool(_) | Shape::Number(_) | Shape::Array(_) | Shape::Object(_) => {
                    self.out.extend_from_slice(value.get().as_bytes());
                }
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Fields<'a> {
    values: Option<&'a str>,
    delimiter: Option<&'a str>,
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with values and delim")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Values => fields.values = Some(map.next_value::<&RawValue>()?.get()),
                Key::Delimiter => fields.delimiter = Some(map.next_value::<&RawValue>()?.get()),
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

enum Key {
    Values,
    Delimiter,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Key, E> {
                Ok(match key {
                    b"values" => Key::Values,
                    b"delim" => Key::Delimiter,
                    _ => Key::Other,
                })
            }
        }

        deserializer.deserialize_bytes(KeyVisitor)
    }
}
