//! What the reports of `reconcile` and `audit` share.

use std::fmt::Write as _;
use std::io::Write;

use serde::Serialize;
use shared::exit::{Exit, Failure};
use shared::human::count;

/// Batches of each kind that are listed; the others are counted.
pub(crate) const LISTED: usize = 1000;

/// Prints a report as JSON or as a table.
pub(crate) fn print<R: Serialize>(
    report: &R,
    table: fn(&R) -> String,
    json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if json {
        let json = serde_json::to_string_pretty(report);
        writeln!(out, "{}", json.map_err(|error| Failure::new(Exit::Software, error))?)?;
    } else {
        write!(out, "{}", table(report))?;
    }
    Ok(())
}

/// Writes how many batches there are of each kind, a line each.
pub(crate) fn write_counts(out: &mut String, kinds: &[(u64, &str)]) {
    for (batches, kind) in kinds {
        let _ = writeln!(out, "{:>9}  {kind}", count(*batches));
    }
}
