//! What must be true of an ingester at every moment, judged by what it sends and shows.

use std::collections::BTreeMap;
use std::time::Duration;

use ::ingester::Progress;
use chrono::{DateTime, Timelike, Utc};
use shared::clock::{Clock, Moment, Steady, age, left_of};
use shared::config::Severity;
use shared::ids::BatchId;
use shared::retry::NEIGHBOUR_MAX;
use state::alerts::{Due, Event};
use state::loads::{Load, LoadState, Pause};
use state::status::alert::Alert;

use crate::outside::{Outside, World};
use crate::setup::{HOUR, LIST_INTERVAL, RETRY_MAX, WINDOW};

/// What the alerts ask of an outage before they tell of it.
const TOLD_AFTER: Duration = Duration::from_secs(30);

/// When nothing may be loaded, by the operator's words alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct PauseRule {
    by_hand: Option<(Pause, Option<Steady>)>,
}

impl PauseRule {
    pub(crate) fn set(&mut self, pause: Option<Pause>, now: Moment) {
        self.by_hand = pause.map(|pause| {
            let over = pause.until.map(|until| now.steady + age(pause.since, until));
            (pause, over)
        });
    }

    /// A wait across a restart takes no longer than its whole length.
    pub(crate) fn restarted(&mut self, now: Moment) {
        if let Some((pause, over)) = &mut self.by_hand {
            let whole = pause.until.map(|until| age(pause.since, until));
            *over = whole.map(|whole| now.steady + left_of(whole, pause.since, now.wall));
        }
    }

    pub(crate) fn is_by_hand(&self, now: Moment) -> bool {
        self.by_hand.as_ref().is_some_and(|(pause, over)| {
            pause.until.is_none_or(|until| now.wall < until) && over.is_none_or(|over| now.steady < over)
        })
    }

    pub(crate) fn holds(&self, now: Moment) -> bool {
        WINDOW.contains(&now.wall.hour()) || self.is_by_hand(now)
    }
}

/// What is known before a step of the loader.
pub(crate) struct Stood {
    reached: u64,
    refused: u64,
    paused: bool,
    away: bool,
}

/// The circuit breaker, the pauses and the alerts of one run of the loader.
#[derive(Debug, Default)]
pub(crate) struct LoaderRules {
    /// Until when the loader said that it tries nothing.
    held: Option<Steady>,
    /// A step has just found Redshift away: the next one must hold.
    must_hold: bool,
    /// Since when each step found Redshift away.
    away: Option<Steady>,
}

impl LoaderRules {
    pub(crate) fn before(world: &World, pause: &PauseRule, clock: &Clock) -> Stood {
        let outside = world.get();
        Stood {
            reached: outside.warehouse.reached,
            refused: outside.warehouse.refused,
            paused: pause.holds(clock.now()),
            away: outside.redshift_away,
        }
    }

    pub(crate) fn after(&mut self, world: &World, stood: Stood, progress: Progress, clock: &Clock) {
        let (mut outside, now) = (world.get(), clock.steady());
        let tried = outside.warehouse.reached > stood.reached;
        if stood.paused {
            outside.met("a step of the loader in a pause");
            if tried {
                outside.breaks("the loader reached Redshift in a pause");
            }
            (self.held, self.must_hold, self.away) = (None, false, None);
            return;
        }
        if tried && self.held.is_some_and(|until| now < until) {
            outside.breaks("the loader reached Redshift while the circuit breaker was open");
        }
        if self.must_hold && !matches!(progress, Progress::Hold(_)) {
            outside.breaks("the circuit breaker did not open although Redshift was away");
        }
        let was_refused = std::mem::replace(
            &mut self.must_hold,
            outside.warehouse.refused > stood.refused && progress == Progress::Worked,
        );
        match (tried, stood.away) {
            (true, true) => _ = self.away.get_or_insert(now),
            (true, false) => self.away = None,
            (false, _) => {}
        }
        self.held = None;
        if let Progress::Hold(until) = progress {
            outside.met("the circuit breaker holds loading");
            self.held = until;
            let longest = if was_refused { NEIGHBOUR_MAX } else { RETRY_MAX };
            match until.map(|until| now.until(until)) {
                None => outside.breaks("the loader holds for ever, and nobody paused it"),
                Some(wait) if wait > longest => {
                    outside.breaks(format!("the circuit breaker is open for {wait:?}"));
                }
                Some(_) => {}
            }
        }
    }

