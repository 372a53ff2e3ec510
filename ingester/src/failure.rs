//! Why a batch was not loaded, in the words that decide what happens next. Comes from S3 ([`ObjectStoreError`]), Redshift
//! ([`crate::redshift::errors`]) or the batch itself.

use std::fmt;

use shared::exit::Failure;
use shared::human;
use shared::ids::BatchId;
use shared::object_store::{ObjectStoreError, ObjectStoreErrorKind};
use state::loads::ErrorClass;

/// Characters of a reason to keep: the load store has small values only.
const REASON_CHARS: usize = 800;

/// Whose failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This batch's: the others go on.
    Batch,
    /// Every batch's: all loading waits.
    Whole,
}

/// How soon to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// After `ingester.retry_first`, doubled with each failure.
    Usual,
    /// After `ingester.retry_max` at once: it does not pass within seconds.
    Slow,
}

/// Why a batch, or a COPY of several, was not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadFailure {
    pub class: ErrorClass,
    pub scope: Scope,
    pub why: String,
    /// What an operator can do about it; empty when it passes by itself.
    pub advice: &'static str,
    pub pace: Pace,
    /// Whether Redshift met it at S3: then the objects are verified before any batch is blamed.
    pub at_s3: bool,
    /// Of a COPY of several batches, those known to be at fault, each with its fault.
    pub blamed: Vec<(BatchId, String)>,
}

impl LoadFailure {
    /// The failure of one batch, without advice.
    pub fn of_batch(class: ErrorClass, why: impl fmt::Display) -> Self {
        Self { scope: Scope::Batch, ..Self::of_all(class, why, "") }
    }

    /// A failure that every batch would meet.
    pub fn of_all(class: ErrorClass, why: impl fmt::Display, advice: &'static str) -> Self {
        let pace = match class {
            ErrorClass::Configuration | ErrorClass::Data => Pace::Slow,
            ErrorClass::Passing | ErrorClass::Incomplete | ErrorClass::Unknown => Pace::Usual,
        };
        let why = human::line(&why.to_string(), REASON_CHARS);
        Self { class, scope: Scope::Whole, why, advice, pace, at_s3: false, blamed: Vec::new() }
    }

    /// The same failure, with what it was met at before it.
    pub(crate) fn within(self, what: impl fmt::Display) -> Self {
        let why = format!("{what}: {}", self.why);
        Self { why: human::line(&why, REASON_CHARS), ..self }
    }
}

impl fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, ": {}", self.advice) }
    }
}

pub(crate) const IN_ARCHIVE_ADVICE: &str =
    "it lies in an archive class: restore it, and keep lifecycle rules off this prefix";
pub(crate) const TOO_LARGE_ADVICE: &str =
    "somebody else has written it: look at it, and restore an older version or delete it";

impl From<ObjectStoreError> for LoadFailure {
    fn from(error: ObjectStoreError) -> Self {
        let (kind, too_large) = (error.kind(), error.is_too_large());
        let incomplete = |error, advice| Self { advice, ..Self::of_batch(ErrorClass::Incomplete, error) };
        match kind {
            _ if too_large => incomplete(error, TOO_LARGE_ADVICE),
            ObjectStoreErrorKind::NotFound => incomplete(error, ""),
            ObjectStoreErrorKind::InArchive => incomplete(error, IN_ARCHIVE_ADVICE),
            // S3 may refuse one object for a moment only: retry as soon as after other failures.
            ObjectStoreErrorKind::Configuration => {
                let advice = error.advice();
                Self { pace: Pace::Usual, ..Self::of_all(ErrorClass::Configuration, error, advice) }
            }
            ObjectStoreErrorKind::Passing => {
                let advice = error.advice();
                Self::of_all(ErrorClass::Passing, error, advice)
            }
        }
    }
}

/// Why a step of a task ended early.
#[derive(Debug)]
pub(crate) enum StepError {
    /// The load store failed: the service ends.
    Fatal(Failure),
    /// S3 or Redshift failed: the step is retried.
    Load(LoadFailure),
}

impl From<Failure> for StepError {
    fn from(failure: Failure) -> Self {
        Self::Fatal(failure)
    }
}

impl From<LoadFailure> for StepError {
    fn from(failure: LoadFailure) -> Self {
        Self::Load(failure)
    }
}

impl From<ObjectStoreError> for StepError {
    fn from(error: ObjectStoreError) -> Self {
        Self::Load(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_the_load_store_however_long_the_answer_was() {
        let failure = LoadFailure::of_batch(ErrorClass::Data, "é".repeat(10_000));
        assert_eq!(failure.why.chars().count(), REASON_CHARS + 1);
        assert!(failure.why.ends_with('…'));
        let odd = LoadFailure::of_batch(ErrorClass::Data, "a\nERROR \x1b[31mb").within("c\r");
        assert_eq!(odd.why, "c : a ERROR  [31mb");
    }
}
