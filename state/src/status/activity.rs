//! What each component of a running service is doing, since when, what it last tried, why that failed, and when it tries
//! again. The components report here; snapshots carry a copy, from which `state dump`, its JSON and the metrics are made.
//! It is in memory only: what was going on in a process ends with it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use shared::clock::{Clock, Moment};
use shared::human;
use shared::lock::locked;

use crate::status::alert::Alert;
use crate::status::configuration::{ConfigurationStatus, FailedReload};

/// Characters of a reason to keep.
const REASON_CHARS: usize = 1_000;
/// Both clocks run a little differently. A larger difference is that somebody has set the wall clock.
const SET: TimeDelta = TimeDelta::seconds(1);

/// A component of a service, by its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// The producer reads Adobe's stream.
    Stream,
    /// The producer's log takes what was read. It fails while it is full.
    Log,
    /// The producer uploads files and seals batches.
    Upload,
    /// The ingester lists S3 and reads seals.
    Discovery,
    /// The ingester loads batches into Redshift.
    Load,
    /// The ingester moves loaded batches away.
    Archive,
    /// The ingester compares log, S3 and ledger.
    Reconcile,
    /// Both tell what needs an operator, and that all is well.
    Alerts,
    /// Both read their configuration again. It fails while the latest reload was refused.
    Config,
}

impl Component {
    /// Its name in metrics and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Log => "log",
            Self::Upload => "upload",
            Self::Discovery => "discovery",
            Self::Load => "load",
            Self::Archive => "archive",
            Self::Reconcile => "reconcile",
            Self::Alerts => "alerts",
            Self::Config => "config",
        }
    }
}

/// One component of a service at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// Which one.
    pub component: Component,
    /// Of several that do the same job: its number, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u8>,
    /// The step under way; None while it waits.
    #[serde(default)]
    pub step: Option<Step>,
    /// What keeps it from its work; None while all is well.
    #[serde(default)]
    pub failing: Option<Failing>,
}

/// What keeps this component from its work: of several that do the same job, each that fails.
pub(crate) fn failing(components: &[ComponentStatus], which: Component) -> impl Iterator<Item = &Failing> {
    components.iter().filter(move |status| status.component == which).filter_map(|one| one.failing.as_ref())
}

/// A step under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it does, such as `COPY`.
    pub what: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Whose answer it waits for, such as `Redshift`, if it is a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// Failures in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// When the first of them was met.
    pub since: DateTime<Utc>,
    /// How many there were.
    pub failures: u64,
    /// When the latest was met.
    pub last: DateTime<Utc>,
    /// A short word for the latest, as in the metrics.
    pub class: String,
    /// What was met, and what to do about it.
    pub why: String,
    /// When it is tried again; None: when somebody else acts.
    pub next: Option<DateTime<Utc>>,
}

/// Failures since the process started, by component and class.
pub type FailureCounts = BTreeMap<(Component, String), u64>;

/// Where the components of one process report. Clones share it.
#[derive(Debug, Clone)]
pub struct Activity {
    clock: Clock,
    inner: Arc<Mutex<Inner>>,
}

/// The step under way, and what keeps the component from its work.
type State = (Option<Dated<Step>>, Option<Dated<Failing>>);

/// With the moment it began: how long it lasts follows the steady clock, so that an outage is told in time although somebody
/// sets the wall clock.
#[derive(Debug, Clone)]
struct Dated<T> {
    what: T,
    began: Moment,
}

impl<T> Dated<T> {
    /// Since when it lasts, by what the wall clock shows now.
    fn since(&self, now: Moment) -> DateTime<Utc> {
        let lasts = self.began.steady.until(now.steady);
        let shown = now.wall - self.began.wall;
        let is_set = (shown - TimeDelta::from_std(lasts).unwrap_or_default()).abs() > SET;
        if is_set { now.wall - lasts } else { self.began.wall }
    }
}

impl Dated<Step> {
    fn shown(&self, now: Moment) -> Step {
        Step { since: self.since(now), ..self.what.clone() }
    }
}

impl Dated<Failing> {
    fn shown(&self, now: Moment) -> Failing {
        Failing { since: self.since(now), ..self.what.clone() }
    }
}

#[derive(Debug, Default)]
struct Inner {
    components: BTreeMap<(Component, Option<u8>), State>,
    failures: FailureCounts,
    alerts: Vec<Alert>,
    configuration: Option<ConfigurationStatus>,
}

