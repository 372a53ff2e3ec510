//! The states of files and batches, and the only functions that change them.
//!
//! ```text
//! file:   open ──close──► closed ──uploaded──► uploaded     (its rows are then dropped)
//! batch:  filling ──seal──► sealed ──published──► published (kept for a while to be read, then forgotten)
//! ```
//! All states survive restarts. *open* and *filling* are entered when the first row of a file or batch is committed,
//! *closed* and *sealed* with the commit that reaches a limit of count, size or age, *uploaded* when S3 has confirmed
//! the object's checksum, *published* when S3 has confirmed the seal.

use std::io;

use serde::{Deserialize, Serialize};
use shared::content::Content;
use shared::exit::{Exit, Failure};

use crate::store::StoreError;

/// The state of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum FileStatus {
    Open,
    Closed,
    Uploaded(Upload),
}

/// What S3 confirmed of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Bytes of the object.
    pub bytes: u64,
    /// CRC-32 of the object, as S3 spells it.
    pub crc32: String,
    /// The object's `ETag`.
    pub etag: String,
    /// Checksum of its rows; None when format 1 uploaded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileEvent {
    Close,
    Uploaded(Upload),
}

/// The state of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchStatus {
    /// Files are added to it.
    Filling,
    /// Its files are final; they go up.
    Sealed,
    /// Its seal is in S3: it may be loaded.
    Published,
}

impl BatchStatus {
    /// Its word, as in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Sealed => "sealed",
            Self::Published => "published",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchEvent {
    Seal,
    Published,
}

/// A move that no state machine knows: a fault in the program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("illegal move of a {what}: {event} while {status}")]
pub struct IllegalMove {
    what: &'static str,
    status: String,
    event: String,
}

impl FileStatus {
    pub(super) fn next(&self, event: FileEvent) -> Result<Self, IllegalMove> {
        match (self, event) {
            (Self::Open, FileEvent::Close) => Ok(Self::Closed),
            (Self::Closed, FileEvent::Uploaded(upload)) => Ok(Self::Uploaded(upload)),
            (status, event) => {
                let (status, event) = (format!("{status:?}"), format!("{event:?}"));
                Err(IllegalMove { what: "file", status, event })
            }
        }
    }
}

impl BatchStatus {
    pub(super) fn next(self, event: BatchEvent) -> Result<Self, IllegalMove> {
        match (self, event) {
            (Self::Filling, BatchEvent::Seal) => Ok(Self::Sealed),
            (Self::Sealed, BatchEvent::Published) => Ok(Self::Published),
            (status, event) => {
                let (status, event) = (format!("{status:?}"), format!("{event:?}"));
                Err(IllegalMove { what: "batch", status, event })
            }
        }
    }
}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn upload(bytes: u64) -> Upload {
        Upload { bytes, crc32: "AAAAAA==".to_owned(), etag: "\"e\"".to_owned(), content: None }
    }

    proptest! {
        #[test]
        fn a_file_only_moves_forward_step_by_step_whatever_happens(
            events in prop::collection::vec((any::<bool>(), 0_u64..3), 0..12),
        ) {
            use {FileEvent as E, FileStatus as S};
            let mut status = S::Open;
            for (close, bytes) in events {
                let event = if close { E::Close } else { E::Uploaded(upload(bytes)) };
                let wanted = match (&status, &event) {
                    (S::Open, E::Close) => Some(S::Closed),
                    (S::Closed, E::Uploaded(upload)) => Some(S::Uploaded(upload.clone())),
                    _ => None,
                };
                match status.next(event.clone()) {
                    Ok(next) => {
                        prop_assert_eq!(Some(&next), wanted.as_ref());
                        status = next;
                    }
                    Err(error) => {
                        prop_assert_eq!(wanted, None);
                        let said = error.to_string();
                        let both = format!("illegal move of a file: {event:?} while {status:?}");
                        prop_assert_eq!(said, both);
                    }
                }
            }
        }

        #[test]
        fn a_batch_only_moves_forward_step_by_step_whatever_happens(
            events in prop::collection::vec(any::<bool>(), 0..12),
        ) {
            use {BatchEvent as E, BatchStatus as S};
            let mut status = S::Filling;
            for seal in events {
                let event = if seal { E::Seal } else { E::Published };
                let wanted = match (status, event) {
                    (S::Filling, E::Seal) => Some(S::Sealed),
                    (S::Sealed, E::Published) => Some(S::Published),
                    _ => None,
                };
                match status.next(event) {
                    Ok(next) => {
                        prop_assert_eq!(Some(next), wanted);
                        status = next;
                    }
                    Err(error) => {
                        prop_assert_eq!(wanted, None);
                        let said = error.to_string();
                        let both = format!("illegal move of a batch: {event:?} while {status:?}");
                        prop_assert_eq!(said, both);
                    }
                }
            }
        }
    }
}
