//! JSON strings to text.

use crate::transform::outcome::ColumnCounts;
use memchr::memchr;

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Appends what the inside of a valid JSON string means. NUL, which Redshift cannot store, is left out; half a
/// surrogate pair, which UTF-8 cannot express, becomes U+FFFD.
pub(super) fn unescape(string: &[u8], out: &mut Vec<u8>, counts: &mut ColumnCounts) {
    let mut rest = string;
    while let Some(at) = memchr(b'\\', rest) {
        let (before, escape) = rest.split_at(at);
        out.extend_from_slice(before);
        rest = character(escape, out, counts);
    }
    out.extend_from_slice(rest);
}

/// Appends what the escape that `escape` starts with means; returns what follows it.
pub(super) fn character<'a>(escape: &'a [u8], out: &mut Vec<u8>, counts: &mut ColumnCounts) -> &'a [u8] {
    match escape.get(1) {
        Some(b'u') => unicode(escape, out, counts),
        Some(letter) => {
            out.push(match letter {
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                itself => *itself,
            });
            escape.get(2..).unwrap_or_default()
        }
        None => &[],
    }
}

/// Appends the character of the `\uXXXX`, or pair of them, that `escape` starts with; returns what follows.
fn unicode<'a>(escape: &'a [u8], out: &mut Vec<u8>, counts: &mut ColumnCounts) -> &'a [u8] {
    let after = escape.get(6..).unwrap_or_default();
    let unit = unit(escape);
    let low = if after.starts_with(b"\\u") { crate::transform::text::unit(after) } else { None };
    let (character, after) = match (unit, low) {
        (Some(high @ 0xd800..=0xdbff), Some(low @ 0xdc00..=0xdfff)) => {
            let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(code), after.get(6..).unwrap_or_default())
        }
        (unit, _) => (unit.and_then(char::from_u32), after),
    };
    match character {
        Some('\0') => counts.nuls += 1,
        Some(character) => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        None => {
            counts.replaced += 1;
            out.extend_from_slice(REPLACEMENT);
        }
    }
    after
}

fn unit(escape: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(escape.get(2..6)?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

/// FNV-1a: tells few texts apart, and does not say what they are.
pub(crate) fn hash(text: &[u8]) -> u32 {
    text.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The longest start of a UTF-8 text that has at most `max` bytes and ends between two characters.
pub(super) fn cut(text: &[u8], max: usize) -> &[u8] {
    let is_inside = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let mut end = max.min(text.len());
    while end > 0 && is_inside(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}
