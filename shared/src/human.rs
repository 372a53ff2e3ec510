//! Durations and sizes with their unit in the value (`"50ms"`, `"64MiB"`); and durations, sizes, counts and times for
//! people to read, each in one form everywhere.
//!
//! No crate reads them: `humantime` and `bytesize` also take sums, fractions, and units such as `M` or `MB`, which mean
//! different things to different people.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, de};

use crate::clock;

/// A duration as it stands in the configuration: a whole number and one of `ms s m h d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A size as it stands in the configuration: a whole number and one of `B KiB MiB GiB TiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Milliseconds of a unit.
const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// Bytes of a unit.
const SIZES: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, worth) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*worth)
}

impl Span {
    /// Reads `"50ms"`, `"30s"`, `"10m"`, `"2h"` or `"1d"`.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text, &TIMES).map(|millis| Self(Duration::from_millis(millis)))
    }
}

impl Size {
    /// Reads `"512B"`, `"6KiB"`, `"64MiB"`, `"10GiB"` or `"1TiB"`.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text, &SIZES).map(Self)
    }
}

// The configuration checks both with better words before they are read.
impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).ok_or_else(|| de::Error::custom("is not a duration"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).ok_or_else(|| de::Error::custom("is not a size"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration(self.0))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bytes(self.0))
    }
}

/// Bytes for people: three digits at most before the unit, such as `1.2 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A duration for people, in its two largest units: `4s`, `2m10s`, `3h05m`, `2d04h`.
pub fn duration(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0 if duration.as_millis() > 0 => format!("{}ms", duration.as_millis()),
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// How long ago something was, for people, in whole seconds; 0s if it is yet to come.
pub fn ago(since: DateTime<Utc>, now: DateTime<Utc>) -> String {
    duration(Duration::from_secs(clock::age(since, now).as_secs()))
}

/// A count with a comma every three digits: `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with its noun: `1 batch`, `1,234 batches`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Characters of a text from outside that a message shows.
const SHOWN: usize = 60;

/// A text from outside as a message shows it: it may be of any length and of any characters, and a terminal obeys some.
pub fn shown(text: &str) -> String {
    beginning(text, SHOWN).chars().flat_map(char::escape_debug).collect()
}

/// The beginning of a text on one line: what a terminal would obey, or what would begin another line of a log, is a space.
pub fn line(text: &str, chars: usize) -> String {
    beginning(text, chars).chars().map(|c| if is_obeyed(c) { ' ' } else { c }).collect()
}

/// A whole text from outside, with escapes for what a terminal would obey: other texts are other ones then too.
pub fn escaped(text: &str) -> String {
    let one = |c: char| if is_obeyed(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(one).collect()
}

/// Controls, and the characters that turn the direction of the text behind them.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The beginning of a text: at most `chars` characters, with `…` for the rest.
pub fn beginning(text: &str, chars: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// A moment for people: `2026-03-02 12:00:00 UTC`.
pub fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_their_unit() {
        assert_eq!(Span::parse("50ms"), Some(Span(Duration::from_millis(50))));
        assert_eq!(Span::parse("2h"), Some(Span(Duration::from_secs(7200))));
        assert_eq!(Size::parse("6KiB"), Some(Size(6144)));
        for wrong in ["", "5", "ms", "1.5s", "-1s", "5 parsecs", "99999999999999999999d"] {
            assert_eq!(Span::parse(wrong), None, "{wrong}");
            assert_eq!(Size::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_text_from_outside_is_one_line_that_no_terminal_obeys() {
        let odd = "a\x1b[2J\r\nERROR \u{202e}b\u{9b}31m\u{2028}ü…";
        assert_eq!(line(odd, 99), "a [2J  ERROR  b 31m ü…");
        assert_eq!(line("abc", 2), "ab…");
        assert_eq!(escaped("a\x1b\nü'/"), "a\\u{1b}\\nü'/");
        assert!(!shown(odd).contains(is_obeyed) && shown(odd).contains("ü"), "{}", shown(odd));
        assert_eq!(shown(&"x".repeat(99)), format!("{}…", "x".repeat(SHOWN)));
    }

    #[test]
    fn people_read_short_values() {
        assert_eq!([bytes(0), bytes(999), bytes(1_300_000)], ["0 B", "999 B", "1.2 MiB"]);
        assert_eq!(duration(Duration::from_secs(130)), "2m10s");
        assert_eq!(duration(Duration::from_secs(2 * 86_400 + 4 * 3600)), "2d04h");
        assert_eq!([count(7), count(1234), count(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!(counted(1, "batch", "batches"), "1 batch");
        assert_eq!([0, 1200].map(|n| counted(n, "row", "rows")), ["0 rows", "1,200 rows"]);
        assert_eq!(time("2026-03-02T14:00:00.9+02:00".parse().unwrap()), "2026-03-02 12:00:00 UTC");
    }
}
