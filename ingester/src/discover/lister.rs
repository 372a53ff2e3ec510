//! Lists folders below `s3.to_ingest`, and decides which seals to read.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use shared::config::Archive;
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::object_store::{Next, ObjectStore};

use crate::discover::held::HeldSeals;
use crate::discover::progress::Progress;
use crate::facts::listing::{Listed, list_folders};
use crate::facts::unknown_folders::UnknownFolders;
use crate::failure::StepError;
use crate::load_store::{self, LoadStore};
use crate::services::Services;

/// Folders without seal that are read again although listings begin behind them: the youngest.
const READ_AGAIN: usize = 100;

#[derive(Debug)]
pub(super) struct Listing {
    /// The seals to read, with their `ETag`s.
    pub to_read: Vec<(BatchId, String)>,
    /// Batches whose outcome is not known yet.
    open: Vec<BatchId>,
    /// The requests it took, if it was of everything.
    whole: Option<u64>,
    at: DateTime<Utc>,
}

#[derive(Debug)]
pub(super) struct Lister {
    store: ObjectStore,
    load_store: LoadStore,
    unknown_folders: UnknownFolders,
    prefix: String,
    keep: bool,
    progress: Progress,
    /// Folders without seal that nothing else is known of.
    unsealed: BTreeSet<BatchId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Leave,
    AskLedger,
    ReadSeal,
    Wait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoredLoad {
    No,
    Open,
    Archived,
}

fn step(known: StoredLoad, sealed: bool, keep: bool) -> Step {
    match (known, sealed, keep) {
        (StoredLoad::Open, _, _) | (StoredLoad::Archived, _, true) | (StoredLoad::Archived, false, _) => {
            Step::Leave
        }
        (StoredLoad::No, true, true) => Step::AskLedger,
        // New, or archived and published again by a producer that crashed before it could note it.
        (StoredLoad::No | StoredLoad::Archived, true, false) => Step::ReadSeal,
        (StoredLoad::No, false, _) => Step::Wait,
    }
}

impl Lister {
    pub(super) fn new(services: &Services, unknown_folders: UnknownFolders) -> Result<Self, Failure> {
        let Services { config, store, load_store, .. } = services;
        let (store, load_store) = (store.clone(), load_store.clone());
        let progress = Progress::new(config, load_store.loads().listed()?);
        let (prefix, keep) = (config.s3.to_ingest.clone(), config.ingester.archive == Archive::Keep);
        let unsealed = BTreeSet::new();
        Ok(Self { store, load_store, unknown_folders, prefix, keep, progress, unsealed })
    }

    /// Lists the batches that may have come. The `first` listing also asks the ledger about folders without seal: an
    /// earlier process may have left them half archived.
    pub(super) async fn list(
        &mut self,
        held: &mut HeldSeals,
        first: bool,
        at: DateTime<Utc>,
    ) -> Result<Listing, StepError> {
        let after = self.progress.after(at);
        let from = after.clone().map(Next::After);
        let (found, pages) = list_folders(&self.store, &self.prefix, &self.prefix, from).await?;
        let whole = after.is_none().then_some(pages);
        if whole.is_some() {
            let there: HashSet<BatchId> = found.iter().map(|found| found.batch).collect();
            self.unknown_folders.keep_only(&there);
            held.keep_only(&there);
            self.unsealed.clear();
        }
        let mut to_read = Vec::new();
        for Listed { batch, seal } in &found {
            self.unsealed.remove(batch);
            if (self.keep && self.unknown_folders.is_loaded(*batch)) || held.leaves(*batch, seal.as_deref()) {
                continue;
            }
            match step(self.known(*batch)?, seal.is_some(), self.keep) {
                Step::Leave => {}
                Step::AskLedger => self.unknown_folders.ask(*batch),
                Step::ReadSeal => to_read.push((*batch, seal.clone().unwrap_or_default())),
                Step::Wait => {
                    self.unsealed.insert(*batch);
                    // Reconciling reports it, should nobody ever seal it.
                    self.load_store.count_change();
                    if first && !self.keep {
                        self.unknown_folders.ask(*batch);
                    }
                }
            }
        }
        if self.unknown_folders.any() {
            self.load_store.wake_loader();
        }
        let open = to_read.iter().map(|(batch, _)| batch).chain(&self.unsealed).copied().collect();
        if whole.is_none() {
            to_read.extend(self.behind(&found)?.into_iter().map(|batch| (batch, String::new())));
        }
        Ok(Listing { to_read, open, whole, at })
    }

    fn known(&self, batch: BatchId) -> Result<StoredLoad, Failure> {
        Ok(match self.load_store.get(batch)? {
            None => StoredLoad::No,
            Some(load) if load_store::is_archived(&load) => StoredLoad::Archived,
            Some(_) => StoredLoad::Open,
        })
    }

    fn behind(&mut self, found: &[Listed]) -> Result<Vec<BatchId>, Failure> {
        while self.unsealed.len() > READ_AGAIN {
            self.unsealed.pop_first();
        }
        let first = found.first().map(|found| found.batch);
        let mut behind = Vec::new();
        for batch in self.unsealed.iter().take_while(|batch| first.is_none_or(|first| **batch < first)) {
            if self.known(*batch)? == StoredLoad::No {
                behind.push(*batch);
            }
        }
        Ok(behind)
    }

    pub(super) fn completed(&mut self, listing: Listing) {
        self.progress.note(listing.whole, listing.open, listing.at);
    }

    /// Keeps durably how far listings have come, if all that they found is in the load store by now or was answered.
    pub(super) async fn keep_progress(&mut self) -> Result<(), Failure> {
        if !self.unknown_folders.any()
            && let Some(progress) = self.progress.to_keep()
        {
            let listed = progress.clone();
            self.load_store.on_disk(move |loads| loads.note_listed(&listed)).await?;
            self.progress.kept();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_with_a_folder_follows_from_the_load_store_its_seal_and_the_mode() {
        for (known, sealed, keep, expected) in [
            (StoredLoad::No, true, true, Step::AskLedger),
            (StoredLoad::No, true, false, Step::ReadSeal),
            (StoredLoad::No, false, true, Step::Wait),
            (StoredLoad::No, false, false, Step::Wait),
            (StoredLoad::Archived, true, true, Step::Leave),
            (StoredLoad::Archived, true, false, Step::ReadSeal),
            (StoredLoad::Archived, false, true, Step::Leave),
            (StoredLoad::Archived, false, false, Step::Leave),
            (StoredLoad::Open, true, true, Step::Leave),
            (StoredLoad::Open, true, false, Step::Leave),
            (StoredLoad::Open, false, true, Step::Leave),
            (StoredLoad::Open, false, false, Step::Leave),
        ] {
            assert_eq!(step(known, sealed, keep), expected, "{known:?}, sealed {sealed}, keep {keep}");
        }
    }
}
