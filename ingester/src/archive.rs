//! Puts the folder of a loaded batch where the configuration wants it: moved, deleted, or left.
//!
//! The order makes every crash harmless. Copies come first, the seal's last, so that a folder in the archive that
//! has a seal is whole. Then the originals go, the seal FIRST:
//!
//! - a crash before the seal is deleted leaves a whole batch that the ledger knows. Found again it is not loaded
//!   but archived again, and copying once more writes the same bytes over themselves;
//! - a crash after it leaves a folder without seal, which nobody takes for a batch, least of all for one with files
//!   missing. The archive is complete by then. The bookkeeping says *loaded*, so the next start repeats the whole:
//!   what is left is copied once more and deleted. Should the bookkeeping be lost too, the first listing asks the
//!   ledger about folders without seal (see [`crate::doubts`]), and they come here the same way.
//!
//! Deleted in any other order, a crash would leave a seal whose files are gone, and a repeat could not tell it from
//! a batch that somebody damaged.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use shared::config::{Archive, Config};
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use shared::object_store::{Object, ObjectStore, StoreError, StoreErrorKind};
use shared::retry::Backoff;
use shared::shutdown::Shutdown;
use state::loads::LoadEvent;

use crate::book::Book;
use crate::producer::Producer;
use crate::trouble::S3_ADVICE;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    Copy { from: String, to: String },
    Delete(String),
}

/// What to do about a folder: the acts of a phase in any order, the phases one after another.
fn phases(mode: Archive, from: &str, to: &str, objects: &[Object]) -> Vec<Vec<Act>> {
    let (seal, others): (Vec<&str>, Vec<&str>) =
        objects.iter().filter_map(|object| object.key.strip_prefix(from)).partition(|name| *name == SEAL);
    let copies = |names: &[&str]| -> Vec<Act> {
        names
            .iter()
            .map(|name| Act::Copy { from: format!("{from}{name}"), to: format!("{to}{name}") })
            .collect()
    };
    let deletes = |names: &[&str]| -> Vec<Act> {
        names.iter().map(|name| Act::Delete(format!("{from}{name}"))).collect()
    };
    let all = match mode {
        Archive::Keep => vec![],
        Archive::Delete => vec![deletes(&seal), deletes(&others)],
        Archive::Move => vec![copies(&others), copies(&seal), deletes(&seal), deletes(&others)],
    };
    all.into_iter().filter(|phase| !phase.is_empty()).collect()
}

/// Archives loaded batches, one folder at a time with several requests at once, beside the loading of the next.
#[derive(Debug)]
pub struct Archiver {
    store: ObjectStore,
    book: Book,
    mode: Archive,
    from: String,
    to: String,
    at_once: usize,
    retry: (Duration, Duration),
    /// Folders that could not be archived, and when to try again. The others do not wait for them.
    waiting: HashMap<BatchId, (Backoff, Instant)>,
    producer: Producer,
}

impl Archiver {
    /// An archiver of this configuration.
    #[must_use]
    pub fn new(config: &Config, store: ObjectStore, book: Book) -> Self {
        Self {
            store,
            book,
            mode: config.ingester.archive,
            from: config.s3.to_ingest.clone(),
            to: config.s3.ingested.clone(),
            at_once: config.s3.uploads,
            retry: (config.ingester.retry_first.0, config.ingester.retry_max.0),
            waiting: HashMap::new(),
            producer: Producer::new(config.producer_socket()),
        }
    }

    /// Archives the oldest loaded batch that may be tried. None when there is none; then when to look again, if some
    /// wait for their next try.
    ///
    /// # Errors
    /// When the bookkeeping fails. S3 being away is waited for.
    pub async fn step(&mut self) -> Result<Option<BatchId>, Failure> {
        let now = Instant::now();
        let waiting = &self.waiting;
        let may = |batch| waiting.get(&batch).is_none_or(|(_, next)| *next <= now);
        let Some(batch) = self.book.next_loaded(may) else { return Ok(None) };
        match self.archive(batch).await {
            Ok(()) => {
                self.waiting.remove(&batch);
                self.book.note(batch, LoadEvent::Archived).await?;
                self.producer.loaded(batch);
                tracing::debug!(%batch, "archived");
            }
            Err(error) => {
                let (first, max) = self.retry;
                let (backoff, next) =
                    self.waiting.entry(batch).or_insert_with(|| (Backoff::new(first, max), now));
                let wait = backoff.failed();
                *next = Instant::now() + wait;
                let seconds = wait.as_secs_f64();
                if error.kind() == StoreErrorKind::Configuration {
                    tracing::error!(%batch, %error, "loaded, but cannot be archived: {S3_ADVICE}; again in {seconds:.1} s");
                } else {
                    tracing::warn!(%batch, %error, "loaded, but not archived yet; again in {seconds:.1} s");
                }
            }
        }
        Ok(Some(batch))
    }