impl Activity {
    /// An activity in which nothing was reported yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let configuration = Some(ConfigurationStatus::of_start(clock.wall()));
        Self { clock, inner: Arc::new(Mutex::new(Inner { configuration, ..Inner::default() })) }
    }

    /// Where the only component that does this job reports.
    #[must_use]
    pub fn reporter(&self, component: Component) -> Reporter {
        Reporter { activity: self.clone(), component, number: None }
    }

    /// Where one of several components that do the same job reports.
    #[must_use]
    pub fn reporter_of(&self, component: Component, number: u8) -> Reporter {
        Reporter { activity: self.clone(), component, number: Some(number) }
    }

    /// Every component that has reported something, in the order of the data.
    #[must_use]
    pub fn components(&self) -> Vec<ComponentStatus> {
        let now = self.clock.now();
        let status = |(&(component, number), (step, failing)): (&_, &State)| {
            let step = step.as_ref().map(|step| step.shown(now));
            ComponentStatus {
                component,
                number,
                step,
                failing: failing.as_ref().map(|failing| failing.shown(now)),
            }
        };
        self.inner().components.iter().map(status).collect()
    }

    /// The alerts that stand, the worst first.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.inner().alerts.clone()
    }

    pub(crate) fn set_alerts(&self, alerts: Vec<Alert>) {
        self.inner().alerts = alerts;
    }

    /// Forgets what those that do this job have reported: others take their place.
    pub(crate) fn forget(&self, job: Component) {
        self.inner().components.retain(|(component, _), _| *component != job);
    }

    /// Which configuration the service runs with.
    #[must_use]
    pub fn configuration(&self) -> Option<ConfigurationStatus> {
        self.inner().configuration.clone()
    }

    pub(crate) fn configuration_taken(&self, waiting: Vec<String>) {
        let taken = self.clock.wall();
        if let Some(status) = &mut self.inner().configuration {
            let reloads = status.reloads + 1;
            *status = ConfigurationStatus { taken, reloads, failed: None, waiting };
        }
    }

    pub(crate) fn configuration_refused(&self, why: &str) {
        let (at, why) = (self.clock.wall(), human::line(why, REASON_CHARS));
        if let Some(status) = &mut self.inner().configuration {
            status.failed = Some(FailedReload { at, why });
        }
    }

    /// Failures since the process started.
    #[must_use]
    pub fn failures(&self) -> FailureCounts {
        self.inner().failures.clone()
    }

    /// For values that a panic leaves whole: each change is one assignment.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        locked(&self.inner)
    }
}

/// One component's way to report. Clones report for the same component.
#[derive(Debug, Clone)]
pub struct Reporter {
    activity: Activity,
    component: Component,
    number: Option<u8>,
}

impl Reporter {
    /// A step begins. The failures so far stand until one succeeds.
    pub fn begins(&self, what: impl Into<String>) {
        self.step(what.into(), None);
    }

    /// A step begins that ends with an answer of `whom`, such as a statement.
    pub fn asks(&self, whom: &str, what: impl Into<String>) {
        self.step(what.into(), Some(whom.to_owned()));
    }

    fn step(&self, what: String, waits_for: Option<String>) {
        let began = self.activity.clock.now();
        let what = Step { what, since: began.wall, waits_for };
        self.update(|current, _, _| *current = Some(Dated { what, began }));
    }

    /// The step is over; nothing is under way.
    pub fn waits(&self) {
        self.update(|step, _, _| *step = None);
    }

    /// What was tried has succeeded: nothing keeps the component from its work.
    pub fn succeeded(&self) {
        self.update(|step, failing, _| (*step, *failing) = (None, None));
    }

    /// What was tried has failed, and is tried again after `wait`; None: when somebody else acts. `class` is one of a
    /// few short words, since metrics are labelled with it.
    pub fn failed(&self, class: &str, why: &dyn fmt::Display, wait: Option<Duration>) {
        let now = self.activity.clock.now();
        let why = human::line(&why.to_string(), REASON_CHARS);
        let next = wait.and_then(|wait| now.wall.checked_add_signed(TimeDelta::from_std(wait).ok()?));
        self.update(|step, failing, failures| {
            *failures.entry((self.component, class.to_owned())).or_default() += 1;
            let (began, before) =
                failing.as_ref().map_or((now, 0), |failing| (failing.began, failing.what.failures));
            let (since, failures, class) = (began.wall, before + 1, class.to_owned());
            let what = Failing { since, failures, last: now.wall, class, why, next };
            *failing = Some(Dated { what, began });
            *step = None;
        });
    }

