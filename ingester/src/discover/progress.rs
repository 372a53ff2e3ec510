//! From where S3 is listed. Pure: [`super::lister`] lists.
//!
//! Ids of batches sort by the time they were opened, so a listing need not begin where everything is long settled.
//! It begins before the youngest age a batch may have when it is published (`reach`): what is younger may still
//! come. What is published later than that, by a producer that was away for long, is found because the feed points at
//! it, or by a listing of everything: one is made at the first start, every `ingester.list_all_interval`, and, since
//! that is no more than one request, every time if all fits one page.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::config::Config;
use shared::ids::BatchId;
use shared::layout;
use state::loads::Listed;

/// What a batch may take from being sealed to being published, and clocks may differ by.
const PUBLISHING: Duration = Duration::from_secs(600);
/// A folder that has been without seal for this long is not listed again and again for it.
const ABANDONED: TimeDelta = TimeDelta::hours(24);

#[derive(Debug)]
pub(super) struct Progress {
    prefix: String,
    every: Duration,
    /// How old a batch may be when it is published, as far as listings care.
    reach: TimeDelta,
    latest: Option<Listed>,
    durable: Option<Listed>,
    /// From where the next listing of this process begins: folders that hold `latest` back are read by name.
    recent: Option<DateTime<Utc>>,
}

impl Progress {
    pub(super) fn new(config: &Config, durable: Option<Listed>) -> Self {
        Self {
            prefix: config.s3.to_ingest.clone(),
            every: config.ingester.list_all_interval.0,
            reach: TimeDelta::from_std(config.batch.max_batch_age.0 + PUBLISHING).unwrap_or(ABANDONED),
            latest: durable.clone(),
            durable,
            recent: None,
        }
    }

    /// After which key to list; None for everything.
    pub(super) fn after(&self, now: DateTime<Utc>) -> Option<String> {
        let listed = self.latest.as_ref().filter(|listed| listed.pages > 1)?;
        // A clock that was set back makes the time negative: then everything is listed too.
        let recent = (now - listed.whole).to_std().is_ok_and(|since| since < self.every);
        let from = self.recent.unwrap_or(listed.from);
        recent.then(|| layout::folder(&self.prefix, BatchId::floor(from)))
    }

    /// `whole`: the requests of a complete listing, if it was of everything. `open`: its batches without outcome yet.
    pub(super) fn note(&mut self, whole: Option<u64>, open: Vec<BatchId>, now: DateTime<Utc>) {
        let reached = now - self.reach;
        self.recent = Some(reached);
        let unsettled = open.into_iter().map(|batch| batch.opened_at()).filter(|at| now - at < ABANDONED);
        let from = unsettled.min().map_or(reached, |at| at.min(reached));
        self.latest = match (whole, self.latest.take()) {
            (Some(pages), _) => Some(Listed { whole: now, pages, from }),
            (None, before) => before.map(|before| Listed { from, ..before }),
        };
    }

    /// What is worth to be kept durably, and is not yet. A listing of one page is repeated instead.
    pub(super) fn to_keep(&self) -> Option<&Listed> {
        self.latest.as_ref().filter(|latest| latest.pages > 1 && self.durable.as_ref() != Some(latest))
    }

    pub(super) fn kept(&mut self) {
        self.durable.clone_from(&self.latest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + 60 * minutes, 0).unwrap()
    }

    fn long(pages: u64) -> Listed {
        Listed { whole: at(0), pages, from: at(-15) }
    }

    fn progress(latest: Option<Listed>) -> Progress {
        let (every, reach) = (HOUR, TimeDelta::minutes(15));
        Progress { prefix: "ToIngest/".to_owned(), every, reach, latest, durable: None, recent: None }
    }

    #[test]
    fn everything_is_listed_at_first_when_it_is_due_and_when_it_is_one_page() {
        let after = |listed: Option<Listed>, minutes| progress(listed).after(at(minutes));
        assert_eq!(after(None, 0), None);
        assert_eq!(after(Some(long(1)), 1), None);
        assert_eq!(after(Some(long(9)), 60), None);
        assert_eq!(after(Some(long(9)), -1), None, "the clock was set back");
        let from = after(Some(long(9)), 59).unwrap();
        assert!(from < layout::folder("ToIngest/", BatchId::floor(at(-14))), "{from}");
        assert!(from > layout::folder("ToIngest/", BatchId::floor(at(-16))), "{from}");
    }

    #[test]
    fn the_next_listing_begins_before_all_that_may_still_come() {
        let open = |minutes| BatchId::floor(at(minutes));
        let noted = |before, whole, open: &[BatchId], minutes| {
            let mut progress = progress(before);
            progress.note(whole, open.to_vec(), at(minutes));
            progress.latest
        };
        let long = || Some(long(9));
        assert_eq!(noted(long(), Some(7), &[], 100), Some(Listed { whole: at(100), pages: 7, from: at(85) }));
        let expected = long().map(|long| Listed { from: at(30), ..long });
        assert_eq!(noted(long(), None, &[open(90), open(30)], 100), expected);
        let abandoned = open(100 - 24 * 60 - 1);
        assert_eq!(noted(long(), None, &[abandoned], 100).unwrap().from, at(85));
        assert_eq!(noted(None, None, &[], 0), None);
    }
}
