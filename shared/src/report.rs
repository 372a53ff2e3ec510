//! The lines of a `check` command: a step a line, and at the end the code of the first that failed.

use std::io::Write;

use crate::exit::{Exit, Failure};

/// How a step ended: what there is to say, or why it failed and with which code the check ends.
pub type Outcome = Result<String, (Exit, String)>;

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
