//! What commands read from and write to a terminal: moments, answers and reports.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use shared::exit::{Exit, Failure};
use shared::human::{Span, count};
use shared::out;
use state::inspect::columns;

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
        let text = text(report);
        match out::terminal_width() {
            Some(width) => writeln!(out, "{}", columns::fit(&text, width))?,
            None => write!(out, "{text}")?,
        }
    }
    Ok(())
}

/// Shows on a terminal how far a long work has come.
pub(crate) fn bar(length: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = format!("{{elapsed_precise}} {{bar:24}} {{pos}} of {{len}} {what}");
    bar.set_style(ProgressStyle::with_template(&style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
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

/// Asks, unless `yes`. Exit 64 when the answer is no, or nobody can be asked.
pub(crate) fn confirm(yes: bool, question: &str, out: &mut impl Write) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        let error = anyhow::anyhow!("{question} Nobody can be asked here: give --yes if so");
        return Err(Failure::new(Exit::Usage, error));
    }
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Usage, anyhow::anyhow!("nothing was changed"))),
    }
}

/// The moment `text` means: a date, a time (RFC 3339), or a duration before `now`. Any other text is exit 64.
pub(crate) fn moment(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Failure> {
    if let Some(span) = Span::parse(text).and_then(|span| TimeDelta::from_std(span.0).ok()) {
        return now.checked_sub_signed(span).ok_or_else(|| refused(text));
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(NaiveTime::MIN).and_utc());
    }
    DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).map_err(|_| refused(text))
}

fn refused(text: &str) -> Failure {
    let error = anyhow::anyhow!(
        "{text:?} is no moment: give a duration before now (7d, 12h), a date (2026-03-02) or a time \
         (2026-03-02T14:00:00Z)"
    );
    Failure::new(Exit::Usage, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_duration_a_date_or_a_time() {
        let now = "2026-03-09T12:00:00Z".parse().unwrap();
        for (text, means) in [
            ("7d", "2026-03-02T12:00:00Z"),
            ("2026-03-02", "2026-03-02T00:00:00Z"),
            ("2026-03-02T14:00:00+02:00", "2026-03-02T12:00:00Z"),
        ] {
            assert_eq!(moment(text, now).unwrap(), means.parse::<DateTime<Utc>>().unwrap(), "{text}");
        }
        for wrong in ["", "yesterday", "2026-13-01", "7w"] {
            let refused = moment(wrong, now).unwrap_err();
            assert_eq!(refused.exit(), Exit::Usage);
            assert!(refused.to_string().contains("is no moment"), "{refused}");
        }
    }
}
