//! Decides how a batch is loaded: by a plain COPY when none of its rows can be in the table, and staged otherwise: then
//! each of its hits is compared with the table. Pure: the transaction acts on the result.
//!
//! A hit can be in the table because
//! - another batch of the same log has it: the seal says what its batch was compared with, and how many rows could not be
//!   ([`Compared`]);
//! - a batch of another log, or of an earlier start of this one, has it: the ledger knows the runs whose batches have rows
//!   of the same time, and those that the seal does not name count;
//! - another tool loaded it, of which the ledger knows nothing: before the time of its mark it does not speak for the table.
//!
//! A hit that is sent again bears the same time, so only batches whose times overlap matter, and rows without a time
//! cannot be compared at all.

use std::fmt;

use chrono::{DateTime, SubsecRound, Utc};
use shared::human::time;
use shared::ids::{BatchId, RunId};
use shared::seal::{Compared, Seal};

/// What the ledger says of a range of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerRange {
    /// It speaks for all rows of the table that were received then or later; None: for none.
    pub knows_from: Option<DateTime<Utc>>,
    /// The runs of which it has batches with rows of that time.
    pub runs: Vec<RunInLedger>,
}

/// What the ledger has of a run, or of batches that name none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInLedger {
    /// The run.
    pub run: Option<RunId>,
    /// The highest number of a batch of it.
    pub number: Option<u64>,
    /// The highest number of a batch of it not all of whose rows were compared by its producer: it may have hits again
    /// that batches before it have.
    pub uncompared: Option<u64>,
    /// First and last time of its rows.
    pub first: DateTime<Utc>,
    /// See `first`.
    pub last: DateTime<Utc>,
}

/// Why a batch is loaded the staged way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageReason {
    /// Its seal does not say what its rows were compared with.
    NotCompared,
    /// So many of its rows are older than what its producer remembers, or of an impossible time.
    Uncompared(u64),
    /// It has rows from before the time since which the ledger speaks for the table; None: it does not yet.
    Before(Option<DateTime<Utc>>),
    /// The table has rows of the same time from a run that it was not compared with; None: from batches that name no run.
    Overlaps(Option<RunId>),
    /// The same of a batch that was to be loaded with it.
    Together(BatchId),
    /// The ledger has another batch under its id.
    OtherContent,
}

impl fmt::Display for StageReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCompared => f.write_str("its seal does not say what its rows were compared with"),
            Self::Uncompared(rows) => write!(f, "its producer could not compare {rows} of its rows"),
            Self::Before(None) => f.write_str("the ledger does not speak for what is in the table"),
            Self::Before(Some(from)) => {
                let from = time(*from);
                write!(f, "it has rows from before {from}, since when the ledger speaks for the table")
            }
            Self::Overlaps(Some(run)) => write!(f, "run {run} has rows of the same time"),
            Self::Overlaps(None) => f.write_str("a batch that names no run has rows of the same time"),
            Self::Together(batch) => write!(f, "{batch} has rows of the same time"),
            Self::OtherContent => f.write_str("the ledger has another batch under its id"),
        }
    }
}

/// First and last time of the rows of a batch, as the ledger has them; None if no row has one.
pub(crate) fn times(seal: &Seal) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let (first, last) = (seal.first_received, seal.last_received);
    let ledger = |at: DateTime<Utc>| at.trunc_subsecs(6);
    Some((ledger(first.or(last)?), ledger(last.or(first)?)))
}

/// Why each of these batches, oldest first, must be loaded alone and staged; None for those that one plain COPY can load.
pub fn stage_reasons(seals: &[&Seal], range: &LedgerRange) -> Vec<Option<StageReason>> {
    let mut plain: Vec<&Seal> = Vec::new();
    let mut whys = Vec::with_capacity(seals.len());
    for seal in seals {
        let together = plain.iter().find(|other| may_share_hits(seal, other));
        let why = alone(seal, range).or_else(|| together.map(|other| StageReason::Together(other.batch)));
        if why.is_none() {
            plain.push(seal);
        }
        whys.push(why);
    }
    whys
}

