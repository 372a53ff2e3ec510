//! Folders that only the ledger can judge. The load store forgets old batches, and may be lost, so a listing can show
//! folders that it does not know:
//!
//! - with `archive = "keep"`, any folder with a seal: most were loaded long ago, and no listing is to read them again;
//! - otherwise, a folder without seal: either its producer is still writing it, or an archiving was cut short.
//!
//! Discovery asks here; the loader, which has the connection, asks the ledger about many at once and answers.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use shared::ids::BatchId;
use shared::lock::locked;

/// Why discovery reads S3 before its interval is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// The folder of this batch may have a seal.
    Folder(BatchId),
    /// A listing may show batches that the feed did not name.
    List,
}

/// The questions and the answers so far. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct UnknownFolders {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    open: BTreeSet<BatchId>,
    /// Loaded, and left in S3 on purpose.
    loaded: HashSet<BatchId>,
}

impl UnknownFolders {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Asks about a batch, unless the answer is known.
    pub fn ask(&self, batch: BatchId) {
        let mut state = self.state();
        if !state.loaded.contains(&batch) {
            state.open.insert(batch);
        }
    }

    /// Whether a batch is known to be loaded and to stay where it is.
    pub fn is_loaded(&self, batch: BatchId) -> bool {
        self.state().loaded.contains(&batch)
    }

    /// Whether a question is open.
    pub fn any(&self) -> bool {
        !self.state().open.is_empty()
    }

    /// Up to `many` open questions, oldest batch first. They stay open until they are answered.
    pub fn oldest(&self, many: usize) -> Vec<BatchId> {
        self.state().open.iter().take(many).copied().collect()
    }

    /// The batch is loaded and stays where it is, so it need not be asked about again.
    pub fn mark_loaded(&self, batch: BatchId) {
        let mut state = self.state();
        state.open.remove(&batch);
        state.loaded.insert(batch);
    }

    /// The question is answered, and may come up again.
    pub fn forget(&self, batch: BatchId) {
        self.state().open.remove(&batch);
    }

    /// Forgets answers about folders that are no longer in S3: memory follows what lies there, not history.
    pub fn keep_only(&self, in_s3: &HashSet<BatchId>) {
        let mut state = self.state();
        state.loaded.retain(|batch| in_s3.contains(batch));
        state.open.retain(|batch| in_s3.contains(batch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_is_not_asked_again_while_it_lies_in_s3() {
        let unknown_folders = UnknownFolders::default();
        let (kept, open) = (BatchId::new(), BatchId::new());
        unknown_folders.ask(open);
        unknown_folders.ask(kept);
        assert_eq!(unknown_folders.oldest(1), [kept], "oldest first");
        unknown_folders.mark_loaded(kept);
        unknown_folders.ask(kept);
        assert_eq!(unknown_folders.oldest(9), [open]);
        unknown_folders.forget(open);
        assert!(!unknown_folders.any());
        unknown_folders.keep_only(&HashSet::new());
        unknown_folders.ask(kept);
        assert!(unknown_folders.any(), "it came back after its folder was gone");
    }
}
