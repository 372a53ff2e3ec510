//! What the reports of commands share.

use std::fmt::Write as _;
use std::io::Write;

use serde::Serialize;
use shared::exit::{Exit, Failure};
use shared::human::count;

/// Version of the JSON of each report; it grows when a field changes its meaning or goes.
pub(crate) const FORMAT: u32 = 1;
/// Batches of each kind that are listed; the others are counted.
pub(crate) const LISTED: usize = 1000;

/// Prints a report as JSON or as text.
pub(crate) fn print<R: Serialize>(
    report: &R,
    text: fn(&R) -> String,
    json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if json {
        let json = serde_json::to_string_pretty(report);
        writeln!(out, "{}", json.map_err(|error| Failure::new(Exit::Software, error))?)?;
    } else {
        write!(out, "{}", text(report))?;
    }
    Ok(())
}

pub(crate) fn write_counts(out: &mut String, kinds: &[(u64, &str)]) {
    for (batches, kind) in kinds {
        let _ = writeln!(out, "{:>9}  {kind}", count(*batches));
    }
}

pub(crate) fn write_cut(out: &mut String, count: u64, what: &str, listed: usize) {
    if count > listed as u64 {
        let _ = writeln!(out, "\nof {count} {what} the first {listed} are listed");
    }
}
