//! The raw text of a valid JSON value, and what can be read from it without a parser.

use crate::transform::number::Number;
use crate::transform::outcome::ColumnCounts;
use crate::transform::text;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    Null,
    Bool(bool),
    Number(&'a [u8]),
    /// Without its quotes.
    String(&'a [u8]),
    Array(&'a str),
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

/// Whether there is no value: null, or an empty text.
pub(super) fn is_empty(raw: &str) -> bool {
    matches!(raw, "null" | "\"\"")
}

/// Puts `value` in the place of an earlier one of the same key, unless only the earlier one is a value.
pub(super) fn keep_last<'a>(kept: &mut Option<&'a str>, value: &'a str) {
    if kept.is_none() || !is_empty(value) {
        *kept = Some(value);
    }
}

/// The value as text, whatever it is, for comparison; `scratch` is overwritten if it has escapes.
pub(super) fn plain_text<'a>(raw: &'a str, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    match shape(raw) {
        Shape::String(string) => unescaped(string, scratch, &mut ColumnCounts::default()),
        Shape::Null => &[],
        Shape::Bool(_) | Shape::Number(_) | Shape::Array(_) | Shape::Object(_) => raw.as_bytes(),
    }
}

/// The text of a string, number or boolean; none of a string with NULs or halves of surrogate pairs, which is neither a
/// number nor a word. `scratch` is overwritten if there are escapes.
pub(super) fn scalar<'a>(raw: &'a str, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    match shape(raw) {
        Shape::Array(_) | Shape::Object(_) | Shape::Null => None,
        Shape::String(string) => {
            let mut altered = ColumnCounts::default();
            let text = unescaped(string, scratch, &mut altered);
            altered.is_zero().then_some(text)
        }
        Shape::Bool(_) | Shape::Number(_) => Some(raw.as_bytes()),
    }
}

/// As [`text::unescape`], without a copy where there is nothing to do.
fn unescaped<'a>(string: &'a [u8], scratch: &'a mut Vec<u8>, altered: &mut ColumnCounts) -> &'a [u8] {
    if memchr::memchr(b'\\', string).is_none() {
        return string;
    }
    scratch.clear();
    text::unescape(string, scratch, altered);
    scratch
}

/// A whole number from 0 to 2^64-1.
pub(super) fn unsigned(text: &[u8]) -> Option<u64> {
    if let Some(plain) = plain_unsigned(text) {
        return Some(plain);
    }
    let number = Number::parse(text)?.whole()?;
    u64::try_from(number.signed()?).ok()
}

/// Whole seconds since 1970; a fraction is dropped.
pub(super) fn seconds(text: &[u8]) -> Option<i64> {
    if let Some(seconds) = plain_unsigned(text) {
        return i64::try_from(seconds).ok();
    }
    let micros = Number::parse(text)?.scaled(6)?.signed()?;
    i64::try_from(micros.div_euclid(1_000_000)).ok()
}

/// A number from 0 to 2^64-1 that is written as digits and nothing else.
pub(super) fn plain_unsigned(text: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let (first, rest) = text.split_at_checked(text.len() & 7)?;
    let mut value = first.iter().try_fold(0, |value, byte| Some(value * 10 + digit(byte)?))?;
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    for eight in rest.as_chunks::<8>().0 {
        value = u64::checked_mul(value, 100_000_000)?.checked_add(eight_digits(*eight)?)?;
    }
    Some(value)
}

/// Eight digits at once: pairs, then fours, then all of them, each step on all its parts at the same time.
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    let word = u64::from_le_bytes(text);
    let digits = word ^ 0x3030_3030_3030_3030;
    // A digit is 0 to 9; anything else has a high bit, or gets one when 0x76 is added.
    if (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let pairs = (digits.wrapping_mul(10).wrapping_add(digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn plain_digits_are_read_as_any_reader_would(text in prop_oneof![
            "[0-9]{0,22}", "[0-9:/+ -]{1,20}", "1844674407370955161[0-9]", "[0-9]{7,9}[0-9a:/\u{80}é]",
        ]) {
            let digits = !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit());
            let expected = if digits { text.parse::<u64>().ok() } else { None };
            prop_assert_eq!(plain_unsigned(text.as_bytes()), expected, "{}", text);
        }
    }
}
