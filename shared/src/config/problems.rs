//! What is wrong with a configuration: one complaint a key, all of them in one run.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the configuration came from.
    pub origin: PathBuf,
    /// One complaint a line, each beginning with its key.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration {}", self.origin.display())?;
        match &self.problems[..] {
            [one] => write!(f, ": {one}"),
            many => many.iter().try_for_each(|problem| write!(f, "\n  {problem}")),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Gathers complaints, so that one run shows all of them.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, key: &str, rule: impl fmt::Display) {
        self.0.push(format!("{key}: {rule}"));
    }

    pub(super) fn name(&self, key: &str) -> bool {
        self.0.iter().any(|problem| problem.starts_with(&format!("{key}: ")))
    }

    pub(super) fn end<T>(self, origin: &Path, value: T) -> Result<T, ConfigError> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(ConfigError { origin: origin.to_owned(), problems: self.0 })
        }
    }
}

pub(super) fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let exit = match error.kind() {
        std::io::ErrorKind::NotFound => Exit::Config,
        _ => crate::exit::io_exit(error),
    };
    Failure::new(exit, anyhow::anyhow!("cannot read the {what} file {}: {error}", path.display()))
}
