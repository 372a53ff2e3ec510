//! Reads JSON from its bytes, without a copy and without a tree. The scanner reports whatever is not valid JSON.
//!
//! It searches strings eight bytes at a time. Control characters are allowed outside of strings only. It searches for
//! them once in the whole text: nearly every record has none, and then no string can have one.

use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Invalid;

/// The place of a value, or of a string without its quotes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    /// It is a string with a backslash in it.
    pub(super) escaped: bool,
}

/// Whether all of a record is JSON, with nothing mended.
pub(crate) fn is_json(record: &[u8]) -> bool {
    let Ok(text) = simdutf8::basic::from_utf8(record) else { return false };
    let mut scanner = Scanner::new(text);
    scanner.blanks();
    let valid = scanner.value().is_ok();
    scanner.blanks();
    valid && scanner.peek().is_none()
}

pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// There are control characters somewhere in the text.
    controls: bool,
}

impl<'a> Scanner<'a> {
    /// At the start of a text that is UTF-8.
    pub(super) fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        Self { bytes, at: 0, controls: has_controls(bytes) }
    }

    /// At the start of a text that is known to be JSON.
    pub(super) fn of_valid(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), at: 0, controls: false }
    }

    /// At the start of any bytes: what it accepts has the form of JSON, but may be no UTF-8.
    pub(super) fn of_bytes(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, controls: false }
    }

    pub(super) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn step(&mut self) {
        self.at += 1;
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes the bracket that opens an object or array. True, and it stops there, if something is in it.
    pub(super) fn first(&mut self, close: u8) -> Result<bool, Invalid> {
        self.at += 1;
        self.blanks();
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) => Ok(true),
            None => Err(Invalid),
        }
    }

    /// Passes what follows a value in an object or array. True, and it stops there, if another value follows.
    pub(super) fn more(&mut self, close: u8) -> Result<bool, Invalid> {
        self.blanks();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.blanks();
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(Invalid),
        }
    }

    /// Passes a key and its colon, and stops at the value.
    pub(super) fn key(&mut self) -> Result<Span, Invalid> {
        if self.peek() != Some(b'"') {
            return Err(Invalid);
        }
        let key = self.string()?;
        self.blanks();
        if self.peek() != Some(b':') {
            return Err(Invalid);
        }
        self.at += 1;
        self.blanks();
        Ok(key)
    }

    /// Passes an object of `text`, which is valid JSON, and hands over each key, its escapes as they are, and its value.
    pub(super) fn members(
        &mut self,
        text: &'a str,
        mut each: impl FnMut(&'a str, &'a str),
    ) -> Result<(), Invalid> {
        let mut more = self.first(b'}')?;
        while more {
            let key = self.key()?;
            let start = self.at;
            self.value()?;
            let (key, value) = (text.get(key.start..key.end), text.get(start..self.at));
            each(key.unwrap_or_default(), value.unwrap_or_default());
            more = self.more(b'}')?;
        }
        Ok(())
    }

    /// Passes a value. True if it is a string with a backslash in it.
    pub(super) fn value(&mut self) -> Result<bool, Invalid> {
        match self.peek() {
            Some(b'"') => return Ok(self.string()?.escaped),
            Some(b'{' | b'[') => self.nested()?,
            _ => self.simple()?,
        }
        Ok(false)
    }

    pub(super) fn string(&mut self) -> Result<Span, Invalid> {
        let start = self.at + 1;
        let (mut end, mut escaped) = (start, false);
        loop {
            end = quote_or_backslash(self.bytes, end).ok_or(Invalid)?;
            if self.bytes.get(end) == Some(&b'"') {
                break;
            }
            escaped = true;
            end = self.escape(end)?;
        }
        if self.controls && self.bytes.get(start..end).is_none_or(has_controls) {
            return Err(Invalid);
        }
        self.at = end + 1;
        Ok(Span { start, end, escaped })
    }

    fn escape(&self, at: usize) -> Result<usize, Invalid> {
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
            Some(b'u') => match self.bytes.get(at + 2..at + 6) {
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => Ok(at + 6),
                _ => Err(Invalid),
            },
            _ => Err(Invalid),
        }
    }

    fn simple(&mut self) -> Result<(), Invalid> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = match rest.first() {
            Some(b't') if rest.starts_with(b"true") => 4,
            Some(b'f') if rest.starts_with(b"false") => 5,
            Some(b'n') if rest.starts_with(b"null") => 4,
            Some(b'-' | b'0'..=b'9') => number(rest).ok_or(Invalid)?,
            _ => return Err(Invalid),
        };
        self.at += length;
        Ok(())
    }

    /// Passes an object or array, however deep, without recursion.
    fn nested(&mut self) -> Result<(), Invalid> {
        let mut open = Brackets::default();
        loop {
            let close = match self.peek() {
                Some(b'{') => Some(b'}'),
                Some(b'[') => Some(b']'),
                Some(b'"') => {
                    self.string()?;
                    None
                }
                _ => {
                    self.simple()?;
                    None
                }
            };
            let mut more = match close {
                Some(close) => {
                    open.push(close == b'}');
                    self.first(close)?
                }
                None => self.more(open.close())?,
            };
            while !more {
                open.pop();
                if open.is_empty() {
                    return Ok(());
                }
                more = self.more(open.close())?;
            }
            if open.is_object() {
                self.key()?;
            }
        }
    }
}

