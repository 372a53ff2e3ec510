//! What a rule is: a figure, the levels at which it is an alert, and what to say then.

use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::clock;
use shared::config::Severity;
use shared::ids::BatchId;

use crate::alerts::growth::Growth;
use crate::status::activity::{Component, ComponentStatus};
use crate::status::configuration::ConfigurationStatus;

/// A rule over what a service knows of itself.
pub struct Rule<S: 'static> {
    /// What does not depend on the moment.
    pub about: About,
    /// The figure, and what goes with it; None is 0. Pure.
    pub(crate) measure: fn(&Seen<'_, S>) -> Option<Found>,
}

/// What a rule says, whatever the moment.
#[derive(Debug)]
pub struct About {
    /// Its name, for good: targets tell alerts apart by it.
    pub name: &'static str,
    /// The figures it looks at, as the page of metrics has them.
    pub figures: &'static [&'static str],
    /// How the figure is made of them, for people; empty: it is the figure itself.
    pub measures: &'static str,
    /// The same for Prometheus.
    pub expr: &'static str,
    /// It is an alert above these, the lesser severity first.
    pub levels: &'static [Level],
    /// Once it is one, it stands until the figure is not above this.
    pub ends: f64,
    /// What is wrong, in a few words.
    pub says: &'static str,
    /// What to do.
    pub todo: &'static str,
    /// The heading of docs/OPERATIONS.md, as it stands in a link.
    pub anchor: &'static str,
    /// More for the table in the documentation.
    pub note: &'static str,
}

impl About {
    /// A rule whose figure is one of the page of metrics, with nothing to add.
    pub(super) const PLAIN: Self = Self {
        name: "",
        figures: &[],
        measures: "",
        expr: "",
        levels: &[],
        ends: 0.0,
        says: "",
        todo: "",
        anchor: "",
        note: "",
    };
}

/// A limit of a figure.
#[derive(Debug, Clone, Copy)]
pub struct Level {
    /// How bad it is to be above.
    pub severity: Severity,
    /// The limit.
    pub above: f64,
    /// For how long the figure must be above.
    pub hold: Duration,
}

impl Level {
    pub(super) const fn warning(above: f64) -> Self {
        Self { severity: Severity::Warning, above, hold: Duration::ZERO }
    }

    pub(super) const fn critical(above: f64) -> Self {
        Self { severity: Severity::Critical, above, hold: Duration::ZERO }
    }

    pub(super) const fn held(self, seconds: u64) -> Self {
        Self { hold: Duration::from_secs(seconds), ..self }
    }
}

/// What a figure shows at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) value: f64,
    /// Since when it is so; None: since it was first seen.
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) batch: Option<BatchId>,
    /// How often something was added to it: what grows is told again.
    pub(crate) rounds: u64,
    /// What was met, with its figures.
    pub(crate) detail: String,
}

impl Found {
    pub(super) fn new(value: f64, detail: impl Into<String>) -> Self {
        Self { value, since: None, batch: None, rounds: 0, detail: detail.into() }
    }

    pub(super) fn since(self, since: DateTime<Utc>) -> Self {
        Self { since: Some(since), ..self }
    }

    pub(super) fn rounds(self, rounds: u64) -> Self {
        Self { rounds, ..self }
    }

    pub(super) fn batch(self, batch: Option<BatchId>) -> Self {
        Self { batch, ..self }
    }
}

/// What a service knows of itself.
pub trait Watched: Send + Sized + 'static {
    /// The name of the service.
    const SERVICE: &'static str;

    /// Its rules.
    fn rules() -> &'static [Rule<Self>];

    /// The counters whose growth its rules look at.
    fn counters(&self) -> Vec<(String, u64)>;

    /// Those of them that a restart does not set back and that seldom move: what they grow around a restart is told too.
    fn lasting() -> &'static [&'static str];
}

/// What the rules look at.
pub struct Seen<'s, S> {
    /// What the service knows now.
    pub figures: &'s S,
    /// How much its counters have grown.
    pub growth: &'s Growth,
    /// The present.
    pub now: DateTime<Utc>,
}

impl<S> Seen<'_, S> {
    pub(super) fn seconds(&self, since: DateTime<Utc>) -> f64 {
        clock::age(since, self.now).as_secs_f64()
    }

    /// How long a component has met failures only.
    pub(super) fn failing(&self, components: &[ComponentStatus], component: Component) -> Option<Found> {
        let ours = components.iter().filter(|status| status.component == component);
        let failing =
            ours.filter_map(|status| status.failing.as_ref()).min_by_key(|failing| failing.since)?;
        // A moment of failing is failing: 0 would be all is well.
        let seconds = self.seconds(failing.since).max(0.001);
        Some(Found::new(seconds, failing.why.clone()).since(failing.since))
    }

    /// Whether the latest reload was refused, and why.
    pub(super) fn refused_reload(&self, configuration: Option<&ConfigurationStatus>) -> Option<Found> {
        let failed = configuration?.failed.as_ref()?;
        Some(Found::new(1.0, failed.why.clone()).since(failed.at))
    }

    /// How long the step under way of a component has taken.
    pub(super) fn step(&self, components: &[ComponentStatus], component: Component) -> Option<Found> {
        let ours = components.iter().filter(|status| status.component == component);
        let step = ours.filter_map(|status| status.step.as_ref()).min_by_key(|step| step.since)?;
        let whom =
            step.waits_for.as_ref().map(|whom| format!(", which waits for {whom}")).unwrap_or_default();
        let detail = format!("{}{whom}, is under way since {}", step.what, shared::human::time(step.since));
        Some(Found::new(self.seconds(step.since), detail).since(step.since))
    }
}
