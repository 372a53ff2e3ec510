//! A value as somebody sees it who knows nothing of columns: its type, its text, its digits.

use crate::transform::number::Number;
use crate::transform::outcome::ColumnCounts;
use crate::transform::text;
use crate::transform::value::{Shape, is_empty, plain_unsigned, shape};

/// A longer text is no number.
const NUMBER_BYTES: usize = 40;

/// What JSON has it as; null is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonType {
    String,
    Number,
    Boolean,
    Array,
    Object,
}

impl JsonType {
    pub(crate) const ALL: [Self; 5] = [Self::String, Self::Number, Self::Boolean, Self::Array, Self::Object];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::String => "text",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar<'a> {
    pub(crate) json_type: JsonType,
    /// It is no value: null or an empty text.
    pub(crate) is_empty: bool,
    /// Of a string what it means, of anything else its JSON.
    pub(crate) text: &'a [u8],
}

/// The digits of a number, as many as it is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digits {
    pub(crate) whole: u64,
    pub(crate) fraction: u64,
    pub(crate) negative: bool,
}

impl<'a> Scalar<'a> {
    /// Of a valid JSON value; `scratch` is overwritten if it has escapes.
    pub(crate) fn of(raw: &'a str, scratch: &'a mut Vec<u8>) -> Self {
        let (json_type, text) = match shape(raw) {
            Shape::String(string) if memchr::memchr(b'\\', string).is_some() => {
                scratch.clear();
                text::unescape(string, scratch, &mut ColumnCounts::default());
                (JsonType::String, scratch.as_slice())
            }
            Shape::String(string) => (JsonType::String, string),
            Shape::Number(text) => (JsonType::Number, text),
            Shape::Array(text) => (JsonType::Array, text.as_bytes()),
            Shape::Object(text) => (JsonType::Object, text.as_bytes()),
            Shape::Bool(_) | Shape::Null => (JsonType::Boolean, raw.as_bytes()),
        };
        Self { json_type, is_empty: is_empty(raw), text }
    }

    /// None if it is no number, however large, nor the text of one.
    pub(crate) fn digits(&self) -> Option<Digits> {
        match self.json_type {
            JsonType::Number => {}
            JsonType::String if self.text.len() <= NUMBER_BYTES => {}
            _ => return None,
        }
        if plain_unsigned(self.text).is_some() {
            return Some(Digits { whole: self.text.len() as u64, fraction: 0, negative: false });
        }
        let number = Number::parse(self.text)?;
        let Some(exact) = number.exact() else {
            // No column holds so many digits.
            return Some(Digits { whole: 39, fraction: 39, negative: false });
        };
        let all = exact.units.checked_ilog10().map_or(1, |log| log + 1);
        let whole = u64::from(all.saturating_sub(exact.scale));
        Some(Digits { whole, fraction: u64::from(exact.scale), negative: exact.negative })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_counted_before_and_behind_the_point() {
        for (raw, expected) in [
            ("12", Some((2, 0, false))),
            ("\"0012\"", Some((4, 0, false))),
            ("-3.250", Some((1, 3, true))),
            ("0.05", Some((0, 2, false))),
            ("1.5e3", Some((4, 0, false))),
            ("1e99", Some((39, 39, false))),
            ("\"12 shoes\"", None),
            ("true", None),
            ("[1]", None),
        ] {
            let digits = Scalar::of(raw, &mut Vec::new()).digits();
            let digits = digits.map(|Digits { whole, fraction, negative }| (whole, fraction, negative));
            assert_eq!(digits, expected, "{raw}");
        }
    }
}
