//! What a restart must know of alerts: those that stood, and what each target was sent. A file of the service's directory,
//! replaced as a whole. Without it a restart sends what stands once more, so it is never worth ending a service for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use shared::lock::locked;
use shared::private;

use crate::alerts::judge::Before;
use crate::alerts::outbox::Outbox;
use crate::status::alert::Alert;

/// The name of the file.
const FILE: &str = "alerts.json";
const FORMAT: u32 = 1;
/// A longer file is none of ours.
const MAX_BYTES: u64 = 1 << 20;

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    format: u32,
    /// The alerts that stand.
    pub(super) standing: Vec<Alert>,
    /// What each target was sent, by its name.
    pub(super) targets: BTreeMap<String, Outbox>,
    /// The counters that a restart does not set back, as they were seen last.
    #[serde(default)]
    counters: BTreeMap<String, u64>,
}

impl Kept {
    /// Takes the alerts that stand, and the counters. True if there are others than before, or worse or more of them, or a counter
    /// moved: what else changes with every look is not worth a write.
    pub(super) fn follow(&mut self, alerts: Vec<Alert>, counters: BTreeMap<String, u64>) -> bool {
        let known = |alert: &Alert| (alert.name.clone(), alert.severity, alert.rounds);
        let is_other = !self.standing.iter().map(known).eq(alerts.iter().map(known));
        let have_moved = self.counters != counters;
        (self.standing, self.counters) = (alerts, counters);
        is_other || have_moved
    }

    /// Targets of other names are forgotten; a new one has been sent nothing.
    fn retarget(&mut self, targets: impl Iterator<Item = String>) {
        let mut known = std::mem::take(&mut self.targets);
        self.targets = targets.map(|name| (name.clone(), known.remove(&name).unwrap_or_default())).collect();
    }

    pub(super) fn before(&self) -> Before {
        Before { standing: self.standing.clone(), counters: self.counters.clone() }
    }
}

/// The file and what stands in it. Clones share them. Nobody waits for the file: a disk that hangs must not keep alerts from
/// being sent.
#[derive(Debug, Clone)]
pub(super) struct Keeper {
    path: PathBuf,
    kept: Arc<Mutex<Kept>>,
    /// Held while the file is written, so that an older state never replaces a newer one.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// Whether a change is not in the file yet.
    unwritten: Arc<AtomicBool>,
}

impl Keeper {
    /// Reads the file in `dir`. One that cannot be used counts as none: the targets of this configuration have been sent
    /// nothing then.
    pub(super) fn open(dir: &Path, targets: impl Iterator<Item = String>) -> Self {
        let path = dir.join(FILE);
        let mut kept = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                let path = path.display();
                tracing::warn!(%error, %path, "it is not known which alerts were sent; those that stand are sent again");
            }
            Kept::default()
        });
        kept.retarget(targets);
        let kept = Arc::new(Mutex::new(Kept { format: FORMAT, ..kept }));
        Self { path, kept, writing: Arc::default(), unwritten: Arc::default() }
    }

    /// From now on these are the targets. In memory: the file may be older, if the disk takes nothing.
    pub(super) fn retarget(&self, targets: impl Iterator<Item = String>) {
        self.kept().retarget(targets);
    }

    /// What is kept.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Kept) -> T) -> T {
        read(&self.kept())
    }

    /// Changes what is kept, and has the file written if `change` says that a restart must know of it.
    pub(super) fn change(&self, change: impl FnOnce(&mut Kept) -> bool) {
        if change(&mut self.kept()) {
            self.unwritten.store(true, Ordering::Release);
            tokio::spawn(self.clone().write());
        }
    }

    /// Returns when all changes so far are in the file, or at `end`.
    pub(super) async fn written(&self, end: impl Future<Output = ()>) {
        tokio::select! {
            () = self.clone().write() => {}
            () = end => {}
        }
    }

    /// For values that a panic leaves whole: each change is of one alert.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        locked(&self.kept)
    }

    async fn write(self) {
        let _alone = self.writing.lock().await;
        // One write has all changes that came while the one before took its time.
        if !self.unwritten.swap(false, Ordering::AcqRel) {
            return;
        }
        let (path, text) = (self.path.clone(), serde_json::to_vec(&*self.kept()).map_err(io::Error::other));
        let writing = tokio::task::spawn_blocking(move || private::replace(&path, &text?)).await;
        if let Err(error) = writing.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            let path = self.path.display();
            tracing::warn!(%error, %path, "cannot note which alerts were sent; a restart may send them again");
        }
    }
}

fn read(path: &Path) -> io::Result<Kept> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut text)?;
    let kept: Kept = serde_json::from_slice(&text).map_err(io::Error::other)?;
    if kept.format == FORMAT { Ok(kept) } else { Err(io::Error::other("it is of another version")) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names() -> impl Iterator<Item = String> {
        ["oncall".to_owned(), "chat".to_owned()].into_iter()
    }

    #[tokio::test]
    async fn what_is_kept_is_there_after_a_restart_for_the_targets_that_are_still_configured() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::open(dir.path(), names());
        keeper.change(|kept| kept.targets.remove("chat").is_some());
        keeper.written(std::future::pending()).await;
        let other = Keeper::open(dir.path(), ["oncall".to_owned(), "new".to_owned()].into_iter());
        let (before, after) = (keeper.kept().clone(), other.kept().clone());
        assert_eq!(after.targets.keys().collect::<Vec<_>>(), ["new", "oncall"]);
        assert_eq!(after.targets["oncall"], before.targets["oncall"]);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_counts_as_none_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for text in ["torn", "{\"format\":2,\"standing\":[],\"targets\":{}}"] {
            fs::write(&path, text).unwrap();
            let keeper = Keeper::open(dir.path(), names());
            assert_eq!(keeper.read(|kept| kept.targets.len()), 2);
            keeper.change(|_| true);
            keeper.written(std::future::pending()).await;
            assert_eq!(read(&path).unwrap(), *keeper.kept());
        }
    }
}