    /// Archives until shutdown; then the folder under way has `patience` to be finished.
    ///
    /// # Errors
    /// As [`Archiver::step`].
    pub async fn run(mut self, shutdown: Shutdown, patience: Duration) -> Result<(), Failure> {
        while !shutdown.is_stopping() {
            let impatient = async {
                shutdown.stopping().await;
                tokio::time::sleep(patience).await;
            };
            let done = tokio::select! {
                done = self.step() => done?,
                () = impatient => {
                    tracing::info!("archiving is left half done; it is repeated at the next start");
                    return Ok(());
                }
            };
            if done.is_none() {
                let next = self.waiting.values().map(|(_, next)| *next).min();
                let pause = next.map_or(Duration::MAX, |next| next.saturating_duration_since(Instant::now()));
                tokio::select! {
                    () = self.book.to_archive() => {}
                    () = tokio::time::sleep(pause) => {}
                    () = shutdown.stopping() => {}
                }
            }
        }
        Ok(())
    }

    async fn archive(&self, batch: BatchId) -> Result<(), StoreError> {
        put_away(&self.store, (self.mode, &self.from, &self.to), self.at_once, batch).await
    }
}

/// Puts the folder of a batch that is loaded where `mode` wants it, out of prefix `from` and with *move* into `to`.
///
/// # Errors
/// When S3 refuses. Repeating it goes on where it ended.
pub async fn put_away(
    store: &ObjectStore,
    (mode, from, to): (Archive, &str, &str),
    at_once: usize,
    batch: BatchId,
) -> Result<(), StoreError> {
    if mode == Archive::Keep {
        return Ok(());
    }
    let (from, to) = (layout::folder(from, batch), layout::folder(to, batch));
    let objects = store.list(&from, None).await?;
    for phase in phases(mode, &from, &to, &objects) {
        let acts = phase.into_iter().map(|one| Ok(act(store, one)));
        let acts = futures_util::stream::iter(acts);
        acts.try_buffer_unordered(at_once).try_collect::<Vec<()>>().await?;
    }
    Ok(())
}

async fn act(store: &ObjectStore, act: Act) -> Result<(), StoreError> {
    match act {
        Act::Delete(key) => store.delete(&key).await,
        Act::Copy { from, to } => match store.copy(&from, &to).await {
            // Another ingester archives the same folder and was faster.
            Err(error) if error.is_not_found() => {
                let (page, _) = store.list_page(&to, None).await?;
                if page.iter().any(|object| object.key == to) { Ok(()) } else { Err(error) }
            }
            outcome => outcome,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const FROM: &str = "ToIngest/d/b/";
    const TO: &str = "Ingested/d/b/";
    const NAMES: [&str; 4] = ["0.csv.zst", "1.csv.zst", "batch.json", "manifest.json"];

    fn listing(keys: &BTreeSet<String>) -> Vec<Object> {
        let below = keys.iter().filter(|key| key.starts_with(FROM));
        below.map(|key| Object { key: key.clone(), size: 1, etag: String::new() }).collect()
    }

    fn apply(keys: &mut BTreeSet<String>, act: &Act) {
        match act {
            Act::Copy { from, to } => {
                assert!(keys.contains(from), "{from} is copied after it was deleted");
                keys.insert(to.clone());
            }
            Act::Delete(key) => assert!(keys.remove(key), "{key} is deleted twice"),
        }
    }

    fn whole() -> BTreeSet<String> {
        NAMES.iter().map(|name| format!("{FROM}{name}")).collect()
    }

    fn acts(mode: Archive, keys: &BTreeSet<String>) -> Vec<Act> {
        phases(mode, FROM, TO, &listing(keys)).concat()
    }

    #[test]
    fn a_seal_always_stands_beside_all_its_files() {
        for mode in [Archive::Move, Archive::Delete] {
            let mut keys = whole();
            for act in acts(mode, &whole()) {
                apply(&mut keys, &act);
                for folder in [FROM, TO] {
                    let files = NAMES.iter().filter(|name| keys.contains(&format!("{folder}{name}"))).count();
                    assert!(
                        !keys.contains(&format!("{folder}{SEAL}")) || files == NAMES.len(),
                        "{mode:?} {keys:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_move_cut_short_anywhere_ends_the_same_when_repeated() {
        let moved: BTreeSet<String> = NAMES.iter().map(|name| format!("{TO}{name}")).collect();
        for (mode, end) in
            [(Archive::Move, moved), (Archive::Delete, BTreeSet::new()), (Archive::Keep, whole())]
        {
            let planned = acts(mode, &whole());
            for cut in 0..=planned.len() {
                let mut keys = whole();
                planned.iter().take(cut).for_each(|act| apply(&mut keys, act));
                for act in acts(mode, &keys.clone()) {
                    apply(&mut keys, &act);
                }
                assert_eq!(keys, end, "{mode:?} cut after {cut}");
                assert!(mode == Archive::Keep || acts(mode, &keys).is_empty(), "nothing is left to do");
            }
        }
    }
}
