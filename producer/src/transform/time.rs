//! Seconds since 1970 to the text of a UTC timestamp.

use chrono::{DateTime, Datelike};

use crate::transform::number::Scaled;

const MICROS: i128 = 1_000_000;
const DAY: i64 = 86_400;
/// 0001-01-01 00:00:00 to 9999-12-31 23:59:59. Milliseconds, sent where seconds belong, fall outside.
const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// The day written last. Nearly all hits of a stream share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Day {
    last: Option<(i64, [u8; 10])>,
}

impl Day {
    /// Appends `YYYY-MM-DD HH:MM:SS[.ffffff]` of a time with a scale of six. False, and nothing, if it is out of range.
    pub(super) fn write_scaled(&mut self, time: &Scaled, row: &mut Vec<u8>) -> bool {
        let Some(total) = time.signed() else { return false };
        let micros = u32::try_from(total.rem_euclid(MICROS)).unwrap_or_default();
        let Ok(seconds) = i64::try_from(total.div_euclid(MICROS)) else { return false };
        self.write(seconds, micros, row)
    }

    /// As [`Day::write_scaled`], from its parts.
    pub(super) fn write(&mut self, seconds: i64, micros: u32, row: &mut Vec<u8>) -> bool {
        if !RANGE.contains(&seconds) {
            return false;
        }
        let mut text = *b"0000-00-00 00:00:00.000000";
        if let Some(date) = text.first_chunk_mut() {
            *date = self.text(seconds.div_euclid(DAY));
        }
        let in_day = seconds.rem_euclid(DAY);
        put(&mut text, 11..13, in_day / 3600);
        put(&mut text, 14..16, in_day / 60 % 60);
        put(&mut text, 17..19, in_day % 60);
        let length = if micros == 0 { 19 } else { text.len() };
        if micros != 0 {
            put(&mut text, 20..26, i64::from(micros));
        }
        row.extend_from_slice(text.get(..length).unwrap_or(&text));
        true
    }

    fn text(&mut self, day: i64) -> [u8; 10] {
        if let Some((last, text)) = self.last
            && last == day
        {
            return text;
        }
        let (year, month, number) = date(day);
        let mut text = *b"0000-00-00";
        put(&mut text, 0..4, year);
        put(&mut text, 5..7, month);
        put(&mut text, 8..10, number);
        self.last = Some((day, text));
        text
    }
}

fn put(text: &mut [u8], place: std::ops::Range<usize>, mut value: i64) {
    for digit in text.get_mut(place).into_iter().flatten().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
}

/// Year, month and day of a day since 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
    let date = DateTime::from_timestamp(days * DAY, 0).unwrap_or_default();
    (date.year().into(), date.month().into(), date.day().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: i64, micros: u32) -> Option<String> {
        let mut out = Vec::new();
        Day::default().write(seconds, micros, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn known_times_come_out_right() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (1_372_782_179, "2013-07-02 16:22:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (4_107_542_399, "2100-02-28 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (*RANGE.start(), "0001-01-01 00:00:00"),
            (*RANGE.end(), "9999-12-31 23:59:59"),
        ] {
            assert_eq!(text(seconds, 0).as_deref(), Some(expected));
        }
        assert_eq!(text(0, 1).as_deref(), Some("1970-01-01 00:00:00.000001"));
    }

    #[test]
    fn years_without_four_digits_are_refused() {
        assert_eq!(text(RANGE.start() - 1, 0), None);
        assert_eq!(text(RANGE.end() + 1, 0), None);
        assert_eq!(text(1_372_782_179_000, 0), None);
        assert_eq!(text(i64::MAX, 0), None);
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = date(-800_000);
        for day in -799_999..2_932_897 {
            let (year, month, number) = date(day);
            let next_day = (before.0, before.1, before.2 + 1) == (year, month, number) && number <= 31;
            let next_month =
                number == 1 && before.2 >= 28 && (before.0 * 12 + before.1 + 1) == year * 12 + month;
            assert!(next_day || next_month, "{before:?} {year}-{month}-{number}");
            before = (year, month, number);
        }
    }
}
