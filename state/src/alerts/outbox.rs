//! What one target is told. It holds no queue: of each alert, what stands and what the target was sent of it. So it is
//! bounded by the number of rules, a target that was away for days gets what is still true, and an alert that came and went
//! meanwhile is told late rather than never. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::clock;
use shared::config::Severity;

use crate::status::alert::Alert;

/// What a message says of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// It began, got worse, or there is more of it.
    Begun,
    /// It still stands.
    Stands,
    /// It is over.
    Resolved,
    /// There is none: somebody tries the target.
    Test,
}

/// The alerts of one target, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Outbox(BTreeMap<String, Entry>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    alert: Alert,
    /// The latest message that the target took; None: it took none yet.
    sent: Option<Sent>,
    /// When the alert ended; None: it stands.
    ended: Option<DateTime<Utc>>,
    /// Messages in a row that the target did not take.
    #[serde(skip)]
    failed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Sent {
    at: DateTime<Utc>,
    severity: Severity,
    #[serde(default)]
    rounds: u64,
}

/// What a target is told again for.
fn known(alert: &Alert) -> (Severity, u64) {
    (alert.severity, alert.rounds)
}

/// A message that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// What it says of the alert.
    pub event: Event,
    /// The alert.
    pub alert: Alert,
    /// When it ended; None: it stands.
    pub ended: Option<DateTime<Utc>>,
}

impl Outbox {
    /// Takes what stands now, of the severities that the target is to know. True if a restart must know of the change.
    pub fn follow(&mut self, standing: &[Alert], least: Severity, now: DateTime<Utc>) -> bool {
        let mut changed = false;
        for alert in standing.iter().filter(|alert| alert.severity >= least) {
            match self.0.get_mut(&alert.name) {
                Some(entry) => {
                    changed |= entry.ended.take().is_some() || known(&entry.alert) != known(alert);
                    entry.alert = alert.clone();
                }
                None => {
                    let entry = Entry { alert: alert.clone(), sent: None, ended: None, failed: 0 };
                    self.0.insert(alert.name.clone(), entry);
                    changed = true;
                }
            }
        }
        for (name, entry) in &mut self.0 {
            if entry.ended.is_none() && !standing.iter().any(|alert| alert.name == *name) {
                entry.ended = Some(now);
                changed = true;
            }
        }
        changed
    }

    /// What to send next: what failed least often, and of that the oldest.
    pub fn due(&self, repeat: Duration, now: DateTime<Utc>) -> Option<Due> {
        let due = self.0.values().filter_map(|entry| Some((entry, entry.due(repeat, now)?)));
        let (entry, event) = due.min_by_key(|(entry, _)| (entry.failed, entry.alert.since))?;
        Some(Due { event, alert: entry.alert.clone(), ended: entry.ended })
    }

    /// When the next of the alerts that stand is repeated.
    pub fn next_repeat(&self, repeat: Duration, now: DateTime<Utc>) -> Option<Duration> {
        let sent = self.0.values().filter_map(|entry| entry.sent);
        sent.map(|sent| clock::left_of(repeat, sent.at, now)).min()
    }

    /// The target took this message.
    pub fn taken(&mut self, due: &Due, now: DateTime<Utc>) {
        if due.event == Event::Resolved {
            // It may have begun once more meanwhile: then that is to be told.
            match self.0.get_mut(&due.alert.name) {
                Some(entry) if entry.ended.is_none() => (entry.sent, entry.failed) = (None, 0),
                _ => drop(self.0.remove(&due.alert.name)),
            }
        } else if let Some(entry) = self.0.get_mut(&due.alert.name) {
            entry.sent = Some(Sent { at: now, severity: due.alert.severity, rounds: due.alert.rounds });
            entry.failed = 0;
        }
    }

    /// The target did not take this message.
    pub fn refused(&mut self, due: &Due) {
        if let Some(entry) = self.0.get_mut(&due.alert.name) {
            entry.failed = entry.failed.saturating_add(1);
        }
    }
}

