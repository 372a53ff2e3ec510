//! Why something is not in S3 yet.

use shared::object_store::StoreError;
use state::log::LogError;

#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("compressing: {0}")]
    Compress(#[from] std::io::Error),
    #[error("its copies are not whole any more: {0}")]
    CopyGone(String),
    /// The process is ending.
    #[error("the log is closed")]
    Closed,
}
