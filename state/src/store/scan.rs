//! Reads many entries beside a writer. In sled 0.34.7 every step of an iterator takes a lock that `apply_batch` holds
//! (`src/concurrency_control.rs`). A reader of ten thousand entries and a writer that commits all the time would wake each
//! other ten thousand times, and both would crawl. So reader and writer take turns of some hundred entries here, and
//! never meet in sled.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::lock::locked;

use crate::store::error::StoreError;

/// Entries of a turn at most. Turns grow up to it, since many readers want the first few entries only.
const ENTRIES: usize = 256;
/// A turn ends after this time too, because entries may have to come from the disk.
const TIME: Duration = Duration::from_millis(1);

/// Whose turn it is. Holds nothing, so that it cannot be left half changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<()>>);

impl Turns {
    pub(super) fn take<T>(&self, work: impl FnOnce() -> T) -> T {
        let _turn = locked(&self.0);
        work()
    }
}

type Entry = Result<(sled::IVec, sled::IVec), StoreError>;

pub(super) struct Scan<I> {
    entries: I,
    ready: VecDeque<Entry>,
    turns: Turns,
    size: usize,
}

impl<I: Iterator<Item = Entry>> Scan<I> {
    pub(super) fn new(entries: I, turns: Turns) -> Self {
        Self { entries, ready: VecDeque::new(), turns, size: 1 }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "bounds how long a lock is held; no decision depends on it"
    )]
    fn fill(&mut self) {
        let Self { entries, ready, size, .. } = self;
        self.turns.take(|| {
            let begun = Instant::now();
            for entry in entries.take(*size) {
                ready.push_back(entry);
                if begun.elapsed() > TIME {
                    break;
                }
            }
        });
        *size = (*size * 4).min(ENTRIES);
    }
}

impl<I: Iterator<Item = Entry>> Iterator for Scan<I> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if self.ready.is_empty() {
            self.fill();
        }
        self.ready.pop_front()
    }
}
