//! When the ingester must not load: after `ingester pause`, which is in its load store and so outlives it, and at the times of
//! day of the configuration.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::config::pause::Windows;
use shared::human::time;

/// Characters a reason may have: a question to a service is one short line.
pub const REASON_MAX: usize = 120;

/// A pause that was asked for by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When it was asked for.
    pub since: DateTime<Utc>,
    /// When it ends by itself; None: not before it is ended by hand.
    pub until: Option<DateTime<Utc>>,
    /// Why, in the words of the operator.
    pub reason: Option<String>,
}

/// Who is behind a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PausedBy {
    /// `ingester pause`.
    Hand,
    /// `ingester.pause`.
    Window,
}

/// Why nothing is loaded now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Who is behind it.
    pub by: PausedBy,
    /// When it was asked for by hand.
    #[serde(default)]
    pub since: Option<DateTime<Utc>>,
    /// When loading goes on; None: after `ingester resume`.
    pub until: Option<DateTime<Utc>>,
    /// Why, for people.
    pub why: String,
}

/// What holds after a pause was asked for or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pausing {
    /// That nothing is loaded, and why; None when the ingester loads.
    pub paused: Option<Paused>,
}

impl Paused {
    /// Whether nothing is to be loaded at `now`, and why. A pause by hand comes first: somebody has to end it.
    pub fn at(pause: Option<&Pause>, windows: &Windows, now: DateTime<Utc>) -> Option<Self> {
        let by_hand = pause.filter(|pause| pause.until.is_none_or(|until| now < until));
        let window = windows.at(now);
        if let Some(pause) = by_hand {
            let since = time(pause.since);
            let reason = pause.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            // A window may last longer, and goes on as a pause of its own.
            return Some(Self {
                by: PausedBy::Hand,
                since: Some(pause.since),
                until: pause.until,
                why: format!("by `ingester pause` since {since}{reason}"),
            });
        }
        let (window, until) = window?;
        let why = format!("by ingester.pause {window} UTC");
        Some(Self { by: PausedBy::Window, since: None, until: Some(until), why })
    }

    /// For people: why, and until when.
    pub fn describe(&self) -> String {
        match self.until {
            Some(until) => format!("until {}, {}", time(until), self.why),
            None => format!("until `ingester resume`, {}", self.why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loads::LoadDatabase;

    fn at(time: &str) -> DateTime<Utc> {
        format!("2026-03-02T{time}Z").parse().unwrap()
    }

    #[test]
    fn a_pause_by_hand_comes_before_a_window_and_ends_by_itself_if_it_has_an_end() {
        let windows = Windows::parse(["02:00-03:00"]).unwrap();
        let told =
            |pause: Option<&Pause>, now| Paused::at(pause, &windows, at(now)).map(|paused| paused.describe());
        let mut pause = Pause { since: at("01:00:00"), until: Some(at("02:30:00")), reason: None };
        assert_eq!(
            told(Some(&pause), "02:29:59").unwrap(),
            "until 2026-03-02 02:30:00 UTC, by `ingester pause` since 2026-03-02 01:00:00 UTC"
        );
        assert_eq!(
            told(Some(&pause), "02:30:00").unwrap(),
            "until 2026-03-02 03:00:00 UTC, by ingester.pause 02:00-03:00 UTC"
        );
        assert_eq!(told(Some(&pause), "03:00:00"), None);
        assert_eq!(told(None, "01:30:00"), None);
        (pause.until, pause.reason) = (None, Some("resize".to_owned()));
        assert_eq!(
            told(Some(&pause), "23:00:00").unwrap(),
            "until `ingester resume`, by `ingester pause` since 2026-03-02 01:00:00 UTC: resize"
        );
    }

    #[test]
    fn a_pause_outlives_the_ingester_and_is_no_fault_of_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let pause = Pause { since: at("01:00:00"), until: None, reason: Some("é".repeat(REASON_MAX)) };
        {
            let loads = LoadDatabase::open(dir.path()).unwrap();
            assert_eq!(loads.pause().unwrap(), None);
            loads.set_pause(Some(&pause)).unwrap();
        }
        let loads = LoadDatabase::open(dir.path()).unwrap();
        assert_eq!(loads.pause().unwrap(), Some(pause));
        assert!(loads.verify().unwrap().iter().all(|checked| checked.faults.is_empty()));
        loads.set_pause(None).unwrap();
        assert_eq!(loads.pause().unwrap(), None);
    }
}
