//! Runs what reads a disk or computes for long on a thread that may block.

use crate::exit::Failure;

/// Fails only when the work panics, which is a fault of the program.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Failure::panicked("work in the background", ""))
}
