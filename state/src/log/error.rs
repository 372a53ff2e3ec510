//! Why the log cannot go on.

use std::io;

use shared::exit::{Exit, Failure};

use crate::log::status::IllegalMove;
use crate::store::StoreError;

/// Why the log cannot go on. No caller may ignore one of these: after a failed write nothing may be believed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Move(#[from] IllegalMove),
    /// A fault in the program: a file or batch that should be there is not.
    #[error("the log has no {0}")]
    Missing(String),
    #[error("compressing rows: {0}")]
    Compress(io::Error),
    /// There can be no more threads.
    #[error("starting a thread: {0}")]
    Thread(io::Error),
    /// A thread of the log has ended, after an error that was reported already or with a panic.
    #[error("the log has stopped after an error")]
    Ended,
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Store(error) => error.into(),
            other => Failure::new(Exit::Software, other),
        }
    }
}
