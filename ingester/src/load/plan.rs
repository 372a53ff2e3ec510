//! Which batches are loaded next, together or alone. Pure: the loader acts on the result.

use std::collections::HashSet;

use shared::clock::Steady;
use shared::ids::BatchId;
use state::loads::{ErrorClass, Load, LoadState};

/// Attempts that failed in a row after which a batch is no longer loaded together with others.
const TRIED_TOGETHER: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Load these with one COPY; there is at least one, and the oldest comes first.
    Load(Vec<BatchId>),
    /// Nothing is due before this moment, or before discovery finds something.
    Wait(Option<Steady>),
}

/// What one COPY takes at most, and what it is worth waiting for. A single batch may be larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub batches: usize,
    pub rows: u64,
    pub bytes: u64,
    /// Rows of batches held back that are loaded at once.
    pub worth: u64,
}

/// The batches that are each loaded alone: those of a COPY that one of them made fail, while it is unknown which, and
/// those that must be loaded the staged way. After a restart they are tried together once more, and come here again.
#[derive(Debug, Default)]
pub(crate) struct Isolated(HashSet<BatchId>);

impl Isolated {
    pub(super) fn extend(&mut self, batches: impl IntoIterator<Item = BatchId>) {
        self.0.extend(batches);
    }

    pub(super) fn remove(&mut self, batch: BatchId) {
        self.0.remove(&batch);
    }

    fn goes_alone(&self, load: &Load) -> bool {
        matches!(load.last_class(), Some(ErrorClass::Data | ErrorClass::Incomplete | ErrorClass::Unknown))
            || load.search_objects
            || load.tries_in_a_row().0 >= TRIED_TOGETHER
            || self.0.contains(&load.batch)
    }
}

/// Whether its last attempt met something that time alone does not mend, so that the next most likely meets it too.
fn will_fail(load: &Load) -> bool {
    load.last_class().is_some_and(|class| class != ErrorClass::Passing)
}

/// When a load is due, if ever; it is not loaded before `until`.
fn due(load: &Load, until: Option<Steady>, now: Steady) -> Option<Steady> {
    match &load.state {
        // Its attempt was cut short, or another batch kept its COPY from being made. The ledger tells.
        LoadState::Loading => Some(now),
        LoadState::Discovered | LoadState::Retrying { .. } => Some(until.unwrap_or(now)),
        LoadState::Loaded { .. } | LoadState::Archived { .. } => None,
    }
}

/// The oldest batch that is due, and with it others that are due and written alike, as many as the bounds allow. `loads`
/// come oldest first, each with the moment before which it is not loaded. One that waits for its retry does not hold back
/// younger ones. Batches that are held back go as soon as one batch is due, which wakes Redshift anyway, or they have
/// [`Bounds::worth`] rows together. `others_first`: the step before failed because of its batch. Then batches that may succeed
/// go first, if there are any: whoever writes to the bucket decides how many fail, and how old they are, and their retries
/// may take all the time there is.
pub(crate) fn next<'l>(
    loads: impl IntoIterator<Item = (&'l Load, Option<Steady>)>,
    now: Steady,
    bounds: &Bounds,
    isolated: &Isolated,
    others_first: bool,
) -> Next {
    let mut earliest: Option<Steady> = None;
    let mut ready: Vec<&Load> = Vec::new();
    let (mut any_due, mut rows) = (false, 0_u64);
    for (load, until) in loads {
        let Some(at) = due(load, until, now) else { continue };
        if at > now {
            earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
            if load.state != LoadState::Discovered {
                continue;
            }
        }
        any_due |= at <= now;
        rows = rows.saturating_add(load.rows);
        ready.push(load);
    }
    if any_due || rows >= bounds.worth {
        if others_first && ready.iter().any(|load| !will_fail(load)) {
            ready.retain(|load| !will_fail(load));
        }
        Next::Load(together(&ready, bounds, isolated))
    } else {
        Next::Wait(earliest)
    }
}

