//! How both dumps word what becomes of a load.

use chrono::{DateTime, Utc};
use shared::human::{ago, counted};

use crate::loads::{Load, Refused};
use crate::status::activity::Step;

/// The attempt under way: its number, since when, and at which step if that is known.
pub(super) fn loading(load: &Load, step: Option<&Step>, now: DateTime<Utc>) -> String {
    let since = load.started.map(|started| format!(" for {}", ago(started, now))).unwrap_or_default();
    let at = match step {
        Some(Step { what, waits_for: Some(_), .. }) => format!(", at {what}"),
        Some(Step { what, .. }) => format!(", {what}"),
        None => String::new(),
    };
    format!("loading #{}{since}{at}", load.attempts)
}

/// How often a load failed, and when it is tried again.
pub(super) fn failures(load: &Load, next: DateTime<Utc>, now: DateTime<Utc>) -> String {
    format!("{}, next in {}", counted(load.failed.into(), "failure", "failures"), ago(now, next))
}

/// What Redshift said of a row that it refused.
pub(crate) fn refused(refused: &Refused) -> String {
    let Refused { column, reason } = refused;
    column.as_ref().map_or_else(|| reason.clone(), |column| format!("column {column}: {reason}"))
}
