//! What all connections counted, in one place.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use shared::clock::{Clock, Moment};
use shared::lock::locked;
use shared::metrics::Page;
use state::status::drift::{DriftKind, DriftSnapshot, SeenFields};

use crate::drift::drifted::DriftedList;
use crate::drift::fields::{Came, Fields};
use crate::drift::judge::Rate;
use crate::drift::kept::{FORMAT, Kept};
use crate::drift::window::{Change, Window};
use crate::transform::{Columns, Limit, Taken};

/// What is usual on a stream, and what is not as it was.
#[derive(Debug)]
pub(crate) struct Drift {
    clock: Clock,
    inner: Mutex<Inner>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) rows: u64,
    pub(super) told: u64,
    pub(super) is_learning: bool,
}

#[derive(Debug, Default)]
struct Inner {
    since: Option<DateTime<Utc>>,
    columns: Option<Arc<Columns>>,
    /// Those of the rows so far.
    filters: Option<u32>,
    window: Window,
    fields: Fields,
    drifted: DriftedList,
    /// What a step of judging found; kept so that a step allocates nothing.
    came: Vec<Came>,
}

impl Default for Drift {
    fn default() -> Self {
        Self::new(Clock::system())
    }
}

impl Drift {
    /// Of a stream of which nothing is known.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, inner: Mutex::default() }
    }

    /// Goes on from what another process knew of the stream.
    pub(super) fn known(kept: Kept, clock: Clock) -> Self {
        let Kept { since, columns, fields, drifted, rounds, filters, .. } = kept;
        let inner = Inner {
            since: Some(since),
            window: Window::known(columns),
            fields,
            drifted: DriftedList::known(drifted, rounds, clock.now()),
            filters,
            ..Inner::default()
        };
        Self { clock, inner: Mutex::new(inner) }
    }

    /// Takes what a transform counted.
    pub(crate) fn add(&self, taken: &Taken<'_>) {
        let now = self.clock.now();
        locked(&self.inner).add(taken, now);
    }

    /// The columns of now. What is known of fields is by them, also before the first row.
    pub(super) fn begin(&self, columns: &Arc<Columns>) {
        locked(&self.inner).begin(columns);
    }

    /// Rows that were counted since the start, changes that were told, and whether too little is known.
    pub(super) fn progress(&self) -> Progress {
        let inner = locked(&self.inner);
        Progress {
            rows: inner.window.rows,
            told: inner.drifted.since_start.values().sum(),
            is_learning: inner.window.is_learning(),
        }
    }

    /// What another process must know to go on.
    pub(super) fn kept(&self) -> Kept {
        let now = self.clock.now();
        let mut inner = locked(&self.inner);
        Kept {
            format: FORMAT,
            since: inner.since.unwrap_or(now.wall),
            columns: inner.window.known_columns(),
            fields: inner.fields.clone(),
            drifted: inner.drifted.standing(now.steady),
            rounds: inner.drifted.rounds,
            filters: inner.filters,
        }
    }

    pub(crate) fn snapshot(&self) -> DriftSnapshot {
        let now = self.clock.now();
        locked(&self.inner).snapshot(now)
    }

    /// Every field that was met.
    pub(crate) fn seen(&self) -> SeenFields {
        let now = self.clock.now();
        let mut inner = locked(&self.inner);
        SeenFields {
            since: inner.since,
            looked_at: inner.fields.looks,
            fields: inner.fields.seen(inner.columns.as_deref()),
            not_remembered: inner.fields.not_remembered,
            drift: inner.snapshot(now),
        }
    }

    pub(crate) fn show(&self, page: &mut Page) {
        let DriftSnapshot { drifted, since_start, fields_in_no_column, learning, .. } = self.snapshot();
        let standing = |kind| drifted.iter().filter(|one| one.kind == kind).count() as f64;
        let help = "Columns and fields that are not as they were, of the last 24 hours, by how";
        page.gauges("drifted_fields", help, "kind", DriftKind::ALL.map(|kind| (kind.name(), standing(kind))));
        let counts = DriftKind::ALL.map(|kind| (kind.name(), since_start.get(&kind).copied().unwrap_or(0)));
        page.counters("drifts", "Changes of columns and fields since the start, by how", "kind", counts);
        let help = "Fields that were met and are in no column, of those remembered";
        page.gauge("fields_in_no_column", help, fields_in_no_column as f64);
        let help = "1 until enough rows were counted to tell a change";
        page.gauge("drift_learning", help, f64::from(learning));
    }
}

impl Inner {
    fn begin(&mut self, columns: &Arc<Columns>) {
        let is_known = |known: &Arc<Columns>| Arc::ptr_eq(known, columns) || known == columns;
        if self.columns.as_ref().is_some_and(is_known) {
            return;
        }
        if self.filters.replace(columns.filters).is_some_and(|filters| filters != columns.filters) {
            // Other rows are no change of the stream.
            self.window.forget();
            self.fields = Fields::default();
        }
        self.window.begin(columns);
        self.fields.begin(columns);
        self.drifted.end_new_fields(|field| columns.targets.iter().any(|(_, path)| path == field));
        self.columns = Some(columns.clone());
    }

    fn add(&mut self, taken: &Taken<'_>, now: Moment) {
        self.since.get_or_insert(now.wall);
        self.begin(taken.columns);
        let Self { window, fields, drifted, came, .. } = self;
        taken.look(
            &mut (fields, &mut *came),
            |(fields, _)| fields.looked(),
            |(fields, came), sighting| fields.see(sighting, taken.columns, now.wall, came),
        );
        for Came { kind, field, now: rate, example } in came.drain(..) {
            drifted.tell((kind, &field), (Rate::default(), rate), example, now);
        }
        if window.add(taken) {
            window.judge(|column, change, before, rate| {
                drifted.tell((kind(change), column), (before, rate), None, now);
            });
        }
        drifted.end_round(window.rows);
    }

    fn snapshot(&mut self, now: Moment) -> DriftSnapshot {
        DriftSnapshot {
            rows: self.window.rows,
            learning: self.window.is_learning(),
            fields_in_no_column: self.fields.beside(),
            fields_not_remembered: self.fields.not_remembered,
            drifted: self.drifted.standing(now.steady),
            not_told: self.drifted.not_told,
            rounds: self.drifted.rounds,
            since_start: self.drifted.since_start.clone(),
        }
    }
}

fn kind(change: Change) -> DriftKind {
    match change {
        Change::FilledLess => DriftKind::FilledLess,
        Change::Met(Limit::Cut) => DriftKind::Cut,
        Change::Met(Limit::Nulled) => DriftKind::Nulled,
        Change::Met(Limit::Rounded) => DriftKind::Rounded,
        Change::Met(Limit::At255) => DriftKind::At255Bytes,
        Change::Met(Limit::Full) => DriftKind::AtLimit,
    }
}
