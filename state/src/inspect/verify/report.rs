//! What `state verify` found, for people: a line a table, and below it whatever is wrong.

use std::io::Write;

use shared::exit::{Exit, Failure};
use shared::human::{bytes, count};
use shared::report::{Outcome, Report};

use crate::inspect::columns;
use crate::inspect::verify::Verification;
use crate::status::service::Part;
use crate::verdict::Checked;

impl Verification {
    /// Prints it, at most 100 columns wide.
    ///
    /// # Errors
    /// With 65 when something is wrong.
    pub fn print(&self, out: &mut impl Write) -> Result<(), Failure> {
        let mut report = Report::new(out);
        for (service, part) in [("producer", &self.producer), ("ingester", &self.ingester)] {
            print_part(&mut report, service, part)?;
        }
        report.end()
    }
}

fn print_part<W: Write>(
    report: &mut Report<'_, W>,
    service: &str,
    part: &Part<Vec<Checked>>,
) -> Result<(), Failure> {
    report.line(service, Ok(columns::wrap(&part.origin(), 4).trim_start().to_owned()))?;
    for checked in part.snapshot.iter().flatten() {
        report.line(&format!("{service}, {}", checked.table), outcome(checked))?;
    }
    Ok(())
}

fn outcome(checked: &Checked) -> Outcome {
    let count = |(what, number): (&String, &u64)| match &what[..] {
        "bytes" => bytes(*number),
        _ => format!("{} {what}", count(*number)),
    };
    let counts = checked.counts.iter().map(count).collect::<Vec<_>>().join(", ");
    if checked.faults.is_empty() {
        return Ok(if counts.is_empty() { "empty".to_owned() } else { counts });
    }
    let faults = checked.faults.iter().map(|fault| columns::wrap(&fault.to_string(), 4));
    let number = match checked.faults.len() {
        1 => "1 fault".to_owned(),
        many => format!("{many} faults"),
    };
    let comma = if counts.is_empty() { "" } else { ", " };
    let lines: Vec<_> = [format!("{counts}{comma}{number}")].into_iter().chain(faults).collect();
    Err((Exit::Data, lines.join("\n")))
}