    /// The present failure puts the next try off, without a try: why, and for how long.
    pub fn postpones(&self, why: &dyn fmt::Display, wait: Duration) {
        let now = self.activity.clock.wall();
        let why = human::line(&why.to_string(), REASON_CHARS);
        self.update(|step, failing, _| {
            *step = None;
            if let Some(failing) = failing {
                let next = TimeDelta::from_std(wait).ok().and_then(|wait| now.checked_add_signed(wait));
                (failing.what.why, failing.what.next) = (why, next);
            }
        });
    }

    /// What keeps the component from its work is not a failure of a try: a state that lasts until it is cleared. It counts once.
    pub fn held(&self, class: &str, why: &dyn fmt::Display) {
        let is_held = self.failing().is_some_and(|failing| failing.class == class);
        if is_held {
            let why = why.to_string();
            self.update(|_, failing, _| {
                if let Some(failing) = failing {
                    failing.what.why = why;
                }
            });
        } else {
            self.failed(class, why, None);
        }
    }

    /// What keeps the component from its work, if anything.
    #[must_use]
    pub fn failing(&self) -> Option<Failing> {
        let (inner, now) = (self.activity.inner(), self.activity.clock.now());
        let (_, failing) = inner.components.get(&(self.component, self.number))?;
        failing.as_ref().map(|failing| failing.shown(now))
    }

    fn update(
        &self,
        change: impl FnOnce(&mut Option<Dated<Step>>, &mut Option<Dated<Failing>>, &mut FailureCounts),
    ) {
        let mut inner = self.activity.inner();
        let Inner { components, failures, .. } = &mut *inner;
        let (step, failing) = components.entry((self.component, self.number)).or_default();
        change(step, failing, failures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_add_up_until_one_try_succeeds() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let activity = Activity::new(clock.clone());
        let upload = activity.reporter(Component::Upload);
        let begun = clock.wall();
        upload.begins("PUT");
        upload.failed("configuration", &"403 SlowDown", Some(Duration::from_secs(4)));
        clock.advance(Duration::from_secs(4));
        upload.failed("configuration", &"403 AccessDenied: check the policy", Some(Duration::from_secs(8)));
        let failing = upload.failing().unwrap();
        assert_eq!((failing.since, failing.failures), (begun, 2));
        assert_eq!(failing.next, Some(begun + chrono::TimeDelta::seconds(12)));
        assert!(failing.why.contains("policy"));
        let components = activity.components();
        assert!(components.len() == 1 && components[0].step.is_none(), "{components:?}");
        upload.succeeded();
        assert_eq!(upload.failing(), None);
        assert_eq!(activity.failures().into_values().collect::<Vec<_>>(), [2], "they are counted for good");
    }

    #[test]
    fn what_holds_a_part_counts_once_and_keeps_its_beginning() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let activity = Activity::new(clock.clone());
        let log = activity.reporter(Component::Log);
        let begun = clock.wall();
        log.held("full", &"16 of 16 MiB");
        clock.advance(Duration::from_secs(60));
        log.held("full", &"15 of 16 MiB");
        let failing = log.failing().unwrap();
        assert_eq!((failing.since, failing.failures, failing.why.as_str()), (begun, 1, "15 of 16 MiB"));
    }

    #[test]
    fn how_long_a_component_fails_is_the_same_although_somebody_sets_the_clock() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let activity = Activity::new(clock.clone());
        let load = activity.reporter(Component::Load);
        let begun = clock.wall();
        load.failed("passing", &"connection refused", None);
        load.begins("connecting");
        clock.advance(Duration::from_secs(40));
        for hours in [-2, 2, 0] {
            let now = begun + TimeDelta::hours(hours);
            clock.set_wall(now);
            let status = activity.components().remove(0);
            let since =
                [load.failing().unwrap().since, status.failing.unwrap().since, status.step.unwrap().since];
            assert_eq!(since, [now - TimeDelta::seconds(40); 3], "set by {hours} hours");
        }
    }

    #[test]
    fn connections_are_told_apart_and_stand_first() {
        let activity = Activity::new(Clock::by_hand(DateTime::UNIX_EPOCH));
        activity.reporter(Component::Upload).begins("PUT");
        activity.reporter_of(Component::Stream, 1).begins("connecting");
        activity.reporter_of(Component::Stream, 0).failed("401", &"no", None);
        let seen: Vec<_> = activity
            .components()
            .into_iter()
            .map(|component| (component.component, component.number))
            .collect();
        assert_eq!(
            seen,
            [(Component::Stream, Some(0)), (Component::Stream, Some(1)), (Component::Upload, None)]
        );
    }
}