    /// An outage that each try has met for half a minute is told.
    pub(crate) fn judge_alerts(
        &mut self,
        standing: &[Alert],
        pause: &PauseRule,
        now: Moment,
        outside: &mut Outside,
    ) {
        if pause.holds(now) || !outside.redshift_away {
            self.away = None;
        }
        let due = self.away.is_some_and(|since| since.until(now.steady) > TOLD_AFTER);
        if due && standing.iter().all(|alert| alert.name != "load_failing") {
            outside.breaks("Redshift is away for more than half a minute, and no alert stands");
        }
        if due {
            outside.met("an alert tells of an outage of Redshift");
        }
    }
}

/// When one process lists the bucket: the batches, and what loads have left.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    listed: Option<Steady>,
    tidied: Option<Steady>,
}

impl Schedules {
    pub(crate) fn look(&mut self, now: Steady, outside: &mut Outside) {
        let well = outside.well;
        let settled = |at: Steady| well.is_some_and(|since| since.until(at) > RETRY_MAX);
        for (at, prefix) in std::mem::take(&mut outside.listings) {
            match prefix.as_str() {
                "ToIngest/" => {
                    let soon = |last: Steady| settled(last) && last.until(at) < LIST_INTERVAL;
                    if self.listed.replace(at).is_some_and(soon) {
                        outside.breaks("S3 is listed twice within its interval");
                    }
                }
                "Loads/" => {
                    outside.met("left manifests are looked for");
                    if self.tidied.replace(at).is_some_and(|last| last.until(at) < 24 * HOUR) {
                        outside.breaks("left manifests are looked for twice within a day");
                    }
                }
                _ => {}
            }
        }
        // Now and then the other listing comes in its place.
        if self.listed.is_some_and(|last| settled(last) && last.until(now) > 3 * LIST_INTERVAL) {
            outside.breaks("S3 is not listed any more");
        }
    }
}

/// How far each load has come.
#[derive(Debug, Default)]
pub(crate) struct LoadStates(BTreeMap<BatchId, (u8, Option<DateTime<Utc>>)>);

fn progress(state: &LoadState) -> u8 {
    match state {
        LoadState::Discovered | LoadState::Loading | LoadState::Retrying { .. } => 0,
        LoadState::Loaded { .. } => 1,
        LoadState::Archived { .. } => 2,
    }
}

impl LoadStates {
    pub(crate) fn look(&mut self, loads: &[Load], outside: &mut Outside) {
        for load in loads {
            let reached = progress(&load.state);
            let (before, found_again) =
                self.0.insert(load.batch, (reached, load.found_again)).unwrap_or_default();
            if found_again != load.found_again {
                outside.met("a batch is found again after it was archived");
            } else if reached < before {
                outside.breaks(format!("load {} went back to {}", load.batch, load.state.name()));
            }
            if load.is_loaded() && !outside.warehouse.ledger.contains_key(&load.ledger_id().to_string()) {
                outside.breaks(format!("load {} counts as loaded, and the ledger lacks it", load.batch));
            }
            if load.tries_in_a_row().0 >= 3 {
                outside.met("a batch failed three times in a row");
            }
        }
        for batch in self.0.keys().filter(|batch| loads.iter().all(|load| load.batch != **batch)) {
            outside.wrong.push(format!("load {batch} is forgotten"));
        }
    }
}

/// What the target of alerts was told.
#[derive(Debug, Default)]
pub(crate) struct Messages(BTreeMap<String, (Severity, u64)>);

impl Messages {
    pub(crate) fn taken(&mut self, due: &Due, outside: &mut Outside) {
        let alert = &due.alert;
        let name = &alert.name;
        outside.note(format_args!("told {:?} {name}", due.event));
        let now = (alert.severity, alert.rounds);
        let legal = match (due.event, self.0.get(name)) {
            (Event::Begun, None) => true,
            (Event::Begun, Some((severity, rounds))) => *severity < alert.severity || *rounds < alert.rounds,
            (Event::Stands | Event::Resolved, told) => told.is_some(),
            (Event::Test, _) => false,
        };
        if !legal {
            outside.breaks(format!("the target was told {:?} of {name} out of turn", due.event));
        }
        outside.met(match due.event {
            Event::Begun => "an alert is told",
            Event::Stands => "an alert is told again",
            _ => "the end of an alert is told",
        });
        if due.event == Event::Resolved {
            self.0.remove(name);
        } else {
            self.0.insert(name.clone(), now);
        }
    }

    pub(crate) fn open(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}
