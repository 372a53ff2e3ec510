//! One comparison, a day at a time: gathers the facts of its batches, judges them, and has them mended or reported.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use shared::config::Config;
use shared::human::counted;

use crate::commands::reconcile::mend::Mender;
use crate::commands::reconcile::report::{Report, Sides};
use crate::facts::gather::{Databases, Seals, Sources};
use crate::facts::judge::{Agreed, Mend, Rules, Verdict, judge, young};
use crate::failure::StepError;
use crate::redshift::sql::Table;

pub(super) fn start_of_day(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment.date_naive().and_time(NaiveTime::MIN).and_utc()
}

pub(super) fn sides(config: &Config, known: &Databases, log: &str) -> Sides {
    let s3 = &config.s3;
    let log = match &known.log {
        Some(known) => {
            let batches = counted(known.len() as u64, "batch", "batches");
            format!("{}, {batches}; {log}", config.instance.name)
        }
        None => format!("not asked, so lost batches are not noticed: {log}"),
    };
    Sides {
        log,
        log_asked: known.log.is_some(),
        s3: format!("s3://{}, {}, {} and {}", s3.bucket, s3.to_ingest, s3.ingested, s3.quarantine),
        ledger: format!("{} at {}", Table(config.redshift.ledger.clone()), config.redshift.host),
    }
}

pub(super) type ReadAgain<'k> = &'k (dyn Fn() -> BoxFuture<'k, Databases> + Sync);

/// Compares and mends. A batch that moves while it is read can look damaged: such a day is read once more, after the
/// databases, and only what looks damaged both times is reported.
pub(super) async fn reconcile(
    sources: &Sources<'_>,
    seals: Seals<'_>,
    known: &Databases,
    read_again: ReadAgain<'_>,
    mender: &Mender,
    report: &mut Report,
) -> Result<(), StepError> {
    let rules = Rules {
        archive: sources.config.ingester.archive,
        fingerprint: sources.target.fingerprint.clone(),
        now: report.at,
        young: young(sources.config),
    };
    // The latest first: whoever writes to the bucket may make batches of as many earlier days as he likes.
    for day in sources.days(known, report.since).await?.into_iter().rev() {
        let from = day.and_time(NaiveTime::MIN).and_utc();
        let part = (from, from + TimeDelta::days(1));
        let mut batches = sources.batches(part, known, seals).await?;
        let (mut doubtful, mut decided) = (false, BTreeSet::new());
        for (batch, facts) in &batches {
            doubtful |= match judge(facts, &rules) {
                Verdict::Agrees(_) => false,
                Verdict::Mend(Mend::Load | Mend::Archive(_)) => mender.archived_here(*batch)? == Some(true),
                Verdict::Mend(_) => true,
                Verdict::Decide(_) => decided.insert(*batch),
            };
        }
        if doubtful {
            batches = sources.batches(part, &read_again().await, seals).await?;
        }
        mender.note_quarantined(batches.values().filter_map(|facts| facts.ledger.as_ref())).await?;
        for (batch, facts) in batches {
            report.compared += 1;
            match both_times(judge(&facts, &rules), decided.contains(&batch)) {
                Verdict::Agrees(agreed) => report.agrees(agreed),
                Verdict::Decide(matter) => report.decide(batch, matter, None),
                // It may have begun since the load store was read.
                Verdict::Mend(Mend::Load | Mend::Archive(_))
                    if mender.archived_here(batch)? == Some(false) =>
                {
                    report.agrees(Agreed::UnderWay);
                }
                Verdict::Mend(mend) => mender.mend(sources, batch, mend, report).await?,
            }
        }
    }
    Ok(())
}

/// A batch that looks damaged only in the second reading may have moved: it is left to the next comparison.
fn both_times(again: Verdict, decided: bool) -> Verdict {
    match again {
        Verdict::Decide(_) if !decided => Verdict::Agrees(Agreed::UnderWay),
        verdict => verdict,
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::BatchId;

    use super::*;
    use crate::facts::judge::Matter;

    #[test]
    fn a_person_is_told_only_of_what_looked_damaged_by_both_readings() {
        let damaged = Verdict::Decide(Matter::ArchivedNotLoaded);
        assert_eq!(both_times(damaged.clone(), true), damaged);
        assert_eq!(both_times(damaged, false), Verdict::Agrees(Agreed::UnderWay));
        for decided in [false, true] {
            let archive = Verdict::Mend(Mend::Archive(BatchId::new()));
            assert_eq!(both_times(archive.clone(), decided), archive);
        }
    }
}
