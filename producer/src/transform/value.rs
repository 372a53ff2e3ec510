//! The raw text of a JSON value, known to be valid, and what can be read from it without a parser.

use super::number::Number;
use super::stats::ColumnCounts;
use super::text;

/// What a value is, by its first character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    Null,
    Bool(bool),
    /// Its text.
    Number(&'a [u8]),
    /// What stands between its quotes.
    String(&'a [u8]),
    /// Its JSON text.
    Array(&'a str),
    /// Its JSON text.
    Object(&'a str),
}

pub(super) fn shape(raw: &str) -> Shape<'_> {
    let bytes = raw.as_bytes();
    match bytes.first() {
        Some(b'"') => Shape::String(bytes.get(1..bytes.len() - 1).unwrap_or_default()),
        Some(b'[') => Shape::Array(raw),
        Some(b'{') => Shape::Object(raw),
        Some(b't') => Shape::Bool(true),
        Some(b'f') => Shape::Bool(false),
        Some(b'n') | None => Shape::Null,
        Some(_) => Shape::Number(bytes),
    }
}

/// The value as text, whatever it is, for comparison; `scratch` is overwritten if it has escapes.
pub(super) fn plain_text<'a>(raw: &'a str, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    match shape(raw) {
        Shape::String(string) => unescaped(string, scratch),
        Shape::Null => &[],
        Shape::Bool(_) | Shape::Number(_) | Shape::Array(_) | Shape::Object(_) => raw.as_bytes(),
    }
}

/// The text of a string, number or boolean; `scratch` is overwritten if it has escapes.
pub(super) fn scalar<'a>(raw: &'a str, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    match shape(raw) {
        Shape::Array(_) | Shape::Object(_) | Shape::Null => None,
        Shape::String(string) => Some(unescaped(string, scratch)),
        Shape::Bool(_) | Shape::Number(_) => Some(raw.as_bytes()),
    }
}

/// As [`text::unescape`], without a copy where there is nothing to do. NULs and lone surrogates go uncounted: a value
/// that is read so either is a number, and then has none, or is not stored.
fn unescaped<'a>(string: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if memchr::memchr(b'\\', string).is_none() {
        return string;
    }
    scratch.clear();
    text::unescape(string, scratch, &mut ColumnCounts::default());
    scratch
}

/// A whole number from 0 to 2^64-1.
pub(super) fn unsigned(text: &[u8]) -> Option<u64> {
    let number = Number::parse(text)?.whole()?;
    u64::try_from(number.signed()?).ok()
}

/// Whole seconds since 1970; a fraction is dropped.
pub(super) fn seconds(text: &[u8]) -> Option<i64> {
    let micros = Number::parse(text)?.scaled(6)?.signed()?;
    i64::try_from(micros.div_euclid(1_000_000)).ok()
}
