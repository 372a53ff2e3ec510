//! Words and lines that the tables and the metrics share.

use std::fmt::Debug;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::clock;
use shared::human::{count, duration};
use shared::seal::Counts;

use crate::status::service::Part;

/// The word for a status or a class: its variant in lower case, as in JSON.
pub(super) fn word(value: impl Debug) -> String {
    format!("{value:?}").to_lowercase()
}

/// Time from `then` to `now`, in whole seconds.
pub(super) fn age(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    duration(Duration::from_secs(clock::age(then, now).as_secs()))
}

pub(super) fn outcomes(counts: &Counts) -> String {
    let Counts { received, rows, duplicates, filtered, rejected, .. } = *counts;
    let [received, rows, duplicates, filtered, rejected] =
        [received, rows, duplicates, filtered, rejected].map(count);
    format!("{received} = {rows} rows + {duplicates} duplicates + {filtered} filtered + {rejected} rejected")
}

/// The first lines of a table: its time, and where the answers of both services are from.
pub(super) fn header<P, I>(at: DateTime<Utc>, producer: &Part<P>, ingester: &Part<I>) -> String {
    let at = at.format("%Y-%m-%d %H:%M:%S UTC");
    format!("{at}\nproducer  {}\ningester  {}", producer.origin(), ingester.origin())
}
