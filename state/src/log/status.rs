//! The states of files and batches, and the only functions that change them.
//!
//! ```text
//! file:   open ──close──► closed ──uploaded──► uploaded     (its rows are then dropped)
//! batch:  filling ──seal──► sealed ──published──► published (kept for a while to be looked at, then forgotten)
//! ```
//! All states survive restarts. *open* and *filling* are entered when the first row of a file or batch is committed,
//! *closed* and *sealed* with the commit that reaches a limit of count, size or age, *uploaded* when S3 has confirmed
//! the object's checksum, *published* when S3 has confirmed the seal.

use serde::{Deserialize, Serialize};

/// Where a file stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileStatus {
    /// Rows are added to it.
    Open,
    /// It waits for its upload.
    Closed,
    /// It stands in S3.
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
}

/// What happens to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileEvent {
    /// No more rows.
    Close,
    /// S3 confirmed it.
    Uploaded(Upload),
}

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchStatus {
    /// Files are added to it.
    Filling,
    /// Its files are final; they go up.
    Sealed,
    /// Its seal stands in S3: it may be loaded.
    Published,
}

/// What happens to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchEvent {
    /// No more files.
    Seal,
    /// S3 confirmed its seal.
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
    /// The legal moves of a file.
    ///
    /// # Errors
    /// For every other.
    pub fn next(&self, event: FileEvent) -> Result<Self, IllegalMove> {
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
    /// The legal moves of a batch.
    ///
    /// # Errors
    /// For every other.
    pub fn next(self, event: BatchEvent) -> Result<Self, IllegalMove> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_but_forward_and_step_by_step() {
        let upload = Upload { bytes: 1, crc32: String::new(), etag: String::new() };
        let up = || FileEvent::Uploaded(upload.clone());
        let closed = FileStatus::Open.next(FileEvent::Close).unwrap();
        let uploaded = closed.next(up()).unwrap();
        for (status, event) in [
            (&FileStatus::Open, up()),
            (&closed, FileEvent::Close),
            (&uploaded, FileEvent::Close),
            (&uploaded, up()),
        ] {
            assert!(status.next(event.clone()).is_err(), "{status:?} {event:?}");
        }
        use {BatchEvent as E, BatchStatus as S};
        assert_eq!(S::Filling.next(E::Seal), Ok(S::Sealed));
        assert_eq!(S::Sealed.next(E::Published), Ok(S::Published));
        for (status, event) in [
            (S::Filling, E::Published),
            (S::Sealed, E::Seal),
            (S::Published, E::Seal),
            (S::Published, E::Published),
        ] {
            assert!(status.next(event).is_err(), "{status:?} {event:?}");
        }
    }
}
