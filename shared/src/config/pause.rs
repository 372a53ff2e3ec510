//! Times of day at which nothing is loaded.

use std::fmt;

use chrono::{DateTime, NaiveTime, TimeDelta, Timelike, Utc};
use serde::{Deserialize, Deserializer, de};

const DAY: u32 = 24 * 60;

/// A span of each day, UTC: its first minute, and the minute at which it is over, which may be one of the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: u32,
    to: u32,
}

/// The windows of a configuration. There is always a minute that is in none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows(Vec<Window>);

fn minute(text: &str) -> Option<u32> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let time = NaiveTime::from_hms_opt(hours.parse().ok()?, minutes.parse().ok()?, 0)?;
    Some(time.hour() * 60 + time.minute())
}

impl Window {
    fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        let window = Self { from: minute(from)?, to: minute(to)? };
        (window.from != window.to).then_some(window)
    }

    fn length(self) -> u32 {
        (self.to + DAY - self.from) % DAY
    }

    fn contains(self, minute: u32) -> bool {
        (minute + DAY - self.from) % DAY < self.length()
    }
}

/// `02:00-03:00`
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl Windows {
    /// Reads windows such as `"02:00-03:00"`; the error is what is wrong with them.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, String> {
        let window = |text: &str| {
            let rule = "is no time of day such as \"02:00-03:00\" (UTC), whose ends differ";
            Window::parse(text).ok_or_else(|| format!("{text:?} {rule}"))
        };
        let windows = Self(texts.into_iter().map(window).collect::<Result<_, _>>()?);
        if (0..DAY).all(|minute| windows.around(minute).is_some()) {
            return Err("the windows leave no minute of the day: nothing would ever be loaded".to_owned());
        }
        Ok(windows)
    }

    fn around(&self, minute: u32) -> Option<Window> {
        self.0.iter().copied().find(|window| window.contains(minute))
    }

    /// The window that `now` lies in, and when loading goes on: windows that touch or overlap are one pause.
    pub fn at(&self, now: DateTime<Utc>) -> Option<(Window, DateTime<Utc>)> {
        let first = now.hour() * 60 + now.minute();
        let window = self.around(first)?;
        let (mut minute, mut minutes) = (first, 0);
        while let Some(within) = self.around(minute) {
            let left = (within.to + DAY - minute) % DAY;
            minutes += left;
            minute = within.to % DAY;
        }
        let begun = TimeDelta::seconds(now.second().into()) + TimeDelta::nanoseconds(now.nanosecond().into());
        Some((window, now - begun + TimeDelta::minutes(minutes.into())))
    }
}

impl<'de> Deserialize<'de> for Windows {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        Self::parse(texts.iter().map(String::as_str)).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> DateTime<Utc> {
        format!("2026-03-02T{time}Z").parse().unwrap()
    }

    fn windows(texts: &[&str]) -> Windows {
        Windows::parse(texts.iter().copied()).unwrap()
    }

    fn until(windows: &Windows, now: &str) -> Option<String> {
        windows.at(at(now)).map(|(window, until)| format!("{window} {}", until.format("%d %H:%M:%S%.f")))
    }

    #[test]
    fn a_window_begins_with_its_first_minute_and_ends_before_its_last() {
        let windows = windows(&["02:00-03:00"]);
        for (now, paused) in [
            ("01:59:59.999999999", None),
            ("02:00:00", Some("02:00-03:00 02 03:00:00")),
            ("02:59:59.999999999", Some("02:00-03:00 02 03:00:00")),
            ("03:00:00", None),
        ] {
            assert_eq!(until(&windows, now).as_deref(), paused, "{now}");
        }
    }

    #[test]
    fn a_window_may_go_past_midnight_and_several_that_touch_are_one_pause() {
        let windows = windows(&["23:30-00:30", "00:30-01:00", "00:10-00:20", "12:00-12:01"]);
        assert_eq!(until(&windows, "23:45:10").as_deref(), Some("23:30-00:30 03 01:00:00"));
        assert_eq!(until(&windows, "00:15:00").as_deref(), Some("23:30-00:30 02 01:00:00"));
        assert_eq!(until(&windows, "12:00:59").as_deref(), Some("12:00-12:01 02 12:01:00"));
        assert_eq!(until(&windows, "01:00:00"), None);
    }

    #[test]
    fn what_is_no_window_is_refused_and_so_are_windows_that_leave_no_time() {
        for text in [
            "",
            "02:00",
            "2:00-3:00",
            "02:00-24:00",
            "02:60-03:00",
            "02:00-02:00",
            "a-b",
            "02:00-03:00 UTC",
            "+2:00-03:00",
        ] {
            assert!(Windows::parse([text]).is_err(), "{text}");
        }
        let said = Windows::parse(["00:00-12:00", "12:00-00:00"]).unwrap_err();
        assert!(said.contains("no minute of the day"), "{said}");
        assert!(Windows::parse(["00:00-12:00", "12:01-00:00"]).is_ok());
        assert_eq!(Windows::default().at(at("00:00:00")), None);
    }

    #[test]
    fn every_minute_is_paused_exactly_when_a_window_says_so_and_the_end_is_the_first_free_minute() {
        // Seeded, so that a failure comes again.
        let mut seed = fastrand::Rng::with_seed(6);
        for _ in 0..300 {
            let spans: Vec<(u32, u32)> = (0..seed.u32(1..5))
                .map(|_| (seed.u32(0..DAY), seed.u32(1..600)))
                .map(|(from, length)| (from, (from + length) % DAY))
                .collect();
            let texts: Vec<String> =
                spans.iter().map(|(from, to)| Window { from: *from, to: *to }.to_string()).collect();
            // The plain meaning: a minute is in a window if walking from its start reaches it before its end.
            let mut paused = vec![false; DAY as usize];
            for (from, to) in &spans {
                let mut minute = *from;
                while minute != *to {
                    paused[minute as usize] = true;
                    minute = (minute + 1) % DAY;
                }
            }
            let Ok(windows) = Windows::parse(texts.iter().map(String::as_str)) else {
                assert!(paused.iter().all(|paused| *paused), "{texts:?}");
                continue;
            };
            for _ in 0..50 {
                let minute = seed.u32(0..DAY);
                let now =
                    at("00:00:00") + TimeDelta::minutes(minute.into()) + TimeDelta::seconds(seed.i64(0..60));
                let ahead = (0..DAY).find(|ahead| !paused[((minute + ahead) % DAY) as usize]).unwrap();
                let end = at("00:00:00") + TimeDelta::minutes((minute + ahead).into());
                let expected = paused[minute as usize].then_some(end);
                assert_eq!(windows.at(now).map(|(_, until)| until), expected, "{texts:?} at {now}");
            }
        }
    }
}
