//! How many instructions a record costs on its way, counted by valgrind: the same on a busy machine as on a quiet one. So a
//! change that makes a step dearer fails a test, and a timed benchmark need not be believed.
//!
//! Each way is run twice, with few and with more records. The difference is what the records cost, and not the start.

mod setup;
mod ways;

use std::path::Path;
use std::process::Command;

use anyhow::Context;

pub use setup::{FIVE, inflate, log_settings, protecting, schema, schema_of_75};
pub use ways::WAYS;

/// A step of the data's way, by itself.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// As it is asked for and shown.
    pub name: &'static str,
    /// Instructions a record at most: what it took when it was last changed on purpose, and a tenth more; of the log, whose
    /// threads wake up more or less often, a quarter to a half.
    pub bound: u64,
    /// If it takes less than so many percent of the bound, this is to be lowered.
    pub least: u64,
    /// Passes so many records.
    pub run: fn(u64) -> anyhow::Result<()>,
}

/// Records of the two runs.
const FEW: u64 = 512;
const MORE: u64 = 3 * FEW;
/// How often each is run; the least counts.
const TRIES: u32 = 2;

/// Instructions a record takes this way. `program` is the one that knows the ways.
///
/// # Errors
/// When valgrind is not there, or the program fails under it.
pub fn measure(program: &Path, way: &Way) -> anyhow::Result<u64> {
    // Threads of the log wake up now and then more often, never less often than they must.
    let least = |records| {
        (0..TRIES)
            .map(|_| instructions(program, way, records))
            .try_fold(u64::MAX, |least, count| Ok::<_, anyhow::Error>(least.min(count?)))
    };
    let (few, more) = (least(FEW)?, least(MORE)?);
    Ok(more.saturating_sub(few) / (MORE - FEW))
}

fn instructions(program: &Path, way: &Way, records: u64) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--fair-sched=yes", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(program)
        .args([way.name, &records.to_string()])
        .output()
        .context("valgrind cannot be started; `.ci/prerequisites test` installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "`{}` failed under valgrind:\n{said}", way.name);
    // `==123== I refs:      1,234,567`
    let line = said.lines().find(|line| line.contains("I refs:") || line.contains("I   refs:"));
    let count = line.and_then(|line| line.rsplit_once(':')).map(|(_, count)| count.trim().replace(',', ""));
    count.and_then(|count| count.parse().ok()).with_context(|| format!("valgrind counted nothing:\n{said}"))
}