fn alone(seal: &Seal, range: &LedgerRange) -> Option<StageReason> {
    let times = times(seal);
    let Some(compared) = &seal.compared else { return times.map(|_| StageReason::NotCompared) };
    if compared.uncompared > 0 {
        return Some(StageReason::Uncompared(compared.uncompared));
    }
    let (first, last) = times?;
    if range.knows_from.is_none_or(|from| first < from) {
        return Some(StageReason::Before(range.knows_from));
    }
    let strange = |seen: &&RunInLedger| {
        let known = seen.run.zip(seen.number).is_some_and(|(run, number)| {
            compared.covers(run, number, true)
                && seen.uncompared.is_none_or(|number| compared.covers(run, number, false))
        });
        seen.first <= last && seen.last >= first && !known
    };
    range.runs.iter().find(strange).map(|seen| StageReason::Overlaps(seen.run))
}

/// Whether two batches can have a hit in common.
fn may_share_hits(one: &Seal, other: &Seal) -> bool {
    let (Some(a), Some(b)) = (times(one), times(other)) else { return false };
    let covers =
        |one: &Compared, other: &Compared| one.covers(other.run, other.number, other.uncompared == 0);
    let known = one.compared.as_ref().zip(other.compared.as_ref());
    let compared = known.is_some_and(|(one, other)| covers(one, other) || covers(other, one));
    a.0 <= b.1 && b.0 <= a.1 && !compared
}

#[cfg(test)]
mod tests {
    use shared::seal::KnownRun;

