//! Which alerts stand. Pure: what the rules find and the time come in. An alert begins when its figure has been above a
//! level for as long as that asks, gets worse with the figure, and ends when the figure was well for a moment: what comes
//! and goes between two looks is one alert.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::clock::{Moment, Steady, age};
use shared::config::Severity;

use crate::alerts::growth::Growth;
use crate::alerts::rules::{About, Found, Seen, Watched};
use crate::status::alert::Alert;

/// The figure must be well for so long before the alert ends.
const WELL: Duration = Duration::from_secs(15);
/// After a start no alert of the process before ends earlier: what it stands for may not have been tried again yet.
const SETTLING: Duration = Duration::from_secs(45);

/// What the process before left.
#[derive(Debug, Default)]
pub struct Before {
    /// The alerts that stood.
    pub standing: Vec<Alert>,
    /// The counters that a restart does not set back, as they were seen last.
    pub counters: BTreeMap<String, u64>,
}

/// The alerts of one service.
#[derive(Debug)]
pub struct Judge {
    growth: Growth,
    rules: BTreeMap<&'static str, Tracked>,
    settled: Steady,
    docs: String,
}

#[derive(Debug, Default)]
struct Tracked {
    /// Since when the figure is above each level.
    above: Vec<Option<Steady>>,
    alert: Option<Alert>,
    well: Option<Steady>,
}

impl Judge {
    /// Goes on from what the process before left. `docs` is where docs/OPERATIONS.md is read; alerts of names in `off` never
    /// begin.
    pub fn new<S: Watched>(before: &Before, docs: String, off: &[String], now: Steady) -> Self {
        let tracked = |about: &About| {
            let alert = before.standing.iter().find(|alert| alert.name == about.name).cloned();
            // Its words are those of this version and configuration.
            let alert = alert.map(|alert| Alert { docs: link(&docs, about), ..worded(alert, about) });
            (about.name, Tracked { alert, ..Tracked::default() })
        };
        let on = S::rules()
            .iter()
            .map(|rule| &rule.about)
            .filter(|about| !off.iter().any(|off| off == about.name));
        let rules = on.map(tracked).collect();
        Self { growth: Growth::since(before.counters.clone()), rules, settled: now + SETTLING, docs }
    }

    /// Looks at the figures of this moment. Returns every alert that stands, the worst first and then the oldest.
    pub fn look<S: Watched>(&mut self, figures: &S, now: Moment) -> Vec<Alert> {
        self.growth.sample(figures.counters(), now.steady);
        let seen = Seen { figures, growth: &self.growth, now: now.wall };
        for rule in S::rules() {
            let found = (rule.measure)(&seen).unwrap_or_default();
            let Some(tracked) = self.rules.get_mut(rule.about.name) else { continue };
            tracked.look(&rule.about, found, now, self.settled, &self.docs);
        }
        let mut standing: Vec<_> = self.rules.values().filter_map(|tracked| tracked.alert.clone()).collect();
        standing.sort_by_key(|alert| (std::cmp::Reverse(alert.severity), alert.since));
        standing
    }
}

impl Tracked {
    fn look(&mut self, about: &About, found: Found, now: Moment, settled: Steady, docs: &str) {
        match self.reached(about, &found, now) {
            Some(severity) => {
                self.well = None;
                match &mut self.alert {
                    Some(alert) => alert.update(severity, found),
                    none => *none = Some(begun(about, severity, found, now, docs)),
                }
            }
            None if found.value > about.ends => {
                self.well = None;
                if let Some(alert) = &mut self.alert {
                    alert.update(alert.severity, found);
                }
            }
            None if self.alert.is_some() => {
                let well = *self.well.get_or_insert(now.steady);
                if well.until(now.steady) >= WELL && now.steady >= settled {
                    (self.alert, self.well) = (None, None);
                }
            }
            None => {}
        }
    }

    /// The worst level above which the value has been for long enough: as far as this process saw, or as the figure itself
    /// says, which a restart does not change.
    fn reached(&mut self, about: &About, found: &Found, now: Moment) -> Option<Severity> {
        self.above.resize(about.levels.len(), None);
        let told = found.since.map_or(Duration::ZERO, |since| age(since, now.wall));
        let mut reached = None;
        for (level, above) in about.levels.iter().zip(&mut self.above) {
            if found.value > level.above {
                let seen = above.get_or_insert(now.steady).until(now.steady);
                if seen.max(told) >= level.hold {
                    reached = reached.max(Some(level.severity));
                }
            } else {
                *above = None;
            }
        }
        reached
    }
}

impl Alert {
    /// The severity only rises: what an operator was woken for does not become less by itself.
    fn update(&mut self, severity: Severity, found: Found) {
        let Found { batch, rounds, detail, .. } = found;
        self.severity = self.severity.max(severity);
        (self.batch, self.rounds, self.detail) = (batch, rounds, detail);
    }
}

