//! What drifted, for a day.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use shared::clock::{Moment, Steady, left_of};
use state::status::drift::{DriftKind, Drifted};

use crate::drift::judge::Rate;

/// How long a change stands: by then what is now is what is usual.
const STANDS: Duration = Duration::from_hours(24);
/// Changes that are told at a time; more are counted.
const MOST: usize = 256;
/// Rows between two times that targets of alerts are told of more.
const ROUND_ROWS: u64 = 4_096;

#[derive(Debug, Default)]
pub(super) struct DriftedList {
    /// Until when each stands.
    standing: Vec<(Drifted, Steady)>,
    pub(super) not_told: u64,
    pub(super) since_start: BTreeMap<DriftKind, u64>,
    pub(super) rounds: u64,
    last_round: Option<u64>,
}

impl DriftedList {
    /// Goes on from what another process told.
    pub(super) fn known(drifted: Vec<Drifted>, rounds: u64, now: Moment) -> Self {
        let until = |one: &Drifted| now.steady + left_of(STANDS, one.at, now.wall);
        let standing =
            drifted.into_iter().take(MOST).map(|one| (until(&one), one)).map(|(until, one)| (one, until));
        Self { standing: standing.collect(), rounds, ..Self::default() }
    }

    pub(super) fn tell(
        &mut self,
        (kind, field): (DriftKind, &str),
        (before, now): (Rate, Rate),
        example: Option<String>,
        moment: Moment,
    ) {
        *self.since_start.entry(kind).or_default() += 1;
        self.end_old(moment.steady);
        let until = moment.steady + STANDS;
        // Rounded to what is written, so that a restart knows the same.
        let share = |rate: Rate| (rate.share() * 1e6).round() / 1e6;
        let (before, now) = (share(before), share(now));
        // What stands does not stand longer for it.
        if let Some((one, _)) =
            self.standing.iter_mut().find(|(one, _)| one.kind == kind && one.field == field)
        {
            one.now = now;
        } else if self.standing.len() < MOST {
            let (field, at, round) = (field.to_owned(), moment.wall, self.rounds + 1);
            self.standing.push((Drifted { kind, field, at, before, now, example, round }, until));
        } else {
            self.not_told += 1;
        }
    }

    /// Counts a round if something was told and the last round is long enough ago, in rows.
    pub(super) fn end_round(&mut self, rows: u64) {
        let is_due = self.last_round.is_none_or(|last| rows >= last + ROUND_ROWS);
        let is_unsaid = self.standing.iter().any(|(one, _)| one.round > self.rounds);
        if is_unsaid && is_due {
            self.last_round = Some(rows);
            self.rounds += 1;
        }
    }

    /// Ends what stands of fields that have a column now.
    pub(super) fn end_new_fields(&mut self, has_column: impl Fn(&str) -> bool) {
        self.standing.retain(|(one, _)| one.kind != DriftKind::NewField || !has_column(&one.field));
    }

    /// By kind, and of each the newest first.
    pub(super) fn standing(&mut self, now: Steady) -> Vec<Drifted> {
        self.end_old(now);
        let mut standing: Vec<_> = self.standing.iter().map(|(one, _)| one.clone()).collect();
        standing.sort_by_key(|one| (one.kind, Reverse(one.at)));
        standing
    }

    fn end_old(&mut self, now: Steady) {
        self.standing.retain(|(_, until)| *until > now);
        if self.standing.is_empty() {
            self.not_told = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::clock::Clock;

    use super::*;

    #[test]
    fn a_change_stands_for_a_day_and_a_restart_does_not_make_it_longer() {
        let clock = Clock::by_hand("2026-04-13T12:00:00Z".parse().unwrap());
        let mut list = DriftedList::default();
        let rates = (Rate::new(0, 9), Rate::new(9, 9));
        list.tell((DriftKind::Cut, "evar1"), rates, None, clock.now());
        clock.advance(Duration::from_hours(20));
        let standing = list.standing(clock.steady());
        assert_eq!((standing.len(), standing[0].now), (1, 1.0));
        let mut again = DriftedList::known(standing, 1, clock.now());
        clock.advance(Duration::from_hours(3));
        assert_eq!((list.standing(clock.steady()).len(), again.standing(clock.steady()).len()), (1, 1));
        clock.advance(Duration::from_hours(2));
        assert_eq!((list.standing(clock.steady()).len(), again.standing(clock.steady()).len()), (0, 0));
    }

    #[test]
    fn many_changes_are_told_in_rounds_and_no_more_than_there_is_room_for() {
        let clock = Clock::by_hand("2026-04-13T12:00:00Z".parse().unwrap());
        let mut list = DriftedList::default();
        let rates = (Rate::new(0, 9), Rate::new(9, 9));
        let mut rounds = Vec::new();
        for number in 0..1_000_u64 {
            list.tell((DriftKind::Cut, &format!("evar{number}")), rates, None, clock.now());
            // The same once more is no news.
            list.tell((DriftKind::Cut, "evar1"), rates, None, clock.now());
            list.end_round(1_024 * number);
            rounds.push(list.rounds);
        }
        assert_eq!(rounds[..9], [1, 1, 1, 1, 2, 2, 2, 2, 3]);
        assert_eq!((list.standing(clock.steady()).len(), list.not_told), (MOST, 1_000 - MOST as u64));
        assert_eq!(list.since_start[&DriftKind::Cut], 2_000);
    }
}