    use super::*;
    use crate::facts::folder::tests::seal;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(minute)
    }

    /// A batch of a run, with rows of these minutes, compared with those of other runs up to a number.
    fn batch(run: RunId, number: u64, (first, last): (i64, i64), known: &[(RunId, u64)]) -> Seal {
        let known = known.iter().map(|(run, until)| KnownRun { run: *run, until: *until }).collect();
        Seal {
            first_received: Some(at(first)),
            last_received: Some(at(last)),
            compared: Some(Compared { run, number, known, uncompared: 0 }),
            ..seal()
        }
    }

    fn range(from: i64, runs: &[(Option<RunId>, Option<u64>, i64, i64)]) -> LedgerRange {
        let seen = |(run, number, first, last): &(Option<RunId>, Option<u64>, i64, i64)| RunInLedger {
            run: *run,
            number: *number,
            uncompared: None,
            first: at(*first),
            last: at(*last),
        };
        LedgerRange { knows_from: Some(at(from)), runs: runs.iter().map(seen).collect() }
    }

    fn way(seal: &Seal, range: &LedgerRange) -> Option<StageReason> {
        stage_reasons(&[seal], range).remove(0)
    }

    #[test]
    fn an_undisturbed_producer_gets_the_plain_way_over_its_restarts() {
        let (before, now) = (RunId::new(), RunId::new());
        let batch = batch(now, 9, (60, 70), &[(before, 5)]);
        let ledger = range(60, &[(Some(now), Some(8), 50, 65), (Some(before), Some(5), 0, 60)]);
        assert_eq!(way(&batch, &ledger), None);
        // Its own batches may be loaded in any order.
        assert_eq!(way(&batch, &range(0, &[(Some(now), Some(10), 65, 80)])), None);
    }

    #[test]
    fn every_doubt_makes_it_staged() {
        let (own, old, other) = (RunId::new(), RunId::new(), RunId::new());
        let good = || batch(own, 9, (60, 70), &[(old, 5)]);
        let fine = range(0, &[]);
        let without = Seal { compared: None, ..good() };
        assert_eq!(way(&without, &fine), Some(StageReason::NotCompared));
        let compared = good().compared.map(|compared| Compared { uncompared: 3, ..compared });
        assert_eq!(way(&Seal { compared, ..good() }, &fine), Some(StageReason::Uncompared(3)));
        assert_eq!(way(&good(), &LedgerRange::default()), Some(StageReason::Before(None)));
        assert_eq!(way(&good(), &range(61, &[])), Some(StageReason::Before(Some(at(61)))));
        assert_eq!(way(&good(), &range(60, &[])), None, "the edge is known");
        for (run, number, why) in [
            (Some(other), Some(1), Some(StageReason::Overlaps(Some(other)))),
            (Some(old), Some(6), Some(StageReason::Overlaps(Some(old)))),
            (Some(old), None, Some(StageReason::Overlaps(Some(old)))),
            (None, None, Some(StageReason::Overlaps(None))),
            (Some(old), Some(5), None),
            (Some(own), Some(99), None),
        ] {
            for (first, last) in [(0, 60), (70, 99), (65, 66), (0, 99)] {
                assert_eq!(way(&good(), &range(0, &[(run, number, first, last)])), why, "{first} {last}");
            }
            for (first, last) in [(0, 59), (71, 99)] {
                assert_eq!(way(&good(), &range(0, &[(run, number, first, last)])), None, "{first} {last}");
            }
        }
    }

    #[test]
    fn a_later_batch_of_the_same_run_counts_when_its_producer_had_forgotten_hits() {
        let (own, old) = (RunId::new(), RunId::new());
        let batch = batch(own, 9, (60, 70), &[(old, 5)]);
        let seen = |run, number, uncompared| {
            let mut range = range(0, &[(Some(run), Some(number), 0, 99)]);
            range.runs.iter_mut().for_each(|seen| seen.uncompared = Some(uncompared));
            way(&batch, &range)
        };
        assert_eq!(seen(own, 12, 8), None, "its own producer knew the hits of batch 8");
        assert_eq!(seen(own, 12, 10), Some(StageReason::Overlaps(Some(own))));
        assert_eq!(seen(old, 5, 5), None);
    }

    #[test]
    fn a_batch_without_times_cannot_be_compared_and_is_plain() {
        let none = Seal { first_received: None, last_received: None, compared: None, ..seal() };
        assert_eq!(way(&none, &LedgerRange::default()), None);
        let one = Seal { first_received: None, last_received: Some(at(5)), ..none };
        assert_eq!(
            (times(&one), way(&one, &range(0, &[]))),
            (Some((at(5), at(5))), Some(StageReason::NotCompared))
        );
        // Hits whose times are from nowhere are compared all the same.
        let odd = Compared { run: RunId::new(), number: 1, known: vec![], uncompared: 2 };
        let odd = Seal { first_received: None, last_received: None, compared: Some(odd), ..one };
        assert_eq!(way(&odd, &LedgerRange::default()), Some(StageReason::Uncompared(2)));
    }

    #[test]
    fn batches_that_may_have_hits_in_common_are_not_loaded_by_one_plain_copy() {
        let (a, b) = (RunId::new(), RunId::new());
        let fine = range(0, &[]);
        let (first, second) = (batch(a, 1, (0, 10), &[]), batch(b, 1, (10, 20), &[]));
        let third = batch(a, 2, (5, 15), &[]);
        let together = |seals: &[&Seal]| stage_reasons(seals, &fine);
        assert_eq!(
            together(&[&first, &second, &third]),
            [None, Some(StageReason::Together(first.batch)), None],
            "the younger one waits, and holds back none that was compared with the others"
        );
        let later = batch(b, 2, (11, 20), &[]);
        assert_eq!(together(&[&first, &later]), [None, None]);
        let knows = batch(b, 1, (10, 20), &[(a, 1)]);
        assert_eq!(together(&[&first, &knows]), [None, None]);
        assert_eq!(together(&[&knows, &first]), [None, None]);
        let not_compared = Seal { compared: None, ..first.clone() };
        assert_eq!(together(&[&not_compared, &second]), [Some(StageReason::NotCompared), None]);
    }

    #[test]
    fn times_finer_than_those_of_the_ledger_overlap_as_they_do_there() {
        let nanos = |nanos| at(60) + chrono::TimeDelta::nanoseconds(nanos);
        let fine = Seal { first_received: Some(nanos(999)), ..batch(RunId::new(), 1, (60, 70), &[]) };
        let ledger = range(0, &[(None, None, 0, 60)]);
        assert_eq!(way(&fine, &ledger), Some(StageReason::Overlaps(None)));
    }
}