fn begun(about: &About, severity: Severity, found: Found, now: Moment, docs: &str) -> Alert {
    let Found { since, batch, rounds, detail, .. } = found;
    let held = about.levels.first().map_or(Duration::ZERO, |level| level.hold);
    Alert {
        name: about.name.to_owned(),
        severity,
        since: since.unwrap_or(now.wall - held),
        rounds,
        batch,
        says: about.says.to_owned(),
        detail,
        todo: about.todo.to_owned(),
        docs: link(docs, about),
    }
}

fn link(docs: &str, about: &About) -> String {
    format!("{docs}#{}", about.anchor)
}

fn worded(alert: Alert, about: &About) -> Alert {
    Alert { says: about.says.to_owned(), todo: about.todo.to_owned(), ..alert }
}

#[cfg(test)]
pub(super) mod tests {
    use shared::clock::Clock;

    use super::*;
    use crate::alerts::rules::{Level, Rule};

    /// One figure, which is an alert above 30.
    pub(in crate::alerts) struct Figure(pub(in crate::alerts) f64);

    static RULES: &[Rule<Figure>] = &[Rule {
        about: About {
            name: "figure",
            figures: &[],
            measures: "",
            expr: "",
            levels: &[
                Level { severity: Severity::Warning, above: 30.0, hold: Duration::ZERO },
                Level { severity: Severity::Critical, above: 300.0, hold: Duration::from_secs(60) },
            ],
            ends: 0.0,
            says: "too much",
            todo: "less",
            anchor: "logs",
            note: "",
        },
        measure: |seen| Some(Found { value: seen.figures.0, ..Found::default() }),
    }];

    impl Watched for Figure {
        const SERVICE: &'static str = "test";

        fn rules() -> &'static [Rule<Self>] {
            RULES
        }

        fn counters(&self) -> Vec<(String, u64)> {
            Vec::new()
        }

        fn lasting() -> &'static [&'static str] {
            &[]
        }
    }

    struct Bench {
        clock: Clock,
        judge: Judge,
    }

    impl Bench {
        fn new(stood: &[Alert]) -> Self {
            let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
            let before = Before { standing: stood.to_vec(), ..Before::default() };
            let judge = Judge::new::<Figure>(&before, "page".to_owned(), &[], clock.steady());
            Self { clock, judge }
        }

        /// Looks every five seconds for so long, and returns what stands at the end.
        fn stays(&mut self, value: f64, seconds: u64) -> Option<Alert> {
            let mut standing = self.judge.look(&Figure(value), self.clock.now());
            for _ in 0..seconds / 5 {
                self.clock.advance(Duration::from_secs(5));
                standing = self.judge.look(&Figure(value), self.clock.now());
            }
            assert!(standing.len() <= 1);
            standing.pop()
        }
    }

    #[test]
    fn an_alert_begins_above_its_level_and_stands_until_its_cause_is_gone_for_a_moment() {
        let mut bench = Bench::new(&[]);
        assert_eq!(bench.stays(30.0, 60), None);
        let alert = bench.stays(31.0, 0).unwrap();
        assert_eq!((alert.severity, alert.docs.as_str()), (Severity::Warning, "page#logs"));
        assert_eq!(bench.stays(1.0, 60).unwrap().since, alert.since, "the cause is still there");
        for _ in 0..10 {
            assert!(bench.stays(0.0, 10).is_some(), "it has not been well for long");
            assert_eq!(bench.stays(2.0, 5).unwrap().since, alert.since);
        }
        assert_eq!(bench.stays(0.0, 15), None);
    }

    #[test]
    fn a_level_that_must_last_is_reached_only_then_and_what_was_critical_stays_so() {
        let mut bench = Bench::new(&[]);
        assert_eq!(bench.stays(301.0, 55).unwrap().severity, Severity::Warning);
        bench.stays(300.0, 5);
        assert_eq!(bench.stays(301.0, 55).unwrap().severity, Severity::Warning, "it was interrupted");
        assert_eq!(bench.stays(301.0, 5).unwrap().severity, Severity::Critical);
        assert_eq!(bench.stays(31.0, 60).unwrap().severity, Severity::Critical);
    }

    #[test]
    fn an_alert_of_the_process_before_goes_on_and_ends_only_when_the_start_has_settled() {
        let stood = Bench::new(&[]).stays(31.0, 0).unwrap();
        let mut bench = Bench::new(std::slice::from_ref(&stood));
        assert_eq!(bench.stays(0.0, 40).unwrap().since, stood.since);
        assert_eq!(bench.stays(1.0, 10).unwrap().since, stood.since);
        let mut bench = Bench::new(&[Alert { todo: "of an older version".to_owned(), ..stood }]);
        assert_eq!(bench.stays(1.0, 0).unwrap().todo, "less");
        assert_eq!(bench.stays(0.0, 45), None);
    }

    #[test]
    fn an_alert_that_is_off_never_begins() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let off = ["figure".to_owned()];
        let mut judge = Judge::new::<Figure>(&Before::default(), String::new(), &off, clock.steady());
        assert_eq!(judge.look(&Figure(301.0), clock.now()), []);
    }
}
