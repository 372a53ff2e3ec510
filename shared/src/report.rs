//! The lines of a `check` command: a step a line, and at the end the code of the first that failed.

use std::io::Write;

use crate::exit::{Exit, Failure};

/// How a step ended: what there is to say, or why it failed and with which code the check ends.
pub type Outcome = Result<String, (Exit, String)>;

/// A step that may have nothing to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It was tried.
    Tried(Outcome),
    /// It was not, and why.
    Skipped(String),
}

/// The outcome of a step that failed so.
pub fn failed(failure: impl Into<Failure>) -> (Exit, String) {
    let failure = failure.into();
    (failure.exit(), failure.to_string())
}

/// Prints a line a step, and remembers the first failure.
#[derive(Debug)]
pub struct Report<'w, W> {
    out: &'w mut W,
    failed: Option<Exit>,
}

impl<'w, W: Write> Report<'w, W> {
    /// A report without a line.
    pub fn new(out: &'w mut W) -> Self {
        Self { out, failed: None }
    }

    /// Prints a step, and says whether it went well.
    pub fn line(&mut self, step: &str, outcome: Outcome) -> Result<bool, Failure> {
        match outcome {
            Ok(said) if said.is_empty() => writeln!(self.out, "✓ {step}")?,
            Ok(said) => writeln!(self.out, "✓ {step}: {said}")?,
            Err((exit, why)) => {
                writeln!(self.out, "✗ {step}: {why}")?;
                self.failed = self.failed.or(Some(exit));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Prints a step, or why it was not tried.
    pub fn step(&mut self, name: &str, step: Step) -> Result<(), Failure> {
        match step {
            Step::Tried(outcome) => self.line(name, outcome).map(drop),
            Step::Skipped(why) => self.skipped(name, &why),
        }
    }

    /// Prints a step that was not tried, and why. It is no failure of the check.
    pub fn skipped(&mut self, step: &str, why: &str) -> Result<(), Failure> {
        Ok(writeln!(self.out, "– {step}: {why}")?)
    }

    /// Ends the report, with the code of the first step that failed.
    pub fn end(self) -> Result<(), Failure> {
        match self.failed {
            None => Ok(()),
            Some(exit) => {
                Err(Failure::new(exit, anyhow::anyhow!("the check failed: see the lines marked ✗")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_was_not_tried_has_a_dash_and_fails_nothing() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        assert!(report.line("one", Ok(String::new())).unwrap());
        report.step("two", Step::Skipped("nothing to try".to_owned())).unwrap();
        report.step("three", Step::Tried(Ok("done".to_owned()))).unwrap();
        report.end().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "✓ one\n– two: nothing to try\n✓ three: done\n");
    }

    #[test]
    fn the_first_step_that_failed_decides_the_code() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        let fault = |exit| Err((exit, "why".to_owned()));
        assert!(!report.line("one", fault(Exit::Permission)).unwrap());
        assert!(!report.line("two", fault(Exit::Config)).unwrap());
        assert_eq!(report.end().unwrap_err().exit(), Exit::Permission);
    }
}