/// The positions of the elements of an array that is valid JSON.
pub(super) fn elements(array: &str) -> impl Iterator<Item = Range<usize>> {
    let mut scanner = Scanner::of_valid(array);
    let mut more = scanner.first(b']') == Ok(true);
    std::iter::from_fn(move || {
        let start = scanner.at;
        if !more || scanner.value().is_err() {
            return None;
        }
        let end = scanner.at;
        more = scanner.more(b']') == Ok(true);
        Some(start..end)
    })
}

/// The length of the number that `text` begins with.
fn number(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        text.get(from..).map_or(0, |rest| rest.iter().take_while(|byte| byte.is_ascii_digit()).count())
    };
    let sign = usize::from(text.first() == Some(&b'-'));
    let whole = digits(sign);
    if whole == 0 || (whole > 1 && text.get(sign) == Some(&b'0')) {
        return None;
    }
    let mut length = sign + whole;
    if text.get(length) == Some(&b'.') {
        let fraction = digits(length + 1);
        length += 1 + fraction;
        if fraction == 0 {
            return None;
        }
    }
    if let Some(b'e' | b'E') = text.get(length) {
        length += 1 + usize::from(matches!(text.get(length + 1), Some(b'+' | b'-')));
        let exponent = digits(length);
        length += exponent;
        if exponent == 0 {
            return None;
        }
    }
    Some(length)
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The bytes of `word` that are `byte`, by their highest bits. Exact up to the first one.
fn equal(word: u64, byte: u8) -> u64 {
    let word = word ^ (LOW * u64::from(byte));
    word.wrapping_sub(LOW) & !word & HIGH
}

/// After so many bytes without a match memchr is quicker.
const SHORT: usize = 48;

fn quote_or_backslash(bytes: &[u8], at: usize) -> Option<usize> {
    let mut from = at;
    while let Some(word) = bytes.get(from..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*word);
        let found = equal(word, b'"') | equal(word, b'\\');
        if found != 0 {
            return Some(from + (found.trailing_zeros() / 8) as usize);
        }
        from += 8;
        if from - at > SHORT {
            break;
        }
    }
    memchr::memchr2(b'"', b'\\', bytes.get(from..)?).map(|offset| from + offset)
}

pub(super) fn contains(text: &[u8], byte: u8) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    words.iter().fold(0, |found, word| found | equal(u64::from_le_bytes(*word), byte)) != 0
        || rest.contains(&byte)
}

fn has_controls(bytes: &[u8]) -> bool {
    // No early end, so that the loop is vectorised.
    bytes.iter().fold(false, |any, byte| any | (*byte < 0x20))
}

/// Which brackets are open, a bit each. The latest 64 need no allocation.
#[derive(Default)]
struct Brackets {
    depth: usize,
    /// The latest in the lowest bit; 1 is an object.
    latest: u64,
    older: Vec<u64>,
}

impl Brackets {
    fn is_empty(&self) -> bool {
        self.depth == 0
    }

    fn push(&mut self, object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.older.push(self.latest);
        }
        self.latest = self.latest << 1 | u64::from(object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.latest >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.latest = self.older.pop().unwrap_or_default();
        }
    }

    fn is_object(&self) -> bool {
        self.latest & 1 == 1
    }

    fn close(&self) -> u8 {
        if self.is_object() { b'}' } else { b']' }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    fn accepts(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.blanks();
        let valid = scanner.value().is_ok();
        scanner.blanks();
        valid && scanner.at() == text.len()
    }

    fn agrees(text: &str) -> bool {
        accepts(text) == serde_json::from_str::<Box<RawValue>>(text).is_ok()
    }

    #[test]
    fn numbers_and_words_follow_the_grammar() {
        for text in [
            "0", "-0", "01", "-", "-a", "1.", ".5", "1.5", "1e", "1e+", "1e5", "1E-05", "1.0e+10", "+1",
            "1.e1", "00", "-01", "0.10", "tru", "true", "truee", "nul", "null", "falsey", "NaN", "Infinity",
            "1 2", "",
        ] {
            assert!(agrees(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_takes_what_serde_json_takes(text in prop_oneof![
            "[\\[\\]{}\",:\\\\u0-9a-fn\t\u{1}é ]{0,40}",
            r#"[\[{]{0,3}("(a|\\n|\\u00e|\\ud800|\\x|é|\u{1})*":?|[-0-9.eE]{1,5}|true|null|[,:\]} \n]){0,12}"#,
        ]) {
            prop_assert!(agrees(&text), "{}", text);
        }

        #[test]
        fn the_first_quote_or_backslash_is_found(text in "[a\u{80}!#\\]\\[é]{0,70}[\"\\\\]?[a\"\\\\]{0,9}", at in 0_usize..9) {
            let expected = text.bytes().skip(at).position(|byte| matches!(byte, b'"' | b'\\')).map(|found| found + at);
            prop_assert_eq!(quote_or_backslash(text.as_bytes(), at), expected);
            prop_assert_eq!(contains(text.as_bytes(), b'"'), text.contains('"'));
        }
    }

    #[test]
    fn brackets_are_remembered_however_many() {
        for depth in [1, 63, 64, 65, 127, 128, 129, 1000] {
            let opened: Vec<bool> = (0..depth).map(|n| n % 3 == 0 || n % 7 == 2).collect();
            let mut open = Brackets::default();
            opened.iter().for_each(|object| open.push(*object));
            for object in opened.iter().rev() {
                assert_eq!(open.is_object(), *object);
                open.pop();
            }
            assert_eq!(open.depth, 0);
        }
    }
}