impl Entry {
    fn due(&self, repeat: Duration, now: DateTime<Utc>) -> Option<Event> {
        match (self.sent, self.ended) {
            (None, _) => Some(Event::Begun),
            (Some(_), Some(_)) => Some(Event::Resolved),
            (Some(sent), None) if sent.severity < self.alert.severity || sent.rounds < self.alert.rounds => {
                Some(Event::Begun)
            }
            (Some(sent), None) => (clock::age(sent.at, now) >= repeat).then_some(Event::Stands),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const REPEAT: Duration = Duration::from_secs(3_600);

    fn at(seconds: i64) -> DateTime<Utc> {
        "2026-03-02T12:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
    }

    fn alert(name: &str, severity: Severity) -> Alert {
        Alert {
            name: name.to_owned(),
            severity,
            since: at(0),
            rounds: 0,
            batch: None,
            says: String::new(),
            detail: String::new(),
            todo: String::new(),
            docs: String::new(),
        }
    }

    /// Sends all that is due, as a target does that takes everything.
    fn send_all(outbox: &mut Outbox, now: DateTime<Utc>) -> Vec<(Event, String)> {
        let mut sent = Vec::new();
        while let Some(due) = outbox.due(REPEAT, now) {
            outbox.taken(&due, now);
            sent.push((due.event, due.alert.name));
        }
        sent
    }

    fn told(event: Event, name: &str) -> (Event, String) {
        (event, name.to_owned())
    }

    #[test]
    fn an_alert_is_sent_once_repeated_after_its_time_and_resolved() {
        let (mut outbox, full) = (Outbox::default(), [alert("full", Severity::Critical)]);
        assert!(outbox.follow(&full, Severity::Warning, at(5)));
        assert_eq!(send_all(&mut outbox, at(5)), [told(Event::Begun, "full")]);
        assert!(!outbox.follow(&full, Severity::Warning, at(10)));
        assert_eq!(send_all(&mut outbox, at(3_604)), []);
        assert_eq!(outbox.next_repeat(REPEAT, at(3_600)), Some(Duration::from_secs(5)));
        assert_eq!(send_all(&mut outbox, at(3_605)), [told(Event::Stands, "full")]);
        assert!(outbox.follow(&[], Severity::Warning, at(3_700)));
        assert_eq!(send_all(&mut outbox, at(3_700)), [told(Event::Resolved, "full")]);
        assert_eq!(outbox, Outbox::default());
    }

    #[test]
    fn what_gets_worse_is_sent_again_and_a_target_gets_only_what_is_bad_enough() {
        let (mut all, mut worst) = (Outbox::default(), Outbox::default());
        for (severity, to_all, to_worst) in [(Severity::Warning, 1, 0), (Severity::Critical, 1, 1)] {
            let standing = [alert("upload", severity)];
            all.follow(&standing, Severity::Warning, at(5));
            worst.follow(&standing, Severity::Critical, at(5));
            assert_eq!(send_all(&mut all, at(5)).len(), to_all);
            assert_eq!(send_all(&mut worst, at(5)).len(), to_worst);
        }
    }

    #[test]
    fn what_there_is_more_of_is_sent_again_and_once() {
        let mut outbox = Outbox::default();
        for (rounds, expected) in [(1, 1), (1, 0), (2, 1), (2, 0)] {
            let standing = [Alert { rounds, ..alert("drift", Severity::Warning) }];
            assert_eq!(outbox.follow(&standing, Severity::Warning, at(5)), expected == 1);
            assert_eq!(send_all(&mut outbox, at(5)), vec![told(Event::Begun, "drift"); expected]);
        }
    }

    #[test]
    fn what_came_and_went_while_the_target_was_away_is_told_late() {
        let mut outbox = Outbox::default();
        outbox.follow(&[alert("gaps", Severity::Warning)], Severity::Warning, at(5));
        let due = outbox.due(REPEAT, at(5)).unwrap();
        outbox.refused(&due);
        outbox.follow(&[], Severity::Warning, at(900));
        assert_eq!(outbox.due(REPEAT, at(901)).unwrap().ended, Some(at(900)));
        let both = [told(Event::Begun, "gaps"), told(Event::Resolved, "gaps")];
        assert_eq!(send_all(&mut outbox, at(901)), both);
    }

    #[test]
    fn a_message_that_is_refused_lets_the_others_go_first() {
        let mut outbox = Outbox::default();
        outbox.follow(
            &[alert("a", Severity::Warning), alert("b", Severity::Warning)],
            Severity::Warning,
            at(5),
        );
        let first = outbox.due(REPEAT, at(5)).unwrap();
        outbox.refused(&first);
        assert_ne!(outbox.due(REPEAT, at(5)).unwrap().alert.name, first.alert.name);
    }

    #[test]
    fn an_alert_that_comes_back_before_its_end_was_told_is_the_same_one() {
        let (mut outbox, full) = (Outbox::default(), [alert("full", Severity::Critical)]);
        outbox.follow(&full, Severity::Warning, at(5));
        send_all(&mut outbox, at(5));
        outbox.follow(&[], Severity::Warning, at(20));
        outbox.follow(&full, Severity::Warning, at(25));
        assert_eq!(send_all(&mut outbox, at(25)), []);
        // It ended, and comes back while the target answers to the end.
        outbox.follow(&[], Severity::Warning, at(30));
        let due = outbox.due(REPEAT, at(30)).unwrap();
        outbox.follow(&full, Severity::Warning, at(35));
        outbox.taken(&due, at(36));
        assert_eq!(send_all(&mut outbox, at(36)), [told(Event::Begun, "full")]);
    }
}
