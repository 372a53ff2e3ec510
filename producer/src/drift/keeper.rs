//! Reads at the start what the process before knew, and writes it down every few minutes and when a change is told.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shared::clock::Clock;
use shared::shutdown::Shutdown;

use crate::drift::kept::{self, Kept};
use crate::drift::watch::{Drift, Progress};
use crate::transform::Columns;

/// How often to look whether there is something to write.
const EVERY: Duration = Duration::from_secs(10);
/// How often to write what changes with every row. A change that was told is written at once, and so is what is learned first.
const AT_LEAST: Duration = Duration::from_mins(5);
/// Fewer rows change little.
const ROWS: u64 = 4_096;

impl Drift {
    /// What is known of the stream whose log is in `dir`, and whose rows have these columns.
    pub(crate) fn open(dir: &Path, columns: Option<&Arc<Columns>>, clock: Clock) -> Self {
        let drift = Self::read(dir, clock);
        if let Some(columns) = columns {
            drift.begin(columns);
        }
        drift
    }

    fn read(dir: &Path, clock: Clock) -> Self {
        match Kept::read(dir) {
            Ok(kept) => Self::known(kept, clock),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    let path = kept::path(dir);
                    tracing::warn!(%error, path = %path.display(), "it is not known what the stream was like; it is learned anew");
                }
                Self::new(clock)
            }
        }
    }

    /// Writes down what is known.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        self.kept().write(dir)
    }
}

/// Keeps the file in `dir` up to date until shutdown. It is never worth ending a service for.
pub(crate) async fn keep(drift: Arc<Drift>, dir: PathBuf, clock: Clock, shutdown: Shutdown) {
    let (mut written, mut at, mut failed) =
        (Progress { is_learning: true, ..Progress::default() }, clock.steady(), false);
    loop {
        let stopping = shutdown.until(clock.sleep(EVERY)).await.is_none();
        let now = drift.progress();
        let is_old = written.is_learning || at.until(clock.steady()) >= AT_LEAST;
        let is_due = now.told > written.told || (is_old && now.rows >= written.rows + ROWS);
        if is_due || (stopping && now != written) {
            let (drift, dir) = (drift.clone(), dir.clone());
            let writing = tokio::task::spawn_blocking(move || drift.write(&dir)).await;
            match writing.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
                Ok(()) => (written, at, failed) = (now, clock.steady(), false),
                Err(error) if !std::mem::replace(&mut failed, true) => {
                    tracing::warn!(%error, "cannot note what the stream is like; a restart learns it anew");
                }
                Err(_) => {}
            }
        }
        if stopping {
            return;
        }
    }
}