/// Those of `ready` that one COPY loads, the oldest first; at least one.
fn together(ready: &[&Load], bounds: &Bounds, isolated: &Isolated) -> Vec<BatchId> {
    let mut chosen: Vec<&Load> = Vec::new();
    let (mut rows, mut bytes) = (0_u64, 0_u64);
    for load in ready {
        if let Some(first) = chosen.first() {
            if load.form != first.form || isolated.goes_alone(load) {
                continue;
            }
            // Do not prefer a smaller one: this one would wait for ever.
            if rows.saturating_add(load.rows) > bounds.rows || bytes.saturating_add(load.bytes) > bounds.bytes
            {
                break;
            }
        }
        (rows, bytes) = (rows.saturating_add(load.rows), bytes.saturating_add(load.bytes));
        chosen.push(load);
        if load.form.is_none() || isolated.goes_alone(load) || chosen.len() >= bounds.batches {
            break;
        }
    }
    chosen.into_iter().map(|load| load.batch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta, Utc};
    use shared::clock::Moment;
    use shared::ids::Instance;
    use shared::layout::Compression;
    use state::loads::{Failed, Form};

    /// The plan is pure: any moment will do.
    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;
    const BOUNDS: Bounds = Bounds { batches: 3, rows: 100, bytes: 1000, worth: 50 };

    fn load(state: LoadState) -> Load {
        let instance = Instance::try_from("a".to_owned()).unwrap();
        let form = Form::new(Compression::Zstd, "0123456789abcdef");
        Load { state, form, ..Load::new(BatchId::new(), instance, 1, 10, 100, NOW) }
    }

    fn found() -> Load {
        load(LoadState::Discovered)
    }

    fn retrying(next: DateTime<Utc>) -> LoadState {
        LoadState::Retrying { next, class: ErrorClass::Passing, why: "1023".to_owned() }
    }

    fn failed(class: ErrorClass, times: usize) -> Load {
        let at = NOW;
        let failed = Failed { attempt: Some(1), started: None, failed: at, class, why: "w".to_owned() };
        Load { failures: vec![failed; times], ..load(LoadState::Discovered) }
    }

    fn steady(at: DateTime<Utc>) -> Steady {
        Moment::from(at).steady
    }

    fn plan(loads: &[Load], now: DateTime<Utc>, isolated: &Isolated) -> Next {
        let waits = |load: &Load| match load.state {
            LoadState::Retrying { next, .. } => Some(steady(next)),
            _ => None,
        };
        next(loads.iter().map(|load| (load, waits(load))), steady(now), &BOUNDS, isolated, false)
    }

    fn planned(loads: &[Load]) -> Next {
        plan(loads, NOW, &Isolated::default())
    }

    fn these(loads: &[Load], which: &[usize]) -> Next {
        Next::Load(which.iter().map(|n| loads[*n].batch).collect())
    }

    #[test]
    fn whatever_is_due_goes_together_the_oldest_first() {
        let now = NOW;
        let second = TimeDelta::seconds(1);
        let loads = [
            load(LoadState::Loaded { at: now }),
            load(retrying(now + second)),
            load(retrying(now - second)),
            found(),
        ];
        assert_eq!(plan(&loads, now, &Isolated::default()), these(&loads, &[2, 3]));
    }

    #[test]
    fn a_single_small_batch_is_not_held_back() {
        let loads = [found()];
        assert_eq!(planned(&loads), these(&loads, &[0]));
    }

    #[test]
    fn batches_that_are_held_back_go_when_the_first_is_old_enough_or_they_have_the_rows() {
        let (now, soon) = (steady(NOW), steady(NOW + TimeDelta::seconds(1)));
        let held = |loads: &[Load], also_due: Option<usize>| {
            let until = |n: usize| if also_due == Some(n) { now } else { soon };
            let loads = loads.iter().enumerate().map(|(n, load)| (load, Some(until(n))));
            next(loads, now, &BOUNDS, &Isolated::default(), false)
        };
        let of = |rows| Load { rows, ..found() };
        let few = [of(20), of(29)];
        assert_eq!(held(&few, None), Next::Wait(Some(soon)));
        assert_eq!(held(&few, Some(0)), these(&few, &[0, 1]), "the others go along");
        let enough = [of(20), of(30)];
        assert_eq!(held(&enough, None), these(&enough, &[0, 1]));
        let retried = [of(20), load(retrying(NOW))];
        assert_eq!(held(&retried, Some(1)), these(&retried, &[0, 1]), "Redshift is awake then anyway");
        let in_vain = [of(20), Load { rows: 40, ..load(retrying(NOW)) }];
        assert_eq!(held(&in_vain, None), Next::Wait(Some(soon)), "a retry that is not due counts no rows");
    }

    #[test]
    fn an_attempt_that_was_cut_short_is_tried_again() {
        let loads = [load(LoadState::Loading)];
        assert_eq!(planned(&loads), these(&loads, &[0]));
    }

    #[test]
    fn with_nothing_due_the_earliest_retry_is_waited_for() {
        let now = NOW;
        let (soon, late) = (now + TimeDelta::seconds(1), now + TimeDelta::seconds(9));
        let loads = [load(retrying(late)), load(retrying(soon)), load(LoadState::Archived { at: now })];
        assert_eq!(planned(&loads), Next::Wait(Some(steady(soon))));
        assert_eq!(planned(&[]), Next::Wait(None));
    }

    #[test]
    fn one_copy_takes_no_more_than_its_bounds_and_a_larger_batch_goes_alone() {
        let many = [found(), found(), found(), found()];
        assert_eq!(planned(&many), these(&many, &[0, 1, 2]));
        let of = |rows, bytes| Load { rows, bytes, ..found() };
        let rows = [of(60, 1), of(50, 1), of(1, 1)];
        assert_eq!(planned(&rows), these(&rows, &[0]));
        let bytes = [of(1, 600), of(1, 400), of(1, 1)];
        assert_eq!(planned(&bytes), these(&bytes, &[0, 1]));
        let large = [of(101, 1001), of(1, 1)];
        assert_eq!(planned(&large), these(&large, &[0]));
    }

    #[test]
    fn however_many_batches_fail_on_one_that_may_succeed_goes_after_each() {
        let own = |n| failed(if n % 2 == 0 { ErrorClass::Incomplete } else { ErrorClass::Configuration }, 9);
        let mut loads: Vec<Load> = (0..1000).map(own).collect();
        loads.extend([found(), failed(ErrorClass::Passing, 1)]);
        let next = |others_first| {
            let loads = loads.iter().map(|load| (load, None));
            next(loads, steady(NOW), &BOUNDS, &Isolated::default(), others_first)
        };
        assert_eq!(next(false), these(&loads, &[0]));
        assert_eq!(next(true), these(&loads, &[1000, 1001]));
        loads.truncate(1000);
        let loads_left = loads.iter().map(|load| (load, None));
        assert_eq!(
            super::next(loads_left, steady(NOW), &BOUNDS, &Isolated::default(), true),
            these(&loads, &[0])
        );
    }

    #[test]
    fn only_what_is_written_alike_goes_together() {
        let form = |compression, schema| Load { form: Form::new(compression, schema), ..found() };
        let loads = [
            found(),
            form(Compression::Gzip, "0123456789abcdef"),
            form(Compression::Zstd, "ffffffffffffffff"),
            found(),
        ];
        assert_eq!(planned(&loads), these(&loads, &[0, 3]));
        let unread = [Load { form: None, ..found() }, Load { form: None, ..found() }];
        assert_eq!(planned(&unread), these(&unread, &[0]));
    }

    #[test]
    fn what_was_isolated_or_has_a_failure_of_its_own_goes_alone() {
        let loads = [found(), found(), found()];
        let mut isolated = Isolated::default();
        isolated.extend([loads[0].batch, loads[1].batch]);
        let plan = |isolated: &Isolated, loads: &[Load]| plan(loads, NOW, isolated);
        assert_eq!(plan(&isolated, &loads), these(&loads, &[0]));
        assert_eq!(plan(&isolated, &loads[1..]), these(&loads, &[1]));
        isolated.remove(loads[0].batch);
        assert_eq!(plan(&isolated, &loads), these(&loads, &[0, 2]));
        for class in [ErrorClass::Data, ErrorClass::Incomplete, ErrorClass::Unknown] {
            let loads = [failed(class, 1), found()];
            assert_eq!(planned(&loads), these(&loads, &[0]));
        }
        let passing = [failed(ErrorClass::Passing, 2), found()];
        assert_eq!(planned(&passing), these(&passing, &[0, 1]));
        let often = [failed(ErrorClass::Passing, 3), found()];
        assert_eq!(planned(&often), these(&often, &[0]), "a COPY may be too large for its time limit");
    }
}
